"""Facts of several events are read in one order, and none is missed that commits late."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from tests.factories import make_event, make_people
from ticketing.database_address import Address
from ticketing.db.hosts import Server
from ticketing.db.statements import Driver
from ticketing.feed.repositories.facts import FactRepository

RECORD = "INSERT INTO audit_records (action, event_id, details) VALUES ('event.paused', $1, '{}')"
HOLD = "SELECT FROM events WHERE id = $1 FOR NO KEY UPDATE"


@pytest.fixture
async def connections(database_url: str) -> AsyncIterator[list[Driver]]:
    server = Server(Address.parse(database_url))
    made = [await server.connect() for _ in range(4)]
    yield made
    for each in made:
        await each.close()


async def test_nothing_is_read_beyond_a_transaction_that_still_writes(
    engine: AsyncEngine, connections: list[Driver]
) -> None:
    (owner,) = await make_people(engine, 1)
    slow, fast = [await make_event(engine, total=1, organiser=owner) for _ in range(2)]
    facts = FactRepository(engine)
    created, after = await facts.of_events({slow, fast}, after=0, limit=100)
    assert [each.event_id for each in created] == [slow, fast]
    writing, other, *_ = connections
    async with writing.transaction():
        await writing.execute(HOLD, slow)
        await writing.execute(RECORD, slow)
        await other.execute(RECORD, fast)
        # The other event alone can be read: its own records are in order.
        assert len(await facts.of_event(fast, after=after, limit=100)) == 1
        for _ in range(3):
            assert await facts.of_events({slow, fast}, after=after, limit=100) == ([], after)
            assert await facts.of_events(None, after=after, limit=100) == ([], after)
            # A process that has just started knows no number up to which all is visible.
            assert await FactRepository(engine).of_events(None, after=0, limit=100) == ([], 0)
    found, then = await facts.of_events({slow, fast}, after=after, limit=100)
    assert [each.event_id for each in found] == [slow, fast]
    assert then == found[-1].seq


async def test_the_last_number_waits_for_transactions_that_end_soon(
    engine: AsyncEngine, connections: list[Driver]
) -> None:
    (owner,) = await make_people(engine, 1)
    event = await make_event(engine, total=1, organiser=owner)
    facts = FactRepository(engine)
    before = await facts.last()
    writing, other, *_ = connections
    async with writing.transaction():
        await writing.execute("SELECT pg_current_xact_id()")
        await other.execute(RECORD, event)
        last = asyncio.create_task(facts.last())
        await asyncio.sleep(0.05)
    (found,) = await facts.of_event(event, after=before, limit=100)
    assert await last == found.seq


async def test_no_fact_is_skipped_whatever_the_order_in_which_long_transactions_end(
    engine: AsyncEngine, connections: list[Driver]
) -> None:
    (owner,) = await make_people(engine, 1)
    events = [await make_event(engine, total=1, organiser=owner) for _ in range(4)]
    facts = FactRepository(engine)
    begun = after = await facts.last()
    written = 0
    seen: list[int] = []

    async def write(connection: Driver, event: int, of: int) -> None:
        nonlocal written
        for number in range(of, of + 25):
            async with connection.transaction():
                await connection.execute(HOLD, event)
                for _ in range(1 + number % 3):
                    await connection.execute(RECORD, event)
                    written += 1
                    # Some are short, and some are open while hundreds of others begin and end.
                    await asyncio.sleep(0.0005 * (number * 7 % 40))

    writing = asyncio.gather(
        *(
            write(each, event, 10 * number)
            for number, (each, event) in enumerate(zip(connections, events, strict=True))
        )
    )
    while not writing.done() or (writing.exception() is None and len(seen) < written):
        found, after = await facts.of_events(None, after=after, limit=7)
        seen += [each.seq for each in found]
        await asyncio.sleep(0)
    await writing
    again, _ = await FactRepository(engine).of_events(None, after=begun, limit=10_000)
    assert seen == [each.seq for each in again] == sorted(set(seen))
    assert len(seen) == written
