"""A primary and its synchronous standby: what is acknowledged, and what is seen of a failover."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import asyncpg
import pytest
from sqlalchemy import make_url, text
from sqlalchemy.ext.asyncio import AsyncEngine

from tests.databases import execute
from tests.factories import make_event, make_people
from tests.folders import folder_open_to_all, put
from tests.standby import NAME, Standby, following
from ticketing.database_address import Address
from ticketing.db.engine import connect
from ticketing.db.hosts import Server
from ticketing.db.primary import Primary
from ticketing.db.statements import CONFIRM, driver
from ticketing.embedded.server import Embedded, embedded
from ticketing.errors import DatabaseUnavailable, OutcomeUnknown
from ticketing.sale.commit import settle
from ticketing.sale.inventory.model import Booked
from ticketing.sale.repositories.bookings import BookingRepository
from ticketing.web.replay import KeyedRequest, Rendered, Replayed
from ticketing.web.repositories.stored_responses import recall

pytestmark = pytest.mark.usefixtures("unmeasured")


@pytest.fixture
def primary(kept_data: Path) -> Iterator[Embedded]:
    with folder_open_to_all() as folder:
        put(kept_data, folder)
        with embedded(folder / "data", fsync="off") as running:
            yield running


@pytest.fixture
async def standby(primary: Embedded) -> AsyncIterator[Standby]:
    """A standby that commits wait for."""
    with folder_open_to_all() as folder, following(primary, folder) as standby:
        await execute(primary.url, f"ALTER SYSTEM SET synchronous_standby_names = '{NAME}'")
        await execute(primary.url, "SELECT pg_reload_conf()")
        await until(primary.url, "SELECT count(*) FROM pg_stat_replication WHERE sync_priority = 1")
        yield standby


async def until(url: str, counting: str) -> None:
    """Wait until the statement counts something."""
    connection = await asyncpg.connect(url)
    async with asyncio.timeout(20):
        while not await connection.fetchval(counting):  # noqa: ASYNC110 - the server's
            await asyncio.sleep(0.02)
    await connection.close()


CANCEL = """
    SELECT count(*) FROM (
        SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'
    ) AS waiting
"""


async def test_a_booking_is_acknowledged_only_when_a_failover_keeps_it(
    primary: Embedded, standby: Standby, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settle, "PATIENCE", 1.0)
    async with AsyncExitStack() as stack:
        urls = (primary.url, standby.url)
        before, after = (connect(url, pool_size=4, command_timeout=2) for url in urls)
        for engine in (before, after):
            stack.push_async_callback(engine.dispose)
        people = await make_people(before, 3)
        show = await make_event(before, total=3, organiser=people[0])
        bookings = BookingRepository(before)
        stack.push_async_callback(bookings.close)
        assert isinstance(await bookings.book(show, people[0]), Booked)

        standby.kill()
        keyed = KeyedRequest(people[1], "key", b"1", lambda _: Rendered(201, b"first"))
        booking = asyncio.create_task(bookings.book(show, people[1], keyed=keyed))
        # The commit succeeds, with a warning: it is durable on the primary alone.
        await until(primary.url, CANCEL)
        with pytest.raises(OutcomeUnknown):
            await booking
        # It is found, and still may be lost.
        with pytest.raises(DatabaseUnavailable):
            await recall(before, keyed)
        with pytest.raises(DatabaseUnavailable):
            await bookings.book(show, people[1], keyed=keyed)
        # As any other change.
        changing = asyncio.create_task(rename_all(before))
        await until(primary.url, CANCEL)
        with pytest.raises(DatabaseUnavailable):
            await changing
        await bookings.close()
        await before.dispose()

        primary.stop()
        standby.start()
        standby.promote()
        anew = BookingRepository(after)
        stack.push_async_callback(anew.close)
        assert await holders(standby.url) == {people[0]}
        assert isinstance(await anew.book(show, people[1], keyed=keyed), Booked)


async def test_what_waited_in_vain_is_acknowledged_when_a_standby_has_it(
    primary: Embedded, standby: Standby, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settle, "PATIENCE", 20.0)
    engine = connect(primary.url, pool_size=4)
    people = await make_people(engine, 2)
    show = await make_event(engine, total=3, organiser=people[0])
    bookings = BookingRepository(engine)
    standby.kill()
    keyed = KeyedRequest(people[1], "key", b"1", lambda _: Rendered(201, b"first"))
    booking = asyncio.create_task(bookings.book(show, people[1], keyed=keyed))
    await until(primary.url, CANCEL)
    await until(primary.url, CANCEL.replace("pg_cancel_backend(pid)", "1"))  # The question waits.
    assert not booking.done()
    standby.start()
    assert isinstance(await booking, Booked)
    assert isinstance(await recall(engine, keyed), Replayed)
    standby.promote()
    assert people[1] in await holders(standby.url)
    await bookings.close()
    await engine.dispose()


async def rename_all(engine: AsyncEngine) -> None:
    async with driver(engine) as connection, connection.transaction():
        await connection.execute("UPDATE events SET name = 'Another name'")


async def holders(url: str) -> set[object]:
    engine = connect(url, pool_size=1)
    async with engine.connect() as connection:
        rows = await connection.execute(text("SELECT user_id FROM bookings"))
        found = {row[0] for row in rows}
    await engine.dispose()
    return found


async def test_the_role_of_the_service_may_wait_for_a_standby(database_url: str) -> None:
    engine = connect(database_url, pool_size=1)
    async with driver(engine) as connection, connection.transaction():
        await connection.execute("CREATE ROLE nobody_special; SET LOCAL ROLE nobody_special")
        await CONFIRM.fetch(connection)
        await connection.execute("RESET ROLE; DROP ROLE nobody_special")
    await engine.dispose()


async def test_a_failover_is_counted_and_replaces_every_connection(
    primary: Embedded, standby: Standby
) -> None:
    folders = f"{make_url(primary.url).query['host']},{make_url(standby.url).query['host']}"
    server = Server(Address.parse(f"postgresql://postgres@/postgres?host={folders}"))
    engine = connect(server, pool_size=2)
    watch = Primary(server)
    for _ in range(2):
        await watch.look(engine)
    async with driver(engine) as before:
        assert not before.is_suspect
    primary.stop()
    for _ in range(2):
        with pytest.raises(DatabaseUnavailable):
            await watch.look(engine)
    away = watch.away
    assert (watch.failovers, away > 0) == (0, True)
    standby.promote()
    for _ in range(2):
        await watch.look(engine)
    assert (watch.failovers, before.is_suspect, server.lost > 0) == (1, True, True)
    assert watch.away > away
    await engine.dispose()
