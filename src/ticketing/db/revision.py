"""The schema revision of a database, and the one that the code needs.

Does not import Alembic and SQLAlchemy, which take most of a second to load. Most starts find the
database migrated and do not need them.
"""

from functools import cache
from pathlib import Path
from typing import Final

import asyncpg

from ticketing.database_address import Address
from ticketing.db.hosts import Server
from ticketing.ops import leaving

PATIENCE: Final = 1.0
"""Seconds to wait for the database. After that, `schema` asks again and reports what is wrong."""


NOT_ASKED: Final = (
    *(OSError, ValueError),
    *(asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError),
)
UTF8: Final = "UTF8"
"""The only encoding that can store every name."""


@cache
def migrations() -> Path:
    """Return the folder of the migrations."""
    package = Path(__file__).parents[1]
    # A wheel has the migrations inside the package, a checkout at its top.
    inside = package / "alembic"
    return inside if inside.is_dir() else package.parents[1] / "alembic"


@cache
def known() -> tuple[str, ...]:
    """Return every revision, oldest first, from the names of the files."""
    files = (migrations() / "versions").glob("*.py")
    return tuple(sorted(file.stem.partition("_")[0] for file in files))


async def current(connection: "asyncpg.Connection[asyncpg.Record]") -> str | None:
    """Return the revision of a database, or None if it was never migrated."""
    try:
        found: str | None = await connection.fetchval("SELECT version_num FROM alembic_version")
    except asyncpg.UndefinedTableError:
        return None
    return found


async def encoding(connection: "asyncpg.Connection[asyncpg.Record]") -> str:
    """Return the encoding of a database."""
    found: str = await connection.fetchval("SHOW server_encoding")
    return found


def is_newest(url: str) -> bool:
    """Whether the database is at the newest revision, and in UTF8.

    Also false if it can't be reached. `schema.check` finds out why.
    """

    async def ask() -> str | None:
        # It asks each question once, so it needs no names, which a pooler may not allow.
        server = Server(Address.parse(url), "transaction")
        with leaving.cancellable():
            connection = await server.connect(patience=PATIENCE, command_timeout=PATIENCE)
            try:
                return await current(connection) if await encoding(connection) == UTF8 else None
            finally:
                await connection.close()

    try:
        return leaving.run(ask()) == known()[-1]
    except NOT_ASKED:
        return False
