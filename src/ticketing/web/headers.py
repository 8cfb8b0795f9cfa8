"""Headers on every response that protect the client."""

from collections.abc import Collection
from typing import Final, TypeAlias

Headers: TypeAlias = Collection[tuple[bytes, bytes]]

POLICY: Final = b"content-security-policy"
CLOSES: Final = (b"connection", b"close")
EVERYWHERE: Final = ((b"x-content-type-options", b"nosniff"), (b"referrer-policy", b"no-referrer"))
NOTHING_LOADS: Final = (POLICY, b"default-src 'none'; frame-ancestors 'none'")
OF_API: Final = (*EVERYWHERE, NOTHING_LOADS, (b"cache-control", b"no-store"))
UNBUFFERED: Final = (b"x-accel-buffering", b"no")
"""On responses that stay open, because proxies such as nginx must pass on each part at once."""
# A proxy that compresses would hold back what it compresses.
OF_STREAMS: Final = (*EVERYWHERE, NOTHING_LOADS, (b"cache-control", b"no-cache, no-transform"))
# A cached copy is checked each time, because the service may have been updated.
OF_REST: Final = (*EVERYWHERE, NOTHING_LOADS, (b"cache-control", b"no-cache"))
OF_PAGES: Final = (*EVERYWHERE, (b"cache-control", b"no-cache"))


def protective(path: str, given: Headers) -> Headers:
    """Return the headers to add to a response from `path` that has the headers `given`.

    Responses below /api must not be cached, because they are private or soon out of date. A page
    with its own Content-Security-Policy keeps it.
    """
    if path.startswith("/api/"):
        return OF_STREAMS if UNBUFFERED in given else OF_API
    return OF_PAGES if any(name == POLICY for name, _ in given) else OF_REST
