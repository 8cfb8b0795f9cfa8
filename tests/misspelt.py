"""Credentials that are not quite right."""

from hypothesis.strategies import text

HEADERS = text("0123456789abcdefABCDEFtk_.-= \n", max_size=200)
"""What tokens and keys are made of, and a little more."""


def spoilt(good: str, at: int, by: str) -> str:
    """Return a good one with one character replaced."""
    at %= len(good)
    return good[:at] + by + good[at + 1 :]
