"""The log of the service in the process of the tests."""

import json
from pathlib import Path
from typing import Any

from ticketing.ops import logs

Line = dict[str, Any]


def content(folder: Path) -> str:
    """Return the whole file, with lines that wait to be written."""
    logs.flush()
    return (folder / logs.LOG_FILE).read_text()


def lines(folder: Path, event: str = "") -> list[Line]:
    """Return every line, or those of events with this prefix. Each must be JSON."""
    # In bytes, because a string has more kinds of line ends than a file.
    every: list[Line] = [json.loads(line) for line in content(folder).encode().splitlines()]
    return [line for line in every if line["event"].startswith(event)]
