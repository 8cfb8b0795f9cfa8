"""The loop that reads local times anew: its batches, and changes at the same time."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Final

import pytest
from asyncpg import Record
from sqlalchemy import TextClause, text
from sqlalchemy.ext.asyncio import AsyncEngine

from tests.factories import make_people
from ticketing.db.facts import COMMAND_LINE
from ticketing.db.statements import Driver, Statement
from ticketing.sale.details import Details, revised
from ticketing.sale.repositories import local_times
from ticketing.sale.repositories.events import EventRepository
from ticketing.sale.repositories.local_times import LocalTimeRepository
from ticketing.sale.repositories.revisions import RevisionRepository
from ticketing.sale.rows import Event
from ticketing.sale.times import RULES

LOCAL: Final = datetime.fromisoformat("2031-06-01T19:30")
AT: Final = datetime(2031, 6, 1, 17, 30, tzinfo=UTC)
UNKNOWN: Final = text("UPDATE event_details SET zone_rules = ''")
AN_HOUR_OFF: Final = text("UPDATE events SET starts_at = starts_at + interval '1 hour'")


@pytest.fixture
def loop(engine: AsyncEngine) -> LocalTimeRepository:
    return LocalTimeRepository(engine, RevisionRepository(engine))


@pytest.fixture
async def events(engine: AsyncEngine) -> AsyncIterator[EventRepository]:
    repository = EventRepository(engine)
    yield repository
    await repository.close()


async def make(engine: AsyncEngine, count: int) -> list[Event]:
    """Make events whose rules are not known, as an earlier version of the service did."""
    (ada,) = await make_people(engine, 1)
    details = revised(Details("A concert"), {"timezone": "Europe/Berlin", "starts": LOCAL})
    made = [
        await EventRepository(engine).make(ada, details, 10, COMMAND_LINE) for _ in range(count)
    ]
    await run(engine, UNKNOWN)
    return made


async def run(engine: AsyncEngine, statement: TextClause) -> None:
    async with engine.begin() as connection:
        await connection.execute(statement)


async def rules(engine: AsyncEngine) -> list[str | None]:
    async with engine.connect() as connection:
        found = await connection.scalars(
            text("SELECT zone_rules FROM event_details ORDER BY event_id")
        )
        return list(found)


async def test_events_of_unknown_rules_are_read_a_limited_number_at_a_time(
    engine: AsyncEngine,
    loop: LocalTimeRepository,
    events: EventRepository,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(local_times, "BATCH", 2)
    monkeypatch.setattr(local_times, "TURN", 2)
    first, *_ = await make(engine, 5)
    await loop.read_anew()
    assert await rules(engine) == [RULES] * 4 + [""]
    await loop.read_anew()
    assert await rules(engine) == [RULES] * 5
    # Nothing was wrong, so nothing changed.
    now = await events.get(first.id)
    assert now == first._replace(read_at=now.read_at)


async def test_wrong_instants_are_made_right(
    engine: AsyncEngine,
    loop: LocalTimeRepository,
    events: EventRepository,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(local_times, "BATCH", 2)
    made = await make(engine, 5)
    await run(engine, AN_HOUR_OFF)
    await loop.read_anew()
    assert await rules(engine) == [RULES] * 5
    for event in made:
        now = await events.get(event.id)
        assert now.details == event.details
        assert now.details.starts == (AT, LOCAL)
        assert now.terms.revision == 2


async def test_an_event_that_somebody_holds_is_left_for_the_next_turn(
    engine: AsyncEngine, loop: LocalTimeRepository
) -> None:
    first, _ = await make(engine, 2)
    async with engine.begin() as holder:
        held = text("SELECT FROM events WHERE id = :id FOR UPDATE")
        await holder.execute(held, {"id": first.id})
        await loop.read_anew()
        assert await rules(engine) == ["", RULES]
    await loop.read_anew()
    assert await rules(engine) == [RULES, RULES]


async def test_an_event_that_changed_since_it_was_read_is_read_again(
    engine: AsyncEngine,
    loop: LocalTimeRepository,
    events: EventRepository,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (event,) = await make(engine, 1)
    fetch = Statement.fetch

    async def change_first(
        self: Statement, connection: Driver, **parameters: object
    ) -> list[Record]:
        if self is local_times.SETTLE:
            monkeypatch.setattr(Statement, "fetch", fetch)
            await RevisionRepository(engine).revise(
                event.id, {"name": "Jazz"}, COMMAND_LINE, if_revision=None
            )
            await run(engine, AN_HOUR_OFF)
        return await fetch(self, connection, **parameters)

    monkeypatch.setattr(Statement, "fetch", change_first)
    await loop.read_anew()
    assert await rules(engine) == [""]
    await loop.read_anew()
    now = await events.get(event.id)
    assert (now.details.name, now.details.starts) == ("Jazz", (AT, LOCAL))
    assert await rules(engine) == [RULES]
