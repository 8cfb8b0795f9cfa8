"""Responses that stay open: counted apart from the work under way, limited, ended by a drain."""

import asyncio
from asyncio import FIRST_COMPLETED
from collections.abc import AsyncIterator
from typing import Any, Final, TypeVar

from ticketing.errors import Busy
from ticketing.web.asgi import HEAD, ASGIApp, ASGIScope, Message, Receive, Send
from ticketing.web.problems import response_to

MAX_STREAMS: Final = 5_000
"""Open streams of one worker; each holds a connection and little more."""

BEAT_EVERY: Final = 15.0
"""Seconds. Proxies cut connections on which nothing comes for a minute."""

ItemT = TypeVar("ItemT")


class Streams:
    """The open streams of a worker."""

    def __init__(self, limit: int = MAX_STREAMS) -> None:
        """Let so many be open at once."""
        self.open = 0
        """How many are."""
        self._limit = limit
        self._ended = asyncio.Event()

    def enter(self) -> None:
        """Count one more. Raises Busy if there is no room, or if the worker drains."""
        if self.open >= self._limit or self._ended.is_set():
            raise Busy
        self.open += 1

    def leave(self) -> None:
        """Count one less."""
        self.open -= 1

    def end(self) -> None:
        """End all of them, and let none begin: at the beginning of a drain."""
        self._ended.set()

    async def until_drained(
        self, items: AsyncIterator[ItemT], beat: ItemT, every: float = BEAT_EVERY
    ) -> AsyncIterator[ItemT]:
        """Yield the items until there are no more, or until the worker drains.

        A route that streams passes what it sends through this, and may say goodbye behind it. If
        nothing comes for `every` seconds, `beat` is sent: without it nobody would notice that a
        client has gone.
        """
        ended = asyncio.create_task(self._ended.wait())
        following: asyncio.Future[Any] = asyncio.ensure_future(anext(items))
        try:
            while True:
                await asyncio.wait({following, ended}, timeout=every, return_when=FIRST_COMPLETED)
                if ended.done():
                    return
                if not following.done():
                    yield beat
                    continue
                yield following.result()
                following = asyncio.ensure_future(anext(items))
        except StopAsyncIteration:
            return
        finally:
            for task in (following, ended):
                task.cancel()
            await asyncio.wait({following, ended})


class StreamLimit:
    """The ASGI layer that counts the responses of routes that stream."""

    def __init__(self, app: ASGIApp, streams: Streams) -> None:
        """Wrap `app`."""
        self._app = app
        self._streams = streams

    async def __call__(self, scope: ASGIScope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        route = scope.get("route")
        if route is None or not route.policy.streams:
            await self._app(scope, receive, send)
            return
        try:
            self._streams.enter()
        except Busy as error:
            await response_to(error, scope)(scope, receive, send)
            return
        try:
            sending = _unbuffered(send)
            await self._app(scope, receive, _head_of(sending) if scope.get(HEAD) else sending)
        except _HeadSent:
            await send({"type": "http.response.body", "body": b""})
        finally:
            self._streams.leave()


class _HeadSent(Exception):
    """All that a HEAD wants was sent."""


def _head_of(send: Send) -> Send:
    """Return what sends the head of a response, and then ends it."""

    async def head(message: Message) -> None:
        if message["type"] != "http.response.start":
            raise _HeadSent
        await send(message)

    return head


def _unbuffered(send: Send) -> Send:
    """Return what sends a response that proxies such as nginx pass on piece by piece."""

    async def unbuffered(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message.get("headers", ()), (b"x-accel-buffering", b"no")]
        await send(message)

    return unbuffered
