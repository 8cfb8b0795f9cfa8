"""Bookings whose connection is lost during their commit."""

import asyncio

import asyncpg
import pytest
from asyncpg import Record
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from tests.factories import make_event, make_people
from tests.outcomes import counters, kinds, together
from ticketing.db.ids import uuid7
from ticketing.db.statements import Driver, Statement, driver
from ticketing.errors import OutcomeUnknown
from ticketing.sale.commit import settle as settle_module
from ticketing.sale.commit.settle import clean, settle
from ticketing.sale.commit.shape import Shape
from ticketing.sale.commit.write import statement
from ticketing.sale.inventory.model import Booked, Cancelled, Waiting
from ticketing.sale.repositories.bookings import BookingRepository


class Line:
    """A connection to the database that can be cut before or after the next commit arrives."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.cut = ""
        self.held: dict[str, object] = {}
        fetch = Statement.fetch

        async def send(
            statement: Statement, connection: Driver, **parameters: object
        ) -> list[Record]:
            if "commit" not in parameters or len(parameters) == 1 or not self.cut:
                return await fetch(statement, connection, **parameters)
            when, self.cut, self.held = self.cut, "", parameters
            if when == "after":
                await fetch(statement, connection, **parameters)
            connection.terminate()
            raise asyncpg.ConnectionDoesNotExistError("cut")

        monkeypatch.setattr(Statement, "fetch", send)


@pytest.fixture
def line(monkeypatch: pytest.MonkeyPatch) -> Line:
    return Line(monkeypatch)


@pytest.mark.parametrize("when", ["before", "after"])
async def test_every_request_gets_the_outcome_of_its_commit_and_is_done_once(
    engine: AsyncEngine, bookings: BookingRepository, line: Line, when: str
) -> None:
    people = await make_people(engine, 5)
    show = await make_event(engine, total=2, organiser=people[0])
    await bookings.book(show, people[0])
    line.cut = when
    answers = await together(
        *(bookings.book(show, person) for person in people[1:]), bookings.cancel(show, people[0])
    )
    assert kinds(answers) == [Booked, Waiting, Waiting, Waiting, Cancelled]
    assert await counters(engine, show) == (0, 2, 3)
    async with engine.connect() as connection:
        rows = await connection.execute(text("SELECT count(*) FROM bookings"))
        assert rows.scalar_one() == 5


async def test_a_commit_that_was_given_up_is_never_written(
    engine: AsyncEngine, bookings: BookingRepository, line: Line
) -> None:
    people = await make_people(engine, 2)
    show = await make_event(engine, total=2, organiser=people[0])
    line.cut = "before"
    assert isinstance(await bookings.book(show, people[1]), Booked)
    # A server that hung now runs the statement.
    late = line.held | {"new_id": uuid7(), "new_user": people[0]}
    async with driver(engine) as raw:
        with pytest.raises(asyncpg.UniqueViolationError, match="pk_commits"):
            await statement(Shape(lone=True)).fetch(raw, **late)
    assert await counters(engine, show) == (1, 0, 2)


async def test_a_commit_that_still_runs_is_waited_for(
    engine: AsyncEngine, database_url: str
) -> None:
    commit = uuid7()
    slow = await asyncpg.connect(database_url)
    async with slow.transaction():
        await slow.execute("INSERT INTO commits (id, events) VALUES ($1, '{7}')", commit)
        settling = asyncio.create_task(settle(engine, commit))
        await asyncio.sleep(0.5)
        assert not settling.done()
    assert await settling == {7}
    await slow.close()


async def test_a_database_that_does_not_come_back_leaves_the_outcome_unknown(
    engine: AsyncEngine, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settle_module, "PATIENCE", 0.5)
    slow = await asyncpg.connect(database_url)
    async with slow.transaction():
        await slow.execute("LOCK TABLE commits")
        with pytest.raises(OutcomeUnknown):
            await settle(engine, uuid7())
    await slow.close()


async def test_commits_are_forgotten_after_an_hour(
    engine: AsyncEngine, bookings: BookingRepository
) -> None:
    people = await make_people(engine, 1)
    show = await make_event(engine, total=2, organiser=people[0])
    await bookings.book(show, people[0])
    old = "SELECT CAST(lpad(to_hex(CAST(extract(epoch FROM now() - interval '61 minutes') * 1000"
    async with engine.begin() as connection:
        await connection.execute(
            text(f"INSERT INTO commits {old} AS bigint)), 12, '0') || repeat('f', 20) AS uuid)")
        )
    await clean(engine)
    async with driver(engine) as raw:
        (row,) = await raw.fetch("SELECT events FROM commits")
        assert row["events"] == [show]
