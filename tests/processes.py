"""Find and kill the processes of a running service and of its database, and wait for their end."""

import os
import re
import signal
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from tests.serving import PATIENCE, Service


def processes() -> dict[int, tuple[int, str]]:
    """Return the parent and the command line of every running process."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            state, parent, *_ = (folder / "stat").read_text().rpartition(")")[2].split()
            command = (folder / "cmdline").read_text(errors="replace").replace("\0", " ")
        except (FileNotFoundError, ProcessLookupError):
            continue  # it has just ended
        if state != "Z":
            found[int(folder.name)] = int(parent), command
    return found


def family(pid: int) -> dict[int, str]:
    """Return the command lines of the process and its descendants, as far as they run."""
    every = processes()
    found = {pid: every[pid][1]} if pid in every else {}
    while more := {
        child: command
        for child, (parent, command) in every.items()
        if parent in found and child not in found
    }:
        found |= more
    return found


def wait_until_gone(pids: Iterable[int]) -> None:
    deadline = time.monotonic() + PATIENCE
    pids = set(pids)
    while left := processes().keys() & pids:
        assert time.monotonic() < deadline, f"{left} stay behind"
        time.sleep(0.05)


def wait_until_it_takes(number: signal.Signals, pid: int) -> None:
    """Wait until a process has set a handler for a signal."""
    deadline = time.monotonic() + PATIENCE
    status = Path(f"/proc/{pid}/status")
    while not int(re.findall(r"SigCgt:\s*(\w+)", status.read_text())[0], 16) >> (number - 1) & 1:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def kill(pids: Iterable[int]) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):  # it ends with its parent
            os.kill(pid, signal.SIGKILL)


def workers_of(service: Service) -> list[int]:
    every = family(service.process.pid).items()
    return [pid for pid, command in every if "spawn_main" in command]


def worker_of(service: Service) -> int:
    (worker,) = workers_of(service)
    return worker


def postmaster(folder: Path) -> int:
    return int((folder / "data" / "postgres" / "postmaster.pid").read_text().split()[0])


def guard(folder: Path) -> int:
    return processes()[postmaster(folder)][0]


def backends(folder: Path) -> list[int]:
    server = postmaster(folder)
    return [pid for pid, (parent, _) in processes().items() if parent == server]
