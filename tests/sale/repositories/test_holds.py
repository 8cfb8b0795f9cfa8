"""Holds and offers at two services, which share only the rows."""

import os
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Final
from uuid import UUID

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from tests.factories import make_people
from tests.outcomes import counters, kinds, rows, together
from ticketing.db.clock import DatabaseClock
from ticketing.db.facts import Origin
from ticketing.errors import (
    AlreadyBooked,
    AlreadyHeld,
    AlreadyWaiting,
    HoldExpired,
    NotHeld,
    SoldOut,
    TicketTypeSold,
)
from ticketing.sale.definitions import defined
from ticketing.sale.details import Details
from ticketing.sale.inventory.model import Booked, Booking, BookingStatus, Cancelled, Kept, Waiting
from ticketing.sale.repositories import held as reads
from ticketing.sale.repositories.bookings import BookingRepository
from ticketing.sale.repositories.events import EventRepository
from ticketing.sale.repositories.recount import RecountRepository
from ticketing.sale.repositories.revisions import RevisionRepository
from ticketing.sale.repositories.ticket_types import TicketTypeRepository
from ticketing.sale.times import When

ROUNDS: Final = int(os.environ.get("ROUNDS", "200"))
"""How many times what happens at one instant is tried."""
PLAIN: Final = Details("An event")
OFFERS: Final = PLAIN._replace(waiting_list_mode="offer")
EUR: Final = {"amount": 2500, "currency": "EUR"}
END: Final = text(
    """
    WITH ended AS (
        UPDATE bookings SET expires_at = :at
        WHERE event_id = :event AND expires_at IS NOT NULL
            AND status IN ('held', 'offered', 'waiting')
        RETURNING event_id
    )
    UPDATE events SET next_expiry = :at, version = version + 1
    FROM ended WHERE events.id = ended.event_id
    """
)
TRAIL: Final = text(
    "SELECT action, details ->> 'bookingId' AS booking FROM audit_records"
    " WHERE event_id = :event ORDER BY seq"
)


async def make(
    engine: AsyncEngine,
    organiser: UUID,
    total: int,
    types: Sequence[Mapping[str, Any]] = (),
    details: Details = PLAIN,
) -> tuple[int, list[int]]:
    """Make an event, a plain one without `types`. Return its id, and those of its ticket types."""
    known = defined(types, [], None)
    made = await EventRepository(engine).make(
        organiser, details, total, Origin(), definitions=known if types else None
    )
    return made.id, [each.id for each in made.definitions.in_order]


async def end(engine: AsyncEngine, event: int, at: datetime | None = None) -> None:
    """Let all holds and offers end at this time, or long ago; also the patience of groups."""
    async with engine.begin() as connection:
        ended = {"event": event, "at": at or datetime.now(UTC) - timedelta(seconds=30)}
        await connection.execute(END, ended)


def in_minutes(minutes: int) -> When:
    return When(datetime.now(UTC) + timedelta(minutes=minutes))


async def trail(engine: AsyncEngine, event: int, booking: Booking) -> list[str]:
    async with engine.connect() as connection:
        found = await connection.execute(TRAIL, {"event": event})
        return [row.action for row in found if row.booking == str(booking.id)]


async def tickets(engine: AsyncEngine, booking: Booking) -> int:
    async with engine.connect() as connection:
        counted = text("SELECT count(*) FROM tickets WHERE booking_id = :id AND status = 'valid'")
        return int(await connection.scalar(counted, {"id": booking.id}) or 0)


async def statuses(engine: AsyncEngine, event: int) -> list[str]:
    return [status for _, status in await rows(engine, event)]


async def assert_recounted(engine: AsyncEngine) -> None:
    assert (await RecountRepository(engine).recount()).differences == []


