"""Refresh tokens, password tokens and API keys: how they are made, told apart and kept."""

import hashlib
import re
import secrets
import zlib
from typing import Final

KEY_PREFIX: Final = "tkt_"
KEY: Final = re.compile(r"(tkt_[0-9a-f]{64})_([0-9a-f]{8})")
KEY_REMEMBERED: Final = 60.0
"""Seconds for which a worker takes an API key's word without asking the database again."""


def new_token() -> str:
    """Return 256 bits that nobody can guess."""
    return secrets.token_urlsafe(32)


def new_api_key() -> str:
    """Return a fresh key: a prefix that secret scanners know, 256 random bits, a check sum."""
    body = KEY_PREFIX + secrets.token_hex(32)
    return f"{body}_{_check(body)}"


def is_api_key(text: str) -> bool:
    """Whether the text is a key that may exist: the check sum keeps typos off the database."""
    found = KEY.fullmatch(text)
    return found is not None and found[2] == _check(found[1])


def _check(body: str) -> str:
    return f"{zlib.crc32(body.encode()):08x}"


def digest(credential: str) -> bytes:
    """Return the form in which tokens and API keys are kept.

    A fast hash is enough: nobody can try 256 random bits.
    """
    return hashlib.sha256(credential.encode()).digest()
