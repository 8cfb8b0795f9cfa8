"""The client's address and the requested path, if proxies are in front of the service."""

from collections.abc import Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Final, TypeAlias

from ticketing.settings import as_root_path
from ticketing.web.asgi import PREFIX, ASGIApp, ASGIScope, Message, Receive, Send

Address: TypeAlias = IPv4Address | IPv6Address
Network: TypeAlias = IPv4Network | IPv6Network

BELIEVED: Final = "ticketing.believed"
"""Key of a scope: whether X-Forwarded-For was used."""
REMEMBERED: Final = 4096
"""Results that are cached, because the same proxies and clients send many requests."""
MAX_FORWARDED: Final = 1024
"""Bytes of X-Forwarded-For that are read, from its trusted end."""


class TrustedProxies:
    """Puts the client's address into `scope["client"]`, and the path prefix into `scope[PREFIX]`.

    Each proxy appends the address that called it to X-Forwarded-For. The last address that is not a
    trusted proxy is the client. The client may have invented the addresses before it.

    The prefix is `root_path` or, if that is not set, the X-Forwarded-Prefix of a trusted proxy. It
    is removed from the path, unless a proxy did that, and added to each path in a Location header.
    """

    def __init__(
        self, app: ASGIApp, trusted: Sequence[Network], root_path: str | None = None
    ) -> None:
        """Wrap `app`. Headers of proxies with addresses in `trusted` are used."""
        self._app = app
        self._trusted = trusted
        self._root_path = root_path or ""
        self._client = lru_cache(REMEMBERED)(self._find)

    async def __call__(self, scope: ASGIScope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":  # The application's lifespan has neither client nor path.
            await self._app(scope, receive, send)
            return
        peer, prefix = scope.get("client"), self._root_path
        if peer is not None:
            forwarded, told = [], []
            for name, value in scope.get("headers", ()):
                if name == b"x-forwarded-for":
                    forwarded.append(value)
                elif name == b"x-forwarded-prefix":
                    told.append(value)
            if forwarded or told:
                found, is_believed = self._client(peer[0], b",".join(forwarded)[-MAX_FORWARDED:])
                scope = {**scope, "client": (found, peer[1]), BELIEVED: is_believed}
                if told and is_believed and not prefix:
                    prefix = prefix_of(b",".join(told))
        if prefix:
            scope = {**scope, PREFIX: prefix, "path": without(prefix, scope["path"])}
            send = _locating(prefix, send)
        await self._app(scope, receive, send)

    def _find(self, peer: str, forwarded: bytes) -> tuple[str, bool]:
        """Return the client's address, and whether the peer is a trusted proxy."""
        hops = [peer, *reversed(forwarded.decode("latin-1").split(","))]
        client, is_believed = peer, False
        for hop in hops:
            address = _address(hop.strip())
            if address is None:  # Not an address: the hop before it is the client.
                break
            client = str(address)
            if not any(address in network for network in self._trusted):
                break
            is_believed = True
        return client, is_believed


def without(prefix: str, path: str) -> str:
    """Return the path without the prefix, or unchanged if it does not have the prefix."""
    rest = path.removeprefix(prefix)
    return (rest or "/") if rest[:1] in {"", "/"} else path


@lru_cache(REMEMBERED)
def prefix_of(told: bytes) -> str:
    """Return the prefix that X-Forwarded-Prefix names, or an empty one if it is none."""
    try:
        return as_root_path(told.decode("latin-1").strip())
    except ValueError:
        return ""


def _locating(prefix: str, send: Send) -> Send:
    """Return a `send` that adds the prefix to the Location header."""
    start = prefix.encode()

    async def locate(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [
                (name, start + value)
                if name == b"location" and value[:1] == b"/"
                else (name, value)
                for name, value in message.get("headers", ())
            ]
        await send(message)

    return locate


def _address(text: str) -> Address | None:
    """Read an address, with its port or without one, as proxies write it."""
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ip_address(text)
    except ValueError:
        return None
    # A socket that listens for both shows an IPv4 client in this form.
    return getattr(address, "ipv4_mapped", None) or address
