"""A connection that the server ends is replaced."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import asyncpg
import pytest
from sqlalchemy import make_url, text

from ticketing.db.engine import connect
from ticketing.db.refusals import domain_errors
from ticketing.db.statements import driver
from ticketing.errors import DatabaseUnavailable


@asynccontextmanager
async def never_closing(database_url: str) -> AsyncIterator[str]:
    """A proxy to the database that passes on everything except the end of a connection."""
    folder = str(make_url(database_url).query["host"])
    open_ones: list[asyncio.StreamWriter] = []

    async def hand_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(65_536):
                writer.write(data)

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answers, theirs = await asyncio.open_unix_connection(f"{folder}/.s.PGSQL.5432")
        open_ones.extend((writer, theirs))
        await asyncio.gather(hand_on(reader, theirs), hand_on(answers, writer))

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    name = make_url(database_url).database
    yield f"postgresql://postgres@127.0.0.1:{port}/{name}?sslmode=disable"
    server.close()
    for writer in open_ones:
        writer.close()
    await server.wait_closed()


async def end_all(database_url: str) -> None:
    connection = await asyncpg.connect(database_url)
    await connection.execute(
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
        " WHERE application_name = 'ticketing' AND datname = current_database()"
    )
    await connection.close()
    await asyncio.sleep(0.1)


@pytest.mark.parametrize("way", ["the driver", "SQLAlchemy"])
async def test_a_connection_that_is_ended_but_not_closed_yet_is_replaced(
    database_url: str, way: str
) -> None:
    async def ask() -> None:
        if way == "the driver":
            async with driver(engine) as connection:
                await connection.fetch("SELECT 1")
        else:
            async with domain_errors(), engine.connect() as connected:
                await connected.execute(text("SELECT 1"))

    async with never_closing(database_url) as url:
        engine = connect(url, pool_size=1)
        await ask()
        await end_all(database_url)
        with pytest.raises(DatabaseUnavailable):
            await ask()
        await ask()
    await engine.dispose()
