"""The supervisor and workers that do not do as they are told."""

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from tests.races.test_serve import family, wait_until_gone
from tests.serving import PATIENCE
from ticketing.errors import StartupError
from ticketing.server import RETIRE
from ticketing.supervisor import Supervisor

SERVING = Path("serving")
"""Made by a worker that serves."""
ROOT = Path(__file__).parents[2]


def stubborn(ready: Connection) -> None:
    """Serve, and hear nothing."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(RETIRE, signal.SIG_IGN)
    ready.send("ready")
    SERVING.touch()
    time.sleep(PATIENCE)


def slow(ready: Connection) -> None:
    """Serve if it is the first; else never get to it."""
    if not SERVING.exists():
        ready.send("ready")
        SERVING.touch()
    time.sleep(PATIENCE)


def leaving(ready: Connection) -> None:
    """Serve for a moment, and go without being asked."""
    ready.send("ready")
    SERVING.touch()
    time.sleep(0.2)


def supervise(work: Callable[[Connection], None], patience: float) -> None:
    """Run in a process of its own, for it takes signals."""
    try:
        Supervisor(work, 1, watch=lambda: None, patience=patience).run(lambda: None)
    except StartupError as error:
        sys.stdout.write(f"failed: {error}\n")


@contextmanager
def supervised(
    cwd: Path, work: str, patience: float = 1.0
) -> Iterator[tuple[subprocess.Popen[str], Callable[[str], None]]]:
    """Yield the process, and what waits until it has said something."""
    program = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r});"
        f"from tests.races.test_supervisor import *; supervise({work}, {patience})"
    )
    with subprocess.Popen(
        [sys.executable, "-u", "-c", program], cwd=cwd, stdout=subprocess.PIPE, text=True
    ) as process:

        def said(what: str) -> None:
            assert process.stdout is not None
            assert any(what in line for line in process.stdout), f"it never said {what}"

        try:
            deadline = time.monotonic() + PATIENCE
            while not (cwd / SERVING).exists():
                assert time.monotonic() < deadline
                time.sleep(0.05)
            yield process, said
        finally:
            relatives = family(process.pid) if process.poll() is None else {}
            process.kill()
            wait_until_gone(relatives)


def test_a_worker_that_does_not_stop_is_killed(tmp_path: Path) -> None:
    with supervised(tmp_path, "stubborn") as (process, said):
        relatives = family(process.pid)
        process.send_signal(signal.SIGTERM)
        said("worker.killed")
        said("failed: a server process did not stop in time, and was killed")
        wait_until_gone(relatives)


def test_a_worker_that_does_not_retire_is_killed_once_it_is_replaced(tmp_path: Path) -> None:
    with supervised(tmp_path, "stubborn", 3.0) as (process, said):
        old = family(process.pid)
        process.send_signal(signal.SIGHUP)
        said("worker.killed")
        said("service.restarted")
        wait_until_gone(pid for pid, command in old.items() if "spawn_main" in command)
        assert any("spawn_main" in command for command in family(process.pid).values())
        process.send_signal(signal.SIGINT)
        said("failed: a server process did not stop in time, and was killed")


def test_a_new_worker_that_is_never_ready_does_not_replace_the_old(tmp_path: Path) -> None:
    with supervised(tmp_path, "slow") as (process, said):
        old = family(process.pid)
        process.send_signal(signal.SIGHUP)
        said("service.restart_failed")
        wait_until_gone(family(process.pid).keys() - old.keys())
        assert family(process.pid).keys() == old.keys()
        process.send_signal(signal.SIGTERM)
        said("service.stopped")


@pytest.mark.parametrize("work", ["slow", "stubborn"])
def test_a_stop_in_the_midst_of_a_restart_ends_the_old_and_the_new(
    tmp_path: Path, work: str
) -> None:
    with supervised(tmp_path, work, 3.0) as (process, said):
        process.send_signal(signal.SIGHUP)
        said("service.restarting")
        time.sleep(1.5)
        relatives = family(process.pid)
        assert len(relatives) == 4
        process.send_signal(signal.SIGTERM)
        said("service.stopped")
        wait_until_gone(relatives)


def test_a_worker_that_leaves_unasked_is_replaced(tmp_path: Path) -> None:
    with supervised(tmp_path, "leaving") as (process, said):
        said("worker.died")
        said("worker.died")
        process.send_signal(signal.SIGTERM)
        said("service.stopped")
