"""A database that accepts no writes, for a while or for ever."""

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import httpx
import pytest
from fastapi import FastAPI
from pydantic import SecretStr
from sqlalchemy.ext.asyncio import AsyncEngine

from tests.contract import assert_problem
from tests.people import Visitor
from ticketing.app import create_app
from ticketing.db.statements import driver
from ticketing.errors import DatabaseUnavailable
from ticketing.settings import Settings


async def let_write(server_url: str, *, may: bool) -> None:
    """Make all connections of the server read-only, also open ones, or writable again."""
    connection = await asyncpg.connect(server_url)
    await connection.execute(
        "ALTER SYSTEM RESET default_transaction_read_only"
        if may
        else "ALTER SYSTEM SET default_transaction_read_only = on"
    )
    await connection.execute("SELECT pg_reload_conf()")
    await connection.close()
    expected = "off" if may else "on"
    while True:
        connection = await asyncpg.connect(server_url)
        found = await connection.fetchval("SHOW default_transaction_read_only")
        await connection.close()
        if found == expected:
            return
        await asyncio.sleep(0.05)


@pytest.fixture
async def read_only(server_url: str, database_url: str) -> AsyncIterator[None]:
    """Let the server accept writes again before the test's database is emptied."""
    assert database_url
    yield
    await let_write(server_url, may=True)


@pytest.mark.usefixtures("read_only")
async def test_writes_go_on_as_soon_as_the_database_accepts_them(
    visitor: Visitor, client: httpx.AsyncClient, server_url: str
) -> None:
    ada = await visitor.register()
    event = await ada.organise()
    await let_write(server_url, may=False)
    await asyncio.sleep(0.2)  # Each server process reads its configuration between statements.
    assert_problem(await ada.book(event), 503, "database_unavailable")
    assert_problem(await client.get("/readyz"), 503, "not_ready")
    assert (await visitor.event(event))["availableTickets"] == 10
    await let_write(server_url, may=True)
    await asyncio.sleep(0.2)
    assert (await client.get("/readyz")).status_code == 200
    assert (await ada.book(event)).status_code == 201


@pytest.mark.usefixtures("read_only")
async def test_a_connection_that_accepts_no_writes_is_replaced(
    engine: AsyncEngine, server_url: str
) -> None:
    async def backend() -> int:
        async with driver(engine) as connection:
            number: int = await connection.fetchval("SELECT pg_backend_pid()")
        return number

    first = await backend()
    assert await backend() == first
    await let_write(server_url, may=False)
    await asyncio.sleep(0.2)
    with pytest.raises(DatabaseUnavailable):
        async with driver(engine) as connection:
            await connection.execute("DELETE FROM rates")
    assert await backend() != first


async def test_no_primary_among_the_hosts_is_a_503(settings: Settings) -> None:
    assert settings.database_url is not None
    url = settings.database_url.get_secret_value() + "&target_session_attrs=standby"
    app: FastAPI = create_app(settings.model_copy(update={"database_url": SecretStr(url)}))
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        for path in ("/readyz", "/api/events", "/api/events/1"):
            assert_problem(await client.get(path), 503, "database_unavailable")
