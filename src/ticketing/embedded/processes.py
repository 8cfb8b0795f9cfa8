"""The processes of a server: reads its pid file, and ends what is left of it."""

import os
import signal
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_NEEDED: Final = (b"postgres: walwriter", b"postgres: startup")
"""The titles of the process of a server that serves, and of one that recovers."""


@dataclass(frozen=True, slots=True)
class Postmaster:
    """The contents of a server's pid file."""

    pid: int
    sockets: Path
    is_ready: bool


def postmaster(cluster: Path) -> Postmaster | None:
    """Return the contents of the pid file, or None if it is absent or incomplete."""
    try:
        pid, _, _, _, sockets, *_, status = (cluster / "postmaster.pid").read_text().splitlines()
        return Postmaster(int(pid), Path(sockets), status.strip() == "ready")
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None


def is_server(pid: int, cluster: Path) -> bool:
    """Whether the process is this cluster's server, and not another one with the same id."""
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, PermissionError):  # gone, or another user's
        return False
    process = Path(f"/proc/{pid}")
    if not Path("/proc/self").exists():
        return True  # As on macOS: only the pid file can be checked.
    try:
        return (process / "cwd").resolve(strict=True) == cluster
    except OSError:  # It has just ended, or is not reaped yet.
        return False


def is_gone(cluster: Path, *, hangs: bool) -> bool:
    """Whether nothing is left of a server. If something is, stop it. The caller holds the lock.

    A server that `hangs` is stopped at once. It loses nothing that was committed.
    """
    found = postmaster(cluster)
    if found is not None and is_server(found.pid, cluster):
        # Its service and its guard were killed.
        with suppress(ProcessLookupError):
            os.kill(found.pid, signal.SIGQUIT if hangs else signal.SIGINT)
        return False
    if orphans := _orphans(cluster):
        # Without their server they are useless, and hold memory that a new one needs.
        for pid in orphans:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return False
    if Path("/proc/self").exists() and (
        # Incomplete because the machine or its disk failed. PostgreSQL would not start with it.
        found is None
        # Its id now belongs to another process, which PostgreSQL would take for the old server.
        or Path(f"/proc/{found.pid}").exists()
    ):
        (cluster / "postmaster.pid").unlink(missing_ok=True)
    return True


def serves_or_recovers(pid: int) -> bool:
    """Whether a server has a process that serving or recovering needs. Without /proc, true."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return True
    return any(_title(child).startswith(_NEEDED) for child in children)


def _title(pid: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:  # It has just ended.
        return b""


def _orphans(cluster: Path) -> list[int]:
    """Return the processes of a server whose main process is gone. Without /proc, none."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # It has just ended, or is another user's.
            is_backend = (process / "comm").read_text() == "postgres\n"
            if is_backend and (process / "cwd").resolve(strict=True) == cluster:
                found.append(int(process.name))
    return found
