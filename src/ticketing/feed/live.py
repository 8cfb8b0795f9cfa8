"""What many listeners follow: read once, rendered once, and sent to all of them.

It knows neither events nor SQL. A `Reader` reads what is watched, and renders it.
"""

import asyncio
import secrets
import time
from collections.abc import Callable, Hashable, Mapping
from typing import Final, Generic, Protocol, TypeVar

from ticketing.web.asgi import ASGIScope, Receive, Send
from ticketing.web.streams import Stream, Streams

POLL_EVERY: Final = 0.25
"""Seconds between two reads, and so the shortest time between two messages about one thing."""
SLOWEST: Final = 1.0
"""Seconds between two messages, however many listen."""
SENDS: Final = 2_000
"""Messages per second and worker, above which there are fewer for each listener."""
BEAT_EVERY: Final = 12.0
"""Seconds. Proxies close connections on which nothing was sent for a minute."""
SLICE: Final = 128
"""Listeners that are served in one turn of the event loop, so that bookings need not wait long.
With fewer, thousands of them would take more turns than there are in a second."""
RETRY: Final = (500, 5_000)
"""Milliseconds, from which each client gets a random time to come back after."""

BEAT: Final = b":\n\n"
START: Final = {
    "type": "http.response.start",
    "status": 200,
    "headers": [(b"content-type", b"text/event-stream; charset=utf-8")],
}

KeyT = TypeVar("KeyT", bound=Hashable)
StateT = TypeVar("StateT")


class Reader(Protocol[KeyT, StateT]):
    """Reads and renders what is followed."""

    async def read(self, known: Mapping[KeyT, StateT]) -> Mapping[KeyT, StateT | None]:
        """Return what is new of those that are followed; None for what is gone."""

    def id(self, state: StateT) -> str:
        """Return the id of this state: another one for each."""

    def whole(self, state: StateT) -> bytes:
        """Return the message with everything."""

    def change(self, before: StateT, state: StateT) -> bytes | None:
        """Return the message with what has changed, or None if it needs the whole."""


class Topic(Generic[StateT]):
    """What several listeners follow, and the messages about its last state."""

    __slots__ = (
        "change",
        "due_at",
        "id",
        "is_gone",
        "listeners",
        "read_at",
        "sent",
        "sent_at",
        "sent_id",
        "since",
        "state",
        "whole",
    )

    def __init__(self) -> None:
        self.listeners: dict[Listener, None] = {}
        self.read_at = float("-inf")
        """When the read of the state began."""
        self.state: StateT
        self.id = ""
        self.whole = b""
        self.sent: StateT | None = None
        self.sent_id = ""
        """The last state that all listeners were woken for, and its id."""
        self.change, self.since = b"", ""
        """What has changed since the state with the id `since`, if that is known."""
        self.sent_at = time.monotonic()
        self.due_at = 0.0
        self.is_gone = False


class Listener:
    """One open response. It sleeps until it is woken."""

    __slots__ = ("_sleep", "is_gone")

    def __init__(self) -> None:
        self._sleep: asyncio.Future[None] | None = None
        self.is_gone = False
        """Whether the client has left."""

    def wake(self) -> None:
        """Wake it. A listener whose client reads slowly is awake, and finds the last state."""
        if self._sleep is not None and not self._sleep.done():
            self._sleep.set_result(None)

    async def sleep(self) -> None:
        """Wait to be woken."""
        self._sleep = asyncio.get_running_loop().create_future()
        await self._sleep
        self._sleep = None

    async def watch(self, receive: Receive) -> None:
        """Wait until the client leaves."""
        while (await receive())["type"] != "http.disconnect":
            pass
        self.is_gone = True
        self.wake()


