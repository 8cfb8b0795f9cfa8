"""Folders in which a service with an embedded PostgreSQL can run, also if root runs the tests."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOM = 4 << 30
"""Bytes. More than all databases of a run take."""


def _in_memory() -> Path | None:
    """A file system in memory, if there is one with space. A database has a thousand files."""
    path = Path("/dev/shm")  # noqa: S108 - mkdtemp makes the name
    is_usable = path.is_dir() and os.access(path, os.W_OK | os.X_OK)
    return path if is_usable and shutil.disk_usage(path).free >= ROOM else None


@contextmanager
def folder_open_to_all() -> Iterator[Path]:
    """Make a folder that the account of the embedded PostgreSQL can enter, also under root."""
    path = Path(tempfile.mkdtemp(prefix="ticketing-test-", dir=_in_memory()))
    path.chmod(0o711)
    try:
        yield path
    finally:
        shutil.rmtree(path)


def put(data: Path, folder: Path) -> None:
    """Make `folder` like one in which the service ran before."""
    # With cp, because it keeps the owners.
    subprocess.run(["/bin/cp", "-a", data, folder / "data"], check=True)
