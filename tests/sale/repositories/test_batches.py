"""Requests that are decided in one batch."""

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from tests.factories import make_event, make_people
from tests.outcomes import kinds, together
from ticketing.errors import SoldOut
from ticketing.sale.inventory.model import Booked, Cancelled, Waiting
from ticketing.sale.repositories.bookings import BookingRepository


async def test_an_offer_to_somebody_who_has_just_joined_has_an_end(
    engine: AsyncEngine, bookings: BookingRepository
) -> None:
    first, second = await make_people(engine, 2)
    show = await make_event(engine, total=1, organiser=first)
    async with engine.begin() as connection:
        await connection.execute(text("UPDATE events SET waiting_list_mode = 'offer'"))
    await bookings.book(show, first)
    outcomes = await together(bookings.book(show, second), bookings.cancel(show, first))
    assert kinds(outcomes) == [Waiting, Cancelled]
    query = text("SELECT expires_at IS NOT NULL FROM bookings WHERE status = 'offered'")
    async with engine.connect() as connection:
        assert (await connection.execute(query)).scalars().all() == [True]


async def test_a_sold_out_event_has_no_other_event_refused_by_old_terms(
    engine: AsyncEngine, bookings: BookingRepository
) -> None:
    first, second = await make_people(engine, 2)
    full, show = [await make_event(engine, total=total, organiser=first) for total in (1, 9)]
    closed = "UPDATE events SET waiting_list_mode = 'closed'"
    async with engine.begin() as connection:
        await connection.execute(text(closed))
    await bookings.book(full, first)
    await bookings.book(show, first)
    allowed = """
        UPDATE events SET revision = revision + 1, max_bookings_per_person = 2,
            had_several_bookings = true
        WHERE id = :show
    """
    async with engine.begin() as connection:
        await connection.execute(text(allowed), {"show": show})
    outcomes = await together(bookings.book(full, second), bookings.book(show, first))
    assert kinds(outcomes) == [SoldOut, Booked]
