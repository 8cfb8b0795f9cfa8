"""Statistics are counted from the trail: each record once, and none is missed."""

import asyncio
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from tests.factories import make_event, make_people
from tests.feed.counting import count_all
from tests.people import Visitor
from tests.sales import EUR, assert_recounted, book, sale, tickets
from ticketing.db.engine import connect
from ticketing.db.statements import Driver
from ticketing.feed.repositories import activity
from ticketing.feed.repositories.activity import ActivityRepository, StatsInterval
from ticketing.feed.repositories.facts import DRAWN
from ticketing.sale.repositories.bookings import BookingRepository
from ticketing.sale.repositories.recount import RecountRepository

LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)
RECORD = "INSERT INTO audit_records (at, action, event_id, details) VALUES ($1, $2, $3, $4)"


@pytest.fixture
def counting(engine: AsyncEngine) -> ActivityRepository:
    return ActivityRepository(engine)


async def sums(counting: ActivityRepository, event: int) -> tuple[int, int, int, int]:
    """Return the bookings, places, cancels and those who joined the line, by each interval."""
    found = set()
    for interval in StatsInterval:
        steps = await counting.series(
            event, interval, "UTC", LONG_AGO, datetime.now(UTC) + timedelta(days=1)
        )
        found.add(
            (
                sum(step.bookings for step in steps),
                sum(step.places for step in steps),
                sum(step.cancels for step in steps),
                sum(step.waiting for step in steps),
            )
        )
    (of_each,) = found
    return of_each


async def test_each_record_is_counted_once_whichever_process_counts(
    engine: AsyncEngine, database_url: str, bookings: BookingRepository
) -> None:
    people = await make_people(engine, 30)
    show = await make_event(engine, total=10, organiser=people[0])
    other = connect(database_url, pool_size=4)
    both = ActivityRepository(engine), ActivityRepository(other)

    async def sell() -> None:
        for person in people[:15]:
            await bookings.book(show, person)
        for person in people[:3]:
            await bookings.cancel(show, person)

    selling = asyncio.create_task(sell())
    while not selling.done():
        await asyncio.gather(*(each.count() for each in both))
    await selling
    await count_all(engine, *both)
    # Ten got places at first, and three of the five who waited later.
    assert await sums(both[0], show) == (13, 13, 3, 5)
    await count_all(engine, *both)
    assert await sums(both[0], show) == (13, 13, 3, 5)
    await other.dispose()
    await assert_recounted(engine)


