"""Headers that every answer carries to protect whoever receives it."""

from collections.abc import Iterable
from typing import Final, TypeAlias

Headers: TypeAlias = Iterable[tuple[bytes, bytes]]

POLICY: Final = b"content-security-policy"
CLOSES: Final = (b"connection", b"close")
EVERYWHERE: Final = ((b"x-content-type-options", b"nosniff"), (b"referrer-policy", b"no-referrer"))
NOTHING_LOADS: Final = (POLICY, b"default-src 'none'; frame-ancestors 'none'")
OF_API: Final = (*EVERYWHERE, NOTHING_LOADS, (b"cache-control", b"no-store"))
# Kept, but asked for again each time: the service may have been replaced.
OF_REST: Final = (*EVERYWHERE, NOTHING_LOADS, (b"cache-control", b"no-cache"))
OF_PAGES: Final = (*EVERYWHERE, (b"cache-control", b"no-cache"))


def protective(path: str, given: Headers) -> Headers:
    """Return what to add to an answer from `path` whose headers are `given`.

    Nothing under /api is stored by anybody: it is private, or true only for the moment. A page
    that brings a policy of its own keeps it.
    """
    if path.startswith("/api/"):
        return OF_API
    return OF_PAGES if any(name == POLICY for name, _ in given) else OF_REST
