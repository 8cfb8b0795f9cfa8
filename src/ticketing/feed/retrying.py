"""When a webhook that failed is tried again. No I/O."""

import random
from collections.abc import Sequence
from datetime import timedelta
from typing import Final

SCHEDULE: Final[Sequence[float]] = (5, 30, 120, 600, 1800, 3600, 7200, 14400, 28800)
"""Seconds before each further try. The last of them is repeated."""
JITTER: Final = 0.2
"""By which part of it a pause is longer or shorter, so that receivers that fail together are not
tried together."""
GIVEN_UP: Final = timedelta(days=3)
"""After so much time of failures, nothing is tried again by itself."""
_CHANCE: Final = random.Random()  # noqa: S311 - no secret  # nosec B311


def pause(tries: int, schedule: Sequence[float] = SCHEDULE) -> float:
    """Return the seconds until the next try, after so many that failed in a row."""
    usual = schedule[min(tries, len(schedule)) - 1]
    return usual * _CHANCE.uniform(1 - JITTER, 1 + JITTER)
