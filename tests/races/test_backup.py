"""Run `ticketing backup` and `ticketing restore` as an operator does."""

import asyncio
import gzip
import os
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import NamedTuple

import asyncpg
import pytest

from tests.folders import folder_open_to_all, put
from tests.people import Person, bookings_of
from tests.serving import COVERAGE, PATIENCE, TICKETING, UNMEASURED, Service, serving, visiting
from tests.signing import SECRET
from ticketing.db import migrations
from ticketing.embedded import backup
from ticketing.embedded.server import embedded
from ticketing.errors import StartupError

ROWS = """
    SELECT format('SELECT %L, to_jsonb(t)::text FROM %I t', tablename, tablename)
    FROM pg_tables WHERE schemaname = 'public'
        -- A running service fills these from the trail.
        AND tablename <> ALL ('{activity, activity_cursor, revenues, reduced_tickets}')
"""

NO_BACKUP = "bad.dump is not a complete backup: pg_restore failed: "


def run(cwd: Path, *arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*TICKETING, *arguments],
        cwd=cwd,
        # The shell's variables for another server must not matter.
        env={**os.environ, "PGHOST": "nowhere", "PGDATABASE": "nothing", **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


def refusal(cwd: Path, *arguments: str | Path, **environment: str) -> str:
    done = run(cwd, *arguments, **environment)
    assert (done.returncode, done.stdout) == (1, ""), done.stderr
    (line,) = done.stderr.splitlines()
    return line.removeprefix("ticketing: ")


def saved(cwd: Path, *arguments: str | Path) -> Path:
    done = run(cwd, "backup", *arguments)
    assert done.returncode == 0, done.stderr
    return cwd / arguments[0]


def restored(cwd: Path, *arguments: str | Path) -> None:
    done = run(cwd, "restore", *arguments)
    assert done.returncode == 0, done.stderr


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


async def rows(sockets: Path) -> set[tuple[str, str]]:
    """Return every row of every table."""
    connection = await asyncpg.connect(f"postgresql://postgres@/postgres?host={sockets}")
    try:
        queries = [row[0] for row in await connection.fetch(ROWS)]
        return {(row[0], row[1]) for query in queries for row in await connection.fetch(query)}
    finally:
        await connection.close()


async def rows_at_rest(data_dir: Path) -> set[tuple[str, str]]:
    with embedded(data_dir) as server:
        return await rows(server.sockets)


async def sale(service: Service) -> tuple[Person, int]:
    """A person with a place at an event where another person waits."""
    async with visiting(service) as visitor:
        organiser, other = await visitor.register(), await visitor.register()
        event = await organiser.organise(1)
        assert (await organiser.book(event)).status_code == 201
        assert (await other.book(event)).status_code == 202
        return organiser, event


class Sold(NamedTuple):
    """The data of a service that was stopped after a sale, and a backup of it while it ran."""

    data: Path
    dump: Path
    rows: set[tuple[str, str]]
    organiser: Person
    event: int


@pytest.fixture(scope="module")
async def sold(kept_data: Path) -> AsyncIterator[Sold]:
    with folder_open_to_all() as folder, pytest.MonkeyPatch.context() as patch:
        put(kept_data, folder)
        patch.delenv(COVERAGE, raising=False)
        with serving(folder) as service:
            organiser, event = await sale(service)
            dump = saved(folder, "running.dump")
            known = await rows(folder / "data" / "sockets")
        assert names(folder) == {"data", "logs", "console.txt", "running.dump"}
        yield Sold(folder / "data", dump, known, organiser, event)


@pytest.fixture
def sold_dir(open_dir: Path, sold: Sold) -> Path:
    """A folder with these data."""
    put(sold.data, open_dir)
    return open_dir


@pytest.mark.usefixtures("unmeasured")
async def test_a_backup_goes_through_pipes(sold_dir: Path, sold: Sold) -> None:
    whole = piped(sold_dir, "backup", "-")
    assert whole.startswith(b"PGDMP")
    said = piped(sold_dir, "restore", "-", "--data-dir", "elsewhere", given=whole)
    assert said.decode() == f"Restored standard input to {sold_dir / 'elsewhere'}.\n"
    assert await rows_at_rest(sold_dir / "elsewhere") == sold.rows
    why = piped(sold_dir, "restore", "-", "--data-dir", "more", given=whole[:-1], status=1)
    assert why.decode().startswith("ticketing: standard input is not a complete backup: ")


def piped(cwd: Path, *arguments: str, given: bytes = b"", status: int = 0) -> bytes:
    """Run it between two pipes. Return its output, or its standard error if it failed."""
    done = subprocess.run(
        [*TICKETING, *arguments],
        cwd=cwd,
        input=given,
        capture_output=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == status, done.stderr
    assert (done.stdout if status else done.stderr) == b""
    return done.stderr if status else done.stdout


@pytest.mark.usefixtures("unmeasured")
def test_a_backup_to_a_broken_pipe_fails(kept_dir: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with Path("/dev/full").open("wb") as full, os.fdopen(writing, "wb") as broken:
        for target, why in ((full, "No space left on device"), (broken, "Broken pipe")):
            done = subprocess.run(
                [*TICKETING, "backup", "-"],
                cwd=kept_dir,
                stdout=target,
                stderr=subprocess.PIPE,
                text=True,
                check=False,
            )
            assert done.returncode == 1
            assert done.stderr == f"ticketing: standard output can't be written: {why}\n"
    line = refusal(kept_dir, "backup", "-", TMPDIR=str(kept_dir), TICKETING_DATA_DIR="none")
    assert "contains no database" in line


def test_a_backup_overwrites_the_target_of_a_link_but_no_device(kept_dir: Path) -> None:
    data, file, link = kept_dir / "data", kept_dir / "kept" / "file.dump", kept_dir / "latest.dump"
    file.parent.mkdir()
    file.write_text("of yesterday")
    link.symlink_to(Path("kept") / "file.dump")
    with embedded(data):
        with pytest.raises(StartupError, match=r"latest\.dump exists: use --force to overwrite it"):
            backup.save(data, link)
        backup.save(data, link, force=True)
        assert link.is_symlink()
        assert file.read_bytes().startswith(b"PGDMP")
        os.mkfifo(kept_dir / "pipe")
        with pytest.raises(StartupError, match="pipe is not a file: use - to write"):
            backup.save(data, kept_dir / "pipe", force=True)
    assert names(file.parent) == {"file.dump"}


@pytest.mark.usefixtures("unmeasured")
async def test_a_restored_backup_is_served_and_goes_on(sold_dir: Path, sold: Sold) -> None:
    assert sold.dump.stat().st_mode & 0o777 == 0o600
    assert len(sold.rows) > 5
    at_rest = saved(sold_dir, "stopped.dump")
    assert names(sold_dir) == {"data", "stopped.dump"}
    for dump in (sold.dump, at_rest):
        elsewhere = sold_dir / dump.stem
        restored(sold_dir, dump, "--data-dir", elsewhere)
        assert await rows_at_rest(elsewhere) == sold.rows
    # The secret is not in the backup. It keeps the tokens valid.
    (elsewhere / "jwt_secret").write_text((sold_dir / "data" / "jwt_secret").read_text())
    organiser, event = sold.organiser, sold.event
    with serving(sold_dir, "--data-dir", str(elsewhere), **UNMEASURED) as service:
        async with visiting(service) as visitor:
            assert len(await bookings_of(organiser, visitor)) == 1
            person = Person(visitor.client, organiser.username, organiser.id, organiser.token)
            assert await person.organise() > event
            cancelled = await person.cancel(event)
            assert cancelled.json()["promoted"] == 1
            assert (await person.book(event)).json()["position"] == 1


@pytest.mark.usefixtures("unmeasured")
async def test_a_restore_replaces_data_only_with_an_option_and_never_data_in_use(
    kept_dir: Path,
) -> None:
    with serving(kept_dir, **UNMEASURED) as service:
        await sale(service)
        file = saved(kept_dir, "first.dump")
        data = kept_dir / "data"
        assert refusal(kept_dir, "restore", "--force", file) == (
            f"{data} is in use by another `ticketing serve`: stop it first"
        )
        first = await rows(data / "sockets")
        async with visiting(service) as visitor:
            await visitor.register("somebody-later")
    second = await rows_at_rest(data)
    assert len(second) > len(first)
    assert (
        refusal(kept_dir, "restore", file) == f"{data} contains data: use --force to replace them"
    )
    assert await rows_at_rest(data) == second
    restored(kept_dir, file, "--force")
    assert await rows_at_rest(data) == first
    with serving(kept_dir, **UNMEASURED) as service:
        async with visiting(service) as visitor:
            assert (await visitor.client.get("/readyz")).status_code == 200


@pytest.mark.usefixtures("unmeasured")
async def test_a_restore_that_fails_keeps_the_old_data(sold_dir: Path, sold: Sold) -> None:

    def fails(url: str) -> None:
        assert url.startswith("postgresql://postgres@/ticketing_restoring?")
        raise StartupError("too new")

    with pytest.raises(StartupError, match="nothing was changed: too new"):
        backup.restore(sold_dir / "data", sold.dump, migrate=fails, force=True)
    assert await rows_at_rest(sold_dir / "data") == sold.rows

    whole = sold.dump.read_bytes()
    for size in (len(whole) // 3, len(whole) // 2, len(whole) - 1):
        (sold_dir / "bad.dump").write_bytes(whole[:size])
        assert refusal(sold_dir, "restore", "--force", "bad.dump").startswith(NO_BACKUP)
    (sold_dir / "bad.dump").write_bytes(gzip.compress(b"something else"))
    assert refusal(sold_dir, "restore", "--force", "bad.dump").startswith(NO_BACKUP)
    assert refusal(sold_dir, "restore", "--force", ".") == ". is not a file"
    assert refusal(sold_dir, "backup", "--force", ".") == ". is a directory"
    assert refusal(sold_dir, "restore", "none.dump") == "none.dump does not exist"
    assert await rows_at_rest(sold_dir / "data") == sold.rows
    assert not (sold_dir / "data" / "postgres.half").exists()


@pytest.mark.usefixtures("unmeasured")
def test_an_older_backup_is_migrated_and_a_newer_one_refused(kept_dir: Path) -> None:
    data, file = kept_dir / "data", kept_dir / "file.dump"
    with embedded(data) as server:
        newest = asyncio.run(revision(server.url))
    backup.save(data, file)
    seen: list[str | None] = []
    backup.restore(
        kept_dir / "again", file, migrate=lambda url: seen.append(asyncio.run(revision(url)))
    )
    assert seen == [newest]
    with embedded(data) as server:
        asyncio.run(revision(server.url, "UPDATE alembic_version SET version_num = 'later'"))
    newer = kept_dir / "newer.dump"
    backup.save(data, newer)
    line = refusal(kept_dir, "restore", newer, "--data-dir", kept_dir / "new")
    assert line.startswith(f"{newer} can't be restored, and nothing was changed: ")
    assert line.endswith("No such revision or branch 'later'")
    # The files that it had made by then can be used.
    restored(kept_dir, file, "--data-dir", kept_dir / "new")


async def revision(url: str, change: str = "") -> str | None:
    connection = await asyncpg.connect(url)
    try:
        if change:
            await connection.execute(change)
        found: str | None = await connection.fetchval("SELECT version_num FROM alembic_version")
        return found
    finally:
        await connection.close()


def test_a_backup_overwrites_only_with_an_option(open_dir: Path) -> None:
    data, file = open_dir / "data", open_dir / "file.dump"
    with pytest.raises(StartupError, match="contains no database"):
        backup.save(data, file)
    assert not data.exists()
    with embedded(data) as server:
        with pytest.raises(StartupError, match="is not a backup of this service"):
            backup.save(data, file)
        assert not file.exists()
        migrations.upgrade(server.url)
        file.write_text("precious")
        with pytest.raises(StartupError, match="use --force to overwrite it"):
            backup.save(data, file)
        assert file.read_text() == "precious"
        backup.save(data, file, force=True)
        assert file.read_bytes().startswith(b"PGDMP")
        assert file.stat().st_mode & 0o777 == 0o600
        with pytest.raises(StartupError, match="can't be written: No such file"):
            backup.save(data, open_dir / "nowhere" / "file.dump")
    assert names(open_dir) == {"data", "file.dump"}


def test_an_external_database_is_referred_to_its_own_tools(open_dir: Path) -> None:
    external = {
        "TICKETING_DATABASE_URL": "postgresql://127.0.0.1:1/tickets",
        "TICKETING_JWT_SECRET": SECRET,
    }
    for command in ("backup", "restore"):
        line = refusal(open_dir, command, "file.dump", **external)
        assert line.startswith("TICKETING_DATABASE_URL is set: back up and restore that database")
    assert list(open_dir.iterdir()) == []


def test_a_backup_of_data_in_use_without_a_running_server_is_refused(
    open_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = open_dir / "data"
    with embedded(data):
        pid_file = data / "postgres" / "postmaster.pid"
        kept = pid_file.read_text()
        pid_file.write_text(kept.replace("ready", "starting"))
        with pytest.raises(StartupError, match="is not ready: try again"):
            backup.save(data, open_dir / "file.dump")
        pid_file.write_text(kept)
        # Another program writes the file during the backup.
        monkeypatch.setattr(backup, "_verify", lambda *_: (open_dir / "file.dump").touch())
        with pytest.raises(StartupError, match="use --force to overwrite it"):
            backup.save(data, open_dir / "file.dump")
    assert (open_dir / "file.dump").stat().st_size == 0
