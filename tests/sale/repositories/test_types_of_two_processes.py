"""Two processes at one event with ticket types, or with groups that wait."""

import asyncio
from uuid import UUID

import pytest
from asyncpg import Record
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from tests.factories import make_event, make_people
from tests.outcomes import kinds, rows, together
from ticketing.db.clock import DatabaseClock
from ticketing.db.facts import Origin
from ticketing.db.statements import Driver, Statement
from ticketing.errors import SoldOut
from ticketing.sale.definitions import defined
from ticketing.sale.details import Details
from ticketing.sale.inventory.model import Booked, BookingStatus, Waiting
from ticketing.sale.repositories.batches import SNAPSHOTS
from ticketing.sale.repositories.bookings import BookingRepository
from ticketing.sale.repositories.definitions import GIVE_COUNTERS
from ticketing.sale.repositories.events import EventRepository
from ticketing.sale.repositories.held import TICKETS
from ticketing.sale.repositories.recount import RecountRepository
from ticketing.sale.repositories.ticket_types import TicketTypeRepository
from ticketing.web.replay import KeyedRequest, Rendered

JOIN = text(
    """
    WITH joined AS (
        UPDATE events SET waiting_list_count = waiting_list_count + 1, version = version + 1
        WHERE id = :event RETURNING id
    )
    INSERT INTO bookings (id, event_id, user_id, status, created_at)
    SELECT gen_random_uuid(), id, :user, 'waiting', now() FROM joined
    """
)
UNTIL_BLOCKED = text(
    """
    DO $$ BEGIN
        WHILE NOT EXISTS (SELECT FROM pg_locks WHERE NOT granted) LOOP
            PERFORM pg_sleep(0.001);
        END LOOP;
    END $$
    """
)
"""Ends when a statement waits for the lock of another transaction."""


async def make_types(engine: AsyncEngine, organiser: UUID, *names: str) -> tuple[int, list[int]]:
    """Make an event of ten places with these ticket types. Return its id and theirs."""
    types = defined([{"name": name} for name in names], [], None)
    events = EventRepository(engine)
    made = await events.make(organiser, Details("An event"), 10, Origin(), definitions=types)
    return made.id, [each.id for each in made.definitions.in_order]