async def test_a_process_that_is_overtaken_between_its_reads_counts_nothing_twice(
    engine: AsyncEngine,
    counting: ActivityRepository,
    bookings: BookingRepository,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    people = await make_people(engine, 9)
    show = await make_event(engine, total=10, organiser=people[0])
    real = DRAWN
    overtakes = iter(range(1))

    class Overtaken:
        """Reads the last number, and waits until others have counted further."""

        @staticmethod
        async def fetch(connection: Driver) -> list[asyncpg.Record]:
            drawn = await real.fetch(connection)
            for _ in overtakes:
                for person in people:
                    await bookings.book(show, person)
                await count_all(engine, counting)
            return drawn

    monkeypatch.setattr(activity, "DRAWN", Overtaken)
    await counting.count()
    assert next(overtakes, None) is None
    for _ in range(3):
        await counting.count()
    assert await sums(counting, show) == (9, 9, 0, 0)


@pytest.mark.parametrize("others", [True, False])
async def test_a_record_whose_transaction_ends_late_is_not_missed(
    others: bool,  # noqa: FBT001 - a parameter
    engine: AsyncEngine,
    database_url: str,
    counting: ActivityRepository,
    bookings: BookingRepository,
) -> None:
    people = await make_people(engine, 2)
    late, soon = [await make_event(engine, total=10, organiser=people[0]) for _ in range(2)]
    await count_all(engine, counting)
    connection = await asyncpg.connect(database_url)
    transaction = connection.transaction()
    await transaction.start()
    await connection.execute(RECORD, datetime.now(UTC), "booking.booked", late, "{}")
    if others:
        await bookings.book(soon, people[0])
    for _ in range(5):
        await counting.count()
    assert await sums(counting, soon) == (0, 0, 0, 0)
    await transaction.commit()
    await connection.close()
    await count_all(engine, counting)
    assert await sums(counting, late) == (1, 1, 0, 0)
    assert await sums(counting, soon) == ((1, 1, 0, 0) if others else (0, 0, 0, 0))


async def test_a_count_that_fails_halfway_counts_nothing_twice(
    engine: AsyncEngine,
    counting: ActivityRepository,
    bookings: BookingRepository,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    people = await make_people(engine, 3)
    show = await make_event(engine, total=10, organiser=people[0])
    await count_all(engine, counting)
    for person in people:
        await bookings.book(show, person)
    with monkeypatch.context() as patched:
        patched.setattr(activity, "MOVE", None)
        with pytest.raises(AttributeError):
            await count_all(engine, counting)
    assert await sums(counting, show) == (0, 0, 0, 0)
    monkeypatch.setattr(activity, "AT_ONCE", 2)  # In several transactions.
    await count_all(engine, counting)
    assert await sums(counting, show) == (3, 3, 0, 0)


async def test_another_server_with_fewer_transactions_is_counted_too(
    engine: AsyncEngine, counting: ActivityRepository, bookings: BookingRepository
) -> None:
    people = await make_people(engine, 1)
    show = await make_event(engine, total=10, organiser=people[0])
    await bookings.book(show, people[0])
    await counting.count()
    async with engine.begin() as connection:
        await connection.execute(text("UPDATE activity_cursor SET next_xact = 1000000000"))
    await count_all(engine, counting)
    assert await sums(counting, show) == (1, 1, 0, 0)


async def test_days_and_hours_begin_in_the_time_zone_of_the_event(
    engine: AsyncEngine, database_url: str, counting: ActivityRepository
) -> None:
    people = await make_people(engine, 1)
    show = await make_event(engine, total=10, organiser=people[0])
    connection = await asyncpg.connect(database_url)
    midnight = datetime(2026, 11, 2, 18, 15, tzinfo=UTC)  # In Kathmandu, 5:45 ahead.
    for minutes in (-20, -1, 0, 1, 61):
        at = midnight + timedelta(minutes=minutes)
        await connection.execute(RECORD, at, "booking.booked", show, '{"quantity": 2}')
    await connection.close()
    await count_all(engine, counting)

    async def steps(interval: StatsInterval, zone: str) -> list[tuple[timedelta, int]]:
        found = await counting.series(show, interval, zone, midnight, midnight + timedelta(hours=1))
        assert all(step.places == 2 * step.bookings for step in found)
        return [(step.at - midnight, step.bookings) for step in found]

    none, hour, minute = timedelta(0), timedelta(hours=1), timedelta(minutes=1)
    assert await steps(StatsInterval.MINUTE, "UTC") == [(none, 1), (minute, 1)]
    assert await steps(StatsInterval.HOUR, "Asia/Kathmandu") == [(none, 2)]
    assert await steps(StatsInterval.DAY, "Asia/Kathmandu") == [(none, 2)]
    quarter = -timedelta(minutes=15)
    assert await steps(StatsInterval.HOUR, "UTC") == [(quarter, 3)]
    del hour


async def test_revenue_is_the_price_of_all_valid_tickets(
    engine: AsyncEngine, counting: ActivityRepository, visitor: Visitor
) -> None:
    ada, bob = await visitor.register(), await visitor.register()
    types = [{"name": "Seat", "price": EUR}, {"name": "Box", "price": EUR | {"amount": 9000}}]
    event, ids = await sale(ada, ticketTypes=types, maxBookingsPerPerson=9)
    both = {ids["Seat"]: 3, ids["Box"]: 1}
    made = [(await book(ada, event, both, for_=bob)).json()["id"] for _ in range(2)]
    await count_all(engine, counting)
    assert await counting.revenues(event) == {ids["Seat"]: 15000, ids["Box"]: 18000}
    # Cancelled in part, and then whole before anybody has counted.
    one = next(each["id"] for each in await tickets(ada, made[0]))
    await ada.post(f"/api/bookings/{made[0]}/cancel", {"ticketIds": [one]})
    await ada.post(f"/api/bookings/{made[0]}/cancel", None)
    # Cancelled in part, counted, and then whole.
    one = next(each["id"] for each in await tickets(ada, made[1]))
    await ada.post(f"/api/bookings/{made[1]}/cancel", {"ticketIds": [one]})
    await count_all(engine, counting)
    assert await counting.revenues(event) == {ids["Seat"]: 5000, ids["Box"]: 9000}
    await assert_recounted(engine)
    await ada.post(f"/api/bookings/{made[1]}/cancel", None)
    held = await ada.post(
        "/api/holds",
        {
            "eventId": event,
            "userId": bob.id,
            "lines": [{"ticketTypeId": ids["Box"], "quantity": 1}],
        },
    )
    await ada.post(f"/api/holds/{held.json()['id']}/confirm", None)
    await count_all(engine, counting)
    assert await counting.revenues(event) == {ids["Seat"]: 0, ids["Box"]: 9000}
    await assert_recounted(engine)


async def test_an_audit_finds_statistics_that_differ_from_the_trail(
    engine: AsyncEngine, counting: ActivityRepository, visitor: Visitor
) -> None:
    ada = await visitor.register()
    event, ids = await sale(ada, ticketTypes=[{"name": "Seat", "price": EUR}])
    await book(ada, event, {ids["Seat"]: 1})
    await count_all(engine, counting)
    await assert_recounted(engine)
    async with engine.begin() as connection:
        await connection.execute(text("UPDATE activity SET places = 0, bookings = 0"))
        await connection.execute(text("UPDATE revenues SET amount = 2"))
    found = (await RecountRepository(engine).recount()).differences
    assert [(each.kind, each.event_id, each.recorded, each.counted) for each in found] == [
        ("activity_miscounted", event, 0, 1),
        ("revenue_miscounted", event, 2, 2500),
    ]
