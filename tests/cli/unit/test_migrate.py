"""`ticketing migrate` on the embedded database."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.serving import PATIENCE, TICKETING
from ticketing.db import revision
from ticketing.embedded.server import embedded

pytestmark = pytest.mark.usefixtures("unmeasured")


def migrate(cwd: Path, *arguments: str) -> tuple[int, str]:
    done = subprocess.run(
        [*TICKETING, "migrate", *arguments],
        cwd=cwd,
        env=os.environ,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def test_the_embedded_database_goes_back_and_forth_while_it_is_not_served(kept_dir: Path) -> None:
    older, newest = revision.known()[-2:]
    back = ("--to", older, "--accept-data-loss")
    told = f"Migrated the database from revision {newest} to {older}.\n"
    assert migrate(kept_dir, *back) == (0, told)
    assert migrate(kept_dir, *back) == (0, f"The database is at revision {older} already.\n")
    data = kept_dir / "data"
    with embedded(data) as server:
        assert not revision.is_newest(server.url)
        status, said = migrate(kept_dir)
        assert status == 1
        assert said == f"ticketing: {data} is in use by another `ticketing serve`: stop it first\n"
    told = f"Migrated the database from revision {older} to {newest}.\n"
    assert migrate(kept_dir) == (0, told)
    assert migrate(kept_dir) == (0, "The database is up to date.\n")
    with embedded(data) as server:
        assert revision.is_newest(server.url)


def test_the_sql_of_a_migration_is_printed_beside_a_running_service(kept_dir: Path) -> None:
    older, newest = revision.known()[-2:]
    with embedded(kept_dir / "data"):
        status, said = migrate(kept_dir, "--sql", "--to", older)
        assert status == 0, said
        assert f"-- Running downgrade {newest} -> {older}\n" in said
        assert migrate(kept_dir, "--to", older)[0] == 1


def test_migrate_creates_no_database(open_dir: Path) -> None:
    status, said = migrate(open_dir)
    assert status == 1
    assert "has no database to migrate: set TICKETING_DATABASE_URL" in said
    assert list(open_dir.iterdir()) == []
