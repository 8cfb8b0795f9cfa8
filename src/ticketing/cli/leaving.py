"""How a command ends when it is interrupted."""

import sys
from types import FrameType

_told: list[int] = []


def leave(number: int, _frame: FrameType | None) -> None:
    """Take a signal: leave past everything that has to be closed.

    While it serves, the supervisor takes signals.
    """
    _told.append(number)
    sys.exit(128 + number)


def leave_if_told() -> None:
    """Leave if a signal was taken and its exception got lost: some library caught it."""
    if _told:
        sys.exit(128 + _told[0])
