"""At which revision of the schema a database is, and which the code needs.

Told without Alembic and SQLAlchemy, which take most of a second to load: a start finds its database
migrated far more often than not.
"""

import asyncio
from functools import cache
from pathlib import Path
from typing import Final

import asyncpg

from ticketing.database_address import Address
from ticketing.db.hosts import Server

PATIENCE: Final = 1.0
"""Seconds in which a database says where it is, or is asked again by who can say what is wrong."""


NOT_ASKED: Final = (
    *(OSError, ValueError),
    *(asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError),
)
UTF8: Final = "UTF8"
"""The one encoding in which a database keeps every name."""


@cache
def migrations() -> Path:
    """Return the folder of Alembic's that has the migrations."""
    package = Path(__file__).parents[1]
    # A wheel carries the migrations inside the package; a checkout has them at its top.
    inside = package / "alembic"
    return inside if inside.is_dir() else package.parents[1] / "alembic"


@cache
def known() -> tuple[str, ...]:
    """Return every revision, the oldest first, as their files are named and sort."""
    files = (migrations() / "versions").glob("*.py")
    return tuple(sorted(file.stem.partition("_")[0] for file in files))


async def current(connection: "asyncpg.Connection[asyncpg.Record]") -> str | None:
    """Return the revision of a database, or None of one that was never migrated."""
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

    False too if it could not be asked: whoever goes on to use it finds out why.
    """

    async def ask() -> str | None:
        server = Server(Address.parse(url))
        connection = await server.connect(patience=PATIENCE, command_timeout=PATIENCE)
        try:
            return await current(connection) if await encoding(connection) == UTF8 else None
        finally:
            await connection.close()

    try:
        return asyncio.run(ask()) == known()[-1]
    except NOT_ASKED:
        return False
