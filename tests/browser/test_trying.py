"""The docs page helps a person who tries the API."""

import json
import re
from typing import Any
from uuid import uuid4

import httpx
import pytest
from playwright.async_api import Locator, Page, expect

from tests.people import PASSWORD
from tests.serving import Service

pytestmark = pytest.mark.usefixtures("unmeasured")

EXAMPLE = "019938a5-3c6b-7f0e-b7a2-53f0c9d1e6aa"
"""The user id in the document's examples."""


class Newcomer:
    """A person with an account who has the docs page open."""

    def __init__(self, page: Page, service: Service) -> None:
        self.page = page
        self.url = service.url
        self.username = f"newcomer-{uuid4().hex[:12]}"
        credentials = {"username": self.username, "password": PASSWORD}
        made = httpx.post(f"{self.url}/api/users/register", json=credentials)
        self.id: str = made.raise_for_status().json()["id"]
        login = httpx.post(f"{self.url}/api/users/login", json=credentials).json()
        self._headers = {"Authorization": f"Bearer {login['token']}"}

    def organise(self) -> int:
        """Create an event outside of the page."""
        wanted = {"name": "An evening of chamber music", "totalTickets": 5}
        address = f"{self.url}/api/events/initialize"
        made = httpx.post(address, json=wanted, headers=self._headers)
        event: int = made.raise_for_status().json()["id"]
        return event

    async def open(self, operation: str) -> Locator:
        block = self.page.locator(f".opblock[id$=-{operation}]")
        await block.locator(".opblock-summary-control").click()
        return block

    async def authorize(self, password: str = PASSWORD) -> Locator:
        """Enter the credentials, and return the dialog."""
        await self.page.locator(".auth-wrapper > .authorize").click()
        dialog = self.page.locator(".dialog-ux")
        await dialog.get_by_label("username").fill(self.username)
        await dialog.get_by_label("password").fill(password)
        await dialog.get_by_role("button", name="Apply given OAuth2 credentials").click()
        return dialog

    async def log_in(self) -> None:
        dialog = await self.authorize()
        await dialog.get_by_role("button", name="Remove authorization").wait_for()
        await dialog.get_by_role("button", name="Close").first.click()

    def subject(self, event: int) -> str:
        """The body of a request about the person and an event, as the page writes it."""
        example = {"eventId": event, "userId": self.id}
        return json.dumps(example, indent=2)

    def to_book(self, event: int) -> str:
        """The body of a booking of the event's first ticket type, as the page writes it."""
        found = httpx.get(f"{self.url}/api/events/{event}").raise_for_status().json()
        line = {"ticketTypeId": found["ticketTypes"][0]["id"], "quantity": 1}
        example = {"eventId": event, "lines": [line], "userId": self.id}
        return json.dumps(example, indent=2, sort_keys=True)


@pytest.fixture
async def newcomer(page: Page, service: Service) -> Newcomer:
    somebody = Newcomer(page, service)
    await page.goto(f"{service.url}/docs")
    return somebody


async def execute(block: Locator) -> tuple[int, dict[str, Any]]:
    """Send a request unchanged, and return the status and body that the page shows."""
    await block.get_by_role("button", name="Execute").click()
    shown = block.locator(".live-responses-table .response")
    status = await shown.locator(".response-col_status").inner_text()
    return int(status), json.loads(await shown.locator(".highlight-code code").inner_text())


async def test_the_first_booking_works_as_it_is_filled_in(newcomer: Newcomer) -> None:
    event = newcomer.organise()
    await newcomer.log_in()
    book = await newcomer.open("bookTicket")
    await expect(book.locator("textarea")).to_have_value(newcomer.to_book(event))
    status, booked = await execute(book)
    assert (status, booked["eventId"], booked["userId"]) == (201, event, newcomer.id)

    cancel = await newcomer.open("cancelTicket")
    await expect(cancel.locator("textarea")).to_have_value(newcomer.subject(event))
    status, cancelled = await execute(cancel)
    assert (status, cancelled["id"]) == (200, booked["id"])
    shown = await newcomer.open("getEvent")
    status, found = await execute(shown)
    assert (status, found["id"]) == (200, event)


async def test_requests_that_are_open_are_filled_when_somebody_logs_in_and_makes_an_event(
    newcomer: Newcomer,
) -> None:
    book = await newcomer.open("bookTicket")
    await expect(book.locator("textarea")).to_have_value(re.compile(EXAMPLE))
    await newcomer.log_in()
    make = await newcomer.open("initializeEvent")
    status, event = await execute(make)
    assert status == 201
    await expect(book.locator("textarea")).to_have_value(newcomer.to_book(event["id"]))
    status, booked = await execute(book)
    assert (status, booked["userId"]) == (201, newcomer.id)


async def test_the_persons_own_event_is_filled_in_rather_than_a_newer_one_of_others(
    newcomer: Newcomer, service: Service
) -> None:
    event = newcomer.organise()
    Newcomer(newcomer.page, service).organise()
    await newcomer.log_in()
    book = await newcomer.open("bookTicket")
    await expect(book.locator("textarea")).to_have_value(newcomer.to_book(event))


async def test_without_an_own_event_the_newest_event_is_filled_in(
    newcomer: Newcomer, service: Service
) -> None:
    event = Newcomer(newcomer.page, service).organise()
    await newcomer.log_in()
    book = await newcomer.open("bookTicket")
    await expect(book.locator("textarea")).to_have_value(newcomer.to_book(event))
    status, _ = await execute(book)
    assert status == 201


async def test_requests_are_filled_after_a_reload_if_the_person_is_logged_in(
    newcomer: Newcomer,
) -> None:
    event = newcomer.organise()
    await newcomer.log_in()
    await newcomer.page.goto("about:blank")
    await newcomer.page.goto(f"{newcomer.url}/docs")
    book = await newcomer.open("bookTicket")
    await expect(book.locator("textarea")).to_have_value(newcomer.to_book(event))


async def test_text_that_the_person_wrote_is_kept(newcomer: Newcomer) -> None:
    newcomer.organise()
    book = await newcomer.open("bookTicket")
    own = '{"eventId": 7, "userId": "mine"}'
    await book.locator("textarea").fill(own)
    await newcomer.log_in()
    # A request that is opened afterwards shows that the filling is over.
    cancel = await newcomer.open("cancelTicket")
    await expect(cancel.locator("textarea")).to_have_value(re.compile(newcomer.id))
    await expect(book.locator("textarea")).to_have_value(own)


async def test_the_dialog_says_in_words_that_a_password_is_wrong(newcomer: Newcomer) -> None:
    dialog = await newcomer.authorize("a wrong one")
    told = dialog.get_by_role("alert")
    await expect(told).to_have_text("The username or the password is wrong.")
    # Only there, because elsewhere it would stay.
    assert await newcomer.page.locator(".errors-wrapper").count() == 0
    await dialog.get_by_label("password").fill(PASSWORD)
    await dialog.get_by_role("button", name="Apply given OAuth2 credentials").click()
    await dialog.get_by_role("button", name="Remove authorization").wait_for()
    assert await told.count() == 0


async def test_the_dialog_says_in_words_that_the_service_is_unreachable(newcomer: Newcomer) -> None:
    await newcomer.page.context.set_offline(offline=True)
    dialog = await newcomer.authorize()
    told = dialog.get_by_role("alert")
    await expect(told).to_have_text("The service did not respond. Try again.")
