"""What a database is like: read at the start, and shown by `ticketing check`."""

import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Final, NamedTuple, TypeVar

from ticketing.database_address import Address, Host
from ticketing.db import revision, sessions
from ticketing.db.hosts import Connection, Server
from ticketing.errors import StartupError
from ticketing.ops import leaving
from ticketing.settings import Pooler, Settings

T = TypeVar("T")

PATIENCE: Final = 5.0
"""Seconds to wait for a response."""
DURABLE: Final = ("on", "remote_apply")
"""Values of `synchronous_commit` with which a standby has written what is acknowledged."""

# A superuser also gets what is reserved, and no limit of a role or database holds for it.
ROOM: Final = """
    SELECT CASE WHEN rolsuper THEN most ELSE least(
        most
            - CAST(current_setting('superuser_reserved_connections') AS integer)
            - coalesce(CAST(current_setting('reserved_connections', true) AS integer), 0),
        nullif(rolconnlimit, -1), nullif(datconnlimit, -1)
    ) END
    FROM (SELECT CAST(current_setting('max_connections') AS integer)) AS allowed(most), pg_roles,
        pg_database
    WHERE rolname = current_user AND datname = current_database()
"""
READ: Final = """
    SELECT current_setting('server_version') AS version, pg_is_in_recovery() AS is_standby,
        current_setting('server_encoding') AS encoding,
        current_setting('transaction_read_only') AS is_read_only,
        current_setting('fsync') AS fsync, current_setting('full_page_writes') AS full_pages,
        current_setting('synchronous_commit') AS commits,
        current_setting('synchronous_standby_names') AS names,
        (SELECT count(*) FROM pg_stat_replication) AS standbys,
        (SELECT count(*) FROM pg_stat_activity
            WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()) AS used,
        extract(epoch FROM clock_timestamp()) AS now
"""


class Database(NamedTuple):
    """What the primary says."""

    version: str
    encoding: str
    accepts_writes: bool
    keeps_commits: bool
    """Whether a commit survives a crash of the server."""
    synchronous: str
    """The standbys that a commit waits for; empty if it waits for none."""
    standbys: int
    room: int
    """How many connections the role may have."""
    used: int
    """How many connections the server has now, besides this one."""
    clock: float
    """Seconds by which its clock is ahead of this machine's."""
    revision: str | None
    lacking: str | None
    """The SQL that sets what the role's sessions lack."""


def read(url: str, pooler: Pooler) -> Database:
    """Ask the database. Raises StartupError, with the reason in one line."""

    async def ask(connection: Connection) -> Database:
        asked_at = time.time()
        (row,) = await connection.fetch(READ)
        clock = float(row["now"]) - (asked_at + time.time()) / 2
        return Database(
            version=row["version"],
            encoding=row["encoding"],
            accepts_writes=row["is_read_only"] == "off",
            keeps_commits=row["commits"] != "off" and row["fsync"] == row["full_pages"] == "on",
            synchronous=row["names"] if row["commits"] in DURABLE else "",
            standbys=row["standbys"],
            room=await connection.fetchval(ROOM),
            used=row["used"],
            clock=clock,
            revision=await revision.current(connection),
            lacking=await sessions.lacking(connection) if pooler == "transaction" else None,
        )

    return _ask(Address.parse(url), ask)


def hosts(url: str) -> dict[Host, str]:
    """Return for each host of the address what it is, or why it can't be used."""
    address = Address.parse(url)
    return {host: _role(replace(address, hosts=[host], role="any")) for host in address.hosts}


def _role(address: Address) -> str:
    async def ask(connection: Connection) -> str:
        is_standby = await connection.fetchval("SELECT pg_is_in_recovery()")
        return "standby" if is_standby else "primary"

    try:
        return _ask(address, ask)
    except StartupError as error:
        return str(error)


def require_room(url: str, settings: Settings) -> None:
    """Raise StartupError if the database never has room for the connections of this service."""

    async def ask(connection: Connection) -> int:
        room: int = await connection.fetchval(ROOM)
        return room

    room = _ask(Address.parse(url), ask)
    if settings.connections > room:
        raise StartupError(
            f"the database allows {room} connections, and TICKETING_WORKERS={settings.workers}"
            f" with TICKETING_POOL_SIZE={settings.pool_size} may need {settings.connections}:"
            " lower one of them, or raise max_connections or the limit of the role or the database"
        )


def _ask(address: Address, work: Callable[[Connection], Awaitable[T]]) -> T:
    """Ask on a connection of its own. Raises StartupError."""

    async def ask() -> T:
        # Each question is asked once, and may be asked by way of any pooler.
        server = Server(address, "transaction")
        with leaving.cancellable():
            connection = await server.connect(command_timeout=PATIENCE)
            try:
                return await work(connection)
            finally:
                await connection.close()

    try:
        return leaving.run(ask())
    except revision.NOT_ASKED as error:
        reason = str(error).splitlines()[0] if str(error) else "no response in time"
        raise StartupError(f"the database {address} can't be used: {reason}") from error
