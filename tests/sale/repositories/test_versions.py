"""A cached event whose version went back and reached the same number with other bookings."""

import asyncio
from collections.abc import Sequence
from uuid import UUID

import asyncpg
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from tests.databases import execute
from tests.factories import make_event, make_people
from tests.outcomes import counters, rows
from ticketing.errors import BookingNotFound, Busy, PaymentRequired
from ticketing.sale.inventory.model import Booked, Cancelled, Waiting
from ticketing.sale.repositories.bookings import BookingRepository

TOTAL = 3

LOST = """
    WITH gone AS (DELETE FROM bookings WHERE event_id = {event} AND user_id = ANY('{{{users}}}'))
    UPDATE events SET available_tickets = {available}, waiting_list_count = {waiting},
        version = {version} WHERE id = {event}
"""
"""Lose the last commits, like a failover: bookings, counters and version go together."""

BOOKED = """
    INSERT INTO bookings (id, event_id, user_id, status, created_at)
    VALUES (gen_random_uuid(), {event}, '{user}', 'booked', now())
"""
CLOSE_CONNECTIONS = (
    "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
    " WHERE application_name = 'ticketing' AND datname = current_database()"
)
WAITS = "SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted AND pid <> pg_backend_pid())"


async def until_somebody_waits(database_url: str) -> None:
    connection = await asyncpg.connect(database_url)
    async with asyncio.timeout(10):
        while not await connection.fetchval(WAITS):  # noqa: ASYNC110 - it is another process
            await asyncio.sleep(0.001)
    await connection.close()


async def set_back(engine: AsyncEngine, event: int, lost: Sequence[UUID], **now: int) -> None:
    users = ",".join(map(str, lost))
    async with engine.begin() as connection:
        await connection.execute(text(LOST.format(event=event, users=users, **now)))


async def version_of(engine: AsyncEngine, event: int) -> int:
    return (await counters(engine, event))[2]


@pytest.mark.parametrize("steps_back", [0, 1, 2])
async def test_an_event_that_was_sold_out_sells_places_that_are_free_again(
    engine: AsyncEngine, bookings: BookingRepository, steps_back: int
) -> None:
    people = await make_people(engine, 7)
    show = await make_event(engine, total=TOTAL, organiser=people[0])
    for person in people[:5]:
        await bookings.book(show, person)
    version = await version_of(engine, show) - steps_back
    await set_back(engine, show, people[2:5], available=1, waiting=0, version=version)
    assert isinstance(await bookings.book(show, people[5]), Booked)
    assert isinstance(await bookings.book(show, people[6]), Waiting)
    assert (await counters(engine, show))[:2] == (0, 1)


@pytest.mark.parametrize("others", [3, 4, 5, 6, 7])
@pytest.mark.parametrize("books_first", [True, False])
async def test_an_event_that_had_places_is_sold_out_by_other_processes(
    engine: AsyncEngine,
    bookings: BookingRepository,
    elsewhere: BookingRepository,
    others: int,
    books_first: bool,  # noqa: FBT001 - a parameter
) -> None:
    me, *people = await make_people(engine, 8)
    show = await make_event(engine, total=TOTAL, organiser=me)
    for _ in range(3):
        await bookings.book(show, me)
        await bookings.cancel(show, me)
    await set_back(engine, show, [me], available=TOTAL, waiting=0, version=1)
    # Six bring the version to the cached one, and more or fewer to another.
    for person in people[:others]:
        await elsewhere.book(show, person)
    if books_first:
        joined = await bookings.book(show, me)
        assert isinstance(joined, Waiting)
        assert joined.position == others - TOTAL + 1
    cancelled = await bookings.cancel(show, people[0])
    next_one = [*people[TOTAL:others], *([me] if books_first else [])][:1]
    assert [each.user_id for each in cancelled.promoted] == next_one


