"""Codes at the repositories: two processes, and changes between a read and its commit."""

import asyncio
from collections import Counter

import pytest
from asyncpg import Record
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from tests.factories import make_event, make_people
from ticketing.db.facts import COMMAND_LINE
from ticketing.db.statements import Driver, Statement
from ticketing.errors import CodeUnknown, CodeUsedUp, TicketingError
from ticketing.sale.inventory.codes import CodeKind
from ticketing.sale.inventory.model import Kept
from ticketing.sale.repositories.bookings import BookingRepository
from ticketing.sale.repositories.codes import CodeRepository, NewCodes
from ticketing.sale.repositories.held import CODES
from ticketing.sale.repositories.recount import RecountRepository


async def open_type(engine: AsyncEngine, event: int, *, max_uses: int | None = None) -> int:
    """Make the code X for the event's only type. Return its id."""
    async with engine.connect() as connection:
        found = await connection.execute(
            text("SELECT id FROM ticket_types WHERE event_id = :event"), {"event": event}
        )
        (type_id,) = found.scalars()
    asked = NewCodes(CodeKind.ACCESS, ["X"], ticket_type_ids=[type_id], max_uses=max_uses)
    (made,) = await CodeRepository(engine).make(event, asked, COMMAND_LINE)
    return made.does.id


async def test_two_processes_use_a_code_ten_times_together(
    engine: AsyncEngine, bookings: BookingRepository, elsewhere: BookingRepository
) -> None:
    people = await make_people(engine, 200)
    show = await make_event(engine, total=500, organiser=people[0])
    await open_type(engine, show, max_uses=10)

    async def hold(number: int) -> str:
        repository = elsewhere if number % 2 else bookings
        try:
            held = await repository.hold(show, people[number], code="x")
        except TicketingError as error:
            return type(error).__name__
        return type(held).__name__

    outcomes = Counter(await asyncio.gather(*map(hold, range(200))))
    assert outcomes == {Kept.__name__: 10, CodeUsedUp.__name__: 190}
    assert (await RecountRepository(engine).recount()).differences == []


async def test_a_code_that_is_deactivated_between_the_read_and_the_commit_is_refused(
    engine: AsyncEngine, bookings: BookingRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    people = await make_people(engine, 2)
    show = await make_event(engine, total=5, organiser=people[0])
    code_id = await open_type(engine, show)
    await bookings.hold(show, people[0], code="x")
    fetch = Statement.fetch
    reads = 0

    async def meddle(self: Statement, connection: Driver, **parameters: object) -> list[Record]:
        nonlocal reads
        found = await fetch(self, connection, **parameters)
        if self is CODES:
            reads += 1
            if reads == 1:
                changes = {"active": False}
                await CodeRepository(engine).change(show, code_id, changes, COMMAND_LINE)
        return found

    monkeypatch.setattr(Statement, "fetch", meddle)
    with pytest.raises(CodeUnknown):
        await bookings.hold(show, people[1], code="x")
    assert reads > 1


async def test_a_counter_that_was_changed_by_hand_undoes_the_commit(
    engine: AsyncEngine, bookings: BookingRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    people = await make_people(engine, 2)
    show = await make_event(engine, total=5, organiser=people[0])
    await open_type(engine, show, max_uses=1)
    fetch = Statement.fetch
    reads = 0

    async def meddle(self: Statement, connection: Driver, **parameters: object) -> list[Record]:
        nonlocal reads
        found = await fetch(self, connection, **parameters)
        if self is CODES:
            reads += 1
            if reads == 1:
                async with engine.begin() as other:
                    await other.execute(text("UPDATE codes SET uses = 1, tickets = 1"))
        return found

    monkeypatch.setattr(Statement, "fetch", meddle)
    with pytest.raises(CodeUsedUp):
        await bookings.hold(show, people[0], code="x")
    assert reads > 1


async def test_a_booking_without_a_code_reads_and_writes_no_codes(
    engine: AsyncEngine, bookings: BookingRepository, sent: list[str]
) -> None:
    people = await make_people(engine, 1)
    show = await make_event(engine, total=5, organiser=people[0])
    await bookings.book(show, people[0])
    await bookings.cancel(show, people[0])
    assert [sql for sql in sent if "codes" in sql] == []