async def test_a_hold_that_ended_is_free_for_the_next_request_of_any_service(
    engine: AsyncEngine, bookings: BookingRepository, elsewhere: BookingRepository
) -> None:
    ada, bea, cleo = await make_people(engine, 3)
    event, _ = await make(engine, ada, 2)
    kept = await bookings.hold(event, ada, lines=[(None, 2)])
    assert isinstance(kept, Kept)
    assert isinstance(await elsewhere.book(event, bea), Waiting)
    await elsewhere.cancel(event, bea)
    # No background loop runs here.
    await end(engine, event)
    assert isinstance(await elsewhere.book(event, bea), Booked)
    assert isinstance(await bookings.book(event, cleo), Booked)
    assert await trail(engine, event, kept.booking) == ["booking.held", "booking.expired"]
    assert (await counters(engine, event))[:2] == (0, 0)
    await assert_recounted(engine)


@pytest.mark.usefixtures("unmeasured")
@pytest.mark.parametrize("is_plain", [True, False])
async def test_what_a_hold_took_is_given_back_once_whatever_comes_first(
    engine: AsyncEngine,
    bookings: BookingRepository,
    elsewhere: BookingRepository,
    *,
    is_plain: bool,
) -> None:
    ada, *people = await make_people(engine, 6)
    types: list[dict[str, Any]] = [{"name": "A"}, {"name": "B", "capacity": 2}]
    event, kinds_of = await make(engine, ada, 6, [] if is_plain else types)
    lines: list[tuple[int | None, int]] = [(None, 6)]
    if not is_plain:
        a, b = kinds_of
        lines = [(a, 4), (b, 2)]
    free = await counters(engine, event)
    seen = set()
    for turn in range(ROUNDS):
        kept = await bookings.hold(event, people[0], lines=lines)
        assert isinstance(kept, Kept)
        held = kept.booking
        # Some end before the requests, some between them, some after.
        await end(engine, event, datetime.now(UTC) + timedelta(milliseconds=turn % 5 * 2 - 3))
        outcomes = await together(
            bookings.confirm(held),
            elsewhere.release(held),
            *(service.expire() for service in (bookings, elsewhere)),
            elsewhere.confirm(held),
            bookings.release(held),
        )
        confirmed, released = [outcomes[0], outcomes[4]], [outcomes[1], outcomes[5]]
        now = (await bookings.get(held.id)).status
        assert now in {BookingStatus.BOOKED, BookingStatus.CANCELLED, BookingStatus.EXPIRED}
        if now is BookingStatus.BOOKED:
            assert Booked in kinds(confirmed)
            # An acknowledged booking is not released.
            assert set(kinds(released)) <= {NotHeld, Cancelled}
            assert (await counters(engine, event))[0] == 0
            await bookings.cancel(event, people[0])
        else:
            assert set(kinds(confirmed)) == {HoldExpired}
        seen.add(now)
        assert (await counters(engine, event))[:2] == free[:2]
        if turn % 20 == 0:
            await assert_recounted(engine)
    assert {BookingStatus.BOOKED, BookingStatus.CANCELLED} <= seen
    await assert_recounted(engine)


@pytest.mark.usefixtures("unmeasured")
async def test_an_offer_that_is_accepted_as_it_ends_has_one_owner(
    engine: AsyncEngine, bookings: BookingRepository, elsewhere: BookingRepository
) -> None:
    ada, bea, cleo = await make_people(engine, 3)
    event, _ = await make(engine, ada, 1, details=OFFERS)
    winners = []
    for turn in range(ROUNDS):
        await bookings.book(event, ada)
        first = await bookings.book(event, bea)
        second = await elsewhere.book(event, cleo)
        assert isinstance(first, Waiting)
        assert isinstance(second, Waiting)
        await bookings.cancel(event, ada)
        assert (await bookings.get(first.booking.id)).status is BookingStatus.OFFERED
        await end(engine, event, datetime.now(UTC) + timedelta(milliseconds=turn % 5 * 2 - 3))
        services = (bookings, elsewhere)[:: -1 if turn % 2 else 1]
        accepted, *_ = await together(
            services[0].confirm(first.booking), services[1].expire(), services[0].expire()
        )
        now = [(await bookings.get(each.booking.id)).status for each in (first, second)]
        if isinstance(accepted, Booked):
            assert now == [BookingStatus.BOOKED, BookingStatus.WAITING]
        else:
            assert isinstance(accepted, HoldExpired)
            # Cleo has it, unless nobody has looked since.
            await bookings.expire()
            now = [(await bookings.get(each.booking.id)).status for each in (first, second)]
            assert now == [BookingStatus.EXPIRED, BookingStatus.OFFERED]
        assert (await counters(engine, event))[0] == 0
        winners.append(type(accepted))
        for person in (cleo, bea):
            await together(bookings.cancel(event, person))
        assert (await counters(engine, event))[:2] == (1, 0)
    assert set(winners) == {Booked, HoldExpired}
    await assert_recounted(engine)


