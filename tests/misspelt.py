"""Credentials that are not quite right."""

from hypothesis.strategies import text

HEADERS = text("0123456789abcdefABCDEFtk_.-= \n", max_size=200)
"""Characters of tokens and keys, and a few more."""


def spoilt(good: str, at: int, by: str) -> str:
    """Return a valid credential with one character replaced."""
    at %= len(good)
    return good[:at] + by + good[at + 1 :]
