"""What the service has logged that runs in the process of the tests."""

import json
from pathlib import Path
from typing import Any

from ticketing.ops import logs

Line = dict[str, Any]


def content(folder: Path) -> str:
    """Return the whole file, also what waits to be written."""
    logs.flush()
    return (folder / logs.LOG_FILE).read_text()


def lines(folder: Path, event: str = "") -> list[Line]:
    """Return every line, or those of events whose names begin so; each must be JSON."""
    # In bytes, for a string has more ends of lines than a file.
    every: list[Line] = [json.loads(line) for line in content(folder).encode().splitlines()]
    return [line for line in every if line["event"].startswith(event)]
