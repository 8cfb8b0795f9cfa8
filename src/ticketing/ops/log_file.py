"""Writes logs to a file that processes share, and to the console."""

import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from select import PIPE_BUF


class LogFile:
    """A file to which several processes append whole lines. It may be renamed at any time."""

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
        """Append lines in one system call. O_APPEND keeps them whole between processes.

        If the log can't be written, the error goes to the console, because it must not fail a
        booking. If a line was cut because the disk is full, the next write starts on a new line.
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
    """Join lines to pieces that a pipe takes whole (POSIX, write), because workers share it."""
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
    with suppress(OSError, ValueError):  # The terminal or the pipe may be closed.
        sys.stderr.write(text)
