"""The board shows a sale to the event's team while it is under way."""

from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
from playwright.async_api import Browser, Locator, Page, expect

from tests.browser.looks import ALL_RULES, PHONE, Scheme, violations, width
from tests.browser.traffic import PATIENCE, Traffic
from tests.holding import OFFERS
from tests.people import PASSWORD, Person, Visitor
from tests.sales import EUR, book, sale
from tests.serving import Service, visiting

pytestmark = pytest.mark.usefixtures("unmeasured")
expect.set_options(timeout=PATIENCE)


@dataclass
class Sold:
    """An event under way, its owner, and its ticket types by name."""

    event: int
    owner: Person
    types: dict[str, int]

    async def sell(self, visitor: Visitor, kind: str) -> str:
        buyer = await visitor.register()
        made = await book(self.owner, self.event, {self.types[kind]: 1}, for_=buyer)
        assert made.is_success, made.text
        return str(made.json()["id"])


@pytest.fixture
async def visitor(service: Service) -> AsyncIterator[Visitor]:
    async with visiting(service) as visitor:
        yield visitor


@pytest.fixture
async def sold(visitor: Visitor) -> Sold:
    """Two of six places are sold, and one person waits for a place of a type that has one."""
    owner = await visitor.register()
    kinds = [{"name": "Seat", "price": EUR}, {"name": "Box", "capacity": 1, "price": EUR}]
    event, types = await sale(owner, capacity=6, ticketTypes=kinds, **OFFERS)
    made = Sold(event, owner, types)
    await made.sell(visitor, "Seat")
    await made.sell(visitor, "Box")
    await made.sell(visitor, "Box")
    return made


async def enter(page: Page, service: Service, sold: Sold, person: Person | None = None) -> None:
    await page.goto(f"{service.url}/board/{sold.event}")
    await page.get_by_label("Username").fill((person or sold.owner).username)
    await page.get_by_label("Password").fill(PASSWORD)
    await page.keyboard.press("Enter")


def row(page: Page, kind: str) -> Locator:
    return page.get_by_role("row").filter(has=page.get_by_role("rowheader", name=kind))


async def test_the_board_follows_a_sale_and_its_pause(
    page: Page, service: Service, sold: Sold, visitor: Visitor
) -> None:
    traffic = Traffic(page)
    await enter(page, service, sold)
    await expect(page.locator("h1")).to_have_text("Chamber music")
    cells = row(page, "Box").get_by_role("cell")
    await expect(cells).to_have_text(["1", "0", "0", "1", "0", "0"])
    await expect(page.locator("#sold")).to_have_text("2")
    await expect(page.locator("#revenue")).to_contain_text("50.00")
    await sold.sell(visitor, "Seat")
    await expect(page.locator("#sold")).to_have_text("3")
    await expect(page.locator("#left")).to_have_text("3")
    await expect(page.locator("#revenue")).to_contain_text("75.00")
    await expect(page.locator("#rate")).not_to_have_text("0")
    assert await page.locator("#bars rect").count() == 60
    await page.get_by_role("button", name="Pause the sale").click()
    await expect(page.locator("#state")).to_have_text("Paused")
    await expect(page.get_by_role("status")).to_have_text("The sale is now: Paused.")
    assert (await sold.owner.event(sold.event))["sale"]["state"] == "paused"
    await page.get_by_role("button", name="Resume the sale").click()
    await expect(page.locator("#state")).to_have_text("On sale")
    await page.reload()  # The tab still knows who is logged in.
    await expect(page.locator("#sold")).to_have_text("3")
    await page.get_by_role("button", name="Log out").click()
    await expect(page.get_by_label("Username")).to_be_focused()
    assert await page.evaluate("JSON.stringify([sessionStorage, localStorage])") == "[{},{}]"
    assert traffic.complaints == []


async def test_the_board_without_an_event_leads_to_the_events_of_the_person(
    page: Page, service: Service, sold: Sold
) -> None:
    await page.goto(f"{service.url}/board")
    await page.get_by_label("Username").fill(sold.owner.username)
    await page.get_by_label("Password").fill(PASSWORD)
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("listitem")).to_have_text(["Chamber music On sale"])
    assert await violations(page, ALL_RULES) == {}
    await page.get_by_role("link", name="Chamber music").click()
    await expect(page.locator("#sold")).to_have_text("2")


async def test_offers_that_end_soon_are_shown(
    page: Page, service: Service, sold: Sold, visitor: Visitor
) -> None:
    await enter(page, service, sold)
    await expect(page.locator("#offers")).to_have_text("0")
    bookings = (await sold.owner.get(f"/api/events/{sold.event}/bookings")).json()["items"]
    await sold.owner.post(f"/api/bookings/{bookings[1]['id']}/cancel", None)
    await expect(row(page, "Box").get_by_role("cell")).to_have_text(["0", "0", "1", "0", "0", "0"])
    await expect(page.locator("#ending")).to_have_text(
        "0 end within ten minutes, the next in 30 min"
    )
    del visitor


async def test_staff_see_no_revenue_and_strangers_see_nothing(
    page: Page, service: Service, sold: Sold, visitor: Visitor
) -> None:
    staff, eve = await visitor.register(), await visitor.register()
    await sold.owner.appoint(sold.event, staff, "staff")
    await enter(page, service, sold, eve)
    await expect(page.get_by_role("alert")).to_contain_text("Ask the event's owner for a role")
    await expect(page.locator("#board")).to_be_hidden()
    await enter(page, service, sold, staff)
    await expect(page.locator("#sold")).to_have_text("2")
    await expect(page.locator("#earned")).to_be_hidden()
    await page.get_by_role("button", name="Pause the sale").click()
    await expect(page.get_by_role("alert")).not_to_be_empty()
    await expect(page.locator("#state")).to_have_text("On sale")


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_everybody_can_read_the_board(
    browser: Browser, service: Service, sold: Sold, scheme: Scheme
) -> None:
    async with await browser.new_context(
        color_scheme=scheme, viewport={"width": PHONE, "height": 844}
    ) as context:
        context.set_default_timeout(PATIENCE)
        page = await context.new_page()
        await page.goto(f"{service.url}/board/{sold.event}")
        await expect(page.get_by_label("Username")).to_be_focused()
        assert await violations(page, ALL_RULES) == {}
        await enter(page, service, sold)
        await expect(page.locator("#sold")).to_have_text("2")
        assert await width(page) <= PHONE
        await page.get_by_text("as a table").click()
        assert await violations(page, ALL_RULES) == {}
        # On a projector everything is on the wall at once.
        await page.set_viewport_size({"width": 1920, "height": 1080})
        await page.get_by_text("as a table").click()
        assert await page.evaluate("document.scrollingElement.scrollHeight") <= 1080
        assert await violations(page, ALL_RULES) == {}
        await page.locator("h1").click()
        await page.keyboard.press("Tab")
        await expect(page.get_by_role("button", name="Pause the sale")).to_be_focused()
