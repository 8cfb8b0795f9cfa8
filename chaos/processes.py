"""Processes that the harness started, and signals to them only."""

import os
import signal
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path


def every() -> dict[int, tuple[int, str]]:
    """Return the parent and the command line of every running process."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            state, parent, *_ = (folder / "stat").read_text().rpartition(")")[2].split()
            command = (folder / "cmdline").read_bytes().decode(errors="replace")
            if state != "Z":
                found[int(folder.name)] = int(parent), command.replace("\0", " ")
    return found


def children(pid: int) -> dict[int, str]:
    """Return the command line of each process that a process has started."""
    return {child: command for child, (parent, command) in every().items() if parent == pid}


def send(pids: Iterable[int], number: signal.Signals, *, parent: int) -> int:
    """Send a signal to those of `pids` that are `parent` or its descendants; return their number.

    Each process is addressed by a file descriptor that is opened before the check, so that an id
    can't be reused in between.
    """
    sent = 0
    for pid in pids:
        try:
            held = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        try:
            if _descends(pid, parent):
                with suppress(ProcessLookupError):
                    signal.pidfd_send_signal(held, number)
                    sent += 1
        finally:
            os.close(held)
    return sent


def _descends(pid: int, ancestor: int) -> bool:
    known = every()
    while pid != ancestor:
        if pid not in known:
            return False
        pid = known[pid][0]
    return True
