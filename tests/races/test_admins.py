"""`ticketing user` beside a running service, and without one."""

import asyncio
import os
import pty
import select
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import httpx
import pytest

from tests.folders import folder_open_to_all, put
from tests.people import PASSWORD, Visitor
from tests.serving import TICKETING, UNMEASURED, Service, serving, until
from ticketing.errors import PasswordTooCommon


def ticketing(
    cwd: Path, *arguments: str | bytes, given: str | None = None
) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [*TICKETING, *arguments],
        cwd=cwd,
        input=given,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.fixture(scope="module")
def service(kept_data: Path) -> Iterator[Service]:
    """A service of two workers, in which only organisers create events."""
    with folder_open_to_all() as folder:
        put(kept_data, folder)
        settings = {"TICKETING_ORGANISERS": "granted", **UNMEASURED}
        with serving(folder, "--workers", "2", **settings) as running:
            yield running


@pytest.fixture
def folder(service: Service) -> Path:
    return service.console.parent


@pytest.fixture
async def client(service: Service) -> AsyncIterator[httpx.AsyncClient]:
    """A client with a new connection for each request, so that both workers respond."""
    limits = httpx.Limits(max_keepalive_connections=0)
    async with httpx.AsyncClient(base_url=service.url, timeout=60, limits=limits) as client:
        yield client


Ask = Callable[[], Awaitable[httpx.Response]]


async def gives(status: int, ask: Ask) -> bool:
    """Whether every worker responds with this status. A crowd that asks in vain takes seconds."""
    if (await ask()).status_code != status:
        return False
    answers = await asyncio.gather(*(ask() for _ in range(20)))
    return {answer.status_code for answer in answers} == {status}


@pytest.mark.usefixtures("unmeasured")
async def test_admin_rights_are_granted_and_revoked_beside_the_service(
    folder: Path, client: httpx.AsyncClient
) -> None:
    ada, eve = [await Visitor(client).register() for _ in range(2)]

    def grant() -> Awaitable[httpx.Response]:
        return eve.put(f"/api/users/{ada.id}/organiser", None)

    assert await gives(403, grant)
    for command, told, status in (
        ("promote", "is an admin", 204),
        ("demote", "is not an admin", 403),
    ):
        done = await asyncio.to_thread(ticketing, folder, "user", command, eve.username)
        assert (done.returncode, done.stdout) == (0, f"{eve.username} {told}.\n")
        await until(lambda status=status: gives(status, grant))  # type: ignore[misc]


@pytest.mark.usefixtures("unmeasured")
async def test_a_person_is_logged_out_everywhere_beside_the_service(
    folder: Path, client: httpx.AsyncClient
) -> None:
    ada, eve = [await Visitor(client).register() for _ in range(2)]
    also_eve = await eve.again()
    key = await eve.make_key("bookings:read")
    done = await asyncio.to_thread(ticketing, folder, "user", "logout", eve.username)
    assert (done.returncode, done.stdout) == (0, f"{eve.username} has no active session.\n")
    # Every worker learns of it.
    await until(lambda: gives(401, lambda: eve.get("/api/users/me")))
    for _ in range(20):
        assert (await eve.get("/api/users/me")).status_code == 401
        assert (await also_eve.get("/api/users/me")).status_code == 401
        assert (await ada.get("/api/users/me")).status_code == 200
    assert (await key.get("/api/users/me/bookings")).status_code == 200
    assert (await eve.again()).username == eve.username


async def test_the_operator_says_who_creates_events_beside_the_service(
    folder: Path, client: httpx.AsyncClient
) -> None:
    ada = await Visitor(client).register()

    def create() -> Awaitable[httpx.Response]:
        return ada.post("/api/events/initialize", {"name": "A concert", "totalTickets": 1})

    assert await gives(403, create)
    for command, told, status in (
        ("grant-organiser", "is an organiser", 201),
        ("revoke-organiser", "is not an organiser", 403),
    ):
        done = await asyncio.to_thread(ticketing, folder, "user", command, ada.username)
        assert (done.returncode, done.stdout) == (0, f"{ada.username} {told}.\n")
        await until(lambda status=status: gives(status, create))  # type: ignore[misc]


async def test_the_operator_adds_people_if_registration_is_closed(kept_dir: Path) -> None:
    with serving(kept_dir, TICKETING_REGISTRATION="closed", **UNMEASURED) as service:
        async with httpx.AsyncClient(base_url=service.url, timeout=60) as client:
            account = {"username": "--ada", "password": PASSWORD}
            refused = await client.post("/api/users/register", json=account)
            assert refused.json()["code"] == "registration_closed"
            for command in ("add", "password"):
                done = await asyncio.to_thread(ticketing, kept_dir, "user", command, "--", "--ada")
                assert done.returncode == 0
                told = (
                    "This token sets the password of --ada once at POST /api/users/password, until"
                )
                assert told in done.stderr
                # Only the token is printed, for scripts.
                body = {"token": done.stdout.removesuffix("\n"), "newPassword": PASSWORD}
                answer = await client.post("/api/users/password", json=body)
                assert answer.status_code == 204, answer.text
                assert (await client.post("/api/users/login", json=account)).status_code == 200
            assert body["token"] not in (kept_dir / "logs" / "combined.log").read_text()


