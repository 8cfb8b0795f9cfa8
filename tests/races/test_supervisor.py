"""The supervisor, with workers that misbehave."""

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.processes import family, kill, wait_until_gone
from tests.races.unruly import SERVING
from tests.serving import PATIENCE

ROOT = Path(__file__).parents[2]


def wait_until(condition: Callable[[], bool], otherwise: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, otherwise
        time.sleep(0.02)


@contextmanager
def supervised(
    cwd: Path, work: str, patience: float = 1.0
) -> Iterator[tuple[subprocess.Popen[str], Callable[..., None]]]:
    """Yield the process, and a function that waits until it has printed a text a number of times.

    `patience` is the supervisor's. A worker that should get ready must do so within it, also on a
    busy machine.
    """
    program = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r});"
        f"from tests.races.unruly import *; supervise({work}, {patience})"
    )
    output = cwd / "output.txt"
    with (
        output.open("w") as written,
        subprocess.Popen(
            [sys.executable, "-u", "-c", program], cwd=cwd, stdout=written, text=True
        ) as process,
    ):

        def said(what: str, *, times: int = 1) -> None:
            wait_until(
                lambda: output.read_text().count(what) >= times,
                f"it never said {what}: {output.read_text()}",
            )

        try:
            wait_until((cwd / SERVING).exists, "no worker serves")
            yield process, said
        finally:
            relatives = family(process.pid)
            kill(relatives)
            wait_until_gone(relatives)


def test_a_worker_that_does_not_stop_is_killed(tmp_path: Path) -> None:
    with supervised(tmp_path, "stubborn") as (process, said):
        relatives = family(process.pid)
        process.send_signal(signal.SIGTERM)
        said("worker.killed")
        said("failed: a worker did not stop in time and was killed")
        wait_until_gone(relatives)


def test_a_worker_that_does_not_retire_is_killed_once_it_is_replaced(tmp_path: Path) -> None:
    with supervised(tmp_path, "stubborn", 4.0) as (process, said):
        old = family(process.pid)
        process.send_signal(signal.SIGHUP)
        said("worker.killed")
        said("service.restarted")
        wait_until_gone(pid for pid, command in old.items() if "spawn_main" in command)
        assert any("spawn_main" in command for command in family(process.pid).values())


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
def test_a_stop_during_a_restart_ends_the_old_and_the_new_worker(tmp_path: Path, work: str) -> None:
    with supervised(tmp_path, work, 4.0) as (process, said):
        if work == "stubborn":
            (tmp_path / SERVING).unlink()
        process.send_signal(signal.SIGHUP)
        # The parent, its resource tracker, the old worker and the new one.
        wait_until(lambda: len(family(process.pid)) == 4, "no new worker was started")
        if work == "stubborn":
            wait_until((tmp_path / SERVING).exists, "the new worker does not serve")
        relatives = family(process.pid)
        assert len(relatives) == 4
        process.send_signal(signal.SIGTERM)
        said("service.stopped")
        wait_until_gone(relatives)


def test_a_worker_that_ends_by_itself_is_replaced(tmp_path: Path) -> None:
    with supervised(tmp_path, "leaving") as (process, said):
        said("worker.died", times=2)
        process.send_signal(signal.SIGTERM)
        said("service.stopped")
