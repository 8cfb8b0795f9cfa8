"""Connections to the database, in pools."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final, TypeVar, cast

from sqlalchemy import AdaptedConnection, event
from sqlalchemy.exc import DisconnectionError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry, QueuePool

from ticketing.database_address import Address
from ticketing.db.hosts import Link, Server

COMMAND_TIMEOUT: Final = 10.0
STATEMENT_TIMEOUT: Final = "15s"
"""Longer than we wait ourselves: it ends what the server would go on with after we have gone."""
IDLE_TIMEOUT: Final = "10s"
"""For a transaction of ours in which nothing comes: it may hold locks that others wait for."""
POOL_TIMEOUT: Final = 2.0
LOCK_TIMEOUT: Final = "250ms"
"""Far longer than any commit of ours holds a row; who holds one longer must not stop a sale."""

T = TypeVar("T")


def connect(
    to: str | Server, *, pool_size: int, command_timeout: float | None = COMMAND_TIMEOUT
) -> AsyncEngine:
    """Make an engine; nothing is connected yet.

    `to` is an address in any spelling, or a server that several engines share. Timeouts in seconds;
    without one for commands, as migrations need it, the server has none either.
    """
    server = to if isinstance(to, Server) else Server(Address.parse(to))
    engine = create_async_engine(
        "postgresql+asyncpg://",
        pool_size=pool_size,
        max_overflow=0,
        # The parameters of a statement that failed would be in its error, and so in the log.
        hide_parameters=True,
        pool_timeout=POOL_TIMEOUT,
        async_creator=partial(
            server.connect,
            command_timeout=command_timeout,
            server_settings={
                "application_name": "ticketing",
                "timezone": "UTC",
                # Compiling a query of a few milliseconds costs more than it saves.
                "jit": "off",
                # Every query has its index. A statement that was planned while a table was empty
                # must not go on reading all of it when it is large.
                "enable_seqscan": "off",
                "lock_timeout": LOCK_TIMEOUT,
                "statement_timeout": STATEMENT_TIMEOUT if command_timeout else "0",
                "idle_in_transaction_session_timeout": IDLE_TIMEOUT if command_timeout else "0",
            },
        ),
    )
    event.listen(engine.sync_engine, "checkout", _refuse_suspects)
    return engine


def _refuse_suspects(connection: AdaptedConnection, record: ConnectionPoolEntry, _: object) -> None:
    """Have the pool connect anew where a connection was lost, before a request finds out."""
    link = cast("Link", connection.driver_connection)
    # Not one that was made just now: the pool tries twice and then has no error that says why.
    if record.info.get("was used") and link.is_suspect:
        # Also so that the pool does not wait for its end.
        link.lose()
        raise DisconnectionError
    record.info["was used"] = True


def run(url: str, work: Callable[[AsyncEngine], Awaitable[T]]) -> T:
    """Do what needs one connection, from outside the service, and return its result."""

    async def on_engine() -> T:
        engine = connect(url, pool_size=1)
        try:
            return await work(engine)
        finally:
            await engine.dispose()

    return asyncio.run(on_engine())


def pool_use(engine: AsyncEngine) -> int:
    """Return how many of the engine's connections are in use."""
    return cast("QueuePool", engine.pool).checkedout()
