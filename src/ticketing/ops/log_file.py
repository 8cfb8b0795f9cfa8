"""The files that logs go to: one that processes share, and the console."""

import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from select import PIPE_BUF


class LogFile:
    """A file that several processes append whole lines to, and that may be renamed away."""

    def __init__(self, path: Path) -> None:
        """Open or create `path`."""
        self._path = path
        self._open()

    def _open(self) -> None:
        self._is_cut = False
        self._fd = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o640)
        self._inode = os.fstat(self._fd).st_ino

    def _follow(self) -> None:
        try:
            if self._path.stat().st_ino == self._inode:
                return
        except FileNotFoundError:
            pass
        old = self._fd
        self._open()
        os.close(old)

    def write(self, lines: bytes) -> None:
        """Append lines in one system call, which O_APPEND keeps whole among processes.

        A log that can't be written must not fail a booking: the fault goes to the console. Of a
        line that is cut there, for the disk is full, the next is kept apart.
        """
        try:
            self._follow()
            if self._is_cut:
                lines = b"\n" + lines
            while lines:
                written = os.write(self._fd, lines)
                self._is_cut = lines[written - 1 : written] != b"\n"
                lines = lines[written:]
        except OSError as error:
            to_console(f"{self._path} can't be written: {error}\n")


def pieces(lines: Iterable[str]) -> Iterator[str]:
    """Join lines to what a pipe takes as a whole (POSIX, write): other workers write there too."""
    piece: list[str] = []
    size = 0
    for line in lines:
        length = len(line) if line.isascii() else len(line.encode())
        if piece and size + length > PIPE_BUF:
            yield "".join(piece)
            piece, size = [], 0
        piece.append(line)
        size += length
    yield "".join(piece)


def to_console(text: str) -> None:
    """Write to the console, if there still is one."""
    with suppress(OSError, ValueError):  # The terminal or the pipe may be gone.
        sys.stderr.write(text)
