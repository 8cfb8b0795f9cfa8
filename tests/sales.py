"""Events with ticket types, as a test sells them."""

from typing import Any

import httpx
from sqlalchemy.ext.asyncio import AsyncEngine

from tests.people import Person, Visitor
from ticketing.sale.repositories.recount import RecountRepository

EUR = {"amount": 2500, "currency": "EUR"}


async def sale(organiser: Person, **more: object) -> tuple[int, dict[str, int]]:
    """Make an event. Return its id, and those of its ticket types by name."""
    made = await organiser.post("/api/events", {"name": "Chamber music", "capacity": 10} | more)
    assert made.status_code == 201, made.text
    document = made.json()
    return document["id"], {each["name"]: each["id"] for each in document["ticketTypes"]}


async def book(
    person: Person, event: int, lines: dict[int, int], for_: Person | None = None
) -> httpx.Response:
    asked = [{"ticketTypeId": kind, "quantity": quantity} for kind, quantity in lines.items()]
    whom = {} if for_ is None else {"userId": for_.id}
    return await person.post("/api/events/book", {"eventId": event, "lines": asked} | whom)


async def left(visitor: Visitor, event: int) -> dict[str, tuple[int, int, int]]:
    """Return what is available, taken and waited for: of the event, and by type."""
    found = await visitor.event(event)
    total, available = found["totalTickets"], found["availableTickets"]
    numbers = {"": (available, total - available, found["waitingListCount"])}
    for each in found["ticketTypes"]:
        numbers[each["name"]] = each["available"], each["taken"], each["waiting"]
    return numbers


async def tickets(person: Person, booking: str) -> list[dict[str, Any]]:
    found = await person.get(f"/api/bookings/{booking}/tickets")
    assert found.status_code == 200, found.text
    items: list[dict[str, Any]] = found.json()["items"]
    return items


async def assert_recounted(engine: AsyncEngine) -> None:
    assert (await RecountRepository(engine).recount()).differences == []
