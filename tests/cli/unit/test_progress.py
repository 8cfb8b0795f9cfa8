"""Long work shows its progress at a terminal, and nowhere else."""

import asyncio
import os
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import asyncpg
import pytest

from tests.serving import PATIENCE, TICKETING
from tests.signing import SECRET
from tests.terminals import at_terminal
from ticketing.db import migrations, revision
from ticketing.embedded.server import embedded

CLEARED = "\r\x1b[2K"

# Like the command, but it shows its progress sooner.
AT_ONCE = """
import sys
from ticketing.cli import main
from ticketing.ops import progress

progress.PATIENCE = progress.AGAIN = 0.001
sys.argv[0] = "ticketing"
main.main()
"""
SOON = (TICKETING[0], "-c", AT_ONCE)


@contextmanager
def held(url: str, statement: str) -> Iterator[Callable[[], None]]:
    """Hold a lock of the database until the yielded function is called."""
    holding, letting_go = threading.Event(), threading.Event()

    async def hold() -> None:
        connection = await asyncpg.connect(url)
        async with connection.transaction():
            await connection.execute(statement)
            holding.set()
            await asyncio.to_thread(letting_go.wait, PATIENCE)
        await connection.close()

    thread = threading.Thread(target=lambda: asyncio.run(hold()))
    thread.start()
    try:
        assert holding.wait(PATIENCE)
        yield letting_go.set
    finally:
        letting_go.set()
        thread.join()


def test_a_command_that_takes_long_says_at_a_terminal_what_it_does(
    database_url: str, tmp_path: Path
) -> None:
    migrations.downgrade(database_url, revision.known()[-2])
    settings = {"TICKETING_DATABASE_URL": database_url, "TICKETING_JWT_SECRET": SECRET}
    # The lock that migrating replicas share: see `alembic/env.py`.
    with held(database_url, "SELECT pg_advisory_xact_lock(1953063787)") as let_go:
        sent = at_terminal(
            tmp_path,
            "migrate",
            environment=settings,
            watch=lambda so_far: let_go() if "Migrating" in so_far else None,
        )
    assert f"{CLEARED}Migrating the database, 0:0" in sent
    older, newest = revision.known()[-2:]
    assert sent.endswith(f"{CLEARED}Migrated the database from revision {older} to {newest}.\r\n")
    sent = at_terminal(tmp_path, "audit", environment=settings, command=SOON)
    assert f"{CLEARED}Recounting, 0:00\r" in sent
    assert f"{CLEARED}Events: 0, bookings: 0, differences: 0.\r\n" in sent


@pytest.mark.usefixtures("unmeasured")
def test_no_progress_is_written_to_a_pipe(database_url: str, tmp_path: Path) -> None:
    migrations.downgrade(database_url, revision.known()[-2])
    settings = {"TICKETING_DATABASE_URL": database_url, "TICKETING_JWT_SECRET": SECRET}
    for command, said in (("migrate", "Migrated the database"), ("audit", "Events: 0,")):
        done = subprocess.run(
            [*SOON, command],
            cwd=tmp_path,
            env={**os.environ, **settings},
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.startswith(said)
        assert "\r" not in done.stderr
        assert "\x1b" not in done.stderr


def test_a_backup_and_a_restore_say_at_a_terminal_what_they_do(open_dir: Path) -> None:
    with embedded(open_dir / "data") as server:
        migrations.upgrade(server.url)
    sent = at_terminal(open_dir, "backup", "file.dump", command=SOON)
    assert "Backing up, writing, 0." in sent
    assert " MB, 0:0" in sent
    assert "Backing up, checking it, " in sent
    assert f"{CLEARED}Wrote file.dump (" in sent
    sent = at_terminal(open_dir, "restore", "file.dump", "--force", command=SOON)
    for step in ("checking it", "writing the data", "migrating"):
        assert f"Restoring file.dump, {step}, 0:0" in sent
    assert f"{CLEARED}Restored file.dump to " in sent
    piped = open_dir / "piped.dump"
    sent = at_terminal(open_dir, "backup", "-", command=SOON, redirected=piped)
    assert sent.endswith(CLEARED)
    assert piped.read_bytes().startswith(b"PGDMP")
