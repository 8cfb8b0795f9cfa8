"""Statements as the driver sends them, and the connections that they are sent on."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final, TypeAlias, cast

import asyncpg
from sqlalchemy.ext.asyncio import AsyncEngine

from ticketing.db.hosts import Link
from ticketing.db.refusals import domain_errors

NAME: Final = re.compile(r"(?<!:):(\w+)")

Driver: TypeAlias = Link
LOST: Final = (
    TimeoutError,
    # The server has said that it ends the connection, which is not closed yet.
    asyncpg.InternalClientError,
    # A server that takes no writes any more is not the one to be connected to.
    asyncpg.ReadOnlySQLTransactionError,
)
"""After these a connection is as good as closed."""


class Statement:
    """SQL with `:names`, sent by the driver itself, prepared once per connection.

    For the statements of a sale: SQLAlchemy's own work per execution costs as much as the rest of
    a small batch. Outside a transaction, as here, a statement is a transaction of its own.
    """

    def __init__(
        self,
        sql: str,
        *,
        timeout: float | None = None,
        plan_anew: bool = False,
        reads_tables: str = "",
    ) -> None:
        """Number the names, for that is what PostgreSQL knows.

        It may take `timeout` seconds, else as long as any command of its connection. With
        `plan_anew` it is planned for its parameters each time: a plan that is kept would be for
        any. `reads_tables` says why it reads whole tables, as no other statement may.
        """
        self._timeout = timeout
        self.plans_anew = plan_anew
        self.reads_tables = reads_tables
        self.names = tuple(dict.fromkeys(NAME.findall(sql)))
        self.sql = NAME.sub(lambda match: f"${self.names.index(match[1]) + 1}", sql)

    async def fetch(self, connection: Driver, **parameters: object) -> list[asyncpg.Record]:
        """Return the rows. Raises KeyError for a parameter that is not given."""
        given = [parameters[name] for name in self.names]
        if self.plans_anew:
            prepared = await connection.prepare(self.sql, timeout=self._timeout)
            rows: list[asyncpg.Record] = await prepared.fetch(*given, timeout=self._timeout)
            return rows
        return await connection.fetch(self.sql, *given, timeout=self._timeout)


@asynccontextmanager
async def driver(engine: AsyncEngine) -> AsyncIterator[Driver]:
    """Lend a pooled connection as the driver knows it, outside a transaction.

    Raises domain errors, as `domain_errors` does.
    """
    async with domain_errors(), engine.connect() as connection:
        link = cast("Link", (await connection.get_raw_connection()).driver_connection)
        try:
            yield link
        except BaseException as error:
            # Whatever it was, a connection in an unknown state goes to nobody else: what timed out
            # would be waited for by the next.
            if link.is_closed() or isinstance(error, LOST):
                link.lose()
            elif isinstance(error, asyncio.CancelledError):
                link.terminate()
            if link.is_closed():
                await connection.invalidate()
            raise


class Held:
    """A connection that is held between uses, by who has one use at a time.

    Borrowing one from the pool takes about as long as a small commit.
    """

    def __init__(self, engine: AsyncEngine) -> None:
        """Take it from `engine` when it is first wanted, and anew after anything went wrong."""
        self._engine = engine
        self._borrowed = AsyncExitStack()
        self._connection: Driver | None = None

    @asynccontextmanager
    async def lent(self) -> AsyncIterator[Driver]:
        """Lend it as `driver` does. Raises domain errors."""
        if self._connection is None or self._connection.is_suspect:
            if self._connection is not None:
                self._connection.lose()
            await self.close()
            self._connection = await self._borrowed.enter_async_context(driver(self._engine))
        try:
            yield self._connection
        except BaseException as error:
            # `driver` knows what it means, to the caller and for the connection.
            self._connection = None
            await self._borrowed.__aexit__(type(error), error, error.__traceback__)
            raise

    async def close(self) -> None:
        """Give the connection back."""
        self._connection = None
        await self._borrowed.aclose()
