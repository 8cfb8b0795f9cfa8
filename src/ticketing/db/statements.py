"""SQL statements, and the connections of the driver that run them."""

import asyncio
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Final, TypeAlias, cast

import asyncpg
from sqlalchemy.ext.asyncio import AsyncEngine

from ticketing.db.hosts import Link
from ticketing.db.refusals import domain_errors

NAME: Final = re.compile(r"(?<!:):(\w+)")

Driver: TypeAlias = Link
Row: TypeAlias = asyncpg.Record | Mapping[str, Any]
LOST: Final = (
    TimeoutError,
    # The server has announced that it closes the connection, which is still open.
    asyncpg.InternalClientError,
    # The server accepts no writes any more, so another one is the primary.
    asyncpg.ReadOnlySQLTransactionError,
)
"""After these errors a connection counts as lost."""


class Statement:
    """SQL with `:names`, run by the driver and prepared once per connection.

    It bypasses SQLAlchemy, whose work per execution costs as much as the rest of a small batch.
    Outside a transaction, a statement is a transaction of its own.

    A kept plan may have been made while the table was empty, when an index of all that an event has
    looks as good as the one that finds the row. Where that matters, the column that finds the row
    is compared alone, in a subquery with `OFFSET 0`, and all others outside.
    """

    def __init__(
        self,
        sql: str,
        *,
        timeout: float | None = None,
        plan_anew: bool = False,
        reads_tables: str = "",
    ) -> None:
        """Replace the names by numbers, as PostgreSQL needs them.

        `timeout` is in seconds, and by default that of the connection. With `plan_anew` each run is
        planned for its parameters, because a kept plan is for any. `reads_tables` says why the
        statement reads whole tables. Without it, that is not allowed.
        """
        self._timeout = timeout
        self.plans_anew = plan_anew
        self.reads_tables = reads_tables
        self.text = sql
        self.names = tuple(dict.fromkeys(NAME.findall(sql)))
        self.sql = NAME.sub(lambda match: f"${self.names.index(match[1]) + 1}", sql)

    async def fetch(self, connection: Driver, **parameters: object) -> list[asyncpg.Record]:
        """Run the statement and return the rows. Raises KeyError if a parameter is missing.

        Raises NotReplicatedError if the statement was committed on the primary alone.
        """
        given = [parameters[name] for name in self.names]
        if self.plans_anew:
            prepared = await connection.prepare(self.sql, timeout=self._timeout)
            rows: list[asyncpg.Record] = await prepared.fetch(*given, timeout=self._timeout)
        else:
            rows = await connection.fetch(self.sql, *given, timeout=self._timeout)
        connection.confirm()
        return rows


# A commit that changes nothing. It waits for a standby as any other does, and so for all commits
# before it.
CONFIRM: Final = Statement("SELECT pg_logical_emit_message(true, 'ticketing', '')")
"""What was read before it is durable when it returns, also if another commit's wait was cancelled.

Nothing that was read may be acknowledged as done without this, or without a commit that follows."""


@asynccontextmanager
async def driver(engine: AsyncEngine) -> AsyncIterator[Driver]:
    """Lend the driver's connection from the pool, outside a transaction.

    Raises the same errors as `domain_errors`.
    """
    async with domain_errors(), engine.connect() as connection:
        link = cast("Link", (await connection.get_raw_connection()).driver_connection)
        try:
            yield link
            link.confirm()
        except BaseException as error:
            # Never reuse a connection in an unknown state: its next user would wait for the
            # statement that timed out.
            if link.is_closed() or isinstance(error, LOST):
                link.lose()
            elif isinstance(error, asyncio.CancelledError):
                link.terminate()
            if link.is_closed():
                await connection.invalidate()
            raise


@asynccontextmanager
async def whole(connection: Driver, *, keep: bool) -> AsyncIterator[None]:
    """Run a transaction, and undo all of it at the end unless `keep`."""
    transaction = connection.transaction()
    await transaction.start()
    try:
        yield
    except BaseException:
        if not connection.is_closed():
            await transaction.rollback()
        raise
    if keep:
        await transaction.commit()
    else:
        await transaction.rollback()


class Held:
    """A connection that is kept between uses. Only one use at a time is allowed.

    Borrowing one from the pool takes about as long as a small commit.
    """

    def __init__(self, engine: AsyncEngine) -> None:
        """Borrow it from `engine` at the first use, and again after an error."""
        self._engine = engine
        self._borrowed = AsyncExitStack()
        self._connection: Driver | None = None

    @asynccontextmanager
    async def lent(self) -> AsyncIterator[Driver]:
        """Lend the connection. Raises the same errors as `driver`."""
        if self._connection is None or self._connection.is_suspect:
            if self._connection is not None:
                self._connection.lose()
            await self.close()
            self._connection = await self._borrowed.enter_async_context(driver(self._engine))
        connection = self._connection
        try:
            yield connection
            connection.confirm()
        except BaseException as error:
            # `driver` turns the error, and closes the connection if needed.
            self._connection = None
            await self._borrowed.__aexit__(type(error), error, error.__traceback__)
            raise

    async def close(self) -> None:
        """Return the connection to the pool."""
        self._connection = None
        await self._borrowed.aclose()
