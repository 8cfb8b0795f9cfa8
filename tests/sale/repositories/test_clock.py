"""Decisions use the database's time, whatever the service's clock shows."""

import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from ticketing.db.clock import DatabaseClock
from ticketing.db.statements import driver
from ticketing.sale.commit.commit import Commit
from ticketing.sale.commit.settle import clean, settle
from ticketing.sale.inventory.model import Booked, Cancelled
from ticketing.sale.repositories import bookings as module
from ticketing.sale.repositories.bookings import BookingRepository

HOUR = 3600.0
ADA = UUID(int=1)


@pytest.fixture
async def event(engine: AsyncEngine) -> int:
    async with engine.begin() as connection:
        await connection.execute(
            text("INSERT INTO users (id, username, password_hash) VALUES (:id, 'ada', '')"),
            {"id": ADA},
        )
        made = await connection.execute(
            text(
                "INSERT INTO events (name, organiser_id, total_tickets, available_tickets)"
                " VALUES ('A concert', :id, 2, 2) RETURNING id"
            ),
            {"id": ADA},
        )
        return int(made.scalar_one())


@pytest.fixture
async def clock() -> DatabaseClock:
    return DatabaseClock()


@pytest.fixture
async def bookings(engine: AsyncEngine, clock: DatabaseClock) -> AsyncIterator[BookingRepository]:
    repository = BookingRepository(engine, clock=clock)
    yield repository
    await repository.close()


def step(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """Set this machine's clock, for Python only."""
    now, now_ns = time.time, time.time_ns

    class Stepped(datetime):
        @classmethod
        def now(cls, tz: object = None) -> datetime:  # type: ignore[override]
            assert tz is UTC
            return datetime.fromtimestamp(time.time(), UTC)

    monkeypatch.setattr(time, "time", lambda: now() + seconds)
    monkeypatch.setattr(time, "time_ns", lambda: now_ns() + int(seconds * 1e9))
    monkeypatch.setattr(module, "datetime", Stepped)


async def told(engine: AsyncEngine) -> datetime:
    async with driver(engine) as connection:
        now: datetime = await connection.fetchval("SELECT clock_timestamp()")
    return now


@pytest.mark.parametrize("seconds", [HOUR, -HOUR])
async def test_a_step_of_the_services_clock_changes_no_decision(
    engine: AsyncEngine,
    bookings: BookingRepository,
    event: int,
    monkeypatch: pytest.MonkeyPatch,
    seconds: float,
) -> None:
    step(monkeypatch, seconds)
    for _ in range(2):  # The first decision queries the time, the second has it cached.
        before = await told(engine)
        booked = await bookings.book(event, ADA)
        after = await told(engine)
        assert isinstance(booked, Booked)
        assert before - timedelta(milliseconds=50) <= booked.booking.created_at <= after
        assert isinstance(await bookings.cancel(event, ADA), Cancelled)


@pytest.mark.parametrize("seconds", [HOUR + 60, -HOUR - 60])
async def test_a_step_of_the_services_clock_deletes_no_commit(
    engine: AsyncEngine,
    bookings: BookingRepository,
    event: int,
    monkeypatch: pytest.MonkeyPatch,
    seconds: float,
) -> None:
    # Commits older than an hour are deleted. One with the service's time in its id would be.
    step(monkeypatch, seconds)
    await bookings.book(event, ADA)
    await clean(engine)
    async with driver(engine) as connection:
        rows = await connection.fetch("SELECT id, events FROM commits")
    assert [row["events"] for row in rows] == [[event]]
    assert await settle(engine, rows[0]["id"]) == {event}


async def test_the_database_s_time_goes_on_between_two_results(
    engine: AsyncEngine, clock: DatabaseClock
) -> None:
    with pytest.raises(LookupError):
        clock.now()
    await clock.refresh(engine)
    first = clock.now()
    later = await told(engine)
    assert first <= later
    assert clock.now() >= first
    assert abs(clock.now() - await told(engine)) < timedelta(seconds=1)


async def test_another_database_s_time_is_accepted(
    engine: AsyncEngine, clock: DatabaseClock
) -> None:
    await clock.refresh(engine)
    other = datetime(2020, 1, 1, tzinfo=UTC)
    clock.learn(other)
    assert timedelta(0) <= clock.now() - other < timedelta(seconds=1)


async def test_each_commit_returns_the_time(
    engine: AsyncEngine, bookings: BookingRepository, clock: DatabaseClock, event: int
) -> None:
    await bookings.book(event, ADA)
    clock.learn(datetime(2020, 1, 1, tzinfo=UTC))
    await bookings.cancel(event, ADA)
    assert abs(clock.now() - await told(engine)) < timedelta(seconds=1)


async def test_a_commit_s_id_is_of_the_time_of_its_decision() -> None:
    at = datetime(2020, 1, 1, tzinfo=UTC)
    commit = Commit([], [], [], at)
    assert commit.id == commit.id
    assert commit.id.int >> 80 == int(at.timestamp() * 1000)
