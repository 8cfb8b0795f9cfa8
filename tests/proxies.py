"""Proxies to a database that silence open connections while new ones work."""

import asyncio
import ctypes
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from sqlalchemy import make_url

SO_ATTACH_FILTER = 26
DROP = ctypes.create_string_buffer(struct.pack("HBBI", 6, 0, 0, 0))
"""A Linux socket filter that accepts no packet: `BPF_RET | BPF_K`, of 0 bytes."""


class Way:
    """A TCP port that leads to the database's Unix socket."""

    def __init__(self, database_url: str) -> None:
        url = make_url(database_url)
        self._target = f"{url.query['host']}/.s.PGSQL.5432"
        self._database = url.database
        self._flows: list[tuple[asyncio.StreamWriter, asyncio.StreamWriter]] = []
        self._held: set[asyncio.StreamWriter] = set()
        self.port = 0

    @property
    def url(self) -> str:
        """The address of the database through this proxy."""
        return f"postgresql://postgres@127.0.0.1:{self.port}/{self._database}?sslmode=disable"

    def hold(self) -> None:
        """Pass on nothing more of open connections. Data is still received."""
        for flow in self._flows:
            self._held.update(flow)

    def drop(self) -> None:
        """Drop every packet of open connections, like a firewall that forgot them."""
        self.hold()
        for ours, _ in self._flows:
            connected: socket.socket = ours.get_extra_info("socket")
            program = struct.pack("HxxxxxxP", 1, ctypes.addressof(DROP))
            connected.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, program)

    async def accept(self, reader: asyncio.StreamReader, ours: asyncio.StreamWriter) -> None:
        answers, theirs = await asyncio.open_unix_connection(self._target)
        self._flows.append((ours, theirs))
        await asyncio.gather(self._pump(reader, theirs), self._pump(answers, ours))

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(65_536):
                if writer not in self._held:
                    writer.write(data)
                    await writer.drain()
        if writer not in self._held:
            writer.close()

    def close(self) -> None:
        for flow in self._flows:
            for writer in flow:
                writer.transport.abort()


@asynccontextmanager
async def way_to(database_url: str) -> AsyncIterator[Way]:
    """Open such a proxy."""
    way = Way(database_url)
    server = await asyncio.start_server(way.accept, "127.0.0.1", 0)
    way.port = server.sockets[0].getsockname()[1]
    try:
        yield way
    finally:
        server.close()
        way.close()
        await server.wait_closed()