def test_a_script_gives_the_password_on_standard_input(folder: Path, service: Service) -> None:
    for arguments, given, told in (
        (("add", "bob"), "correct horse", "bob has an account."),
        (("password", "BOB"), "another horse\r\n", "BOB has a new password and no active session."),
    ):
        done = ticketing(folder, "user", *arguments, "--password-stdin", given=given)
        assert (done.returncode, done.stdout) == (0, f"{told}\n")
    account = {"username": "bob", "password": "another horse"}
    assert httpx.post(f"{service.url}/api/users/login", json=account).status_code == 200


@pytest.mark.usefixtures("unmeasured")
def test_a_password_that_is_typed_is_not_shown(kept_dir: Path) -> None:
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [*TICKETING, "user", "add", "ada", "--password-stdin"],
        cwd=kept_dir,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    ) as process:
        os.close(theirs)
        shown = read_until(ours, b"Password: ")
        os.write(ours, b"correct horse\n")
        shown += read_until(ours, b"ada has an account.")
        assert process.wait(60) == 0
    os.close(ours)
    assert b"correct horse" not in shown
    # The account is there, although no service runs.
    done = ticketing(kept_dir, "user", "demote", "ada")
    assert (done.returncode, done.stdout) == (0, "ada is not an admin.\n")
    done = ticketing(kept_dir, "user", "demote", "nobody")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines()[-1] == "ticketing: there is no user 'nobody'"


def read_until(terminal: int, what: bytes) -> bytes:
    """Return the output so far."""
    shown = b""
    while what not in shown:
        assert select.select([terminal], [], [], 60)[0], shown
        shown += os.read(terminal, 4096)
    return shown


WRONG: list[tuple[tuple[str | bytes, ...], str | None, str]] = [
    (("add", "a b"), None, "NAME: must have 3 to 30 of A-Z a-z 0-9 . _ -"),
    (("add", "ADA"), None, "the username 'ADA' is taken"),
    (("password", b"\xff"), None, r"there is no user '\udcff'"),
    *(
        ((command, "nobody"), None, "there is no user 'nobody'")
        for command in ("grant-organiser", "logout")
    ),
    (
        ("password", "ada", "--password-stdin"),
        "short\n",
        "--password-stdin: a password has 8 to 128 characters, in UTF-8",
    ),
    (
        ("password", "ada", "--password-stdin"),
        "Password1\n",
        f"the password is refused: {PasswordTooCommon.detail}",
    ),
]


@pytest.mark.usefixtures("unmeasured")
def test_a_mistake_of_the_operator_is_explained_in_one_line(folder: Path) -> None:
    assert ticketing(folder, "user", "add", "ada").returncode == 0
    for arguments, given, told in WRONG:
        done = ticketing(folder, "user", *arguments, given=given)
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr == f"ticketing: {told}\n"


def test_a_database_that_cannot_be_reached_is_named(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("TICKETING_DATABASE_URL=postgresql://ada@127.0.0.1:1/none\n")
    done = ticketing(tmp_path, "user", "promote", "ada")
    assert done.returncode == 1
    assert "can't be reached" in done.stderr


@pytest.mark.usefixtures("unmeasured")
@pytest.mark.parametrize("command", [("audit",), ("user", "promote", "ada"), ("backup", "x.dump")])
def test_commands_for_people_create_no_database(tmp_path: Path, command: tuple[str, ...]) -> None:
    done = ticketing(tmp_path, *command, "--data-dir", "typo")
    assert (done.returncode, done.stdout) == (1, "")
    where = tmp_path / "typo"
    expected = f"ticketing: {where} contains no database: set --data-dir to its folder"
    assert done.stderr.splitlines() == [expected]
    assert not where.exists()


def test_commands_for_people_create_no_secret(kept_dir: Path) -> None:
    done = ticketing(kept_dir, "audit")
    assert (done.returncode, done.stdout) == (0, "Events: 0, bookings: 0, differences: 0.\n")
    assert not (kept_dir / "data" / "jwt_secret").exists()


@pytest.mark.usefixtures("unmeasured")
@pytest.mark.parametrize("command", [("audit",), ("user", "promote", "ada")])
def test_a_database_that_was_migrated_back_stays_so(
    kept_dir: Path, command: tuple[str, ...]
) -> None:
    back = ticketing(kept_dir, "migrate", "--to", "0008", "--accept-data-loss")
    assert back.returncode == 0, back.stderr
    done = ticketing(kept_dir, *command)
    assert (done.returncode, done.stdout) == (1, "")
    refusal = "ticketing: the database is not migrated: run `ticketing migrate` first"
    assert done.stderr.splitlines() == [refusal]


def test_an_unusable_data_directory_is_refused(tmp_path: Path) -> None:
    external = "TICKETING_DATABASE_URL=postgresql://ada@127.0.0.1:1/none\n"
    (tmp_path / ".env").write_text(external)
    done = ticketing(tmp_path, "audit", "--data-dir", "data")
    assert done.returncode == 1
    assert "--data-dir: can't be used" in done.stderr


def test_an_unreadable_file_is_named(tmp_path: Path) -> None:
    # Root may read every file, so this raises the error that others get.
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
