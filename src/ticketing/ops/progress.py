"""Shows the progress of a long operation to a person at a terminal."""

import os
import shutil
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, Protocol

from ticketing.ops.log_file import to_console

PATIENCE: Final = 2.0
"""Seconds before anything is shown, because most operations have ended by then."""
AGAIN: Final = 0.25
"""Seconds between two updates of the line."""
ERASE: Final = "\r\x1b[2K"


class Tell(Protocol):
    """Receives the current step."""

    def __call__(self, step: str, /, file: Path | None = None) -> None:
        """Show the step, and the size of `file`."""


def silent(_step: str, /, file: Path | None = None) -> None:
    """Show nothing."""


@contextmanager
def progress(what: str) -> Iterator[Tell]:
    """Show `what`, its step and its duration on standard error until the context ends.

    Shows nothing if standard error is not a terminal. At the end the line is erased.
    """
    if not sys.stderr.isatty() or os.environ.get("TERM") == "dumb":
        yield silent
        return
    line = _Line(what)
    thread = threading.Thread(target=line.run, daemon=True)
    thread.start()
    try:
        yield line.tell
    finally:
        line.ended.set()
        thread.join()


class _Line:
    def __init__(self, what: str) -> None:
        self.ended = threading.Event()
        self._what = what
        self._now: tuple[str, Path | None] = ("", None)

    def tell(self, step: str, /, file: Path | None = None) -> None:
        self._now = step, file

    def run(self) -> None:
        started = time.monotonic()
        if self.ended.wait(PATIENCE):
            return
        while True:
            minutes, seconds = divmod(int(time.monotonic() - started), 60)
            step, file = self._now
            parts = [self._what, step, _size(file), f"{minutes}:{seconds:02}"]
            columns = shutil.get_terminal_size().columns
            shown = ", ".join(part for part in parts if part)[: columns - 1]
            # The cursor goes back, so that a line of the log starts at the left.
            to_console(f"{ERASE}{shown}\r")
            sys.stderr.flush()
            if self.ended.wait(AGAIN):
                break
        to_console(ERASE)


def _size(file: Path | None) -> str:
    if file is not None:
        with suppress(OSError):
            return f"{file.stat().st_size / 1e6:,.1f} MB"
    return ""
