"""Find and kill the processes of a running service and of its database, and wait for their end."""

import os
import re
import signal
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from tests.serving import PATIENCE, Service


def parent_of(pid: int) -> int | None:
    """Return the parent of a process, or None if it has ended."""
    try:
        state, parent, *_ = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return int(parent) if state != "Z" else None


def processes() -> dict[int, int]:
    """Return the parent of every running process."""
    every = {
        int(folder.name): parent_of(int(folder.name)) for folder in Path("/proc").glob("[0-9]*")
    }
    return {pid: parent for pid, parent in every.items() if parent is not None}


def family(pid: int) -> dict[int, str]:
    """Return the command lines of the process and its descendants, as far as they run."""
    every = processes()
    found = {pid} & every.keys()
    while more := {child for child, parent in every.items() if parent in found} - found:
        found |= more
    commands = {}
    for each in found:
        with suppress(FileNotFoundError, ProcessLookupError):  # it has just ended
            told = Path(f"/proc/{each}/cmdline").read_text(errors="replace")
            commands[each] = told.replace("\0", " ")
    return commands


def wait_until_gone(pids: Iterable[int]) -> None:
    deadline = time.monotonic() + PATIENCE
    left = set(pids)
    while left := {pid for pid in left if parent_of(pid) is not None}:
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
    return processes()[postmaster(folder)]


def backends(folder: Path) -> list[int]:
    server = postmaster(folder)
    return [pid for pid, parent in processes().items() if parent == server]