@pytest.mark.usefixtures("unmeasured")
async def test_a_hold_and_a_booking_of_one_person_at_once_are_one(
    engine: AsyncEngine, bookings: BookingRepository, elsewhere: BookingRepository
) -> None:
    ada, bea = await make_people(engine, 2)
    event, _ = await make(engine, ada, 10)
    for _ in range(ROUNDS // 4):
        outcomes = await together(
            bookings.hold(event, bea),
            elsewhere.book(event, bea),
            elsewhere.hold(event, bea),
            bookings.book(event, bea),
        )
        won = [each for each in outcomes if isinstance(each, (Booked, Kept))]
        assert len(won) == 1
        assert set(kinds(outcomes)) <= {Booked, Kept, AlreadyBooked, AlreadyHeld}
        assert (await counters(engine, event))[0] == 9
        await bookings.cancel(event, bea)
    await assert_recounted(engine)


async def test_two_confirmations_in_one_batch_issue_the_tickets_once(
    engine: AsyncEngine, bookings: BookingRepository
) -> None:
    ada, bea = await make_people(engine, 2)
    event, _ = await make(engine, ada, 10, [{"name": "A", **EUR}])
    kept = await bookings.hold(event, bea, lines=[(None, 3)])
    both = await together(*(bookings.confirm(kept.booking, by_team=True) for _ in range(3)))
    assert kinds(both) == [Booked] * 3
    issued = {ticket.id for each in both for ticket in each.booking.tickets}
    assert len(issued) == 3
    assert await tickets(engine, kept.booking) == 3
    assert await trail(engine, event, kept.booking) == ["booking.held", "booking.confirmed"]
    await assert_recounted(engine)


async def test_a_release_does_not_cancel_what_was_confirmed_since_it_was_read(
    engine: AsyncEngine, bookings: BookingRepository, elsewhere: BookingRepository
) -> None:
    ada, bea = await make_people(engine, 2)
    event, _ = await make(engine, ada, 1)
    kept = await bookings.hold(event, bea)
    await elsewhere.confirm(kept.booking)
    with pytest.raises(NotHeld):
        await bookings.release(kept.booking)
    assert await statuses(engine, event) == ["booked"]


async def test_a_late_confirmation_does_not_pass_those_who_wait(
    engine: AsyncEngine, bookings: BookingRepository, elsewhere: BookingRepository
) -> None:
    ada, bea, cleo, dora = await make_people(engine, 4)
    event, _ = await make(engine, ada, 3, details=OFFERS)
    # (a) the places are free, and nobody waits.
    kept = await bookings.hold(event, bea, lines=[(None, 3)])
    await end(engine, event)
    late = [await service.confirm(kept.booking) for service in (elsewhere, bookings, elsewhere)]
    assert [each.booking.status for each in late] == [BookingStatus.BOOKED] * 3
    assert await tickets(engine, kept.booking) == 3
    await bookings.cancel(event, bea)
    # (b) they are sold.
    kept = await bookings.hold(event, bea, lines=[(None, 3)])
    await end(engine, event)
    await elsewhere.book(event, ada, lines=[(None, 3)])
    for service in (elsewhere, bookings, elsewhere):
        with pytest.raises(HoldExpired) as refused:
            await service.confirm(kept.booking)
        assert refused.value.members == {"reason": "sold_out"}
    # (c) they are free, but two wait: for three places, so that none is served.
    for person in (cleo, dora):
        assert isinstance(await bookings.book(event, person, lines=[(None, 3)]), Waiting)
    await bookings.cancel(event, ada)
    offered = next(user for user, status in await rows(engine, event) if status == "offered")
    assert offered == cleo
    for service in (elsewhere, bookings, elsewhere):
        with pytest.raises(HoldExpired) as refused:
            await service.confirm(kept.booking)
        assert refused.value.members == {"reason": "waiting_list"}
    assert (await counters(engine, event))[:2] == (0, 1)
    await assert_recounted(engine)


async def test_an_offer_is_good_once(
    engine: AsyncEngine, bookings: BookingRepository, elsewhere: BookingRepository
) -> None:
    ada, bea, cleo = await make_people(engine, 3)
    event, _ = await make(engine, ada, 1, details=OFFERS)
    await bookings.book(event, ada)
    first, second = [await elsewhere.book(event, person) for person in (bea, cleo)]
    await bookings.cancel(event, ada)
    await elsewhere.confirm(first.booking)
    await bookings.cancel(event, bea)
    assert (await bookings.get(second.booking.id)).status is BookingStatus.OFFERED
    await bookings.release(await bookings.get(second.booking.id))
    assert (await counters(engine, event))[:2] == (1, 0)
    for old in (first, second):
        for service in (bookings, elsewhere):
            with pytest.raises(HoldExpired) as refused:
                await service.confirm(old.booking)
            assert refused.value.members == {"reason": "released"}
    await assert_recounted(engine)


async def test_places_gather_for_a_group_until_its_patience_is_over(
    engine: AsyncEngine, bookings: BookingRepository, elsewhere: BookingRepository
) -> None:
    ada, *people = await make_people(engine, 8)
    event, _ = await make(engine, ada, 3, details=PLAIN._replace(group_patience_minutes=30))
    for person in people[:3]:
        await bookings.book(event, person)
    group = await bookings.book(event, people[3], lines=[(None, 3)])
    single, pair, last = [
        await elsewhere.book(event, person, lines=[(None, places)])
        for person, places in ((people[4], 1), (people[5], 2), (people[6], 1))
    ]
    await elsewhere.cancel(event, people[0])
    # One place is kept for the group, from those who wait and from newcomers.
    assert (await counters(engine, event))[:2] == (1, 4)
    with pytest.raises(AlreadyWaiting):
        await bookings.hold(event, people[3], lines=[(None, 3)])
    assert isinstance(await bookings.book(event, ada), Waiting)
    await bookings.cancel(event, ada)
    await end(engine, event)
    await elsewhere.expire()
    assert (await bookings.get(single.booking.id)).status is BookingStatus.BOOKED
    assert (await counters(engine, event))[:2] == (0, 3)
    assert await trail(engine, event, group.booking) == ["booking.waiting", "booking.passed"]
    # The next place is for the pair, as long as its own patience lasts.
    await bookings.cancel(event, people[1])
    assert (await counters(engine, event))[:2] == (1, 3)
    await end(engine, event)
    assert isinstance(await bookings.book(event, ada), Waiting)
    assert (await bookings.get(last.booking.id)).status is BookingStatus.BOOKED
    # What now becomes free is for the first of them that fits.
    await bookings.cancel(event, people[4])
    assert (await bookings.get(pair.booking.id)).status is BookingStatus.WAITING
    assert await statuses(engine, event) == [
        *("cancelled", "cancelled", "booked", "waiting", "cancelled", "waiting", "booked"),
        *("cancelled", "booked"),
    ]
    await assert_recounted(engine)


@pytest.mark.parametrize("patience", [0, 30])
async def test_many_groups_whose_patience_is_over_hold_up_nobody(
    engine: AsyncEngine, bookings: BookingRepository, elsewhere: BookingRepository, patience: int
) -> None:
    ada, first, *people, late = await make_people(engine, 9)
    event, _ = await make(engine, ada, 2, details=PLAIN._replace(group_patience_minutes=patience))
    await bookings.book(event, first)
    await bookings.book(event, ada)
    groups = [await bookings.book(event, person, lines=[(None, 2)]) for person in people]
    assert set(kinds(groups)) == {Waiting}
    await elsewhere.cancel(event, first)
    for _ in groups:
        await end(engine, event)
        await elsewhere.expire()
    assert (await counters(engine, event))[:2] == (1, 6)
    assert isinstance(await bookings.book(event, late), Booked)
    assert (await counters(engine, event))[:2] == (0, 6)
    # Two places at once are for the first group.
    await bookings.cancel(event, late)
    await elsewhere.cancel(event, ada)
    assert (await bookings.get(groups[0].booking.id)).status is BookingStatus.BOOKED
    assert await statuses(engine, event) == [
        *("cancelled", "cancelled", "booked", *["waiting"] * 5, "cancelled")
    ]
    await assert_recounted(engine)


async def test_the_loop_moves_the_line_while_nobody_asks(
    engine: AsyncEngine, bookings: BookingRepository, elsewhere: BookingRepository
) -> None:
    ada, *people = await make_people(engine, 4)
    event, _ = await make(engine, ada, 1, details=OFFERS)
    await bookings.hold(event, ada)
    for person in people:
        await bookings.book(event, person)
    for place in range(4):
        await end(engine, event)
        await together(bookings.expire(), elsewhere.expire())
        expected = ["cancelled"] * (place + 1) + ["offered"] + ["waiting"] * (2 - place)
        assert await statuses(engine, event) == expected[:4]
    assert (await counters(engine, event))[:2] == (1, 0)
    async with engine.connect() as connection:
        assert await connection.scalar(text("SELECT next_expiry FROM events")) is None
    await assert_recounted(engine)


async def test_the_loop_ends_more_holds_than_one_commit_writes(
    engine: AsyncEngine, bookings: BookingRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reads, "DUE_AT_ONCE", 3)
    ada, *people = await make_people(engine, 11)
    event, _ = await make(engine, ada, 10)
    await together(*(bookings.hold(event, person) for person in people))
    await end(engine, event)
    await bookings.expire()
    assert (await counters(engine, event))[:2] == (10, 0)
    await assert_recounted(engine)


async def test_a_place_is_free_that_was_held_longer_than_all_that_one_commit_ends(
    engine: AsyncEngine,
    bookings: BookingRepository,
    elsewhere: BookingRepository,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(reads, "DUE_AT_ONCE", 3)
    ada, *people, late = await make_people(engine, 12)
    types = [{"name": "A", "capacity": 9}, {"name": "B", "capacity": 1, **EUR}]
    event, (a, b) = await make(engine, ada, 10, types)
    await together(*(bookings.hold(event, each, lines=[(a, 1)]) for each in people[:9]))
    await bookings.hold(event, people[9], lines=[(b, 1)])
    await end(engine, event)
    assert isinstance(await elsewhere.hold(event, late, lines=[(b, 1)]), Kept)
    assert (await counters(engine, event))[:2] == (9, 0)
    await assert_recounted(engine)


async def test_nobody_waits_until_all_holds_are_ended_unless_they_need_them(
    engine: AsyncEngine,
    bookings: BookingRepository,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(reads, "DUE_AT_ONCE", 3)
    ada, *people, bea, eve = await make_people(engine, 13)
    event, _ = await make(engine, ada, 10)
    await together(*(bookings.hold(event, person) for person in people))
    await end(engine, event)
    assert isinstance(await bookings.book(event, bea), Booked)
    assert (await counters(engine, event))[0] == 3 - 1
    # Three more places are not enough for this group, six are.
    assert isinstance(await bookings.book(event, eve, lines=[(None, 7)]), Booked)
    assert (await counters(engine, event))[0] == 2 + 6 - 7
    await assert_recounted(engine)


async def test_a_request_that_is_granted_at_the_second_look_is_carried_out_once(
    engine: AsyncEngine,
    bookings: BookingRepository,
    elsewhere: BookingRepository,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """At the second look, which another event needs, the person's own hold has ended too."""
    monkeypatch.setattr(reads, "DUE_AT_ONCE", 1)
    people = ada, bea, cleo = await make_people(engine, 3)
    event, _ = await make(engine, ada, 3, [{"name": "Seat"}])
    full, _ = await make(engine, ada, 1, details=PLAIN._replace(waiting_list_mode="closed"))
    for person in people:
        await bookings.hold(event, person)
    await bookings.book(full, ada)
    await end(engine, event)
    made = await together(elsewhere.book(event, cleo, lines=[(None, 2)]), elsewhere.book(full, bea))
    assert kinds(made) == [Booked, SoldOut]
    await assert_recounted(engine)


async def test_no_offer_is_made_after_the_close_of_the_sale(
    engine: AsyncEngine, bookings: BookingRepository
) -> None:
    ada, *people = await make_people(engine, 5)
    types = [{"name": "Seat", **EUR}]
    event, _ = await make(engine, ada, 1, types, OFFERS)
    revisions = RevisionRepository(engine)
    revise = partial(revisions.revise, event, origin=Origin(), if_revision=None)
    sold = await bookings.book(event, ada, by_team=True)
    waiting = [await bookings.book(event, person) for person in people]
    closed = {"sales_close": in_minutes(-1)}
    await revise(closed)
    await bookings.cancel(event, ada)
    assert isinstance(sold, Booked)
    assert await statuses(engine, event) == ["cancelled", *["waiting"] * 4]
    # In the other mode they still wait for what they would have to pay.
    for mode in ("auto", "closed", "offer", "auto"):
        await revise({"waiting_list_mode": mode})
        assert await statuses(engine, event) == ["cancelled", *["waiting"] * 4]
    # Open again, it offers the place to one of them, for no longer than the sale lasts.
    await revise({"sales_close": in_minutes(30), "waiting_list_mode": "offer"})
    first = await bookings.get(waiting[0].booking.id)
    assert first.status is BookingStatus.OFFERED
    assert first.expires_at is not None
    assert first.expires_at <= datetime.now(UTC) + timedelta(minutes=31)
    await end(engine, event)
    await revise(closed)
    await bookings.expire()
    assert await statuses(engine, event) == [*["cancelled"] * 2, *["waiting"] * 3]
    await assert_recounted(engine)


async def test_the_price_of_an_offer_is_that_of_its_moment_in_every_mode(
    engine: AsyncEngine, bookings: BookingRepository
) -> None:
    ada, bea = await make_people(engine, 2)
    event, (kind,) = await make(engine, ada, 1, [{"name": "Seat", **EUR}], OFFERS)
    types = TicketTypeRepository(engine, DatabaseClock())
    raised = {"amount": 5000, "currency": "EUR"}
    await bookings.book(event, ada, by_team=True)
    waits = await bookings.book(event, bea)
    assert waits.booking.amount == 2500
    await types.revise_type(event, kind, raised, Origin(), if_revision=None)
    revise = RevisionRepository(engine).revise
    await revise(event, {"waiting_list_mode": "auto"}, Origin(), if_revision=None)
    await bookings.cancel(event, ada)
    offered = await bookings.get(waits.booking.id)
    assert (offered.status, offered.amount) == (BookingStatus.OFFERED, 5000)
    booked = await bookings.confirm(offered, by_team=True)
    assert [ticket.amount for ticket in booked.booking.tickets] == [5000]
    await assert_recounted(engine)


async def test_a_hold_of_a_type_that_is_closed_can_be_confirmed_until_it_ends(
    engine: AsyncEngine, bookings: BookingRepository
) -> None:
    ada, bea, cleo = await make_people(engine, 3)
    event, (a, b) = await make(engine, ada, 10, [{"name": "A"}, {"name": "B", **EUR}])
    types = TicketTypeRepository(engine, DatabaseClock())
    kept = [await bookings.hold(event, person, lines=[(a, 1), (b, 2)]) for person in (bea, cleo)]
    await types.revise_type(event, b, {"closed": True}, Origin(), if_revision=None)
    await bookings.confirm(kept[0].booking, by_team=True)
    assert (await counters(engine, event))[0] == 4
    await end(engine, event)
    await bookings.expire()
    assert (await counters(engine, event))[0] == 7
    with pytest.raises(HoldExpired) as refused:
        await bookings.confirm(kept[1].booking, by_team=True)
    assert refused.value.members == {"reason": "sale"}
    await assert_recounted(engine)


async def test_a_type_of_an_expired_hold_stays_so_that_the_hold_can_be_confirmed(
    engine: AsyncEngine, bookings: BookingRepository, elsewhere: BookingRepository
) -> None:
    ada, bea = await make_people(engine, 2)
    event, (a, b) = await make(engine, ada, 10, [{"name": "A"}, {"name": "B"}])
    types = TicketTypeRepository(engine, DatabaseClock())
    kept = await bookings.hold(event, bea, lines=[(a, 1), (b, 1)])
    await end(engine, event)
    await elsewhere.expire()
    for kind in (a, b):
        with pytest.raises(TicketTypeSold):
            await types.remove_type(event, kind, Origin(), if_revision=None)
    assert len((await bookings.confirm(kept.booking)).booking.tickets) == 2
    await assert_recounted(engine)


async def test_the_limit_of_tickets_counts_when_an_expired_hold_is_confirmed(
    engine: AsyncEngine, bookings: BookingRepository
) -> None:
    ada, bea = await make_people(engine, 2)
    event, _ = await make(engine, ada, 20, details=PLAIN._replace(max_bookings_per_person=2))
    kept = await bookings.hold(event, bea, lines=[(None, 6)])
    await end(engine, event)
    await bookings.book(event, bea, lines=[(None, 6)])
    with pytest.raises(HoldExpired) as refused:
        await bookings.confirm(kept.booking)
    assert refused.value.members == {"reason": "limit"}


@pytest.mark.usefixtures("unmeasured")
async def test_people_book_at_once_as_many_holds_end(
    engine: AsyncEngine, bookings: BookingRepository, elsewhere: BookingRepository
) -> None:
    ada, *people = await make_people(engine, 41)
    event, _ = await make(engine, ada, 20)
    holders, others = people[:20], people[20:]
    for turn in range(10):
        await together(*(bookings.hold(event, each) for each in holders))
        assert (await counters(engine, event))[0] == 0
        await end(engine, event, datetime.now(UTC) + timedelta(milliseconds=turn))
        outcomes = await together(
            *(
                (bookings, elsewhere)[place % 2].book(event, each)
                for place, each in enumerate(others)
            )
        )
        assert set(kinds(outcomes)) <= {Booked, Waiting}
        await end(engine, event)
        await bookings.expire()
        assert (await counters(engine, event))[:2] == (0, 0)
        await together(*(elsewhere.cancel(event, each) for each in others))
        assert (await counters(engine, event))[:2] == (20, 0)
        await assert_recounted(engine)


async def test_the_team_may_not_hold_what_people_wait_for(
    engine: AsyncEngine, bookings: BookingRepository
) -> None:
    ada, bea, cleo = await make_people(engine, 3)
    event, _ = await make(engine, ada, 2)
    until = datetime.now(UTC) + timedelta(days=3)
    await bookings.book(event, bea, lines=[(None, 2)])
    await bookings.book(event, cleo, lines=[(None, 2)])
    with pytest.raises(SoldOut):
        await bookings.hold(event, ada, until=until)
    await bookings.cancel(event, bea)
    with pytest.raises(SoldOut):
        await bookings.hold(event, ada, until=until)
    assert await statuses(engine, event) == ["cancelled", "booked"]
    await assert_recounted(engine)
