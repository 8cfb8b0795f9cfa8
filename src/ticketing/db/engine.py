"""Connections to the database, in pools."""

import asyncio
import os
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final, TypeVar, cast

import asyncpg
from sqlalchemy import AdaptedConnection, event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DisconnectionError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry, QueuePool

from ticketing.db.statements import Driver

CONNECT_TIMEOUT: Final = 5.0
COMMAND_TIMEOUT: Final = 10.0
STATEMENT_TIMEOUT: Final = "15s"
"""Longer than we wait ourselves: it ends what the server would go on with after we have gone."""
IDLE_TIMEOUT: Final = "10s"
"""For a transaction of ours in which nothing comes: it may hold locks that others wait for."""
POOL_TIMEOUT: Final = 2.0
LOCK_TIMEOUT: Final = "250ms"
"""Far longer than any commit of ours holds a row; who holds one longer must not stop a sale."""

CHOSEN: Final = {"target_session_attrs", "service"}
"""Parameters of an address that say which of several servers is meant."""

T = TypeVar("T")


def connect(
    url: str, *, pool_size: int, command_timeout: float | None = COMMAND_TIMEOUT
) -> AsyncEngine:
    """Make an engine; nothing is connected yet.

    `url` may be any spelling of a PostgreSQL address; asyncpg is the driver. Timeouts in seconds;
    without one for commands, as migrations need it, the server has none either.
    """
    # To asyncpg as it is: it knows libpq's parameters, such as sslmode, and SQLAlchemy does not.
    parsed = make_url(url).set(drivername="postgresql")
    address = parsed.render_as_string(hide_password=False)
    says_which = CHOSEN & parsed.query.keys() or "PGTARGETSESSIONATTRS" in os.environ
    engine = create_async_engine(
        "postgresql+asyncpg://",
        pool_size=pool_size,
        max_overflow=0,
        # The parameters of a statement that failed would be in its error, and so in the log.
        hide_parameters=True,
        pool_timeout=POOL_TIMEOUT,
        async_creator=partial(
            asyncpg.connect,
            address,
            timeout=CONNECT_TIMEOUT,
            command_timeout=command_timeout,
            # Of several hosts, and behind a proxy, the one that takes writes.
            target_session_attrs=None if says_which else "primary",
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
    event.listen(engine.sync_engine, "checkout", _refuse_closed)
    return engine


def _refuse_closed(connection: AdaptedConnection, record: ConnectionPoolEntry, _: object) -> None:
    """Have the pool connect anew where the server was restarted, before a request finds out."""
    # Not one that was made just now: the pool tries twice and then has no error that says why.
    if record.info.get("was used") and cast("Driver", connection.driver_connection).is_closed():
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
