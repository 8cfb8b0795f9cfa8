"""Databases on one server. Each serves one test at a time, and is like new for each."""

import asyncio
import itertools
from typing import Final

import asyncpg
from sqlalchemy import make_url

TEMPLATE: Final = "ticketing_template"
MORE: Final = 4 << 20
"""Bytes by which a database may grow and still be used again."""

CATALOGS: Final = (
    *("pg_attribute", "pg_class", "pg_constraint", "pg_index", "pg_proc"),
    *("pg_statistic", "pg_statistic_ext", "pg_trigger", "pg_type"),
    # The settings of every database are in one table.
    """(
        SELECT xmin, setconfig FROM pg_db_role_setting
        WHERE setdatabase = (SELECT oid FROM pg_database WHERE datname = current_database())
    ) AS settings""",
)


# Each change of the schema or of the planner's statistics writes a row in one of these.
STATE: Final = "SELECT (SELECT sum(reltuples) FROM pg_class), " + ", ".join(
    f"(SELECT format('%s %s', count(*), max(xmin::text::bigint)) FROM {name})" for name in CATALOGS
)
REVISION: Final = "SELECT format('%s %s', version_num, xmin) FROM alembic_version"
TABLES: Final = """
    SELECT format('%I', tablename) FROM pg_tables
    WHERE schemaname = 'public' AND tablename <> 'alembic_version'
"""


class Databases:
    """Makes databases from the template, and reuses those that tests left clean.

    Making one takes ten times as long as emptying one. That takes five times as long on a new
    connection, which knows no table yet, so each database keeps one.
    """

    def __init__(self, server_url: str) -> None:
        """Use this server. Its template is migrated."""
        self._server_url = server_url
        self._numbers = itertools.count(1)
        self._free: list[str] = []
        self._state: asyncpg.Record | None = None
        self._revision = ""
        self._size = 0
        self._loop = asyncio.new_event_loop()
        self._kept: dict[str, asyncpg.Connection] = {}

    def take(self) -> str:
        """Return the address of an empty migrated database."""
        if self._free:
            return self._free.pop()
        name = f"test_{next(self._numbers)}"
        create = f"CREATE DATABASE {name} TEMPLATE {TEMPLATE}"
        self._loop.run_until_complete(execute(self._server_url, create))
        return with_database(self._server_url, name)

    def give_back(self, url: str) -> None:
        """Empty the database, or drop it if a test changed its schema."""
        self._loop.run_until_complete(self._give_back(url))

    def close(self) -> None:
        """Close the connections."""
        for url in list(self._kept):
            self._forget(url)
        self._loop.run_until_complete(asyncio.sleep(0))
        self._loop.close()

    async def _give_back(self, url: str) -> None:
        try:
            is_as_new = await self._is_as_new(url)
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
            # A test ended all connections.
            self._forget(url)
            is_as_new = await self._is_as_new(url)
        if is_as_new:
            self._free.append(url)
        else:
            self._forget(url)
            name = make_url(url).database
            await execute(self._server_url, f"DROP DATABASE {name} WITH (FORCE)")

    def _forget(self, url: str) -> None:
        if (kept := self._kept.pop(url, None)) is not None:
            kept.terminate()

    async def _is_as_new(self, url: str) -> bool:
        if self._state is None:
            template = await asyncpg.connect(with_database(self._server_url, TEMPLATE))
            self._state = await template.fetchrow(STATE)
            self._revision = await template.fetchval(REVISION)
            self._size = await template.fetchval("SELECT pg_database_size(current_database())")
            await template.close()
        if url not in self._kept:
            self._kept[url] = await asyncpg.connect(url)
            # Without foreign keys, and without the trigger that keeps trail records.
            await self._kept[url].execute("SET session_replication_role = replica")
        connection = self._kept[url]
        await connection.execute("""
            SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity
            WHERE datname = current_database() AND pid <> pg_backend_pid()
        """)
        if await connection.fetchrow(STATE) != self._state:
            return False
        if await connection.fetchval(REVISION) != self._revision:
            return False
        tables = [row[0] for row in await connection.fetch(TABLES)]
        await connection.execute("; ".join(f"DELETE FROM {table}" for table in tables))
        await connection.execute(
            "SELECT setval(seqrelid::regclass, seqstart, false) FROM pg_sequence"
        )
        size: int = await connection.fetchval("SELECT pg_database_size(current_database())")
        return size < self._size + MORE


async def execute(url: str, statement: str) -> None:
    """Run one statement on a connection of its own."""
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


def with_database(url: str, name: str) -> str:
    """Return the address of another database on the same server."""
    return make_url(url).set(database=name).render_as_string(hide_password=False)
