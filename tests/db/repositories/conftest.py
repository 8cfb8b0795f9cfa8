import os
from collections.abc import AsyncIterator

import asyncpg
import pytest

from tests.databases import with_database


@pytest.fixture
async def empty_url(server_url: str) -> AsyncIterator[str]:
    """The address of a database that was never migrated."""
    name = f"empty_{os.getpid()}"
    connection = await asyncpg.connect(server_url)
    await connection.execute(f"CREATE DATABASE {name}")
    yield with_database(server_url, name)
    await connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
    await connection.close()
