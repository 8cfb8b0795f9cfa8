"""The `ticketing` command at a terminal."""

import os
import pty
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from tests.serving import PATIENCE, TICKETING


def at_terminal(
    cwd: Path,
    *arguments: str | Path,
    command: Sequence[str] = TICKETING,
    redirected: Path | None = None,
    watch: Callable[[str], None] = lambda _: None,
    environment: Mapping[str, str] = MappingProxyType({}),
) -> str:
    """Run the command, and return the terminal's output. `watch` gets the output so far.

    Standard output may be `redirected`.
    """
    ours, theirs = pty.openpty()
    try:
        with (redirected or Path(os.devnull)).open("wb") as file:
            process = subprocess.Popen(
                [*command, *arguments],
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
                watch(sent.decode(errors="replace"))
        except OSError:  # On Linux, this is the end.
            pass
        process.wait(PATIENCE)
    return sent.decode()
