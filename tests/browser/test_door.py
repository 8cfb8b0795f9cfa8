"""The page at the door, on a phone with a camera, with network and without."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import segno
from playwright.async_api import Browser, Page, async_playwright, expect

from tests.browser.chromium import FLAGS
from tests.browser.looks import ALL_RULES, PHONE, violations, width
from tests.browser.traffic import PATIENCE
from tests.door.scenes import Gala
from tests.people import Visitor
from tests.serving import Service, visiting

LATER = """async (event) => {
    const { open } = await import("/static/door/store.js");
    const store = await open(event);
    await store.set("about", { ...(await store.get("about")), version: 1e9 });
    await store.write("tickets", (tickets) => tickets.clear());
    store.close();
}"""
"""Have the device know a later version than the service has, and no tickets."""
WIDTH, HEIGHT = 640, 480


def film(code: str, path: Path) -> Path:
    """Write a video that shows the QR code (YUV4MPEG2)."""
    rows = [list(row) for row in segno.make_qr(code, error="m").matrix_iter(scale=8, border=4)]
    left, top = (WIDTH - len(rows)) // 2, (HEIGHT - len(rows)) // 2
    luma = bytearray(b"\xeb" * (WIDTH * HEIGHT))
    for y, row in enumerate(rows):
        start = (top + y) * WIDTH + left
        luma[start : start + len(row)] = bytes(16 if dark else 235 for dark in row)
    frame = b"FRAME\n" + bytes(luma) + b"\x80" * (WIDTH * HEIGHT // 2)
    path.write_bytes(f"YUV4MPEG2 W{WIDTH} H{HEIGHT} F10:1 C420\n".encode() + frame * 4)
    return path


@asynccontextmanager
async def phone(chromium: str, shows: Path) -> AsyncIterator[Page]:
    """A page in a browser whose camera sees a video."""
    camera = (
        "--use-fake-ui-for-media-stream",
        "--use-fake-device-for-media-stream",
        f"--use-file-for-fake-video-capture={shows}",
    )
    async with (
        async_playwright() as playwright,
        await playwright.chromium.launch(
            executable_path=chromium, args=(*FLAGS, *camera)
        ) as browser,
        await browser.new_context(
            viewport={"width": PHONE, "height": 844}, reduced_motion="reduce"
        ) as context,
    ):
        context.set_default_timeout(PATIENCE)
        yield await context.new_page()


async def counts(gala: Gala) -> dict[str, Any]:
    listed = await gala.owner.get(f"/api/events/{gala.event}/check-ins")
    found: dict[str, Any] = listed.json()["counts"]["all"]
    return found


async def readable(page: Page) -> None:
    """Everybody can read the page, on a phone."""
    assert await width(page) <= PHONE
    assert await violations(page, ALL_RULES) == {}


async def test_a_phone_lets_people_in_with_network_and_without(
    chromium: str, service: Service, tmp_path: Path
) -> None:
    async with visiting(service) as visitor:
        gala = await Gala.open(Visitor(visitor.client))
        seen, named = await gala.sell(places=2)
        await gala.owner.patch(f"/api/tickets/{named}", {"name": "Ada Lovelace"})
        key = (await gala.owner.make_key("door")).token
        shows = film((await gala.ticket(seen))["code"], tmp_path / "code.y4m")
        async with phone(chromium, shows) as page:
            faults: list[str] = []
            page.on("pageerror", lambda error: faults.append(str(error)))
            page.on(
                "console",
                lambda said: faults.append(said.text) if "Content Security" in said.text else None,
            )
            await page.goto(f"{service.url}/door/{gala.event}#key={key}&gate=North")
            result = page.locator("#result")
            # The camera sees the code. The service decides.
            await expect(result).to_have_attribute("data-verdict", "admitted")
            await expect(page.locator("#network")).to_have_text("Online.")
            assert "#" not in page.url
            await expect(page.locator("#counts")).to_have_text("1 of 2 came in.")
            assert (await counts(gala))["entries"] == 1
            await readable(page)

            # Without network, after the page was closed, the device decides.
            await page.evaluate("navigator.serviceWorker.ready")
            await page.context.set_offline(True)
            await page.goto(f"{service.url}/door/{gala.event}")
            await expect(result).to_have_attribute("data-verdict", "already_used")
            await expect(result).to_have_attribute("data-kind", "used")
            await expect(page.locator("#network")).to_have_text("No network.")
            await page.fill("#name", "lovelace")
            await page.click("#found button")
            await expect(result).to_have_attribute("data-verdict", "admitted")
            await expect(page.locator("#who")).to_have_text("Ada Lovelace")
            await page.emulate_media(color_scheme="dark")
            await readable(page)
            await page.click("#found button")
            await expect(result).to_have_attribute("data-verdict", "already_used")
            await expect(page.locator("#counts")).to_have_text("2 of 2 came in.")
            assert (await counts(gala))["entries"] == 1

            # With network again, it uploads what happened, once.
            await page.context.set_offline(False)
            await expect(page.locator("#network")).to_have_text("Online.")
            await expect(page.locator("#waiting")).to_have_text("")
            found = await counts(gala)
            assert (found["entries"], found["conflicts"]) == (2, 0)
            assert found["refused"] >= 2

            # What the device knows of a database that was replaced by a backup, it loads anew.
            await page.evaluate(LATER, gala.event)
            await page.goto(f"{service.url}/door/{gala.event}")
            await expect(page.locator("#network")).to_have_text("Online.")
            await expect(page.locator("#counts")).to_have_text("2 of 2 came in.")
            assert faults == []


async def test_two_phones_without_network_let_one_ticket_in_twice_and_the_later_one_is_marked(
    browser: Browser, service: Service
) -> None:
    """The clock of the phone that comes first is two hours ahead."""
    async with (
        visiting(service) as visitor,
        await browser.new_context() as early,
        await browser.new_context() as late,
    ):
        gala = await Gala.open(Visitor(visitor.client))
        (ticket,) = await gala.sell()
        await gala.owner.patch(f"/api/tickets/{ticket}", {"name": "Ada Lovelace"})
        await early.clock.install(time=datetime.now(UTC) + timedelta(hours=2))
        pages = []
        for context, gate in ((early, "North"), (late, "South")):
            context.set_default_timeout(PATIENCE)
            page = await context.new_page()
            key = (await gala.owner.make_key("door")).token
            await page.goto(f"{service.url}/door/{gala.event}#key={key}&gate={gate}")
            await expect(page.locator("#network")).to_have_text("Online.")
            await context.set_offline(True)
            await page.fill("#name", "lovelace")
            pages.append(page)
        for page in pages:
            await page.click("#found button")
            await expect(page.locator("#result")).to_have_attribute("data-verdict", "admitted")
            await expect(page.locator("#waiting")).to_have_text("1 scan waits for network.")
            await expect(page.locator("#limits")).to_contain_text("scans of other devices,")
        # A minute, so that it does not matter how long the uploads take.
        await early.clock.fast_forward("01:00")
        # The later one uploads first.
        for context, page in ((late, pages[1]), (early, pages[0])):
            await context.set_offline(False)
            await expect(page.locator("#network")).to_have_text("Online.")
            await expect(page.locator("#waiting")).to_have_text("")
        listed = await gala.owner.get(f"/api/events/{gala.event}/check-ins")
        told = {each["gate"]: each for each in listed.json()["items"]}
        assert {gate: each["conflict"] for gate, each in told.items()} == {
            "North": False,
            "South": True,
        }
        assert told["North"]["scannedAt"] > told["South"]["scannedAt"]
        assert told["North"]["happenedAt"] < told["South"]["happenedAt"]


async def test_a_key_that_is_refused_is_explained_to_the_person_at_the_gate(
    browser: Browser, service: Service
) -> None:
    async with visiting(service) as visitor, await browser.new_context() as context:
        context.set_default_timeout(PATIENCE)
        gala = await Gala.open(Visitor(visitor.client))
        shop = (await gala.owner.make_key("bookings:read")).token
        page = await context.new_page()
        await page.goto(f"{service.url}/door/{gala.event}")
        for key, words in (
            (f"{shop}0", "is unknown, expired or revoked"),
            (shop, "the scope door"),
        ):
            await page.fill("#key", key)
            await page.click("#setup button")
            await expect(page.locator("#failure")).to_contain_text(words)
