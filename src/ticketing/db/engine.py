"""Pools of connections to the database."""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final, TypeVar, cast

from sqlalchemy import AdaptedConnection, event
from sqlalchemy.exc import DisconnectionError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry, QueuePool

from ticketing.database_address import Address
from ticketing.db.hosts import Link, Server
from ticketing.ops import leaving

COMMAND_TIMEOUT: Final = 10.0
STATEMENT_TIMEOUT: Final = "15s"
"""Longer than COMMAND_TIMEOUT. It ends statements on the server that nobody waits for any more."""
IDLE_TIMEOUT: Final = "10s"
"""For an idle transaction, because it may hold locks that others wait for."""
POOL_TIMEOUT: Final = 2.0
LOCK_TIMEOUT: Final = "250ms"
"""Far longer than a commit of the service holds a row. Another program that holds one longer must
not stop a sale."""

T = TypeVar("T")


def connect(
    to: str | Server, *, pool_size: int, command_timeout: float | None = COMMAND_TIMEOUT
) -> AsyncEngine:
    """Make an engine, without connecting yet.

    `to` is an address in any spelling, or a server that several engines share. Timeouts are in
    seconds. Without `command_timeout`, which migrations need, the server has no timeout either.
    """
    server = to if isinstance(to, Server) else Server(Address.parse(to))
    engine = create_async_engine(
        "postgresql+asyncpg://",
        pool_size=pool_size,
        max_overflow=0,
        # Otherwise the error of a failed statement, and so the log, would show its parameters.
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
                # Every query has an index. A statement that was planned while a table was empty
                # must not keep reading all of it when it is large.
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
    """Make the pool replace a connection that is probably lost, before a request uses it."""
    link = cast("Link", connection.driver_connection)
    # Not a new one: the pool tries twice, and then raises an error without the cause.
    if record.info.get("was used") and link.is_suspect:
        # Also, the pool then does not wait for the connection to close.
        link.lose()
        raise DisconnectionError
    record.info["was used"] = True


def run(url: str, work: Callable[[AsyncEngine], Awaitable[T]]) -> T:
    """Run `work` with one connection, outside the service, and return its result."""

    async def on_engine() -> T:
        engine = connect(url, pool_size=1)
        try:
            with leaving.cancellable():
                return await work(engine)
        finally:
            await engine.dispose()

    return leaving.run(on_engine())


def pool_use(engine: AsyncEngine) -> int:
    """Return how many of the engine's connections are in use."""
    return cast("QueuePool", engine.pool).checkedout()
