"""A hold is confirmed and released by two requests at the same time."""

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from tests.factories import make_event, make_people
from tests.outcomes import counters, kinds, rows, together
from ticketing.errors import HoldExpired, NotHeld
from ticketing.sale.inventory.model import Booked, Cancelled, Kept
from ticketing.sale.repositories.bookings import BookingRepository


async def test_what_was_confirmed_since_it_was_read_is_not_released(
    engine: AsyncEngine, bookings: BookingRepository, elsewhere: BookingRepository
) -> None:
    (person,) = await make_people(engine, 1)
    show = await make_event(engine, total=1, organiser=person)
    kept = await bookings.hold(show, person)
    assert isinstance(kept, Kept)
    await elsewhere.confirm(kept.booking)
    with pytest.raises(NotHeld):
        await bookings.release(kept.booking)
    assert await rows(engine, show) == [(person, "booked")]


async def test_a_hold_is_confirmed_or_released_by_the_first_of_one_batch(
    engine: AsyncEngine, bookings: BookingRepository
) -> None:
    (person,) = await make_people(engine, 1)
    show = await make_event(engine, total=1, organiser=person)
    first = (await bookings.hold(show, person)).booking
    outcomes = await together(bookings.release(first), bookings.confirm(first))
    assert kinds(outcomes) == [Cancelled, HoldExpired]
    second = (await bookings.hold(show, person)).booking
    outcomes = await together(bookings.confirm(second), bookings.release(second))
    assert kinds(outcomes) == [Booked, NotHeld]
    assert (await counters(engine, show))[:2] == (0, 0)
