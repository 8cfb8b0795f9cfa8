"""Limits per person, when many requests of one person arrive at once in two processes."""

from collections import Counter

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from tests.factories import make_event, make_people
from tests.outcomes import together
from ticketing.errors import LimitReached
from ticketing.sale.inventory.model import Booked
from ticketing.sale.repositories.bookings import BookingRepository
from ticketing.sale.repositories.recount import RecountRepository

ALLOW = """
    UPDATE events SET revision = revision + 1, had_several_bookings = true,
        max_bookings_per_person = :bookings, max_tickets_per_person = :tickets
    WHERE id = :event
"""


@pytest.mark.parametrize(("places", "booked"), [(1, 3), (2, 2), (5, 1)])
async def test_a_hundred_requests_of_one_person_get_no_more_than_the_event_allows(
    engine: AsyncEngine,
    bookings: BookingRepository,
    elsewhere: BookingRepository,
    places: int,
    booked: int,
) -> None:
    ada, bob = await make_people(engine, 2)
    show = await make_event(engine, total=1_000, organiser=bob)
    async with engine.begin() as connection:
        await connection.execute(text(ALLOW), {"event": show, "bookings": 3, "tickets": 5})
    crowd = [
        worker.book(show, ada, lines=((None, places),))
        for _ in range(50)
        for worker in (bookings, elsewhere)
    ]
    outcomes = await together(*crowd, bookings.book(show, bob))
    assert Counter(map(type, outcomes[:-1])) == {Booked: booked, LimitReached: 100 - booked}
    assert isinstance(outcomes[-1], Booked)
    held = [each.booking for each in outcomes[:-1] if isinstance(each, Booked)]
    assert sorted(each.slot for each in held) == list(range(booked))
    # A place that is given back can be booked again.
    await elsewhere.cancel_booking(held[0])
    again = await bookings.book(show, ada, lines=((None, places),))
    assert again.booking.slot == held[0].slot
    assert (await RecountRepository(engine).recount()).differences == []
