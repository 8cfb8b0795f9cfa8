"""Somebody joins the waiting list and gets an offer in one batch."""

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from tests.factories import make_event, make_people
from tests.outcomes import kinds, together
from ticketing.sale.inventory.model import Cancelled, Waiting
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
