"""Makes the pictures of the documentation: `python -m tests.pictures`.

It needs a Chromium. The bookings are made within seconds, and then spread over the hour before.
"""

import asyncio
import math
import shutil
from pathlib import Path
from typing import Final
from uuid import uuid4

import asyncpg
from playwright.async_api import async_playwright

from tests.browser.chromium import FLAGS
from tests.folders import folder_open_to_all
from tests.people import PASSWORD, Person, Visitor
from tests.sales import sale
from tests.serving import UNMEASURED, Service, serving, visiting
from tests.signing import SECRET
from ticketing.db import migrations
from ticketing.embedded.server import embedded

IMAGES: Final = Path(__file__).parent.parent / "docs" / "images"
KINDS: Final = {"Stalls": (93, 4_500), "Balcony": (40, 3_000), "Student": (29, 1_200)}
"""Places and prices of the ticket types."""
SOLD: Final = {"Stalls": 45, "Balcony": 28, "Student": 29}
HELD: Final = 8
CAME_IN: Final = 17
MINUTES: Final = """
    INSERT INTO activity (event_id, minutes, at, bookings, places, cancels, waiting)
    SELECT $1, 1, date_trunc('minute', now()) - (of.ago - 1) * interval '1 minute', of.n, of.n, 0, 0
    FROM unnest($2::bigint[]) WITH ORDINALITY AS of(n, ago)
"""


async def _sell(owner: Person, event: int, kind: int, name: str) -> str:
    customer = {"externalId": name}
    lines = [{"ticketTypeId": kind, "quantity": 1}]
    body = {"eventId": event, "customer": customer, "lines": lines}
    made = await owner.post("/api/events/book", body)
    assert made.is_success, made.text
    return str(made.json()["id"])


async def _fill(visitor: Visitor) -> tuple[Person, int]:
    """Sell, hold, offer, and let some in."""
    owner = await visitor.register()
    types = [
        {"name": name, "capacity": places, "price": {"amount": amount, "currency": "EUR"}}
        for name, (places, amount) in KINDS.items()
    ]
    event, ids = await sale(
        owner,
        name="An evening of chamber music",
        capacity=sum(places for places, _ in KINDS.values()),
        ticketTypes=types,
        waitingList={"mode": "offer", "offerMinutes": 8},
    )
    bookings: list[str] = []
    for name, count in SOLD.items():
        for number in range(count):
            bookings.append(await _sell(owner, event, ids[name], f"{name} {number}"))  # noqa: PERF401
    await _sell(owner, event, ids["Student"], "waiting")
    assert (await owner.post(f"/api/bookings/{bookings[-1]}/cancel", {})).is_success
    lines = [{"ticketTypeId": ids["Stalls"], "quantity": HELD}]
    assert (await owner.post("/api/holds", {"eventId": event, "lines": lines})).is_success
    for booking in bookings[:CAME_IN]:
        listed = (await owner.get(f"/api/bookings/{booking}/tickets")).json()["items"]
        scan = {"scanId": str(uuid4()), "ticketId": listed[0]["id"]}
        assert (await owner.post(f"/api/events/{event}/check-ins", scan)).is_success
    return owner, event


async def _spread(url: str, event: int) -> None:
    """Have the bookings made within the last hour, with two busy times."""
    connection = await asyncpg.connect(url.replace("+asyncpg", ""))
    counted = "SELECT coalesce(sum(bookings), 0) FROM activity WHERE event_id = $1 AND minutes = 1"
    total = sum(SOLD.values())
    async with asyncio.timeout(60):
        while await connection.fetchval(counted, event) < total:  # noqa: ASYNC110 - a loop counts
            await asyncio.sleep(0.2)
    weights = [
        0.2 + math.exp(-(((ago - 14) / 7) ** 2)) + 0.6 * math.exp(-(((ago - 44) / 6) ** 2))
        for ago in range(58)
    ]
    made, minutes, until = 0, [], 0.0
    for weight in weights:
        until += weight * total / sum(weights)
        minutes.append(round(until) - made)
        made = round(until)
    await connection.execute("DELETE FROM activity WHERE event_id = $1 AND minutes = 1", event)
    await connection.execute(MINUTES, event, minutes)
    await connection.close()


async def _shoot(service: Service, url: str, chromium: str) -> None:
    async with visiting(service) as visitor:
        owner, event = await _fill(visitor)
    await _spread(url, event)
    async with (
        async_playwright() as playwright,
        await playwright.chromium.launch(executable_path=chromium, args=FLAGS) as browser,
    ):
        page = await browser.new_page(viewport={"width": 1100, "height": 760})
        await page.goto(f"{service.url}/board/{event}")
        await page.get_by_label("Username").fill(owner.username)
        await page.get_by_label("Password").fill(PASSWORD)
        await page.keyboard.press("Enter")
        await page.locator("#bars rect").nth(59).wait_for(state="attached")
        await page.get_by_text(str(CAME_IN), exact=True).first.wait_for()
        await page.screenshot(path=IMAGES / "board.png")


def main() -> None:
    """Make them."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        raise SystemExit("the pictures need a Chromium: apt-get install chromium")
    with folder_open_to_all() as folder, embedded(folder / "data") as running:
        migrations.upgrade(running.url)
        database = {"TICKETING_DATABASE_URL": running.url, "TICKETING_JWT_SECRET": SECRET}
        with serving(folder, **UNMEASURED, **database) as service:
            asyncio.run(_shoot(service, running.url, chromium))


if __name__ == "__main__":
    main()
