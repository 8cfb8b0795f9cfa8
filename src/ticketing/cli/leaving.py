"""Ends a command that is interrupted."""

import sys
from types import FrameType

_told: list[int] = []


def leave(number: int, _frame: FrameType | None) -> None:
    """Exit after a signal, and close everything that is open.

    While the service runs, the supervisor handles signals instead.
    """
    _told.append(number)
    sys.exit(128 + number)


def leave_if_told() -> None:
    """Exit if a signal arrived, but a library caught its exception."""
    if _told:
        sys.exit(128 + _told[0])
