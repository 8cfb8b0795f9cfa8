"""The database's clock, which alone decides what time it is."""

import time
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy.ext.asyncio import AsyncEngine

from ticketing.db.statements import Driver, Statement, driver

ASK: Final = Statement("SELECT clock_timestamp() AS now")


class DatabaseClock:
    """Tells the database's time without asking each time.

    Every answer of the database that has a time in it is learned; between two of them, this
    machine's monotonic clock goes on. So neither a wrong clock of this machine nor one that is set
    moves a decision, and all replicas share one time. It lags by the way back of the last answer.
    """

    def __init__(self) -> None:
        """Know nothing yet."""
        self._learned: datetime | None = None
        self._learned_at = 0.0

    def learn(self, now: datetime) -> None:
        """Take the time that the database has just told."""
        self._learned, self._learned_at = now, time.monotonic()

    def now(self) -> datetime:
        """Return the database's time. Raises LookupError if it has never told."""
        if self._learned is None:
            raise LookupError("the database has not told its time yet")
        return self._learned + timedelta(seconds=time.monotonic() - self._learned_at)

    async def know(self, connection: Driver) -> datetime:
        """Return the database's time, asking for it if it was never told."""
        if self._learned is None:
            await self.ask(connection)
        return self.now()

    async def ask(self, connection: Driver) -> None:
        """Ask and learn."""
        (row,) = await ASK.fetch(connection)
        self.learn(row["now"])

    async def refresh(self, engine: AsyncEngine) -> None:
        """Ask on a connection of `engine`: the clocks of two machines drift apart."""
        async with driver(engine) as connection:
            await self.ask(connection)
