"""The service behind a real PgBouncer, which lends sessions or transactions."""

import asyncio
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from tests.applications import calling, running, settings_of
from tests.bouncer import Bouncer, bouncing
from tests.databases import execute
from tests.people import Person, Visitor
from tests.serving import TICKETING
from tests.signing import SECRET
from ticketing.db import sessions
from ticketing.db.engine import connect
from ticketing.db.statements import driver
from ticketing.errors import StartupError
from ticketing.sale.repositories.recount import RecountRepository
from ticketing.settings import Pooler

MODES: tuple[Pooler, ...] = ("session", "transaction")
CROWD = 30
PLACES = 20


@pytest.fixture(scope="module", params=MODES)
def bouncer(request: pytest.FixtureRequest, server_url: str) -> Iterator[Bouncer]:
    with bouncing(server_url, request.param) as bouncer:
        yield bouncer


@pytest.fixture(scope="module")
def lending_transactions(server_url: str) -> Iterator[Bouncer]:
    with bouncing(server_url, "transaction") as bouncer:
        yield bouncer


def lacking(url: str) -> str:
    """Return the SQL that a start says must be run."""
    with pytest.raises(StartupError) as refused:
        sessions.require(url)
    said = str(refused.value)
    assert "\n" not in said
    return said[said.index("ALTER ROLE") :]


async def test_a_crowd_books_through_a_pooler_and_every_session_has_its_settings(
    bouncer: Bouncer, database_url: str, engine: AsyncEngine, tmp_path: Path
) -> None:
    url = bouncer.to(database_url)
    if bouncer.mode == "transaction":
        # Directly, because sessions that the pooler has already would stay as they are.
        await execute(database_url, await asyncio.to_thread(lacking, database_url))
        await asyncio.to_thread(sessions.require, database_url)
    settings = settings_of(url, tmp_path / "logs").model_copy(update={"pooler": bouncer.mode})
    async with running(settings) as app, calling(app) as client:
        visitor = Visitor(client)
        owner = await visitor.register()
        event = await owner.organise(total=PLACES)
        people = [await visitor.register() for _ in range(CROWD)]
        answers = await asyncio.gather(*(each.book(event) for each in people))
        assert sorted(each.status_code for each in answers) == [201] * PLACES + [202] * (
            CROWD - PLACES
        )
        gone = await asyncio.gather(*(each.cancel(event) for each in people[:PLACES]))
        assert {each.status_code for each in gone} == {200}
        assert await everything_is_read(owner, event) == {200}
    pooled = connect(url, pool_size=1, pooler=bouncer.mode)
    async with driver(pooled) as connection:
        shown = {name: await connection.fetchval(f"SHOW {name}") for name in sessions.promised()}
    await pooled.dispose()
    assert shown == sessions.promised()
    assert (await RecountRepository(engine).recount()).differences == []


async def everything_is_read(owner: Person, event: int) -> set[int]:
    """Ask what statements that are made at run time answer. Return the statuses."""
    paths = ("/readyz", "/api/events", f"/api/events/{event}", f"/api/events/{event}/bookings")
    asked = [owner.get(path) for path in paths for _ in range(5)]
    return {each.status_code for each in await asyncio.gather(*asked)}


async def test_one_process_audits_behind_a_pooler_until_it_ends(
    bouncer: Bouncer, database_url: str
) -> None:
    url = bouncer.to(database_url)
    engines = [connect(url, pool_size=2, pooler=bouncer.mode) for _ in range(2)]
    first, second = map(RecountRepository, engines)
    for _ in range(3):
        assert await first.take_turn()
        assert not await second.take_turn()
    await first.close()
    async with asyncio.timeout(10):
        while not await second.take_turn():  # the pooler has yet to notice
            pass
    await second.close()


def test_a_start_says_what_a_role_lacks_behind_a_pooler_of_transactions(
    lending_transactions: Bouncer, database_url: str, tmp_path: Path
) -> None:
    url = lending_transactions.to(database_url)
    refused = ticketing(tmp_path, url, "serve", "--port", "0")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr.count("\n") == 1
    assert "ALTER ROLE postgres IN DATABASE" in refused.stderr


def test_a_migration_refuses_a_pooler_of_transactions(tmp_path: Path) -> None:
    url = "postgresql://u@127.0.0.1:1/nothing"
    refused = ticketing(tmp_path, url, "migrate")
    assert refused.returncode == 1
    assert "TICKETING_MIGRATION_DATABASE_URL" in refused.stderr


def ticketing(cwd: Path, url: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run a command that knows of the pooler."""
    given = {"DATABASE_URL": url, "JWT_SECRET": SECRET, "POOLER": "transaction"}
    return subprocess.run(
        [*TICKETING, *arguments],
        cwd=cwd,
        env={**os.environ, **{f"TICKETING_{name}": value for name, value in given.items()}},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