async def test_tickets_of_a_type_that_are_cancelled_elsewhere_during_a_decision_are_freed_once(
    engine: AsyncEngine,
    bookings: BookingRepository,
    elsewhere: BookingRepository,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ada, bea = await make_people(engine, 2)
    event, (one, other) = await make_types(engine, ada, "One", "Other")
    await bookings.book(event, ada, lines=[(one, 2)])
    # So the event has enough taken places to be freed twice, and the type has not.
    await bookings.book(event, bea, lines=[(other, 2)])
    fetch = Statement.fetch

    async def meddle(self: Statement, connection: Driver, **parameters: object) -> list[Record]:
        found = await fetch(self, connection, **parameters)
        if self is TICKETS:
            monkeypatch.setattr(Statement, "fetch", fetch)
            await elsewhere.cancel(event, ada)
        return found

    monkeypatch.setattr(Statement, "fetch", meddle)
    cancelled = await bookings.cancel(event, ada)
    assert cancelled.booking.status is BookingStatus.CANCELLED
    assert (await RecountRepository(engine).recount()).differences == []


async def test_a_booking_that_is_reduced_elsewhere_during_a_decision_is_cancelled_as_it_is_then(
    engine: AsyncEngine,
    bookings: BookingRepository,
    elsewhere: BookingRepository,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (ada,) = await make_people(engine, 1)
    event, (one,) = await make_types(engine, ada, "One")
    held = (await bookings.book(event, ada, lines=[(one, 3)])).booking
    fetch = Statement.fetch

    async def meddle(self: Statement, connection: Driver, **parameters: object) -> list[Record]:
        # The booking was read already.
        if self is TICKETS:
            monkeypatch.setattr(Statement, "fetch", fetch)
            await elsewhere.cancel_booking(held, [held.tickets[0].id])
        return await fetch(self, connection, **parameters)

    monkeypatch.setattr(Statement, "fetch", meddle)
    assert (await bookings.cancel(event, ada)).booking.quantity == 2
    assert (await bookings.get(held.id)).quantity == 2


@pytest.mark.parametrize("places", [1, 10])
async def test_a_booking_of_a_type_that_a_process_does_not_know_yet_is_cancelled_there(
    engine: AsyncEngine, bookings: BookingRepository, elsewhere: BookingRepository, places: int
) -> None:
    ada, bea = await make_people(engine, 2)
    event = await make_event(engine, total=10, organiser=ada)
    await elsewhere.book(event, ada, lines=[(None, places)])
    types = TicketTypeRepository(engine, DatabaseClock())
    made, slot = await types.add_type(event, {"name": "New"}, Origin())
    new = made.definitions.types[slot].id
    # With ten places taken, this waits.
    booked = await bookings.book(event, bea, lines=[(new, 2)])
    cancelled = await elsewhere.cancel_booking(booked.booking)
    assert cancelled.booking.status is BookingStatus.CANCELLED
    assert (await RecountRepository(engine).recount()).differences == []


async def test_a_booking_that_joins_the_line_while_the_event_gets_its_counters_is_promoted(
    engine: AsyncEngine, bookings: BookingRepository, elsewhere: BookingRepository
) -> None:
    ada, bea, cyd = await make_people(engine, 3)
    event = await make_event(engine, total=2, organiser=ada)
    await bookings.book(event, ada, lines=[(None, 2)])
    # As by a commit of another process, which is slow to end.
    async with engine.connect() as connection:
        await connection.execute(JOIN, {"event": event, "user": bea})
        group = asyncio.create_task(elsewhere.book(event, cyd, lines=[(None, 2)]))
        async with engine.connect() as observer:
            await observer.execute(UNTIL_BLOCKED)
        await connection.commit()
    assert isinstance(await group, Waiting)
    promoted = (await bookings.cancel(event, ada)).promoted
    assert [each.user_id for each in promoted] == [bea]
    assert (await RecountRepository(engine).recount()).differences == []


async def test_a_group_that_has_to_wait_does_not_split_the_commit_that_it_was_in(
    engine: AsyncEngine, bookings: BookingRepository, sent: list[str]
) -> None:
    people = await make_people(engine, 4)
    event = await make_event(engine, total=2, organiser=people[0])
    await bookings.book(event, people[0], lines=[(None, 2)])
    keyed = KeyedRequest(people[2], "key", b"", lambda _: Rendered(202, b"{}"))
    sent.clear()
    outcomes = await together(
        bookings.book(event, people[1]),
        bookings.book(event, people[2], keyed=keyed, lines=[(None, 2)]),
        bookings.book(event, people[3]),
    )
    assert kinds(outcomes) == [Waiting] * 3
    assert [each.position for each in outcomes] == [1, 3, 2]
    # The one of the others, and then the one of the group.
    assert len([each for each in sent if "INSERT INTO commits" in each]) == 2


async def test_an_event_that_gets_its_counters_is_found_by_a_commit_that_reads_another_event(
    engine: AsyncEngine, bookings: BookingRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    people = await make_people(engine, 4)
    hall, show = [await make_event(engine, total=2, organiser=people[0]) for _ in range(2)]
    await bookings.book(hall, people[0], lines=[(None, 2)])
    fetch, given = Statement.fetch, asyncio.Event()
    others: list[asyncio.Task[Booked | Waiting]] = []

    async def meddle(self: Statement, connection: Driver, **parameters: object) -> list[Record]:
        if self is SNAPSHOTS and parameters["ids"] == [show]:
            await given.wait()
            await asyncio.sleep(0.05)
        found = await fetch(self, connection, **parameters)
        if self is GIVE_COUNTERS:
            others.extend(
                asyncio.create_task(bookings.book(event, people[2])) for event in (hall, show)
            )
            await asyncio.sleep(0.05)
            given.set()
        return found

    monkeypatch.setattr(Statement, "fetch", meddle)
    assert isinstance(await bookings.book(hall, people[1], lines=[(None, 2)]), Waiting)
    assert kinds(await asyncio.gather(*others)) == [Waiting, Booked]


async def test_a_refusal_is_of_one_moment_although_the_line_moves_while_it_is_read(
    engine: AsyncEngine,
    bookings: BookingRepository,
    elsewhere: BookingRepository,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With the line of after a cancel and the places of before, the event itself seems full."""
    ada, bea, eve, gil = await make_people(engine, 4)
    types = defined(
        [{"name": "One"}, {"name": "Other"}],
        [{"name": "Hall", "capacity": 3, "ticket_types": ["One", "Other"]}],
        None,
    )
    events = EventRepository(engine)
    made = await events.make(ada, Details("An event"), 4, Origin(), definitions=types)
    one, other = [each.id for each in made.definitions.in_order]
    await bookings.book(made.id, ada, lines=[(other, 1)])
    await bookings.book(made.id, bea, lines=[(one, 3)])
    await bookings.book(made.id, eve, lines=[(one, 1)])
    fetch = Statement.fetch

    async def meddle(self: Statement, connection: Driver, **parameters: object) -> list[Record]:
        found = await fetch(self, connection, **parameters)
        if self is SNAPSHOTS:
            monkeypatch.setattr(Statement, "fetch", fetch)
            await bookings.cancel(made.id, ada)
        return found

    monkeypatch.setattr(Statement, "fetch", meddle)
    with pytest.raises(SoldOut) as refused:
        await elsewhere.book(made.id, gil, lines=[(one, 1), (other, 1)])
    assert refused.value.members["quotaId"] is not None
    statuses = [status for _, status in await rows(engine, made.id)]
    assert statuses == ["cancelled", "booked", "waiting"]
