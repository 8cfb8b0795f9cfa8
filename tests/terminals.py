"""The `ticketing` command at a terminal."""

import os
import pty
import subprocess
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from tests.serving import PATIENCE, TICKETING


def at_terminal(
    cwd: Path,
    *arguments: str | Path,
    redirected: Path | None = None,
    environment: Mapping[str, str] = MappingProxyType({}),
) -> str:
    """Run it, and return what the terminal was sent; standard output may be `redirected`."""
    ours, theirs = pty.openpty()
    try:
        with (redirected or Path(os.devnull)).open("wb") as file:
            process = subprocess.Popen(
                [*TICKETING, *arguments],
                cwd=cwd,
                env={**os.environ, "TERM": "xterm", **environment},
                stdin=theirs,
                stdout=file if redirected else theirs,
                stderr=theirs,
            )
    finally:
        os.close(theirs)
    with process, os.fdopen(ours, "rb", buffering=0) as terminal:
        sent = b""
        try:
            while piece := terminal.read(4096):
                sent += piece
        except OSError:  # On Linux, the end.
            pass
        process.wait(PATIENCE)
    return sent.decode()
