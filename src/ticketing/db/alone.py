"""Work that one process of all does."""

from typing import Final

from sqlalchemy.ext.asyncio import AsyncEngine

from ticketing.db.hosts import Link
from ticketing.db.statements import Held, Statement, driver

TRY_SESSION: Final = Statement("SELECT pg_try_advisory_lock(:lock) AS is_ours")
# A pooler may lend the session to others after each transaction, so this one stays open. It reads
# nothing, so it keeps no version of a row.
BEGIN: Final = "BEGIN; SET LOCAL idle_in_transaction_session_timeout = 0"
TRY_TRANSACTION: Final = Statement("SELECT pg_try_advisory_xact_lock(:lock) AS is_ours")
STILL: Final = Statement("SELECT 1 AS one")


class Alone:
    """An advisory lock that one process of all holds, until it ends or loses its connection."""

    def __init__(self, engine: AsyncEngine, lock: int) -> None:
        """Hold `lock` on a connection of `engine`, which nothing else may use.

        If a pooler lends transactions, one of its two connections has no other use.
        """
        self._engine = engine
        self._lock = lock
        self._held = Held(engine)
        self._ours_on: Link | None = None

    async def is_ours(self) -> bool:
        """Whether this process holds the lock, also if it takes it now."""
        async with driver(self._engine) as connection:
            lends_transactions = connection.pooler == "transaction"
            if not lends_transactions:
                (row,) = await TRY_SESSION.fetch(connection, lock=self._lock)
        is_ours = await self._holds_open() if lends_transactions else row["is_ours"]
        if not is_ours:
            # The connection too, because only one process needs it.
            await self.close()
        return bool(is_ours)

    async def _holds_open(self) -> bool:
        async with self._held.lent() as connection:
            if connection is self._ours_on:
                # It may be lost without a sign.
                await STILL.fetch(connection)
                return True
            await connection.execute(BEGIN)
            (row,) = await TRY_TRANSACTION.fetch(connection, lock=self._lock)
            if not row["is_ours"]:
                # A pooler ends the server's session if its client leaves in a transaction.
                await connection.execute("ROLLBACK")
            self._ours_on = connection if row["is_ours"] else None
            return bool(row["is_ours"])

    async def close(self) -> None:
        """Release the lock."""
        self._ours_on = None
        await self._held.close()
        await self._engine.dispose()
