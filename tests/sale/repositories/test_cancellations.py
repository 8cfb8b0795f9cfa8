"""The bookings of a cancelled event."""

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from tests.factories import make_event, make_people
from tests.outcomes import counters, rows
from ticketing.db.facts import COMMAND_LINE
from ticketing.sale.repositories.bookings import BookingRepository
from ticketing.sale.repositories.revisions import RevisionRepository


@pytest.mark.parametrize("total", [1, 2])
async def test_a_process_that_remembers_an_open_sale_cancels_the_bookings_at_once(
    engine: AsyncEngine, total: int
) -> None:
    ada, bob = await make_people(engine, 2)
    event = await make_event(engine, total=total, organiser=ada)
    bookings = BookingRepository(engine)
    for person in (ada, bob):
        await bookings.book(event, person)
    await RevisionRepository(engine).cancel(event, COMMAND_LINE)
    if total == 1:  # Bob waits, and is cancelled before Ada.
        assert await bookings._withdraw_some()
        assert await rows(engine, event) == [(ada, "booked"), (bob, "cancelled")]
    assert await bookings._withdraw_some()
    assert await rows(engine, event) == [(ada, "cancelled"), (bob, "cancelled")]
    assert (await counters(engine, event))[:2] == (total, 0)
    await bookings.finish_cancellations()
    await bookings.close()


async def test_a_turn_that_could_cancel_nothing_is_not_repeated_at_once(
    engine: AsyncEngine,
) -> None:
    (ada,) = await make_people(engine, 1)
    event = await make_event(engine, total=1, organiser=ada)
    bookings, closed = BookingRepository(engine), BookingRepository(engine)
    await bookings.book(event, ada)
    await RevisionRepository(engine).cancel(event, COMMAND_LINE)
    await closed.close()
    assert not await closed._withdraw_some()
    assert await rows(engine, event) == [(ada, "booked")]
    await bookings.finish_cancellations()
    assert await rows(engine, event) == [(ada, "cancelled")]
    await bookings.close()
