"""The client's address where proxies stand between it and the service."""

from collections.abc import Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Final, TypeAlias

from ticketing.web.asgi import ASGIApp, ASGIScope, Receive, Send

Address: TypeAlias = IPv4Address | IPv6Address
Network: TypeAlias = IPv4Network | IPv6Network

BELIEVED: Final = "ticketing.believed"
"""Where in an ASGI scope it says whether X-Forwarded-For was believed."""
REMEMBERED: Final = 4096
"""Answers kept: the same few proxies and many clients come again and again."""
MAX_FORWARDED: Final = 1024
"""Bytes of X-Forwarded-For, counted from its trusted end."""


class TrustedProxies:
    """Puts the client's address into `scope["client"]` where a trusted proxy passes it on.

    Each proxy appends the address that it was called from to X-Forwarded-For. Read from the right,
    the first that is not trusted is the client; all that is left of it, it may have made up.
    """

    def __init__(self, app: ASGIApp, trusted: Sequence[Network]) -> None:
        """Wrap `app`; addresses in `trusted` are proxies whose word is taken."""
        self._app = app
        self._trusted = trusted
        self._client = lru_cache(REMEMBERED)(self._find)

    async def __call__(self, scope: ASGIScope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        peer = scope.get("client")
        if peer is not None:
            forwarded = b",".join(v for k, v in scope.get("headers", ()) if k == b"x-forwarded-for")
            if forwarded:
                found, is_believed = self._client(peer[0], forwarded[-MAX_FORWARDED:])
                scope = {**scope, "client": (found, peer[1]), BELIEVED: is_believed}
        await self._app(scope, receive, send)

    def _find(self, peer: str, forwarded: bytes) -> tuple[str, bool]:
        """Return the client's address, and whether the peer is a proxy that is trusted."""
        hops = [peer, *reversed(forwarded.decode("latin-1").split(","))]
        client, is_believed = peer, False
        for hop in hops:
            address = _address(hop.strip())
            if address is None:  # Not an address: the last hop that was one stands.
                break
            client = str(address)
            if not any(address in network for network in self._trusted):
                break
            is_believed = True
        return client, is_believed


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
    # What an IPv4 client is called on a socket that listens for both.
    return getattr(address, "ipv4_mapped", None) or address
