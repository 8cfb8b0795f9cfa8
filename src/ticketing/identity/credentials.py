"""Refresh tokens, password tokens and API keys: making, recognising and hashing them."""

import hashlib
import re
import secrets
import zlib
from typing import Final

KEY_PREFIX: Final = "tkt_"
KEY: Final = re.compile(r"(tkt_[0-9a-f]{64})_([0-9a-f]{8})")
KEY_REMEMBERED: Final = 60.0
"""Seconds for which a worker accepts a verified API key without reading the database again."""


def new_token() -> str:
    """Return 256 random bits as text."""
    return secrets.token_urlsafe(32)


def new_api_key() -> str:
    """Return a new key: a prefix for secret scanners, 256 random bits and a checksum."""
    body = KEY_PREFIX + secrets.token_hex(32)
    return f"{body}_{_check(body)}"


def is_api_key(text: str) -> bool:
    """Whether the text has the form of a key. The checksum catches typos without the database."""
    found = KEY.fullmatch(text)
    return found is not None and found[2] == _check(found[1])


def _check(body: str) -> str:
    return f"{zlib.crc32(body.encode()):08x}"


def digest(credential: str) -> bytes:
    """Return the hash that is stored in place of a token or an API key.

    A fast hash is enough, because nobody can guess 256 random bits.
    """
    return hashlib.sha256(credential.encode()).digest()
