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
from ticketing.db.sessions import NAMED, promised
from ticketing.ops import leaving
from ticketing.settings import Pooler

COMMAND_TIMEOUT: Final = 10.0
POOL_TIMEOUT: Final = 2.0

T = TypeVar("T")


def connect(
    to: str | Server,
    *,
    pool_size: int,
    pooler: Pooler = "none",
    command_timeout: float | None = COMMAND_TIMEOUT,
) -> AsyncEngine:
    """Make an engine, without connecting yet.

    `to` is an address in any spelling, with what is in between, or a server that several engines
    share. Timeouts are in seconds. Without `command_timeout`, which migrations need, the server has
    no timeout either.
    """
    server = to if isinstance(to, Server) else Server(Address.parse(to), pooler)
    named = {} if server.names_statements else {"prepared_statement_cache_size": 0}

    # As SQLAlchemy's `async_creator` does, which can't pass more arguments.
    def creator() -> object:
        return engine.dialect.dbapi.connect(  # type: ignore[union-attr]
            async_creator_fn=partial(_connected, server, command_timeout), **named
        )

    engine = create_async_engine(
        "postgresql+asyncpg://",
        pool_size=pool_size,
        max_overflow=0,
        # Otherwise the error of a failed statement, and so the log, would show its parameters.
        hide_parameters=True,
        pool_timeout=POOL_TIMEOUT,
        creator=creator,
    )
    event.listen(engine.sync_engine, "checkout", _refuse_suspects)
    return engine


async def _connected(server: Server, command_timeout: float | None) -> Link:
    """Connect, and set what the session must have."""
    wanted = promised()
    if command_timeout is None:
        wanted |= {"statement_timeout": "0", "idle_in_transaction_session_timeout": "0"}
    at_start = NAMED | (wanted if server.pooler == "none" else {})
    link = await server.connect(command_timeout=command_timeout, server_settings=at_start)
    if server.pooler == "session":
        try:
            await link.execute("; ".join(f"SET {name} = '{to}'" for name, to in wanted.items()))
        except BaseException:
            link.terminate()
            raise
    return link


def _refuse_suspects(connection: AdaptedConnection, record: ConnectionPoolEntry, _: object) -> None:
    """Make the pool replace a connection that is probably lost, before a request uses it."""
    link = cast("Link", connection.driver_connection)
    # Not a new one: the pool tries twice, and then raises an error without the cause.
    if record.info.get("was used") and link.is_suspect:
        # Also, the pool then does not wait for the connection to close.
        link.lose()
        raise DisconnectionError
    record.info["was used"] = True


def run(url: str, work: Callable[[AsyncEngine], Awaitable[T]], *, pooler: Pooler = "none") -> T:
    """Run `work` with one connection, outside the service, and return its result."""

    async def on_engine() -> T:
        engine = connect(url, pool_size=1, pooler=pooler)
        try:
            with leaving.cancellable():
                return await work(engine)
        finally:
            await engine.dispose()

    return leaving.run(on_engine())


def pool_use(engine: AsyncEngine) -> int:
    """Return how many of the engine's connections are in use."""
    return cast("QueuePool", engine.pool).checkedout()
