"""The types of ASGI, and what several layers read from a scope."""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final, TypeAlias

JSON: Final = b"application/json"
HEAD: Final = "ticketing.head"
"""Key of a scope: true if the client wants no body."""

PREFIX: Final = "ticketing.prefix"
"""Key of a scope: the prefix that a proxy puts before the service's paths, if there is one."""

ASGIScope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
ASGIApp: TypeAlias = Callable[[ASGIScope, Receive, Send], Awaitable[None]]


def client_address(scope: ASGIScope) -> str | None:
    """Return the client's address; behind trusted proxies, the one that called the first proxy."""
    client = scope.get("client")
    return client[0] if client else None
