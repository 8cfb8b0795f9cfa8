"""Colours of a terminal."""

import os
from typing import Final, TextIO

BOLD: Final = "1"
RED: Final = "31"
YELLOW: Final = "33"
CYAN: Final = "36"


def has_colours(stream: TextIO) -> bool:
    """Whether to write in colour: only to a terminal with colours, and without NO_COLOR.

    Source: no-color.org.
    """
    return not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb" and stream.isatty()


def painted(text: str, colour: str) -> str:
    """Return the text in a colour."""
    return f"\x1b[{colour}m{text}\x1b[0m"
