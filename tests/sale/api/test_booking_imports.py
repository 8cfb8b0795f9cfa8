"""Imports of bookings, decided as every other booking is."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from tests.holding import end, held
from tests.people import Visitor
from tests.sales import assert_recounted, sale
from ticketing.sale.repositories import booking_imports
from ticketing.sale.repositories import held as holds
from ticketing.sale.repositories.booking_imports import (
    BookingImportRepository,
    NewBooking,
    NotImportedError,
)


def row(number: int, *, kind: str | None = None, places: int = 1) -> NewBooking:
    return NewBooking(f"c{number}", None, None, None, kind, places, None)


async def imported(engine: AsyncEngine, event: int, rows: Sequence[NewBooking]) -> int:
    def tell(_: str, /, file: Path | None = None) -> None:
        assert file is None

    return await BookingImportRepository(engine).import_all(event, rows, tell, keep=True)


async def test_an_import_beside_a_sale_never_sells_a_place_twice(
    visitor: Visitor, engine: AsyncEngine
) -> None:
    people = [await visitor.register() for _ in range(12)]
    event = await people[0].organise(total=30)

    async def import_some() -> int:
        try:
            return await imported(engine, event, [row(number) for number in range(25)])
        except NotImportedError as error:
            assert "places of the ticket type" in error.faults[0].why  # noqa: PT017 - may be
            return 0

    importing = asyncio.create_task(import_some())
    answers = await asyncio.gather(*(each.book(event) for each in people))
    new, booked = await importing, sum(each.status_code == 201 for each in answers)
    assert (new, booked) in {(25, 5), (0, 12)}
    assert (await visitor.event(event))["availableTickets"] == 30 - new - booked
    await assert_recounted(engine)


async def test_an_import_books_by_type_and_names_every_row_that_it_can_not_book(
    visitor: Visitor, engine: AsyncEngine
) -> None:
    ada = await visitor.register()
    event, _ = await sale(
        ada,
        ticketTypes=[
            {"name": "Seat", "capacity": 2, "price": {"amount": 500, "currency": "EUR"}},
            {"name": "Floor", "capacity": 3},
        ],
    )
    wrong = [row(1, kind="Box"), row(2, kind="Seat", places=5), row(3, kind="Floor")]
    with pytest.raises(NotImportedError) as named:
        await imported(engine, event, wrong)
    assert [(each.place, each.field) for each in named.value.faults] == [(0, "ticketType")]
    with pytest.raises(NotImportedError) as lacking:
        await imported(engine, event, [*wrong[1:], row(4, places=5)])
    whys = [(each.place, each.why) for each in lacking.value.faults]
    assert whys[0][0] == 2
    assert whys[0][1].startswith("The event has several ticket types")
    assert whys[1] == (None, "3 places of the ticket type 'Seat' are missing")
    assert await imported(engine, event, [row(5, kind="Seat", places=2), row(6, kind="Floor")]) == 2
    found = (await ada.get(f"/api/events/{event}/bookings")).json()["items"]
    assert [(each["quantity"], each["amount"], each["status"]) for each in found[-2:]] == [
        *((2, 1000, "booked"), (1, 0, "booked"))
    ]
    trail = (await ada.get(f"/api/events/{event}/feed")).json()["items"]
    assert [each["type"] for each in trail[-2:]] == ["booking.booked"] * 2
    await assert_recounted(engine)


async def test_an_import_has_the_places_of_all_holds_that_have_ended(
    visitor: Visitor, engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also if no service runs, which would end them, and if one commit does not end them all."""
    monkeypatch.setattr(holds, "DUE_AT_ONCE", 1)
    monkeypatch.setattr(booking_imports, "AT_ONCE", 1)
    ada = await visitor.register()
    event = await ada.organise(total=4)
    kept = [await held(ada, event, customer={"externalId": f"c{number}"}) for number in range(3)]
    await end(engine, *(each["id"] for each in kept))
    with pytest.raises(NotImportedError) as lacking:
        await imported(engine, event, [row(9, places=5), row(0), row(1)])
    assert [each.why for each in lacking.value.faults] == [
        "3 places of the ticket type 'General admission' are missing"
    ]
    assert await imported(engine, event, [row(number) for number in range(4)]) == 4
    await assert_recounted(engine)


async def test_an_import_books_for_whom_had_no_places_so_far(
    visitor: Visitor, engine: AsyncEngine
) -> None:
    ada, bob = [await visitor.register() for _ in range(2)]
    event = await ada.organise(total=1)
    kept = await held(ada, event, customer={"externalId": "c1"})
    await ada.delete(f"/api/holds/{kept['id']}")
    await bob.book(event)
    who_waits = {"eventId": event, "customer": {"externalId": "c2"}}
    assert (await ada.post("/api/events/book", who_waits)).status_code == 202
    await ada.post("/api/events/cancel", who_waits)
    await bob.cancel(event)
    for number in (1, 2):
        assert await imported(engine, event, [row(number)]) == 1
        cancelled = {"eventId": event, "customer": {"externalId": f"c{number}"}}
        await ada.post("/api/events/cancel", cancelled)
    assert await imported(engine, event, [row(1), row(2)]) == 0
    await assert_recounted(engine)