class Hub(Generic[KeyT, StateT]):
    """The topics of one kind that a worker's clients follow."""

    def __init__(self, reader: Reader[KeyT, StateT], streams: Streams) -> None:
        """Read by `reader`. All listeners end when `streams` end."""
        self._reader = reader
        self.streams = streams
        self._topics: dict[KeyT, Topic[StateT]] = {}
        self._ending: asyncio.Task[None] | None = None
        streams.at_end.append(self._end)

    def join(self, key: KeyT, state: StateT, read_at: float) -> tuple[Topic[StateT], Listener]:
        """Follow `key`. `state` is its state, whose read began at the monotonic time `read_at`."""
        topic = self._topics.get(key)
        if topic is None:
            topic = self._topics[key] = Topic()
        self._note(topic, state, read_at)
        if topic.sent is None:
            topic.sent, topic.sent_id = topic.state, topic.id
        listener = Listener()
        topic.listeners[listener] = None
        return topic, listener

    def leave(self, key: KeyT, topic: Topic[StateT], listener: Listener) -> None:
        """Follow it no more."""
        topic.listeners.pop(listener, None)
        if not topic.listeners and self._topics.get(key) is topic:
            del self._topics[key]

    async def poll(self) -> None:
        """Read what is followed, and wake the listeners of what is new; others at times."""
        now = time.monotonic()
        for topic in list(self._topics.values()):
            if now - topic.sent_at >= BEAT_EVERY:
                topic.sent_at = now
                await _wake(topic)
        pause = self._pause()
        due = {key: each for key, each in self._topics.items() if each.due_at <= now}
        if not due:
            return
        read_at = time.monotonic()
        found = await self._reader.read({key: topic.state for key, topic in due.items()})
        for key, state in found.items():
            if state is None:
                due[key].is_gone = True
            else:
                self._note(due[key], state, read_at)
        for topic in due.values():
            if topic.is_gone or topic.sent_id != topic.id:
                self._prepare(topic)
                topic.sent_at = read_at
                topic.due_at = read_at + pause
                await _wake(topic)

    def _pause(self) -> float:
        listeners = sum(len(topic.listeners) for topic in self._topics.values())
        # Half a poll less, because the next poll that is due may come a little early.
        return min(listeners / SENDS, SLOWEST) - POLL_EVERY / 2

    def _note(self, topic: Topic[StateT], state: StateT, read_at: float) -> None:
        """Take the state, unless a later one is known."""
        if read_at <= topic.read_at:
            return
        topic.read_at = read_at
        topic.state, found = state, self._reader.id(state)
        if found == topic.id:
            return
        topic.id, topic.since = found, ""
        topic.whole = framed(found, self._reader.whole(state))

    def _prepare(self, topic: Topic[StateT]) -> None:
        """Render the change since the last time."""
        if topic.sent is not None:
            change = self._reader.change(topic.sent, topic.state)
            if change is not None:
                topic.since, topic.change = topic.sent_id, framed(topic.id, change)
        topic.sent, topic.sent_id = topic.state, topic.id

    def _end(self) -> None:
        self._ending = asyncio.create_task(self._wake_all())

    async def _wake_all(self) -> None:
        for topic in list(self._topics.values()):
            await _wake(topic)


async def _wake(topic: Topic[StateT]) -> None:
    for number, listener in enumerate(list(topic.listeners), 1):
        listener.wake()
        if number % SLICE == 0:
            await asyncio.sleep(0)


def framed(state_id: str, message: bytes) -> bytes:
    """Return a message with its id, as the stream has it."""
    return b"id: %b\n%b\n\n" % (state_id.encode(), message)


def message(name: str, document: bytes) -> bytes:
    """Return a message without its id. `document` must be one line."""
    return b"event: %b\ndata: %b" % (name.encode(), document)


class Live(Stream, Generic[KeyT, StateT]):
    """The response to a listener: server-sent events, until the client leaves or the stream ends.

    It ends when the worker drains, when `ends_at` (monotonic) has come, when `is_allowed` says no
    more, and when what is followed is gone. The client comes back after a random time.
    """

    __slots__ = ("_ends_at", "_hub", "_is_allowed", "_key", "_last", "_read_at", "_state")

    def __init__(  # noqa: PLR0913 - what a listener is
        self,
        hub: Hub[KeyT, StateT],
        key: KeyT,
        state: StateT,
        read_at: float,
        *,
        last: str,
        ends_at: float,
        is_allowed: Callable[[], bool] | None = None,
    ) -> None:
        """Follow `key`, whose state was read from `read_at` on, after the message `last`."""
        self._hub = hub
        self._key = key
        self._state = state
        self._read_at = read_at
        self._last = last
        self._ends_at = ends_at
        self._is_allowed = is_allowed

    async def __call__(self, _scope: ASGIScope, receive: Receive, send: Send) -> None:
        """Send what is new until the end."""
        await send({**START})
        hub, last = self._hub, self._last
        topic, listener = hub.join(self._key, self._state, self._read_at)
        watching = asyncio.create_task(listener.watch(receive))
        try:
            news = BEAT if topic.id == last else topic.whole
            last = topic.id
            await send(_part(_retry() + news))
            while not (listener.is_gone or topic.is_gone or self._is_over()):
                # Otherwise there was news while the client did not read.
                if topic.id == last:
                    await listener.sleep()
                if topic.id == last:
                    news = BEAT
                else:
                    news = topic.change if topic.since == last else topic.whole
                    last = topic.id
                await send(_part(news))
            await send({"type": "http.response.body", "body": _retry() + b"\n"})
        finally:
            hub.leave(self._key, topic, listener)
            watching.cancel()

    def _is_over(self) -> bool:
        if self._hub.streams.is_over or time.monotonic() >= self._ends_at:
            return True
        return self._is_allowed is not None and not self._is_allowed()


def _part(body: bytes) -> dict[str, object]:
    return {"type": "http.response.body", "body": body, "more_body": True}


def _retry() -> bytes:
    low, high = RETRY
    return b"retry: %d\n" % (low + secrets.randbelow(high - low))
