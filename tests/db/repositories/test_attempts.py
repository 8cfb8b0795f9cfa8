"""While connecting fails, a worker tries seldom, and again at once when it works."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.outcomes import together
from tests.proxies import way_to
from ticketing.database_address import Address
from ticketing.db import attempts
from ticketing.db.engine import connect
from ticketing.db.hosts import Server
from ticketing.db.schema import is_usable
from ticketing.db.statements import driver
from ticketing.errors import DatabaseUnavailable


class Gate:
    """Accepts connections, and ends them unless it is open."""

    def __init__(self, port: int) -> None:
        self.target = port
        self.port = 0
        self.is_open = False
        self.asked = 0

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.asked += 1
        if self.is_open:
            answers, there = await asyncio.open_connection("127.0.0.1", self.target)
            await asyncio.gather(pump(reader, there), pump(answers, writer))
        writer.transport.abort()


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65_536):
        writer.write(data)
    writer.close()


@asynccontextmanager
async def gate_to(port: int) -> AsyncIterator[Gate]:
    gate = Gate(port)
    async with await asyncio.start_server(gate.accept, "127.0.0.1", 0) as server:
        gate.port = server.sockets[0].getsockname()[1]
        yield gate


async def test_callers_share_attempts_while_connecting_fails_and_all_connect_after_it(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with way_to(database_url) as way:
        address = Address.parse(way.url)
        async with gate_to(address.hosts[0].port) as gate:
            url = way.url.replace(f":{address.hosts[0].port}", f":{gate.port}")
            server = Server(Address.parse(url))
            engine = connect(server, pool_size=40)

            async def use() -> int:
                async with driver(engine) as connection:
                    return int(await connection.fetchval("SELECT 1"))

            with pytest.raises(DatabaseUnavailable):
                await use()
            # So long that all of them wait for the same attempt.
            monkeypatch.setattr(attempts, "EVERY", 1.0)
            gate.asked = 0
            failed = await together(*(use() for _ in range(30)))
            assert {type(each) for each in failed} == {DatabaseUnavailable}
            assert gate.asked == 1
            gate.is_open = True
            assert await together(*(use() for _ in range(30))) == [1] * 30
            assert await is_usable(engine)
            assert (server.attempts.is_failing, server.attempts.recovered) == (False, 1)
            await engine.dispose()


async def test_a_connection_that_was_idle_while_connecting_failed_is_given_up(
    database_url: str,
) -> None:
    """Behind a pooler it may reach another server by now."""
    async with way_to(database_url) as way:
        address = Address.parse(way.url)
        async with gate_to(address.hosts[0].port) as gate:
            gate.is_open = True
            url = way.url.replace(f":{address.hosts[0].port}", f":{gate.port}")
            engine = connect(Server(Address.parse(url)), pool_size=2)

            async def pid() -> int:
                async with driver(engine) as connection:
                    return int(await connection.fetchval("SELECT pg_backend_pid()"))

            idle = await pid()
            assert await pid() == idle
            async with driver(engine):
                gate.is_open = False
                with pytest.raises(DatabaseUnavailable):
                    await pid()
                gate.is_open = True
                await pid()
            assert idle not in await together(pid(), pid())
            await engine.dispose()


async def test_an_attempt_that_hangs_does_not_keep_the_next_one_from_beginning(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(attempts, "EVERY", 0.01)
    trying = attempts.Attempts()
    trying.is_failing = True
    never = asyncio.Event()

    async def hang() -> None:
        await never.wait()

    async def work() -> None:
        return

    hanging = asyncio.create_task(trying.succeed(hang))
    await asyncio.sleep(0.05)
    await trying.succeed(work)
    assert not hanging.done()
    assert not trying.is_failing
    never.set()
    await hanging
