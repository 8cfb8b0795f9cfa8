"""A receiver of webhooks, and a process that delivers to it."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from ipaddress import IPv4Network
from typing import Any

from sqlalchemy.ext.asyncio import AsyncEngine

from tests.signing import SECRET
from ticketing.feed.delivery import Deliverer
from ticketing.feed.following import Follower
from ticketing.feed.places import Places
from ticketing.feed.repositories.deliveries import DeliveryRepository
from ticketing.feed.repositories.facts import FactRepository
from ticketing.web.seals import Seals

LOOPBACK = (IPv4Network("127.0.0.0/8"),)
PATIENCE = 60.0
"""Seconds. On a busy machine a process may take half of it to start."""


@dataclass(frozen=True)
class Received:
    """A request."""

    path: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def fact(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.body)
        return found


Answer = Callable[[Received], Awaitable[int]]


async def accept(_: Received) -> int:
    return 204


@dataclass
class Receiver:
    """Keeps what it receives, and responds as `answer` says."""

    answer: Answer = accept
    received: list[Received] = field(default_factory=list)
    url: str = ""
    location: str = "/elsewhere"

    async def got(self, count: int) -> list[Received]:
        """Return what was received, once it is so much."""
        async with asyncio.timeout(PATIENCE):
            while len(self.received) < count:  # noqa: ASYNC110 - of another process
                await asyncio.sleep(0.005)
        return self.received

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                first, *lines = head.decode().strip().split("\r\n")
                headers = {
                    name.lower(): value.strip()
                    for name, _, value in (line.partition(":") for line in lines)
                }
                body = await reader.readexactly(int(headers["content-length"]))
                request = Received(first.split()[1], headers, body)
                self.received.append(request)
                status = await self.answer(request)
                writer.write(
                    f"HTTP/1.1 {status} So\r\nlocation: {self.location}\r\n"
                    "content-length: 0\r\n\r\n".encode()
                )
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def receiving(answer: Answer = accept) -> AsyncIterator[Receiver]:
    """Run a receiver."""
    receiver = Receiver(answer)
    server = await asyncio.start_server(receiver.serve, "127.0.0.1", 0)
    receiver.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/hook"
    try:
        yield receiver
    finally:
        server.close()


@asynccontextmanager
async def delivering(
    engine: AsyncEngine, schedule: Sequence[float] = (0.01,), places: Places | None = None
) -> AsyncIterator[Deliverer]:
    """Deliver as a process of its own does, with short pauses."""
    facts = FactRepository(engine)
    follower = Follower(facts, every=0.02)
    deliveries = DeliveryRepository(engine, facts, Seals(SECRET))
    deliverer = Deliverer(deliveries, follower, LOOPBACK, schedule, look=0.02, places=places)
    await deliverer.start()
    try:
        yield deliverer
    finally:
        await deliverer.close()
        await follower.close()
