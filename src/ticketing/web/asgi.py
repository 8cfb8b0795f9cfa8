"""The types of ASGI, and what several layers read from a scope."""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final, TypeAlias

HEAD: Final = "ticketing.head"
"""Where in a scope it says that the client wants no body."""

PREFIX: Final = "ticketing.prefix"
"""Where in a scope it says what clients put before the paths of the service, if they do."""

ASGIScope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
ASGIApp: TypeAlias = Callable[[ASGIScope, Receive, Send], Awaitable[None]]


def client_address(scope: ASGIScope) -> str | None:
    """Return who calls; where proxies are trusted, who called the first of them."""
    client = scope.get("client")
    return client[0] if client else None
