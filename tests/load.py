"""Clients that book and cancel repeatedly, and count the outcome of each request.

They use sockets, because an HTTP client would hide a missing response by resending.
"""

import asyncio
import json
import random
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from tests.people import Person

PAUSE = 0.2
"""Seconds between two requests of a person, at most."""


@dataclass
class Load:
    """The outcomes so far."""

    statuses: Counter[int] = field(default_factory=Counter)
    unanswered: int = 0
    """Requests on a connection that was closed without a response."""
    refused: int = 0
    """Connections that were not accepted."""
    connections: int = 0
    held: dict[str, bool] = field(default_factory=dict)
    """Whether a person has a booking, from the last response. Unknown people are left out."""

    @property
    def answered(self) -> int:
        return self.statuses.total()


@asynccontextmanager
async def load(
    url: str, people: Sequence[Person], event_id: int, *, keep_alive: bool = True
) -> AsyncIterator[Load]:
    """Let each person book and cancel repeatedly, until the body ends."""
    found = Load()
    enough = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        for person in people:
            requests = {
                what: _request(what, person, event_id, keep_alive=keep_alive)
                for what in ("book", "cancel")
            }
            group.create_task(_client(url, person.id, requests, found, enough))
        try:
            yield found
        finally:
            enough.set()


async def _client(
    url: str, person: str, requests: Mapping[str, bytes], found: Load, enough: asyncio.Event
) -> None:
    address = urlsplit(url)
    holds = False
    writer: asyncio.StreamWriter | None = None
    while not enough.is_set():
        if writer is None:
            try:
                reader, writer = await asyncio.open_connection(address.hostname, address.port)
            except OSError:
                found.refused += 1
                await asyncio.sleep(0.05)
                continue
            found.connections += 1
        what = "cancel" if holds else "book"
        found.held.pop(person, None)
        try:
            writer.write(requests[what])
            status, closes = await _answer(reader)
        except (OSError, EOFError):
            found.unanswered += 1
            writer.close()
            return  # The outcome is unknown, so the person stops.
        found.statuses[status] += 1
        if status < 300:
            holds = what == "book"
            found.held[person] = holds
        elif status >= 500:
            await asyncio.sleep(0.05)
        if closes:
            writer.close()
            writer = None
        await asyncio.sleep(random.uniform(0, PAUSE))
    if writer is not None:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()


def _request(what: str, person: Person, event_id: int, *, keep_alive: bool) -> bytes:
    body = json.dumps({"eventId": event_id, "userId": person.id})
    close = "" if keep_alive else "Connection: close\r\n"
    return (
        f"POST /api/events/{what} HTTP/1.1\r\nHost: test\r\nContent-Type: application/json\r\n"
        f"Authorization: Bearer {person.token}\r\n{close}Content-Length: {len(body)}\r\n\r\n{body}"
    ).encode()


async def _answer(reader: asyncio.StreamReader) -> tuple[int, bool]:
    """Read a response, and return its status and whether the connection ends."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode().lower().split("\r\n")
    headers = dict(line.split(": ", 1) for line in head[1:] if line)
    await reader.readexactly(int(headers["content-length"]))
    return int(head[0].split()[1]), headers.get("connection") == "close"
