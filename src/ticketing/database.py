"""The engine, and how the database's errors become the service's own."""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from functools import partial
from typing import Final, TypeAlias, TypeVar, cast

import asyncpg
from sqlalchemy import AdaptedConnection, event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import (
    DBAPIError,
    DisconnectionError,
    IntegrityError,
    InterfaceError,
    OperationalError,
)
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry, QueuePool

from ticketing import revision
from ticketing.errors import (
    Busy,
    DatabaseUnavailable,
    InvalidRefreshToken,
    StartupError,
    TicketingError,
    UsernameTaken,
    UserNotFound,
)

CONNECT_TIMEOUT: Final = 5.0
COMMAND_TIMEOUT: Final = 10.0
STATEMENT_TIMEOUT: Final = "15s"
"""Longer than we wait ourselves: it ends what the server would go on with after we have gone."""
IDLE_TIMEOUT: Final = "10s"
"""For a transaction of ours in which nothing comes: it may hold locks that others wait for."""
POOL_TIMEOUT: Final = 2.0
READY_TIMEOUT: Final = 2.0
LOCK_TIMEOUT: Final = "250ms"
"""Far longer than any commit of ours holds a row; who holds one longer must not stop a sale."""

CONSTRAINTS: Final[dict[str, type[TicketingError]]] = {
    "uq_users_username": UsernameTaken,
    "fk_events_organiser_id": UserNotFound,
    "fk_bookings_user_id": UserNotFound,
    # The session ended while its token was being used.
    "fk_refresh_tokens_session_id": InvalidRefreshToken,
}
"""What it means to the caller that a constraint refused a write."""

RIGHTS: Final = (
    " (deploy/service_role.sql gives a role what the service needs;"
    " TICKETING_MIGRATION_DATABASE_URL names another for `ticketing migrate`)"
)
"""What to do for a role that may not do something."""

NAME: Final = re.compile(r"(?<!:):(\w+)")

T = TypeVar("T")
Driver: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

UNAVAILABLE: Final = ("08", "53", "57P", "25006", "25P03")
"""How SQLSTATEs begin that say: no connection, no resources, starting or shutting down, a replica
that takes no writes, a transaction that idled for too long."""

BUSY: Final = {"40001", "40P01", "55P03", "57014"}
"""SQLSTATEs of a statement that was given up, with nothing changed: a conflict, a deadlock, a lock
that did not come in time, a cancel."""


def connect(
    url: str, *, pool_size: int, command_timeout: float | None = COMMAND_TIMEOUT
) -> AsyncEngine:
    """Make an engine; nothing is connected yet.

    `url` may be any spelling of a PostgreSQL address; asyncpg is the driver. Timeouts in seconds;
    without one for commands, as migrations need it, the server has none either.
    """
    # To asyncpg as it is: it knows libpq's parameters, such as sslmode, and SQLAlchemy does not.
    address = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
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


class Statement:
    """SQL with `:names`, sent by the driver itself, prepared once per connection.

    For the statements of a sale: SQLAlchemy's own work per execution costs as much as the rest of
    a small batch. Outside a transaction, as here, a statement is a transaction of its own.
    """

    def __init__(self, sql: str, *, timeout: float | None = None) -> None:
        """Number the names, for that is what PostgreSQL knows.

        It may take `timeout` seconds, else as long as any command of its connection.
        """
        self._timeout = timeout
        self.names = tuple(dict.fromkeys(NAME.findall(sql)))
        self.sql = NAME.sub(lambda match: f"${self.names.index(match[1]) + 1}", sql)

    async def fetch(self, connection: Driver, **parameters: object) -> list[asyncpg.Record]:
        """Return the rows. Raises KeyError for a parameter that is not given."""
        given = (parameters[name] for name in self.names)
        return await connection.fetch(self.sql, *given, timeout=self._timeout)


