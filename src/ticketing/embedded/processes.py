"""The processes of a server: what its files say, whether it lives, and what is left of it."""

import os
import signal
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Postmaster:
    """What a server says of itself in its pid file."""

    pid: int
    sockets: Path
    is_ready: bool


def postmaster(cluster: Path) -> Postmaster | None:
    """Return what the pid file says, or None if there is none that is whole."""
    try:
        pid, _, _, _, sockets, *_, status = (cluster / "postmaster.pid").read_text().splitlines()
        return Postmaster(int(pid), Path(sockets), status.strip() == "ready")
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None


def is_server(pid: int, cluster: Path) -> bool:
    """Whether the process is the server of this cluster, and not one that got its id later."""
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, PermissionError):  # gone, or somebody else's
        return False
    process = Path(f"/proc/{pid}")
    if not Path("/proc/self").exists():
        return True  # As on macOS: the pid file is all there is to go by.
    try:
        return (process / "cwd").resolve(strict=True) == cluster
    except OSError:  # It has ended just now, or ended and nobody has seen to it.
        return False


def is_gone(cluster: Path, *, hangs: bool) -> bool:
    """Whether nothing is left of a server; what is left is told to go. The lock must be ours.

    One that `hangs` is told to drop everything, of which it loses nothing that was committed.
    """
    found = postmaster(cluster)
    if found is not None and is_server(found.pid, cluster):
        # Its service and its guard were killed.
        with suppress(ProcessLookupError):
            os.kill(found.pid, signal.SIGQUIT if hangs else signal.SIGINT)
        return False
    if orphans := _orphans(cluster):
        # Without their server they are of no use, and hold the memory that a new one needs.
        for pid in orphans:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return False
    if Path("/proc/self").exists() and (
        # Cut short when the machine or its disk failed: PostgreSQL would not start beside it.
        found is None
        # Its id belongs to another process now, which PostgreSQL would take for the old server.
        or Path(f"/proc/{found.pid}").exists()
    ):
        (cluster / "postmaster.pid").unlink(missing_ok=True)
    return True


def _orphans(cluster: Path) -> list[int]:
    """Return the processes of a server that is gone itself; where there is no /proc, none."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # It has just ended, or is somebody else's.
            is_backend = (process / "comm").read_text() == "postgres\n"
            if is_backend and (process / "cwd").resolve(strict=True) == cluster:
                found.append(int(process.name))
    return found
