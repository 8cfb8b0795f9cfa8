"""Listeners of live streams, over HTTP and without."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

from tests.people import Person
from tests.workers import Worker
from ticketing.web.asgi import Message
from ticketing.web.streams import Stream

PATIENCE = 20.0


class News(NamedTuple):
    """A message of a stream. A comment has neither a name nor data."""

    name: str
    id: str
    data: dict[str, Any]
    retry: int | None


def parsed(block: str) -> News:
    """Return the message of the lines of one block (HTML Standard, section 9.2.6)."""
    fields = dict(line.partition(": ")[::2] for line in block.split("\n") if line != ":")
    retry = fields.get("retry")
    return News(
        fields.get("event", ""),
        fields.get("id", ""),
        json.loads(fields.get("data", "{}")),
        None if retry is None else int(retry),
    )


class Ear:
    """A listener without a network. It can stop to read, and leave."""

    def __init__(self, stream: Stream) -> None:
        self.heard: list[bytes] = []
        """Each body that was sent."""
        self.reads = asyncio.Event()
        self.reads.set()
        self._gone = asyncio.Event()
        self._news = asyncio.Condition()
        self.task = asyncio.create_task(stream({}, self._receive, self._send))

    @property
    def news(self) -> list[News]:
        text = b"".join(self.heard).decode()
        return [parsed(block) for block in text.split("\n\n") if block.strip()]

    async def until(self, count: int) -> list[News]:
        """Return the messages when there are so many, with comments."""
        async with asyncio.timeout(PATIENCE), self._news:
            await self._news.wait_for(lambda: len(self.heard) >= count)
        return self.news

    async def leave(self) -> None:
        self._gone.set()
        await asyncio.wait_for(self.task, PATIENCE)

    async def _receive(self) -> Message:
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Message) -> None:
        if message["type"] == "http.response.body":
            await self.reads.wait()
            async with self._news:
                self.heard.append(message["body"])
                self._news.notify_all()


@dataclass
class Listening:
    """A client that listens over HTTP."""

    head: str
    reader: asyncio.StreamReader

    async def next(self) -> News:
        """Return the next message, without comments."""
        while True:
            news = parsed(await self._block())
            if news.name:
                return news

    async def rest(self) -> str:
        """Return all that is sent until the end of the response."""
        sent = await asyncio.wait_for(self.reader.readuntil(b"\r\n0\r\n\r\n"), PATIENCE)
        return sent.decode()

    async def _block(self) -> str:
        size = int((await asyncio.wait_for(self.reader.readline(), PATIENCE)).strip(), 16)
        assert size, "the stream has ended"
        chunk = await asyncio.wait_for(self.reader.readexactly(size + 2), PATIENCE)
        return chunk[:-2].decode().removesuffix("\n\n")


async def listen(
    worker: Worker, path: str, person: Person | None = None, last: str = ""
) -> Listening:
    """Listen at the path, as a person, after the message with the id `last`."""
    fields = [f"GET {path} HTTP/1.1", "Host: a"]
    fields += [f"{name}: {value}" for name, value in (person.headers if person else {}).items()]
    fields += [f"Last-Event-ID: {last}"] if last else []
    reader, head = await worker.ask("\r\n".join([*fields, "", ""]).encode())
    return Listening(head.decode(), reader)


@asynccontextmanager
async def ears(*streams: Stream) -> AsyncIterator[list[Ear]]:
    """Listeners, each with its first message. All leave at the end."""
    made = [Ear(each) for each in streams]
    for ear in made:
        await ear.until(1)
    yield made
    for ear in made:
        if not ear.task.done():
            await ear.leave()