@asynccontextmanager
async def driver(engine: AsyncEngine) -> AsyncIterator[Driver]:
    """Lend a pooled connection as the driver knows it, outside a transaction.

    Raises domain errors, as `domain_errors` does.
    """
    async with domain_errors(), engine.connect() as connection:
        raw = (await connection.get_raw_connection()).driver_connection
        try:
            yield cast("Driver", raw)
        except BaseException as error:
            # Whatever it was, a connection in an unknown state goes to nobody else: what timed out
            # would be waited for by the next.
            if isinstance(error, TimeoutError):
                cast("Driver", raw).terminate()
            if cast("Driver", raw).is_closed() or isinstance(error, asyncpg.InternalClientError):
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
        if self._connection is None or self._connection.is_closed():
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


def constraint_of(error: Exception) -> str | None:
    """Return the name of the constraint that refused a write, if one did."""
    cause = error.orig.__cause__ if isinstance(error, DBAPIError) and error.orig else error
    name = getattr(cause, "constraint_name", None)
    return str(name) if name is not None else None


@asynccontextmanager
async def domain_errors() -> AsyncIterator[None]:
    """Turn what the database raises inside into the error that the caller can act on.

    A violated constraint becomes its entry in CONSTRAINTS; a lost connection or a database that
    does not answer becomes DatabaseUnavailable; an exhausted pool, or a statement that was given
    up for another's sake, becomes Busy.
    """
    try:
        yield
    except (IntegrityError, asyncpg.IntegrityConstraintViolationError) as error:
        known = CONSTRAINTS.get(constraint_of(error) or "")
        if known is None:
            raise
        raise known from error
    except PoolTimeoutError as error:
        raise Busy from error
    except (
        OperationalError,
        InterfaceError,
        asyncpg.InterfaceError,
        # The server has said that it ends the connection, which is not closed yet.
        asyncpg.InternalClientError,
        OSError,  # TimeoutError is one.
    ) as error:
        raise DatabaseUnavailable from error
    except (DBAPIError, asyncpg.PostgresError) as error:
        from_driver = error.orig if isinstance(error, DBAPIError) else error
        state = getattr(from_driver, "sqlstate", None) or ""
        if state in BUSY:
            raise Busy from error
        was_lost = isinstance(error, DBAPIError) and error.connection_invalidated
        if not was_lost and not state.startswith(UNAVAILABLE):
            raise
        raise DatabaseUnavailable from error


async def is_migrated(engine: AsyncEngine) -> bool:
    """Whether the database is at the revision that the code needs, or at a newer one.

    A revision that this code does not know was made by a newer one, which is being rolled out:
    migrations work while the previous version still serves.
    """
    async with domain_errors(), asyncio.timeout(READY_TIMEOUT), driver(engine) as connection:
        current = await revision.current(connection)
    return current is not None and current not in revision.known()[:-1]


def check(url: str) -> None:
    """Raise StartupError unless the database can be reached and is migrated."""

    async def migrated() -> bool:
        engine = connect(url, pool_size=1)
        try:
            return await is_migrated(engine)
        finally:
            await engine.dispose()

    with naming_the_database(url):
        is_current = asyncio.run(migrated())
    if not is_current:
        raise StartupError("the database is not migrated: run `ticketing migrate` first")


@contextmanager
def naming_the_database(url: str, *more: type[Exception]) -> Iterator[None]:
    """Turn a failure to reach or use the database into a StartupError: which one, and why.

    `more` are failures that only the caller knows.
    """
    known: tuple[type[Exception], ...] = (
        *(TicketingError, DBAPIError, asyncpg.PostgresError, asyncpg.InterfaceError, OSError),
        *more,
    )
    try:
        yield
    except known as error:
        address = make_url(url)
        # Of the rest of the query, asyncpg takes a password too.
        query = {name: address.query[name] for name in ("host", "port") if name in address.query}
        where = address.set(query=query).render_as_string(hide_password=True)
        cause: BaseException = error
        # What is behind a timeout is only how the wait for it was ended.
        while cause.__cause__ is not None and not isinstance(cause, TimeoutError):
            cause = cause.__cause__
        silent = "no answer in time" if isinstance(cause, TimeoutError) else type(cause).__name__
        reason = str(cause).splitlines()[0] if str(cause) else silent
        if isinstance(cause, asyncpg.InsufficientPrivilegeError):
            reason += RIGHTS
        verb = "reached" if isinstance(cause, OSError) else "used"
        raise StartupError(f"the database {where} can't be {verb}: {reason}") from error
