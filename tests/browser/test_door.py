"""The page at the door, on a phone with a camera, with network and without."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import segno
from playwright.async_api import Page, async_playwright, expect

from tests.browser.chromium import FLAGS
from tests.browser.traffic import PATIENCE
from tests.door.scenes import Gala
from tests.people import Visitor
from tests.serving import Service, visiting

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
        await browser.new_context(viewport={"width": 390, "height": 844}) as context,
    ):
        context.set_default_timeout(PATIENCE)
        yield await context.new_page()


async def counts(gala: Gala) -> dict[str, Any]:
    listed = await gala.owner.get(f"/api/events/{gala.event}/check-ins")
    found: dict[str, Any] = listed.json()["counts"]["all"]
    return found


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
            assert faults == []
