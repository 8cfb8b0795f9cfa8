"""Check whether a database can be used: reachable, and at the revision that the code needs."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import asyncpg
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine

from ticketing.database_address import Address
from ticketing.db import revision
from ticketing.db.engine import run
from ticketing.db.refusals import domain_errors
from ticketing.db.statements import driver
from ticketing.errors import StartupError, TicketingError
from ticketing.settings import Pooler

FILES: Final = ("sslrootcert", "sslcert", "sslkey", "sslcrl", "passfile")
"""Parameters of an address that name a file."""
READY_TIMEOUT: Final = 0.5
"""Seconds. A health check that waits for one second must get its response."""
START_TIMEOUT: Final = 5.0
"""Seconds. A start may take longer."""
RIGHTS: Final = (
    " (`ticketing migrate --role-sql` prints SQL that grants a role the rights of the service;"
    " TICKETING_MIGRATION_DATABASE_URL sets another role for `ticketing migrate`)"
)
"""Help for a role that lacks a right."""


async def is_usable(engine: AsyncEngine, patience: float = READY_TIMEOUT) -> bool:
    """Whether the database accepts writes, at the revision that the code needs or a newer one.

    An unknown revision comes from a newer version that is being rolled out. Migrations let the
    previous version go on.
    """
    async with domain_errors(), asyncio.timeout(patience), driver(engine) as connection:
        if await connection.fetchval("SHOW transaction_read_only") == "on":
            connection.lose()  # The next connection may reach a server that accepts writes.
            return False
        current = await revision.current(connection)
    return current is not None and current not in revision.known()[:-1]


def check(url: str, pooler: Pooler = "none") -> None:
    """Raise StartupError unless the database can be reached, is in UTF8 and is migrated."""
    require_utf8(url, pooler)
    with naming_the_database(url):
        is_current = run(url, lambda engine: is_usable(engine, START_TIMEOUT), pooler=pooler)
    if not is_current:
        raise StartupError("the database is not migrated: run `ticketing migrate` first")


def require_utf8(url: str, pooler: Pooler = "none") -> None:
    """Raise StartupError unless the database can be reached and is in UTF8."""
    _require_files(url)

    async def ask(engine: AsyncEngine) -> str:
        async with asyncio.timeout(START_TIMEOUT), driver(engine) as connection:
            return await revision.encoding(connection)

    with naming_the_database(url, EncodingRefused):
        found = run(url, ask, pooler=pooler)
        if found != revision.UTF8:
            raise EncodingRefused(f"its encoding is {found}: create it WITH ENCODING 'UTF8'")


def _require_files(url: str) -> None:
    """Raise StartupError if the address names a file that can't be read."""
    options = Address.parse(url).options
    for name in FILES:
        path = options.get(name)
        if path is None:
            continue
        if path == "system":
            raise StartupError(
                f"the database address has {name}={path}, which is not supported: name a file"
            )
        try:
            with Path(path).open("rb"):
                pass
        except OSError as error:
            raise StartupError(
                f"the database address has {name}={path}, which can't be read: {error.strerror}"
            ) from error


class EncodingRefused(Exception):
    """The database can't store every name."""


@contextmanager
def naming_the_database(url: str, *more: type[Exception]) -> Iterator[None]:
    """Turn a failure to reach or use the database into a StartupError with its address and cause.

    `more` are further exceptions to turn.
    """
    known: tuple[type[Exception], ...] = (
        *(TicketingError, DBAPIError, asyncpg.PostgresError, asyncpg.InterfaceError, OSError),
        *more,
    )
    try:
        yield
    except known as error:
        cause: BaseException = error
        # The cause of a timeout only shows how the wait was ended.
        while cause.__cause__ is not None and not isinstance(cause, TimeoutError):
            cause = cause.__cause__
        silent = "no response in time" if isinstance(cause, TimeoutError) else type(cause).__name__
        reason = str(cause).splitlines()[0] if str(cause) else silent
        if isinstance(cause, asyncpg.InsufficientPrivilegeError):
            reason += RIGHTS
        verb = "reached" if isinstance(cause, OSError) else "used"
        raise StartupError(
            f"the database {Address.parse(url)} can't be {verb}: {reason}"
        ) from error
