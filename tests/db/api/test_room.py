"""A database that has no room for the connections of the service."""

import asyncio
import os
import subprocess
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import asyncpg
import pytest
from sqlalchemy import make_url

from tests.applications import calling, running, settings_of
from tests.contract import assert_problem
from tests.databases import execute
from tests.people import Visitor
from tests.serving import TICKETING
from tests.signing import SECRET
from ticketing.db import hosts

ROLE = "with_few_connections"
FEW = 16


@pytest.fixture
async def few_url(database_url: str) -> AsyncIterator[str]:
    """The database, with a role that may have few connections."""
    for statement in (
        f"CREATE ROLE {ROLE} LOGIN CONNECTION LIMIT {FEW}",
        f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {ROLE}",
        f"GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO {ROLE}",
    ):
        await execute(database_url, statement)
    yield make_url(database_url).set(username=ROLE).render_as_string()
    await execute(database_url, f"DROP OWNED BY {ROLE}")
    await execute(database_url, f"DROP ROLE {ROLE}")


def ticketing(cwd: Path, url: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [*TICKETING, *arguments],
        cwd=cwd,
        env={**os.environ, "TICKETING_DATABASE_URL": url, "TICKETING_JWT_SECRET": SECRET},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


async def all_that_are_left(url: str) -> "list[asyncpg.Connection[asyncpg.Record]]":
    taken: list[asyncpg.Connection[asyncpg.Record]] = []
    with suppress(asyncpg.TooManyConnectionsError):
        while True:
            taken.append(await asyncpg.connect(url))
    return taken


async def test_a_start_and_a_check_refuse_a_database_without_room_for_this_service(
    few_url: str, tmp_path: Path
) -> None:
    started = await asyncio.to_thread(ticketing, tmp_path, few_url, "serve", "--port", "0")
    assert (started.returncode, started.stdout, started.stderr.count("\n")) == (1, "", 1)
    assert f"allows {FEW} connections" in started.stderr
    assert "may need 29" in started.stderr
    checked = await asyncio.to_thread(ticketing, tmp_path, few_url, "check")
    assert (checked.returncode, checked.stderr) == (1, "")
    assert f"29 needed, {FEW} allowed" in checked.stdout
    assert checked.stdout.count("WRONG") == 2  # The tests' server does not sync.


async def test_a_check_shows_a_database_that_is_as_it_should_be(
    database_url: str, tmp_path: Path
) -> None:
    checked = await asyncio.to_thread(ticketing, tmp_path, database_url, "check")
    shown = dict(line.split(maxsplit=1) for line in checked.stdout.splitlines())
    assert shown["host"].endswith(": primary")
    assert (shown["encoding"], shown["writes"], shown["pooler"]) == ("UTF8", "accepted", "none")
    assert shown["standbys"] == "none"
    assert "29 needed, 200 allowed" in shown["connections"]
    await execute(database_url, "UPDATE alembic_version SET version_num = '0001'")
    checked = await asyncio.to_thread(ticketing, tmp_path, database_url, "check")
    assert "run `ticketing migrate`" in checked.stdout
    gone = await asyncio.to_thread(ticketing, tmp_path, "postgresql://127.0.0.1:1/gone", "check")
    assert (gone.returncode, gone.stderr.count("\n")) == (1, 1)


async def test_a_worker_that_gets_no_connection_is_not_ready_until_it_does(
    few_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hosts, "SHORT_FOR", 0.3)
    async with running(settings_of(few_url, tmp_path)) as app, calling(app) as client:
        assert (await client.get("/readyz")).status_code == 200
        taken = await all_that_are_left(few_url)
        visitor = Visitor(client)
        answers = await asyncio.gather(*(client.get("/api/events") for _ in range(2 * FEW)))
        assert {each.status_code for each in answers} == {200, 503}
        refused = assert_problem(await client.get("/readyz"), 503, "not_ready")
        assert refused == {"reason": "connections", "retryAfter": 1}
        for each in taken:
            await each.close()
        await asyncio.sleep(0.4)
        assert (await client.get("/readyz")).status_code == 200
        assert (await visitor.register()).id
