"""A real PostgreSQL for the whole run, an empty migrated database for every test."""

import asyncio
import gc
import os
import resource
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest
from asyncpg import Record
from coverage import Coverage
from fastapi import FastAPI
from hypothesis import HealthCheck, Phase
from hypothesis import settings as examples
from sqlalchemy.ext.asyncio import AsyncEngine
from starlette.routing import BaseRoute

from tests.applications import calling, running, settings_of
from tests.databases import TEMPLATE, Databases, execute
from tests.folders import folder_open_to_all, put
from tests.measured import sitecustomize
from tests.people import Visitor
from ticketing.db import migrations
from ticketing.db.engine import connect
from ticketing.db.statements import Driver, Statement
from ticketing.embedded.server import embedded
from ticketing.sale.repositories.bookings import BookingRepository
from ticketing.settings import Settings
from ticketing.web import openapi
from ticketing.web.direct import PolicyRoute

# At each request httpx looks whether it runs under trio, in all folders from which one can import.
sys.modules.setdefault("sniffio", None)  # type: ignore[arg-type]

# In this process, unless it began so, and in all that it starts.
if not hasattr(sys.modules.get("sitecustomize"), "measure_faster"):
    sitecustomize.measure_faster()
os.environ["PYTHONPATH"] = os.pathsep.join(
    [str(Path(sitecustomize.__file__).parent), *filter(None, [os.environ.get("PYTHONPATH")])]
)

# What collecting the tests makes stays. To look for garbage in it takes a quarter of the time.
gc.disable()

# No example fails because the machine is busy.
examples.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
examples.load_profile("untimed")

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
        # Durability is tested with `ticketing serve`, which keeps the defaults. What vacuums by
        # itself changes statistics, and is a transaction for which the feed waits.
        options = {"max_connections": "200", "fsync": "off", "autovacuum": "off"}
        with embedded(path / "data", **options) as running:
            asyncio.run(execute(running.url, f"CREATE DATABASE {TEMPLATE} TEMPLATE postgres"))
            yield running.url


@pytest.fixture(scope="session")
def _databases(server_url: str) -> Iterator[Databases]:
    databases = Databases(server_url)
    yield databases
    databases.close()


@pytest.fixture
def database_url(_databases: Databases) -> Iterator[str]:
    """The address of an empty migrated database for this test alone."""
    url = _databases.take()
    yield url
    _databases.give_back(url)


@pytest.fixture
async def engine(database_url: str) -> AsyncIterator[AsyncEngine]:
    engine = connect(database_url, pool_size=10)
    yield engine
    await engine.dispose()


@pytest.fixture
def settings(database_url: str, tmp_path: Path) -> Settings:
    return settings_of(database_url, tmp_path / "logs")


@pytest.fixture(scope="session", autouse=True)
def _documents() -> Iterator[None]:
    """Make each OpenAPI document once, because that takes a second under coverage.

    Settings change only the description.
    """
    made: dict[tuple[object, ...], tuple[dict[str, Any], Sequence[BaseRoute]]] = {}
    document = openapi.document

    def once(app: FastAPI) -> dict[str, Any]:
        routes = [each for each in app.routes if isinstance(each, PolicyRoute)]
        of = (app.description, *map(id, routes))
        if of not in made:
            made[of] = document(app), routes
        return made[of][0]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(openapi, "document", once)
        yield


@pytest.fixture
async def app(settings: Settings) -> AsyncIterator[FastAPI]:
    async with running(settings) as app:
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
