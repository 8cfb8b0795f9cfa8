"""Groups that wait, and holds that change twice in one batch, as the database keeps them."""

import asyncio
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from tests.factories import make_people
from tests.outcomes import kinds, together
from ticketing.db.facts import Origin
from ticketing.sale.details import Details
from ticketing.sale.inventory.model import Booked, BookingStatus, Cancelled, Kept, Waiting
from ticketing.sale.inventory.terms import WaitingMode
from ticketing.sale.repositories.bookings import BookingRepository
from ticketing.sale.repositories.events import EventRepository
from ticketing.sale.repositories.recount import RecountRepository
from ticketing.sale.repositories.revisions import RevisionRepository


async def make(engine: AsyncEngine, organiser: UUID, total: int, details: Details) -> int:
    return (await EventRepository(engine).make(organiser, details, total, Origin())).id


async def wait_in_turn(bookings: BookingRepository, event: int, *asked: tuple[UUID, int]) -> None:
    """Let groups wait, each after the patience of those before it is over."""
    for person, quantity in asked:
        waits = await bookings.book(event, person, lines=((None, quantity),))
        assert isinstance(waits, Waiting)
        await asyncio.sleep(0.01)
        await bookings.expire()


async def assert_recounted(engine: AsyncEngine) -> None:
    assert (await RecountRepository(engine).recount()).differences == []


IMPATIENT = Details("An event", group_patience_minutes=0)


async def test_impatient_groups_that_were_not_read_do_not_stop_an_event(
    engine: AsyncEngine, bookings: BookingRepository
) -> None:
    ada, bob, cleo, dan, eve = await make_people(engine, 5)
    event = await make(engine, ada, 2, IMPATIENT)
    await bookings.book(event, ada)
    await wait_in_turn(bookings, event, (bob, 2), (cleo, 2), (dan, 2))
    assert isinstance(await bookings.book(event, eve), Booked)
    assert not (await bookings.cancel(event, eve)).promoted
    cancelled = await bookings.cancel(event, ada)
    assert [each.user_id for each in cancelled.promoted] == [bob]
    await assert_recounted(engine)


async def test_a_group_that_fits_is_read_however_many_larger_ones_are_before_it(
    engine: AsyncEngine, bookings: BookingRepository
) -> None:
    ada, bob, cleo, dan, eve, fay, gus = await make_people(engine, 7)
    event = await make(engine, ada, 4, IMPATIENT)
    made = await bookings.book(event, ada, lines=((None, 3),))
    await wait_in_turn(bookings, event, (bob, 4), (cleo, 4), (dan, 4), (gus, 4), (eve, 2))
    assert isinstance(await bookings.book(event, fay), Booked)
    assert not (await bookings.cancel(event, fay)).promoted
    cancelled = await bookings.cancel_booking(made.booking, [made.booking.tickets[0].id])
    assert [each.user_id for each in cancelled.promoted] == [eve]
    await assert_recounted(engine)


async def test_an_offer_that_is_made_in_the_batch_of_the_request_ends(
    engine: AsyncEngine, bookings: BookingRepository
) -> None:
    ada, bob = await make_people(engine, 2)
    details = Details("An event", waiting_list_mode=WaitingMode.OFFER)
    event = await make(engine, ada, 1, details)
    await bookings.book(event, ada)
    answers = await together(bookings.book(event, bob), bookings.cancel(event, ada))
    assert kinds(answers) == [Waiting, Cancelled]
    offered = await bookings.get(answers[0].booking.id)
    assert offered.status is BookingStatus.OFFERED
    assert offered.expires_at is not None
    await assert_recounted(engine)


async def test_a_hold_that_is_confirmed_and_cancelled_in_one_batch_is_cancelled(
    engine: AsyncEngine, bookings: BookingRepository
) -> None:
    (ada,) = await make_people(engine, 1)
    event = await make(engine, ada, 1, Details("An event"))
    kept = await bookings.hold(event, ada)
    assert isinstance(kept, Kept)
    answers = await together(bookings.confirm(kept.booking), bookings.cancel_booking(kept.booking))
    assert kinds(answers) == [Booked, Cancelled]
    assert (await bookings.get(kept.booking.id)).status is BookingStatus.CANCELLED
    await assert_recounted(engine)


async def test_holds_of_a_cancelled_event_are_withdrawn_although_many_wait(
    engine: AsyncEngine, bookings: BookingRepository
) -> None:
    """A place of a plain event is free only while nobody waits: see ck_events_line_served."""
    ada, bob, cleo = await make_people(engine, 3)
    event = await make(engine, ada, 1, Details("An event"))
    kept = await bookings.hold(event, ada)
    await bookings.book(event, bob)
    await bookings.book(event, cleo)
    async with engine.begin() as connection:
        for statement in (
            "UPDATE bookings SET expires_at = now() WHERE status = 'held'",
            "UPDATE events SET next_expiry = now(), version = version + 1",
        ):
            await connection.execute(text(statement))
    await RevisionRepository(engine).cancel(event, Origin())
    await bookings.expire()
    assert (await bookings.get(kept.booking.id)).status is BookingStatus.HELD
    await assert_recounted(engine)
    await bookings.finish_cancellations()
    assert (await bookings.get(kept.booking.id)).status is BookingStatus.CANCELLED
    await assert_recounted(engine)
