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

    def __init__(self, events: Collection[int] | None, newest: int | None = None) -> None:
        """Wait for records of `events`, and for the first one of each above `newest`."""
        self._events = events
        self._newest = newest
        self._begun: set[int] = set()
        """New events that it was woken for."""
        self._told = asyncio.Event()
        self._news: set[int] | None = None

    def tell(self, events: frozenset[int] | None) -> None:
        """Wake up if one of these events is waited for. None: it may be any."""
        if events is None or self._concerns(events):
            self._told.set()
            if events is None:
                self._news = None
            elif self._news is not None:
                self._news |= events

    def _concerns(self, events: frozenset[int]) -> bool:
        if self._events is None:
            return bool(events)
        begun: set[int] = set()
        if self._newest is not None:
            begun = {each for each in events if each > self._newest} - self._begun
            self._begun |= begun
        return bool(begun) or not events.isdisjoint(self._events)

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
        self._newest = 0
        """The highest id of an event that had a record."""
        self.seen = 0
        """The number of the last record that listeners were woken for."""

    @contextmanager
    def listening(
        self, events: Collection[int] | None, *, and_new: bool = False
    ) -> Iterator[Listener]:
        """Return a listener for records that become visible from now on.

        With `and_new`, also for the first one of each event that is made from now on, or that had
        no record while this process looked.
        """
        newest = max(self._newest, *(events or (0,))) if and_new else None
        listener = Listener(events, newest)
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
                self._newest = max(self._newest, *(news.events or (0,)))
            await asyncio.sleep(self._every)
