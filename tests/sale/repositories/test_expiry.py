"""Holds that end, as two processes see them."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from tests.factories import make_event, make_people
from ticketing.sale.inventory.model import BookingStatus, Kept
from ticketing.sale.repositories.bookings import BookingRepository
from ticketing.web.replay import KeyedRequest, Rendered, Replayed


async def end_all(engine: AsyncEngine) -> None:
    async with engine.begin() as connection:
        await connection.execute(text("UPDATE bookings SET expires_at = now()"))
        await connection.execute(
            text("UPDATE events SET next_expiry = now(), version = version + 1")
        )


async def test_a_process_that_knew_of_no_hold_ends_those_of_another(
    engine: AsyncEngine, bookings: BookingRepository, elsewhere: BookingRepository
) -> None:
    ada, bob = await make_people(engine, 2)
    event = await make_event(engine, total=5, organiser=ada)
    await bookings.book(event, ada)
    held = await elsewhere.hold(event, bob, lines=[(None, 3)])
    assert isinstance(held, Kept)
    await end_all(engine)
    await bookings.expire()
    async with engine.connect() as connection:
        found = await connection.execute(
            text("SELECT available_tickets, next_expiry FROM events WHERE id = :id"), {"id": event}
        )
        assert found.one() == (4, None)
    assert (await bookings.get(held.booking.id)).status is BookingStatus.EXPIRED


@pytest.mark.parametrize("people", [40])
async def test_many_ends_of_one_moment_free_every_place_once(
    engine: AsyncEngine, bookings: BookingRepository, elsewhere: BookingRepository, people: int
) -> None:
    organiser, *holders = await make_people(engine, people + 1)
    event = await make_event(engine, total=people, organiser=organiser)
    later = datetime.now(UTC) + timedelta(hours=1)
    for number, person in enumerate(holders):
        on = (bookings, elsewhere)[number % 2]
        assert isinstance(await on.hold(event, person, until=later), Kept)
    await end_all(engine)
    await elsewhere.expire()
    await bookings.expire()
    async with engine.connect() as connection:
        found = await connection.execute(
            text("SELECT available_tickets FROM events WHERE id = :id"), {"id": event}
        )
        assert found.scalar_one() == people


async def test_each_response_is_stored_when_one_request_of_a_batch_changes_nothing(
    engine: AsyncEngine, bookings: BookingRepository
) -> None:
    ada, bob = await make_people(engine, 2)
    event = await make_event(engine, total=5, organiser=ada)
    held = await bookings.hold(event, ada)
    await bookings.confirm(held.booking)
    again = KeyedRequest(ada, "again", b"1", lambda _: Rendered(200, b"again"))
    new = KeyedRequest(bob, "new", b"2", lambda _: Rendered(201, b"new"))
    await asyncio.gather(
        bookings.confirm(held.booking, keyed=again), bookings.book(event, bob, keyed=new)
    )
    for keyed, body in ((again, b"again"), (new, b"new")):
        with pytest.raises(Replayed) as caught:
            await bookings.book(event, bob, keyed=keyed)
        assert caught.value.response.body == body
