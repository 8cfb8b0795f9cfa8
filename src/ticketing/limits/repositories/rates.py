"""Counts of rate limits that several machines share."""

import time
from collections.abc import Sequence
from typing import Final, TypeVar

from sqlalchemy.ext.asyncio import AsyncEngine

from ticketing.db.statements import Statement, driver
from ticketing.limits.cells import Cells, Update

ResultT = TypeVar("ResultT")

# In key order, so that two processes can't deadlock.
LOCK: Final = Statement(
    """
    INSERT INTO rates AS held (key, until)
    SELECT key, 0 FROM unnest(CAST(:keys AS bigint[])) AS key ORDER BY key
    ON CONFLICT (key) DO UPDATE SET until = held.until
    -- The clock of the database, because all machines share it, read while the locks are held.
    RETURNING key, until,
        CAST(extract(epoch FROM clock_timestamp()) * 1000000 AS bigint) * 1000 AS now
    """
)
WRITE: Final = Statement(
    """
    UPDATE rates SET until = given.until
    FROM unnest(CAST(:keys AS bigint[]), CAST(:numbers AS bigint[])) AS given (key, until)
    WHERE rates.key = ANY(CAST(:keys AS bigint[])) AND rates.key = given.key
    """
)
NOW: Final = "CAST(extract(epoch FROM statement_timestamp()) * 1000000 AS bigint) * 1000"
# GCRA: the cost is added to the later of the number and now.
ADD: Final = Statement(
    f"""
    INSERT INTO rates AS held (key, until)
    SELECT key, {NOW} + cost
    FROM unnest(CAST(:keys AS bigint[]), CAST(:costs AS bigint[])) AS given (key, cost) ORDER BY key
    ON CONFLICT (key) DO UPDATE
    SET until = greatest(held.until, {NOW}) + excluded.until - {NOW}
    RETURNING key, until - {NOW} AS ahead
    """  # noqa: S608 - our own
)
CLEAN: Final = Statement(
    f"""
    DELETE FROM rates WHERE key = ANY(ARRAY(
        SELECT key FROM rates WHERE until < {NOW} LIMIT 10000 FOR UPDATE SKIP LOCKED
    ))
    """  # noqa: S608 - our own
)


class RateRepository:
    """Keeps the table `rates`, and copies the counts of other machines into this one's memory."""

    def __init__(self, engine: AsyncEngine, counts: Cells) -> None:
        """Work on `engine`; copy the counts of other machines to `counts`."""
        self._engine = engine
        self._counts = counts
        self.pending: dict[int, int] = {}
        """Counts of this process that are not in the database yet: nanoseconds by key."""

    async def change(self, keys: Sequence[int], update: Update[ResultT]) -> ResultT:
        """Change the numbers of several keys in one transaction: see `cells.Change`."""
        async with driver(self._engine) as connection, connection.transaction():
            rows = await LOCK.fetch(connection, keys=keys)
            held = {row["key"]: row["until"] for row in rows}
            now = max(row["now"] for row in rows)
            after, result = update([held[key] for key in keys], now)
            await WRITE.fetch(connection, keys=keys, numbers=after)
        return result

    async def exchange(self) -> None:
        """Add the counts of this process since the last time, and read those of all machines.

        If it fails, other machines do not learn of these counts.
        """
        if not self.pending:
            return
        counted = self.pending.copy()
        self.pending.clear()
        async with driver(self._engine) as connection:
            rows = await ADD.fetch(connection, keys=list(counted), costs=list(counted.values()))
        now = time.monotonic_ns()
        for row in rows:
            place = self._counts.place(row["key"])
            self._counts.numbers[place] = max(self._counts.numbers[place], now + row["ahead"])

    async def clean(self) -> None:
        """Remove the numbers that have passed."""
        async with driver(self._engine) as connection:
            await CLEAN.fetch(connection)
