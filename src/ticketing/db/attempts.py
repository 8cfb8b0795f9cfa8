"""Trying to connect while that fails: seldom, and all callers together."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

EVERY: Final = 0.1
"""Seconds between two attempts."""


class Attempts:
    """Attempts that callers share while connecting fails.

    A login costs both sides far more than a refused connection. Behind a pooler, which accepts
    logins also without a server, the requests of a second would log in a hundred times, and then
    nothing has time for those logins that would succeed.
    """

    def __init__(self) -> None:
        """Begin as if connecting works."""
        self.is_failing = False
        """Whether the last attempt failed."""
        self.recovered = 0
        """How often an attempt succeeded after one that failed."""
        self._newest: asyncio.Task[None] | None = None
        self._begins = -EVERY
        """The time at which the newest attempt begins, or began."""

    async def succeed(self, attempt: Callable[[], Awaitable[None]]) -> None:
        """Return when an attempt succeeds. Raises what an attempt that began after this call does.

        A new attempt also begins if the one before has no result yet, because that may hang.
        """
        while self.is_failing:
            now = asyncio.get_running_loop().time()
            newest = self._newest
            if newest is None or newest.done() or now - self._begins >= EVERY:
                self._begins = max(now, self._begins + EVERY)
                newest = asyncio.create_task(self._try(attempt, self._begins - now))
                # Its callers may all have gone away.
                newest.add_done_callback(lambda task: task.cancelled() or task.exception())
                self._newest = newest
            # Also if this caller is cancelled, the others wait for it.
            await asyncio.shield(newest)

    async def _try(self, attempt: Callable[[], Awaitable[None]], pause: float) -> None:
        await asyncio.sleep(pause)
        await attempt()
        if self.is_failing:
            self.is_failing = False
            self.recovered += 1
