"""Watching which server is the primary, and whether there is one."""

import time
from typing import Final

from sqlalchemy.ext.asyncio import AsyncEngine

from ticketing.db.hosts import Server
from ticketing.db.statements import Statement, driver
from ticketing.errors import DatabaseUnavailable
from ticketing.ops import logs

LOOK_EVERY: Final = 1.0
"""Seconds."""

# The timeline is another one after each promotion. A standby has none to write to.
TIMELINE: Final = Statement(
    """
    SELECT CASE WHEN NOT pg_is_in_recovery()
        THEN left(pg_walfile_name(pg_current_wal_lsn()), 8) END AS timeline
    """
)


class Primary:
    """Looks for the primary, and counts failovers and the time without one."""

    def __init__(self, server: Server) -> None:
        """Have `server` give up its connections after a failover."""
        self._server = server
        self._timeline: str | None = None
        self._recovered = 0
        self._looked_at: float | None = None
        self._is_away = False
        self.failovers = 0
        """How often another server had become the primary."""
        self.away = 0.0
        """Seconds without a primary, as far as looks show."""

    async def look(self, engine: AsyncEngine) -> None:
        """Look once. Raises DatabaseUnavailable if there is no primary, or Busy."""
        try:
            timeline = await _timeline(engine)
        except DatabaseUnavailable:
            self._count()
            raise
        if self._is_away:
            self._count()
        self._is_away = False
        self._looked_at = time.monotonic()
        before, self._timeline = self._timeline, timeline
        seen, self._recovered = self._recovered, self._server.attempts.recovered
        if before not in {None, self._timeline}:
            self.failovers += 1
            logs.log.warning("database.failed_over", timeline=int(timeline, 16))
            # A pooler may have put old connections onto the new server, which may lack what was
            # read from the old one. If connecting failed meanwhile, they are given up already.
            if seen == self._recovered:
                self._server.suspect_all()

    def _count(self) -> None:
        now = time.monotonic()
        if self._looked_at is not None:
            self.away += now - self._looked_at
        self._looked_at = now
        self._is_away = True


async def _timeline(engine: AsyncEngine) -> str:
    async with driver(engine) as connection:
        (row,) = await TIMELINE.fetch(connection)
        if row["timeline"] is None:
            connection.lose()  # The next connection may reach the primary.
            raise DatabaseUnavailable
        return str(row["timeline"])
