"""A real PostgreSQL for the whole run, an empty migrated database for every test."""

import asyncio
import gc
import os
import resource
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from asyncpg import Record
from coverage import Coverage
from fastapi import FastAPI
from hypothesis import Phase
from hypothesis import settings as examples
from sqlalchemy.ext.asyncio import AsyncEngine

from tests.applications import calling, running, settings_of
from tests.databases import TEMPLATE, Databases, execute
from tests.folders import folder_open_to_all, put
from tests.people import Visitor
from ticketing.db import migrations
from ticketing.db.engine import connect
from ticketing.db.statements import Driver, Statement
from ticketing.embedded.server import embedded
from ticketing.sale.repositories.bookings import BookingRepository
from ticketing.settings import Settings

# What collecting the tests makes stays. To look for garbage in it takes a quarter of the time.
gc.disable()

# For `make mutants`: the same few examples for each mutant, until one shows it.
examples.register_profile(
    "mutants",
    derandomize=True,
    max_examples=40,
    phases=[Phase.explicit, Phase.generate],
    report_multiple_bugs=False,
)


def pytest_collection_finish() -> None:
    gc.freeze()
    gc.enable()


@pytest.fixture(scope="session")
def anyio_backend() -> tuple[str, dict[str, bool]]:
    return "asyncio", {"use_uvloop": True}


@pytest.fixture(scope="session", autouse=True)
def _no_settings_from_outside() -> None:
    for name in [name for name in os.environ if name.startswith("TICKETING_")]:
        del os.environ[name]


@pytest.fixture(scope="session", autouse=True)
def _as_many_files_as_may_be() -> None:
    """Some tests open a thousand connections."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


@pytest.fixture(scope="session", autouse=True)
def _nothing_frozen() -> Iterator[None]:
    """Let what a test leaves be collected. A starting application would keep it for ever."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gc, "freeze", lambda: None)
        yield


@pytest.fixture
def unmeasured(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Run without coverage, also in started processes. Other tests measure the same code."""
    monkeypatch.delenv("COVERAGE_PROCESS_CONFIG", raising=False)
    paused = []
    # A worker of pytest-xdist has two, because it is a started process too.
    while (measuring := Coverage.current()) is not None:
        measuring.stop()
        paused.append(measuring)
    yield
    for measuring in reversed(paused):
        measuring.start()


@pytest.fixture
def open_dir() -> Iterator[Path]:
    """A folder like that, for one test."""
    with folder_open_to_all() as path:
        yield path


@pytest.fixture(scope="session")
def kept_data() -> Iterator[Path]:
    """The data directory of a service that was started and stopped."""
    with folder_open_to_all() as path:
        with embedded(path, fsync="off") as running:
            migrations.upgrade(running.url)
        yield path


@pytest.fixture
def kept_dir(open_dir: Path, kept_data: Path) -> Path:
    """A folder in which the service ran before, so that it starts without making a database.

    `test_serve` and others start in an empty folder.
    """
    put(kept_data, open_dir)
    return open_dir


@pytest.fixture(scope="session")
def server_url(kept_data: Path) -> Iterator[str]:
    """A PostgreSQL server with the migrated template in it."""
    with folder_open_to_all() as path:
        put(kept_data, path)
        # Durability is tested with `ticketing serve`, which keeps the defaults.
        with embedded(path / "data", max_connections="200", fsync="off") as running:
            asyncio.run(execute(running.url, f"CREATE DATABASE {TEMPLATE} TEMPLATE postgres"))
            yield running.url


@pytest.fixture(scope="session")
def _databases(server_url: str) -> Databases:
    return Databases(server_url)


@pytest.fixture
def database_url(_databases: Databases) -> Iterator[str]:
    """The address of an empty migrated database for this test alone."""
    url = asyncio.run(_databases.take())
    yield url
    asyncio.run(_databases.give_back(url))


@pytest.fixture
async def engine(database_url: str) -> AsyncIterator[AsyncEngine]:
    engine = connect(database_url, pool_size=10)
    yield engine
    await engine.dispose()


@pytest.fixture
def settings(database_url: str, tmp_path: Path) -> Settings:
    return settings_of(database_url, tmp_path / "logs")


@pytest.fixture(scope="session")
def _documents() -> dict[str, dict[str, Any]]:
    """The OpenAPI documents that were made, by the description of the application."""
    return {}


@pytest.fixture
async def app(settings: Settings, _documents: dict[str, dict[str, Any]]) -> AsyncIterator[FastAPI]:
    async with running(settings, _documents) as app:
        yield app


@pytest.fixture
async def client(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the application. Every response must be documented."""
    async with calling(app) as client:
        yield client


@pytest.fixture
def visitor(client: httpx.AsyncClient) -> Visitor:
    """A client without an account."""
    return Visitor(client)


@pytest.fixture
async def bookings(engine: AsyncEngine) -> AsyncIterator[BookingRepository]:
    repository = BookingRepository(engine)
    yield repository
    await repository.close()


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The statements that are sent."""
    statements: list[str] = []
    fetch = Statement.fetch

    async def note(self: Statement, connection: Driver, **parameters: object) -> list[Record]:
        statements.append(self.sql)
        return await fetch(self, connection, **parameters)

    monkeypatch.setattr(Statement, "fetch", note)
    return statements
