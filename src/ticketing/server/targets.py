"""The target of a request and its host (RFC 9112, section 3.2)."""

import re
from functools import lru_cache
from typing import Final

HOST: Final = re.compile(
    rb"(?:\[[0-9A-Fa-f:.]+\]|(?:[A-Za-z0-9._~!$&'()*+,;=-]|%[0-9A-Fa-f]{2})+)(?::[0-9]{0,5})?"
)
"""A valid Host (RFC 3986, section 3.2). The port may be empty."""
NO_PATH: Final = re.compile(rb"([A-Za-z][A-Za-z0-9+.-]*://[^/?#]*)(\?.*)?")
"""A target in absolute form without a path."""


@lru_cache(64)
def is_host(text: bytes) -> bool:
    """Whether this is a valid Host."""
    return HOST.fullmatch(text) is not None


def with_path(target: bytes, method: bytes) -> bytes:
    """Return a target in absolute form with a path, and any other as it is.

    An empty path is `/` or, of OPTIONS without a query, `*` (RFC 9112, section 3.2.4).
    """
    found = NO_PATH.fullmatch(target)
    if found is None:
        return target
    authority, query = found.groups()
    return b"*" if method == b"OPTIONS" and query is None else authority + b"/" + (query or b"")
