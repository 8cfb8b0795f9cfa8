"""Holds and offers in a database that goes back to a version without them, and forward again."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from tests.factories import make_people
from tests.outcomes import counters, reading, rows
from ticketing.db import migrations
from ticketing.db.facts import Origin
from ticketing.sale.definitions import Definitions, defined
from ticketing.sale.details import Details
from ticketing.sale.repositories.bookings import BookingRepository
from ticketing.sale.repositories.events import EventRepository
from ticketing.sale.repositories.recount import RecountRepository

PRICE = {"amount": 2500, "currency": "EUR"}
TYPES: Sequence[dict[str, object]] = [
    {"name": "A", **PRICE},
    {"name": "B", "capacity": 3},
    {"name": "C"},
]
QUOTAS: Sequence[dict[str, object]] = [
    {"name": "Hall", "capacity": 8, "ticket_types": ["A", "B"]},
]


async def test_going_back_frees_the_places_of_holds_and_offers(
    engine: AsyncEngine, database_url: str, bookings: BookingRepository
) -> None:
    ada, bea, cleo, dora = await make_people(engine, 4)
    events = EventRepository(engine)

    async def make(total: int, definitions: Definitions | None = None, mode: str = "auto") -> int:
        details = Details("An event", waiting_list_mode=mode)
        return (await events.make(ada, details, total, Origin(), definitions=definitions)).id

    plain, full, typed = await make(5), await make(2), await make(9, defined(TYPES, QUOTAS, None))
    offering = await make(1, mode="offer")
    async with reading(engine) as reads:
        a, b, _ = [each.id for each in (await reads.get(typed)).definitions.in_order]
    for person in (ada, bea):
        await bookings.hold(plain, person)
        await bookings.hold(full, person)
    await bookings.book(full, cleo)
    for person, lines in ((ada, [(a, 2), (b, 1)]), (bea, [(b, 2)]), (cleo, [(a, 1)])):
        await bookings.hold(typed, person, lines=lines)
    await bookings.hold(typed, dora, lines=[(a, 1)], until=datetime.now(UTC) + timedelta(days=3))
    await bookings.book(offering, ada)
    await bookings.book(offering, bea)
    await bookings.cancel(offering, ada)
    assert [status for _, status in await rows(engine, offering)] == ["cancelled", "offered"]
    await asyncio.to_thread(migrations.downgrade, database_url, "0016")
    async with engine.connect() as connection:
        found = await connection.execute(text("SELECT DISTINCT status FROM bookings"))
        assert set(found.scalars()) == {"cancelled", "waiting"}
    await asyncio.to_thread(migrations.upgrade, database_url)
    for event, free, waiting in ((plain, 5, 0), (full, 2, 1), (typed, 9, 0), (offering, 1, 0)):
        assert (await counters(engine, event))[:2] == (free, waiting)
    assert (await RecountRepository(engine).recount()).differences == []