async def test_the_cache_is_dropped_when_the_connection_is_lost(
    engine: AsyncEngine, bookings: BookingRepository, database_url: str
) -> None:
    people = await make_people(engine, 7)
    show = await make_event(engine, total=TOTAL, organiser=people[0])
    for person in people[:6]:
        await bookings.book(show, person)
    # No constraint refuses this: only the cache is wrong.
    version = await version_of(engine, show)
    await set_back(engine, show, people[4:6], available=0, waiting=1, version=version)
    await execute(database_url, CLOSE_CONNECTIONS)
    joined = await bookings.book(show, people[6])
    assert isinstance(joined, Waiting)
    assert joined.position == 2


async def test_the_prices_are_read_anew_when_the_connection_is_lost(
    engine: AsyncEngine, bookings: BookingRepository, database_url: str
) -> None:
    people = await make_people(engine, 2)
    show = await make_event(engine, total=TOTAL, organiser=people[0])
    await bookings.book(show, people[0])
    # Another server may have used the revision for another change.
    await execute(database_url, "UPDATE ticket_types SET amount = 2500, currency = 'EUR'")
    await execute(database_url, CLOSE_CONNECTIONS)
    with pytest.raises(PaymentRequired):
        await bookings.book(show, people[1])


async def test_counters_that_contradict_the_bookings_are_refused_cheaply(
    engine: AsyncEngine, bookings: BookingRepository, sent: list[str]
) -> None:
    people = await make_people(engine, 2)
    show = await make_event(engine, total=TOTAL, organiser=people[0])
    await bookings.book(show, people[0])
    version = await version_of(engine, show)
    await set_back(engine, show, [], available=TOTAL, waiting=0, version=version - 1)
    sent.clear()
    with pytest.raises(Busy):
        await bookings.cancel(show, people[0])
    assert len(sent) < 1000
    assert isinstance(await bookings.book(show, people[1]), Booked)
    assert isinstance(await bookings.cancel(show, people[1]), Cancelled)
    assert [status for _, status in await rows(engine, show)] == ["booked", "cancelled"]


@pytest.mark.parametrize("now", ["gone", "waiting", "booked"])
async def test_who_was_decided_about_while_it_became_another_is_decided_about_again(
    engine: AsyncEngine, bookings: BookingRepository, database_url: str, now: str
) -> None:
    first, second, third = await make_people(engine, 3)
    show = await make_event(engine, total=1, organiser=first)
    await bookings.book(show, first)
    if now == "booked":
        await bookings.book(show, second)
    version = await version_of(engine, show)
    other = await asyncpg.connect(database_url)
    transaction = other.transaction()
    await transaction.start()
    # The cancel decides on the rows that it sees, and then waits for this lock.
    await other.execute(f"SELECT FROM events WHERE id = {show} FOR UPDATE")
    cancelling = asyncio.create_task(bookings.cancel(show, first))
    await until_somebody_waits(database_url)
    about = f"event_id = {show} AND user_id = '{first}'"
    left = f"UPDATE events SET version = {version}, (available_tickets, waiting_list_count)"
    match now:
        case "gone":
            await other.execute(f"DELETE FROM bookings WHERE {about}")
            await other.execute(f"{left} = (0, 0) WHERE id = {show}")
            await other.execute(BOOKED.format(event=show, user=third))
        case "waiting":
            await other.execute(f"UPDATE bookings SET status = 'waiting' WHERE {about}")
            await other.execute(f"{left} = (0, 1) WHERE id = {show}")
            await other.execute(BOOKED.format(event=show, user=third))
        case _:
            await other.execute(f"UPDATE bookings SET status = 'waiting' WHERE {about}")
            about = about.replace(str(first), str(second))
            await other.execute(f"UPDATE bookings SET status = 'booked' WHERE {about}")
            await other.execute(f"{left} = (0, 1) WHERE id = {show}")
    await transaction.commit()
    await other.close()
    if now == "gone":
        with pytest.raises(BookingNotFound):
            await cancelling
    else:
        assert (await cancelling).promoted == []
    held = [status for _, status in await rows(engine, show) if status != "cancelled"]
    assert held == ["booked"]
    assert (await counters(engine, show))[:2] == (0, 0)
