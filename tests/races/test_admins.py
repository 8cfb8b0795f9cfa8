"""`ticketing user` beside a running service, and without one."""

import asyncio
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.people import Visitor
from tests.serving import TICKETING, serving, until


def ticketing(cwd: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [*TICKETING, *arguments], cwd=cwd, capture_output=True, text=True, check=False, timeout=60
    )


async def test_an_admin_is_made_beside_the_service_and_unmade_without_it(kept_dir: Path) -> None:
    with serving(kept_dir, "--workers", "2") as service:
        # A new connection each, so that both workers are asked.
        limits = httpx.Limits(max_keepalive_connections=0)
        async with httpx.AsyncClient(base_url=service.url, timeout=60, limits=limits) as client:
            ada, eve = [await Visitor(client).register() for _ in range(2)]
            path = f"/api/events/{await ada.organise()}/bookings"
            assert (await eve.get(path)).status_code == 403
            done = await asyncio.to_thread(ticketing, kept_dir, "user", "promote", eve.username)
            assert (done.returncode, done.stdout) == (0, f"{eve.username} is an admin.\n")

            async def everywhere() -> bool:
                answers = await asyncio.gather(*(eve.get(path) for _ in range(20)))
                return {answer.status_code for answer in answers} == {200}

            await until(everywhere)
    done = ticketing(kept_dir, "user", "demote", eve.username)
    assert (done.returncode, done.stdout) == (0, f"{eve.username} is no admin.\n")
    done = ticketing(kept_dir, "user", "promote", "nobody")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines()[-1] == "ticketing: there is no user 'nobody'"


@pytest.mark.usefixtures("unmeasured")
async def test_somebody_is_logged_out_everywhere_beside_the_service(kept_dir: Path) -> None:
    with serving(kept_dir, "--workers", "2") as service:
        async with httpx.AsyncClient(base_url=service.url, timeout=60) as client:
            ada, eve = [await Visitor(client).register() for _ in range(2)]
            also_eve = await eve.again()
            key = await eve.make_key("bookings:read")
            done = await asyncio.to_thread(ticketing, kept_dir, "user", "logout", eve.username)
            assert (done.returncode, done.stdout) == (0, f"{eve.username} is logged in nowhere.\n")
            await asyncio.sleep(3)  # every worker has learnt of it
            for _ in range(20):
                assert (await eve.get("/api/users/me")).status_code == 401
                assert (await also_eve.get("/api/users/me")).status_code == 401
                assert (await ada.get("/api/users/me")).status_code == 200
            assert (await key.get("/api/users/me/bookings")).status_code == 200
            assert (await eve.again()).username == eve.username
    done = ticketing(kept_dir, "user", "logout", "nobody")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines()[-1] == "ticketing: there is no user 'nobody'"


def test_a_database_that_cannot_be_reached_is_named(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("TICKETING_DATABASE_URL=postgresql://ada@127.0.0.1:1/none\n")
    done = ticketing(tmp_path, "user", "promote", "ada")
    assert done.returncode == 1
    assert "can't be reached" in done.stderr


@pytest.mark.parametrize("command", [("audit",), ("user", "promote", "ada"), ("backup", "x.dump")])
def test_what_is_done_to_a_database_makes_none(tmp_path: Path, command: tuple[str, ...]) -> None:
    done = ticketing(tmp_path, *command, "--data-dir", "typo")
    assert (done.returncode, done.stdout) == (1, "")
    where = tmp_path / "typo"
    expected = f"ticketing: {where} holds no database: --data-dir says where it is"
    assert done.stderr.splitlines() == [expected]
    assert not where.exists()


def test_what_signs_nothing_makes_no_secret(kept_dir: Path) -> None:
    done = ticketing(kept_dir, "audit")
    assert (done.returncode, done.stdout) == (0, "Events: 0, bookings: 0, differences: 0.\n")
    assert not (kept_dir / "data" / "jwt_secret").exists()


def test_a_data_directory_of_no_use_is_refused(tmp_path: Path) -> None:
    external = "TICKETING_DATABASE_URL=postgresql://ada@127.0.0.1:1/none\n"
    (tmp_path / ".env").write_text(external)
    done = ticketing(tmp_path, "audit", "--data-dir", "data")
    assert done.returncode == 1
    assert "--data-dir: is the embedded database's" in done.stderr


def test_a_file_that_may_not_be_read_is_named(tmp_path: Path) -> None:
    # Root may read every file: so this is what others are told by the system.
    program = """
from ticketing.cli import main
from ticketing.embedded import backup
def save(*_, **__): raise PermissionError(13, "Permission denied", "closed/x.dump")
backup.save = save
main.main()
"""
    command = [sys.executable, "-c", program, "backup", "closed/x.dump"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "ticketing: closed/x.dump can't be used: Permission denied\n"
