import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest

from ticketing.server.corked import MAX_HELD, MAX_HOLDING, Cork, Corked


class Client:
    """One end of a connection, and the corked transport at the other end."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.corked: Corked


@asynccontextmanager
async def connected(count: int) -> AsyncIterator[list[Client]]:
    """Connect `count` clients to transports under one cork."""
    cork = Cork()
    made: asyncio.Queue[asyncio.Transport] = asyncio.Queue()

    class Accepted(asyncio.Protocol):
        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            made.put_nowait(transport)

    server = await asyncio.get_running_loop().create_server(Accepted, "127.0.0.1", 0)
    clients = []
    try:
        for _ in range(count):
            client = Client(*await asyncio.open_connection(*server.sockets[0].getsockname()))
            client.corked = Corked(await made.get(), cork)
            clients.append(client)
        yield clients
    finally:
        server.close()
        for client in clients:
            client.corked.abort()
            client.writer.close()


async def test_data_that_is_written_in_a_turn_is_sent_at_its_end() -> None:
    async with connected(1) as (client,):
        client.corked.write(b"head ")
        client.corked.write(b"body")
        assert client.corked.get_write_buffer_size() == 9
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert client.corked.get_write_buffer_size() == 0
        assert await client.reader.read(100) == b"head body"
        client.corked.write(b"again")
        assert await client.reader.read(100) == b"again"


async def test_urgent_data_is_sent_at_once_after_the_held_data() -> None:
    async with connected(1) as (client,):
        client.corked.write(b"first ")
        client.corked.write_now(b"second ")
        assert client.corked.get_write_buffer_size() == 0
        client.corked.write(b"third")
        assert await client.reader.readexactly(18) == b"first second third"


async def test_data_of_many_connections_is_not_held() -> None:
    async with connected(MAX_HOLDING + 2) as clients:
        for client in clients:
            client.corked.write(b"head ")
            client.corked.write(b"body")
        held = [client.corked.get_write_buffer_size() for client in clients]
        assert held == [0] * MAX_HOLDING + [9, 9]
        for client in clients:
            assert await client.reader.readexactly(9) == b"head body"


async def test_a_lot_of_data_is_not_held() -> None:
    async with connected(1) as (client,):
        sent = 0
        while sent <= 100 * MAX_HELD:
            client.corked.write(b"x" * 1000)
            sent += 1000
            assert client.corked._size <= MAX_HELD
        assert await client.reader.readexactly(sent) == b"x" * sent


@pytest.mark.parametrize("end", [Corked.close, Corked.write_eof])
async def test_held_data_is_sent_before_the_end(end: Callable[[Corked], None]) -> None:
    async with connected(1) as (client,):
        client.corked.write(b"last words")
        end(client.corked)
        assert await client.reader.read() == b"last words"


async def test_nothing_is_sent_to_an_aborted_connection() -> None:
    async with connected(2) as (gone, other):
        for client in (gone, other):
            client.corked.write(b"hello")
        gone.corked.abort()
        assert gone.corked.is_closing()
        assert await other.reader.read(100) == b"hello"
        with suppress(ConnectionResetError):
            assert await gone.reader.read() == b""


async def test_a_fault_of_one_connection_does_not_affect_the_others() -> None:
    faults: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: faults.append(context))
    async with connected(3) as (before, faulty, after):
        faulty.corked.write_eof()
        for client in (before, faulty, after):
            client.corked.write(b"hello")
        for client in (before, after):
            assert await client.reader.read(100) == b"hello"
    (fault,) = faults
    assert "write_eof" in str(fault["exception"])
