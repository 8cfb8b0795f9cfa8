"""The database's clock. All decisions use its time."""

import time
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy.ext.asyncio import AsyncEngine

from ticketing.db.statements import Driver, Statement, driver

ASK: Final = Statement("SELECT clock_timestamp() AS now")


class DatabaseClock:
    """Returns the database's time without a query each time.

    It learns the time from results of the database. Between two of them it adds the time of this
    machine's monotonic clock. So this machine's clock may be wrong or be set, and all replicas
    share one time. It lags by the time that the last result took to arrive.
    """

    def __init__(self) -> None:
        """Start without a known time."""
        self._learned: datetime | None = None
        self._learned_at = 0.0

    def learn(self, now: datetime) -> None:
        """Store the time that the database has just returned."""
        self._learned, self._learned_at = now, time.monotonic()

    def now(self) -> datetime:
        """Return the database's time. Raises LookupError if it is not known yet."""
        if self._learned is None:
            raise LookupError("the database's time is not known yet")
        return self._learned + timedelta(seconds=time.monotonic() - self._learned_at)

    async def know(self, connection: Driver) -> datetime:
        """Return the database's time, and query it if it is not known yet."""
        if self._learned is None:
            await self.ask(connection)
        return self.now()

    async def ask(self, connection: Driver) -> None:
        """Query the time and store it."""
        (row,) = await ASK.fetch(connection)
        self.learn(row["now"])

    async def refresh(self, engine: AsyncEngine) -> None:
        """Query the time on a connection of `engine`, because the two clocks drift apart."""
        async with driver(engine) as connection:
            await self.ask(connection)
