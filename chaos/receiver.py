"""A receiver of webhooks, which remembers what it was told."""

import asyncio
import json
from collections import Counter
from contextlib import suppress
from typing import Final

ACCEPTED: Final = b"HTTP/1.1 204 No Content\r\n\r\n"


class Receiver:
    """Listens on the loopback, and accepts every delivery."""

    def __init__(self) -> None:
        """Do not listen yet."""
        self.told: Counter[tuple[str, str]] = Counter()
        """How often each type came about each booking."""
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()

    async def start(self) -> str:
        """Listen, and return the URL."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/"

    async def close(self) -> None:
        """Stop."""
        if self._server is not None:
            self._server.close()
        for writer in self._writers:
            writer.transport.abort()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        with suppress(OSError, EOFError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
                fields = dict(line.split(": ", 1) for line in head.split("\r\n")[1:] if line)
                told = json.loads(await reader.readexactly(int(fields["content-length"])))
                self.told[told["type"], str(told.get("bookingId"))] += 1
                writer.write(ACCEPTED)
                await writer.drain()
        self._writers.discard(writer)
        writer.transport.abort()
