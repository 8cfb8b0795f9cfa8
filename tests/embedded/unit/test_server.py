"""The embedded PostgreSQL starts, restarts and stops."""

import os
import signal
import time
from contextlib import suppress
from pathlib import Path

import pytest

from ticketing.embedded.account import Account
from ticketing.embedded.processes import postmaster
from ticketing.embedded.server import STOP_TIMEOUT, embedded, server_of
from ticketing.errors import StartupError


@pytest.mark.usefixtures("_as_stranger")
def test_a_data_folder_that_cannot_be_entered_is_refused(
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
def failing_initdb(wheel: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program that makes half of the data and fails, in a folder that the account can enter."""
    mine = Account(os.geteuid(), os.getegid(), {})
    monkeypatch.setattr(Account, "choose", lambda: mine)
    program = wheel / "pginstall" / "bin" / "initdb"
    program.write_text("#!/bin/sh\n: > $2/PG_VERSION\necho out of room >&2\nexit 1\n")
    program.chmod(0o755)
    return program


@pytest.mark.usefixtures("failing_initdb")
def test_half_made_data_is_removed(open_dir: Path) -> None:
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


def test_a_server_that_does_not_come_back_in_time_is_stopped(
    open_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with embedded(open_dir) as server:
        server.keep_up()  # It runs: nothing to do.
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


def processes_of(cluster: Path) -> list[int]:
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(FileNotFoundError, ProcessLookupError, PermissionError):
            name, folder = (process / "comm").read_text(), (process / "cwd").resolve()
            if name == "postgres\n" and folder == cluster:
                found.append(int(process.name))
    return found


def test_a_server_that_neither_serves_nor_recovers_is_started_again(open_dir: Path) -> None:
    cluster = open_dir / "postgres"
    with embedded(open_dir) as server:
        hanging = postmaster(cluster)
        assert hanging is not None
        # Stopped, it does not start another. PostgreSQL 18 does not either if a recovery fails.
        os.kill(hanging.pid, signal.SIGSTOP)
        for child in processes_of(cluster):
            if Path(f"/proc/{child}/cmdline").read_bytes().startswith(b"postgres: walwriter"):
                os.kill(child, signal.SIGKILL)
        deadline = time.monotonic() + 30
        try:
            while (now := postmaster(cluster)) is None or now.pid == hanging.pid:
                assert time.monotonic() < deadline
                server.keep_up()
                time.sleep(0.05)
        finally:
            with suppress(ProcessLookupError):
                os.kill(hanging.pid, signal.SIGCONT)
        while server_of(open_dir) is None:
            assert time.monotonic() < deadline
            server.keep_up()
            time.sleep(0.05)


def test_a_server_that_hangs_gets_an_immediate_shutdown(open_dir: Path) -> None:
    cluster = open_dir / "postgres"
    with embedded(open_dir) as server:
        guard = server._guard
        assert guard is not None
        children = processes_of(cluster)
        assert len(children) > 3
        # PostgreSQL 18 waits for ever if it is stopped while it recovers from this.
        pid = int((cluster / "postmaster.pid").read_text().split()[0])
        for child in children:
            if child != pid:
                with suppress(ProcessLookupError):  # its server has removed it
                    os.kill(child, signal.SIGKILL)
        started = time.monotonic()
    assert time.monotonic() - started < STOP_TIMEOUT
    assert server_of(open_dir) is None
