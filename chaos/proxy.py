"""A TCP proxy between the service and its database, which delays, stalls and cuts connections."""

import asyncio
import random
import re
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

PREPARES: Final = re.compile(rb"([\w]+)\0([^\0]*)\0")
"""Matches a statement's name and text in a Parse message of PostgreSQL's protocol."""
COMMITS: Final = b"UPDATE events SET"
CUTS: Final = ("request", "answer", "both")


@dataclass(eq=False)
class _Link:
    """One connection through the proxy."""

    ours: asyncio.StreamWriter
    theirs: asyncio.StreamWriter
    commits: set[bytes] = field(default_factory=set)
    """Names of the prepared statements that change an event."""
    drops_answer: bool = False

    def cut(self) -> None:
        for writer in (self.ours, self.theirs):
            with suppress(OSError):
                writer.transport.abort()


class Proxy:
    """Listens on the loopback and forwards to a Unix socket."""

    def __init__(self, target: Path, chance: random.Random) -> None:
        """Forward to `target`. `chance` decides about faults."""
        self._target = target
        self._chance = chance
        self._links: set[_Link] = set()
        self._server: asyncio.Server | None = None
        self.latency = 0.0
        """Average delay of a piece, in seconds."""
        self.stalls = 0.0
        """Probability that a piece is lost, and arrives after a retransmission."""
        self.cuts_left = 0
        """Number of commits that are still to be cut."""
        self.cuts = 0

    @property
    def port(self) -> int:
        """The port on which it listens."""
        if self._server is None:
            raise RuntimeError("the proxy does not listen")
        return int(self._server.sockets[0].getsockname()[1])

    async def start(self) -> None:
        """Listen."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)

    async def close(self) -> None:
        """Stop, and drop all connections."""
        if self._server is not None:
            self._server.close()
        self.cut_all()
        await asyncio.sleep(0)

    def cut_all(self) -> None:
        """Cut every connection."""
        for link in list(self._links):
            link.cut()

    async def _accept(self, reader: asyncio.StreamReader, ours: asyncio.StreamWriter) -> None:
        try:
            answers, theirs = await asyncio.open_unix_connection(str(self._target))
        except OSError:
            ours.transport.abort()
            return
        link = _Link(ours, theirs)
        self._links.add(link)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._requests(link, reader))
                group.create_task(self._answers(link, answers))
        except* (OSError, EOFError):
            pass
        finally:
            link.cut()
            self._links.discard(link)

    async def _requests(self, link: _Link, reader: asyncio.StreamReader) -> None:
        while data := await reader.read(65_536):
            await self._be_slow()
            link.commits.update(name for name, text in PREPARES.findall(data) if COMMITS in text)
            if self.cuts_left and any(name + b"\0" in data for name in link.commits):
                self.cuts_left -= 1
                self.cuts += 1
                how = self._chance.choice(CUTS)
                if how == "request":  # Only half of it arrives, so it can't have been done.
                    link.theirs.write(data[: len(data) // 2])
                    await link.theirs.drain()
                    raise EOFError
                link.drops_answer = True
                link.theirs.write(data)
                await link.theirs.drain()
                if how == "both":
                    # Wait briefly or not at all: the server may or may not have begun, and
                    # finishes.
                    await asyncio.sleep(self._chance.choice((0.0, 0.001, 0.01)))
                    raise EOFError
                continue
            link.theirs.write(data)
            await link.theirs.drain()
        raise EOFError

    async def _answers(self, link: _Link, reader: asyncio.StreamReader) -> None:
        while data := await reader.read(65_536):
            await self._be_slow()
            if link.drops_answer:
                break
            link.ours.write(data)
            await link.ours.drain()
        raise EOFError

    async def _be_slow(self) -> None:
        if self.stalls and self._chance.random() < self.stalls:
            await asyncio.sleep(self._chance.choice((0.2, 0.4, 0.8)))
        elif self.latency:
            await asyncio.sleep(self._chance.expovariate(1 / self.latency))
