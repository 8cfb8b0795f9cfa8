"""The relay that cuts a node of a cluster off."""

import asyncio

import pytest
from chaos.relay import Relay


async def test_a_cut_relay_delivers_nothing_ends_nothing_and_forgets_what_it_had() -> None:
    got: list[bytes] = []

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(100):
            got.append(data)
            writer.write(data)
        writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    relay = Relay(1, server.sockets[0].getsockname()[1])  # Nothing listens on port 1.
    port = await relay.start()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"before")
    assert await reader.readexactly(6) == b"before"

    relay.cut()
    writer.write(b"during")
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(reader.read(1), 0.1)
    relay.heal()
    with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
        await reader.readexactly(1)
    writer.close()

    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"after")
    assert await reader.readexactly(5) == b"after"
    assert got == [b"before", b"after"]
    writer.close()
    await relay.close()
    server.close()
