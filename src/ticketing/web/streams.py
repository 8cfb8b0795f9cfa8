"""Responses that stay open. They have their own limit, and a drain ends them."""

import asyncio
from asyncio import FIRST_COMPLETED
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, Final, TypeVar

from prometheus_client import Gauge

from ticketing.errors import Busy
from ticketing.ops.metrics import LIVE, Sample
from ticketing.web.asgi import HEAD, ASGIApp, ASGIScope, Message, Receive, Send
from ticketing.web.headers import UNBUFFERED
from ticketing.web.problems import response_to

MAX_STREAMS: Final = 10_000
"""Open streams of one worker; each holds a connection and little more."""

LONGEST: Final = 3600.0
"""Seconds after which a stream ends, and its client comes back with its present credential."""

OPEN: Final = Gauge("ticketing_streams_open", "Responses that stay open.", multiprocess_mode=LIVE)

BEAT_EVERY: Final = 15.0
"""Seconds. Proxies close connections on which nothing was sent for a minute."""

STREAMS: Final = "ticketing.streams"
"""Key of a scope's state, which the server sees too: true if the response is a stream."""

ItemT = TypeVar("ItemT")


class Streams:
    """The open streams of a worker."""

    def __init__(self, limit: int = MAX_STREAMS) -> None:
        """Allow `limit` open streams."""
        self.open = 0
        """Number of open streams."""
        self.limit = limit
        self.longest = LONGEST
        self.at_end: list[Callable[[], None]] = []
        """Called when a drain begins."""
        self._ended = asyncio.Event()

    @property
    def is_over(self) -> bool:
        """Whether the worker drains."""
        return self._ended.is_set()

    @property
    def sample(self) -> Sample:
        """The metric to sample: how many are open."""
        return OPEN, lambda: self.open

    def enter(self) -> None:
        """Count one more stream. Raises Busy at the limit, or if the worker drains."""
        if self.open >= self.limit or self._ended.is_set():
            raise Busy
        self.open += 1

    def leave(self) -> None:
        """Count one stream less."""
        self.open -= 1

    def end(self) -> None:
        """End all streams and refuse new ones, because a drain begins."""
        self._ended.set()
        for end in self.at_end:
            end()

    async def until_drained(
        self, items: AsyncIterator[ItemT], beat: ItemT, every: float = BEAT_EVERY
    ) -> AsyncIterator[ItemT]:
        """Yield the items until they end, or until the worker drains.

        A route that streams must pass its items through this, and may send a last item after it. If
        there is no item for `every` seconds, it yields `beat`, so that a client that has gone is
        noticed.
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


class Stream:
    """A response that stays open. It is an ASGI application, called after the request was read.

    An endpoint of a route with `streams=True` that returns one is served directly.
    """

    __slots__ = ()

    async def __call__(self, scope: ASGIScope, receive: Receive, send: Send) -> None:
        """Send the response."""
        raise NotImplementedError


def is_stream(scope: Mapping[str, object]) -> bool:
    """Whether the response to the request with this scope is a stream."""
    state = scope.get("state")
    return isinstance(state, dict) and STREAMS in state


class StreamLimit:
    """The ASGI layer that counts the open responses of routes that stream."""

    def __init__(self, app: ASGIApp, streams: Streams) -> None:
        """Wrap `app`."""
        self._app = app
        self._streams = streams

    def __call__(self, scope: ASGIScope, receive: Receive, send: Send) -> Awaitable[None]:
        """Serve one request."""
        # Not a second coroutine around the first, which would take as long as finding the route.
        route = scope.get("route")
        if route is None or not route.policy.streams:
            return self._app(scope, receive, send)
        return self._count(scope, receive, send)

    async def _count(self, scope: ASGIScope, receive: Receive, send: Send) -> None:
        try:
            self._streams.enter()
        except Busy as error:
            await response_to(error, scope)(scope, receive, send)
            return
        # Layers copy the scope, but not its state.
        scope.setdefault("state", {})[STREAMS] = True
        try:
            sending = _unbuffered(send)
            await self._app(scope, receive, _head_of(sending) if scope.get(HEAD) else sending)
        except _HeadSent:
            await send({"type": "http.response.body", "body": b""})
        finally:
            self._streams.leave()


class _HeadSent(Exception):
    """The whole response to a HEAD was sent."""


def _head_of(send: Send) -> Send:
    """Return a `send` that sends the head of a response and then ends it."""

    async def head(message: Message) -> None:
        if message["type"] != "http.response.start":
            raise _HeadSent
        await send(message)

    return head


def _unbuffered(send: Send) -> Send:
    """Return a `send` for responses that proxies such as nginx must not buffer."""

    async def unbuffered(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message.get("headers", ()), UNBUFFERED]
        await send(message)

    return unbuffered
