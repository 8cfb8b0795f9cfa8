"""If one of many connections is lost, the others of its age are replaced too."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import asyncpg
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from tests.databases import execute
from tests.factories import make_event, make_people
from tests.outcomes import kinds, together
from tests.proxies import Way, way_to
from ticketing.database_address import Address
from ticketing.db.engine import connect
from ticketing.db.hosts import Server
from ticketing.db.pools import Pools
from ticketing.db.schema import is_usable
from ticketing.db.statements import Held, driver
from ticketing.errors import DatabaseUnavailable
from ticketing.sale.inventory.model import Booked
from ticketing.sale.repositories.bookings import BookingRepository
from ticketing.sale.repositories.events import EventRepository

PATIENCE = 5.0
"""Seconds. Less than the timeout of an engine's commands."""
OPTIONS = ("TCP_KEEPIDLE", "TCP_KEEPINTVL", "TCP_KEEPCNT", "TCP_USER_TIMEOUT")


@pytest.fixture
async def way(database_url: str) -> AsyncIterator[Way]:
    async with way_to(database_url) as way:
        yield way


async def backend(engine: AsyncEngine) -> int:
    async with driver(engine) as connection:
        number: int = await connection.fetchval("SELECT pg_backend_pid()")
    return number


async def warm(engine: AsyncEngine, count: int) -> set[int]:
    """Open so many idle connections, and return their server processes."""
    async with AsyncExitStack() as stack:
        links = [await stack.enter_async_context(driver(engine)) for _ in range(count)]
        return {link.get_server_pid() for link in links}


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("", [1, 2, 1, 2, 3000]),
        ("&keepalives=0", [0, None, None, None, None]),
        ("&keepalives_idle=9&keepalives_interval=8&keepalives_count=7", [1, 9, 8, 7, 3000]),
        ("&tcp_user_timeout=4000", [1, 2, 1, 2, 4000]),
        ("&tcp_user_timeout=0&keepalives_idle=0", [1, None, 1, 2, None]),
        ("&keepalives_idle=999999999&keepalives_count=9999", [1, 32767, 1, 127, 3000]),
    ],
)
async def test_the_kernel_is_asked_to_notice_a_silent_server_as_the_address_says(
    way: Way, said: str, expected: list[int | None]
) -> None:
    link = await Server(Address.parse(way.url + said)).connect()
    with socket.socket() as untouched:
        defaults = [option(untouched, name) for name in OPTIONS]
    found = [option(link.socket, name) for name in OPTIONS]
    wanted = [w if w is not None else d for w, d in zip(expected[1:], defaults, strict=True)]
    assert [option(link.socket, "SO_KEEPALIVE"), *found] == [expected[0], *wanted]
    await link.close()


def option(connected: socket.socket, name: str) -> int:
    level = socket.SOL_SOCKET if name.startswith("SO_") else socket.IPPROTO_TCP
    return connected.getsockopt(level, getattr(socket, name))


async def test_a_unix_socket_has_no_such_options(database_url: str) -> None:
    link = await Server(Address.parse(database_url)).connect()
    assert link.socket.family is socket.AF_UNIX
    assert await link.fetchval("SELECT 1") == 1
    await link.close()


@pytest.fixture
async def pools(way: Way) -> AsyncIterator[Pools]:
    """The pools of a worker."""
    pools = Pools(way.url, 22, "none")
    yield pools
    way.close()  # Nothing waits for the dropped packets.
    await pools.close()


async def test_a_service_whose_packets_are_dropped_books_on_new_connections(
    way: Way, pools: Pools, engine: AsyncEngine
) -> None:
    people = await make_people(engine, 21)
    show = await make_event(engine, total=30, organiser=people[0])
    bookings = BookingRepository(pools.requests, pools.alone("commits"))
    events = EventRepository(pools.requests, pools.alone("reads"))
    await warm(pools.requests, 22)
    await bookings.book(show, people[0])
    await bookings.cancel(show, people[0])
    await events.get(show)
    way.drop()
    assert isinstance(await bookings.book(show, people[0]), Booked)
    answers = await together(*(bookings.book(show, person) for person in people[1:]))
    assert kinds(answers) == [Booked] * 20
    assert await is_usable(pools.requests, PATIENCE)
    assert (await events.get(show)).available_tickets == 9
    await bookings.close()
    await events.close()


async def test_idle_connections_whose_packets_are_dropped_end_by_themselves(way: Way) -> None:
    link = await Server(Address.parse(way.url)).connect()
    ended = asyncio.Event()
    link.add_termination_listener(lambda _: ended.set())
    way.drop()
    await asyncio.wait_for(ended.wait(), 60)
    assert link.is_suspect


async def test_after_one_timeout_every_connection_that_is_as_old_is_replaced(way: Way) -> None:
    server = Server(Address.parse(way.url))
    engine = connect(server, pool_size=5, command_timeout=2)
    other = connect(server, pool_size=5, command_timeout=2)
    held = Held(connect(server, pool_size=1, command_timeout=2))
    before = await warm(engine, 5) | await warm(other, 5)
    async with held.lent() as link:
        before.add(link.get_server_pid())
    way.hold()
    with pytest.raises(DatabaseUnavailable):
        await backend(engine)
    after = {await backend(each) for each in (engine, other) for _ in range(5)}
    async with held.lent() as link:
        after.add(await link.fetchval("SELECT pg_backend_pid()"))
    assert not after & before
    # Each is replaced only once.
    assert len(after) == 11
    assert {await backend(each) for each in (engine, other) for _ in range(5)} <= after
    await held.close()
    for each in (engine, other):
        await each.dispose()


@pytest.mark.parametrize("in_use", [True, False])
async def test_after_one_that_was_closed_every_connection_that_is_as_old_is_replaced(
    database_url: str, *, in_use: bool
) -> None:
    engine = connect(database_url, pool_size=3)
    before = await warm(engine, 3)

    async def end(process: int) -> None:
        await execute(database_url, f"SELECT pg_terminate_backend({process}, 5000)")
        await asyncio.sleep(0.1)

    async def be_ended() -> None:
        async with driver(engine) as link:
            await end(link.get_server_pid())
            await link.fetchval("SELECT 1")

    if in_use:
        with pytest.raises(DatabaseUnavailable):
            await be_ended()
    else:
        # The next connection that is lent.
        async with driver(engine) as link:
            pass
        others = sorted(before - {link.get_server_pid()})
        for each in others:
            await end(each)
    after = {await backend(engine) for _ in range(3)}
    assert not after & before
    await engine.dispose()


async def test_a_connection_that_timed_out_in_a_health_check_is_not_lent_again(way: Way) -> None:
    engine = connect(way.url, pool_size=1)
    assert await is_usable(engine, PATIENCE)
    way.hold()
    with pytest.raises(DatabaseUnavailable):
        await is_usable(engine)
    assert await is_usable(engine, PATIENCE)
    await engine.dispose()


async def test_statements_that_fail_lose_no_connection(database_url: str) -> None:
    engine = connect(database_url, pool_size=1)
    first = await backend(engine)
    with pytest.raises(asyncpg.UndefinedTableError):
        async with driver(engine) as link:
            await link.execute("SELECT * FROM nowhere")
    assert await backend(engine) == first
    await engine.dispose()
