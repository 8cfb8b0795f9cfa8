"""Places for delivery: some are kept for webhooks that need one only for a moment. No I/O."""

import time
from collections.abc import Callable, Collection
from typing import Final, NamedTuple
from uuid import UUID

REMEMBERED: Final = 600.0
"""Seconds for which a webhook is slow that was slow once, unless it is quick before."""


class Room(NamedTuple):
    """How many webhooks may be taken."""

    quick: int
    slow: int


class _Taken(NamedTuple):
    webhook_id: UUID
    since: float


class Places:
    """Says how many webhooks may be served, so that the slow ones leave room for all others.

    A webhook is slow if it was served for longer than `soon`, because its receiver is slow or
    because there is much to deliver. Slow ones have places of their own. Beyond those they share
    the places of the others only until they have been served once.
    """

    def __init__(
        self,
        quick: int = 100,
        slow: int = 100,
        soon: float = 5.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Have `quick` places and as many for `slow` webhooks. `soon` is in seconds."""
        self._quick = quick
        self._slow = slow
        self._soon = soon
        self._clock = clock
        self._taken: dict[UUID, _Taken] = {}
        """By lease."""
        self._known: dict[UUID, float] = {}
        """When each webhook was slow the last time."""

    def take(self, lease: UUID, webhook_id: UUID) -> None:
        """Begin to serve a webhook."""
        self._taken[lease] = _Taken(webhook_id, self._clock())

    def leave(self, lease: UUID, *, was_called: bool) -> None:
        """End that. If its receiver was not called, that says nothing about it."""
        taken = self._taken.pop(lease)
        if was_called and self._lasts(taken):
            self._known[taken.webhook_id] = self._clock()
        elif was_called:
            self._known.pop(taken.webhook_id, None)

    def slow(self) -> Collection[UUID]:
        """Return the webhooks that are known to be slow."""
        ago = self._clock() - REMEMBERED
        self._known = {each: at for each, at in self._known.items() if at > ago}
        return self._known.keys()

    def room(self) -> Room:
        """Return how many more may be served."""
        slow = self._serving_slow()
        quick = len(self._taken) - min(slow, self._slow)
        return Room(max(self._quick - quick, 0), max(self._slow - slow, 0))

    @property
    def is_crowded(self) -> bool:
        """Whether slow ones may be waiting for a place."""
        return self._serving_slow() >= self._slow

    def gives_way(self, lease: UUID) -> bool:
        """Whether it is another one's turn."""
        return self.is_crowded and self._lasts(self._taken[lease])

    def _serving_slow(self) -> int:
        return sum(self._is_slow(each) for each in self._taken.values())

    def _is_slow(self, taken: _Taken) -> bool:
        return taken.webhook_id in self._known or self._lasts(taken)

    def _lasts(self, taken: _Taken) -> bool:
        return self._clock() - taken.since > self._soon
