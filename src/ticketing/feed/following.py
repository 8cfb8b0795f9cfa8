"""Following the trail: one reader per process, only while somebody listens."""

import asyncio
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from typing import Final

from ticketing.errors import TicketingError
from ticketing.feed.repositories.facts import FactRepository
from ticketing.ops import logs

EVERY: Final = 0.25
"""Seconds between two looks at the trail."""


class Listener:
    """Waits for records of some events, or of any if `events` is None."""

    def __init__(self, events: Collection[int] | None) -> None:
        """Wait for records of `events`."""
        self._events = events
        self._told = asyncio.Event()
        self._news: set[int] | None = None

    def tell(self, events: frozenset[int] | None) -> None:
        """Wake up if one of these events is waited for. None: it may be any."""
        if events is None or (
            bool(events) if self._events is None else not events.isdisjoint(self._events)
        ):
            self._told.set()
            if events is None:
                self._news = None
            elif self._news is not None:
                self._news |= events

    def taken(self) -> frozenset[int] | None:
        """Return the events that had records since the last call. None: it may be any.

        So it is None at the first call.
        """
        news, self._news = self._news, set()
        return None if news is None else frozenset(news)

    async def wait(self, seconds: float) -> bool:
        """Return whether there are new records before this time has passed."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._told.wait()
        is_told = self._told.is_set()
        self._told.clear()
        return is_told


class Follower:
    """Looks at the trail for all who listen in this process. Without listeners it rests."""

    def __init__(self, facts: FactRepository, every: float = EVERY) -> None:
        """Look `every` so many seconds."""
        self._facts = facts
        self._every = every
        self._listeners: set[Listener] = set()
        self._looking: asyncio.Task[None] | None = None
        self.seen = 0
        """The number of the last record that listeners were woken for."""

    @contextmanager
    def listening(self, events: Collection[int] | None) -> Iterator[Listener]:
        """Return a listener for records that become visible from now on."""
        listener = Listener(events)
        self._listeners.add(listener)
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._look(), name="following")
        try:
            yield listener
        finally:
            self._listeners.discard(listener)

    @property
    def is_listened_to(self) -> bool:
        """Whether somebody listens."""
        return bool(self._listeners)

    async def close(self) -> None:
        """Stop looking."""
        if self._looking is not None:
            self._looking.cancel()
            with suppress(asyncio.CancelledError):
                await self._looking

    async def _look(self) -> None:
        self.seen = 0
        while self._listeners:
            try:
                news = await self._facts.news(self.seen)
            except TicketingError:
                pass  # The listeners' own reads tell clients that the database does not respond.
            except Exception as error:  # noqa: BLE001 - the next look may succeed
                logs.log.warning("loop.failing", loop="feed", reason=str(error), exc_info=True)
            else:
                self.seen = news.until
                for each in self._listeners:
                    each.tell(news.events)
            await asyncio.sleep(self._every)
