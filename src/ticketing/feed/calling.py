"""Calls of webhooks: one request, no redirects, only to addresses that are allowed."""

import asyncio
import socket
import ssl
import time
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from functools import cache, partial
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Final, NamedTuple, TypeAlias

import httpcore

from ticketing import __version__

PATIENCE: Final = 15.0
"""Seconds in which a receiver must respond."""
CONNECTIONS: Final = 16
"""Requests to one receiver at the same time."""
READ: Final = 16_384
"""Bytes of a response that are read. Nothing is done with them."""
GONE: Final = 410
# Threads of their own. A name whose server does not respond takes a thread for half a minute, and
# would otherwise keep those that connect to the database and print tickets.
_NAMES: Final = ThreadPoolExecutor(32, thread_name_prefix="names")

Network: TypeAlias = IPv4Network | IPv6Network
NAT64: Final = IPv6Network("64:ff9b::/96")


class AddressRefused(httpcore.ConnectError):
    """The receiver's name leads to an address that is not public, and not allowed."""


class Called(NamedTuple):
    """What became of a call: the status of the response, or why there is none."""

    status: int | None
    error: str | None
    milliseconds: int

    @property
    def is_delivered(self) -> bool:
        """Whether the receiver has accepted it."""
        return self.status is not None and 200 <= self.status < 300  # noqa: PLR2004 - HTTP's

    @property
    def said(self) -> str:
        """Return what became of it, in a few words."""
        return self.error or f"HTTP {self.status}"


def is_allowed(address: str, networks: Iterable[Network]) -> bool:
    """Whether webhooks may be sent to the address: it is public, or in one of these networks."""
    found = ip_address(address.partition("%")[0])
    if any(found in network for network in networks):
        return True
    inner = _inner(found)
    if inner is not found and any(inner in network for network in networks):
        return True
    return found.is_global and inner.is_global and not (found.is_multicast or inner.is_multicast)


def _inner(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    """Return the IPv4 address that an IPv6 address leads to, or the address itself."""
    if isinstance(address, IPv4Address):
        return address
    if address in NAT64:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour or address


class CheckedNetwork(httpcore.AsyncNetworkBackend):
    """Resolves a name, checks every address, and connects to a checked one.

    So a name that resolves differently a second time can't lead elsewhere.
    """

    def __init__(self, networks: Sequence[Network]) -> None:
        """Allow these networks besides public addresses."""
        self._networks = networks
        self._backend = httpcore.AnyIOBackend()
        self._looking_up = asyncio.Lock()
        """One look-up at a time, so that one receiver does not take all threads."""

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - the interface's
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Connect to the first address that accepts. Raises AddressRefused, or httpcore's."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(timeout), self._looking_up:
                look_up = partial(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM)
                found = await loop.run_in_executor(_NAMES, look_up)
        except TimeoutError as error:
            raise httpcore.ConnectTimeout from error
        except (OSError, UnicodeError) as error:
            raise httpcore.ConnectError("the name of the host can't be resolved") from error
        addresses = list(dict.fromkeys(str(each[4][0]) for each in found))
        if not all(is_allowed(each, self._networks) for each in addresses):
            raise AddressRefused
        failure: Exception = httpcore.ConnectError("the name of the host has no address")
        for address in addresses:
            try:
                return await self._backend.connect_tcp(
                    address, port, timeout, local_address, socket_options
                )
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
        raise failure

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        await asyncio.sleep(seconds)


@cache
def _tls() -> ssl.SSLContext:
    # Takes 20 ms, and is the same for all.
    return httpcore.default_ssl_context()


class Caller:
    """Sends requests to one receiver, on connections that stay open between them.

    At most CONNECTIONS at the same time. Each connection is in a pool of its own, because a pool
    looks at all its connections at each request, which takes longer than the request.
    """

    def __init__(self, pools: Iterable[httpcore.AsyncConnectionPool]) -> None:
        """Send through `pools`."""
        self._free = list(pools)

    async def call(self, url: str, body: bytes, headers: Mapping[str, str]) -> Called:
        """Send a POST, and return what became of it. A redirect is a failure, as any other."""
        begun = time.monotonic()
        status = error = None
        sent: list[tuple[bytes | str, bytes | str]] = [
            ("content-type", "application/json"),
            ("user-agent", f"ticketing/{__version__}"),
            *headers.items(),
        ]
        pool = self._free.pop()
        try:
            async with (
                asyncio.timeout(PATIENCE),
                pool.stream("POST", url, headers=sent, content=body) as response,
            ):
                status = response.status
                # A connection can be used again if its response was read to the end.
                read = 0
                async for part in response.aiter_stream():
                    read += len(part)
                    if read > READ:
                        break
        except TimeoutError:
            error = f"no response within {PATIENCE:.0f} seconds"
        except AddressRefused:
            error = (
                "the address is not public: the operator allows it by TICKETING_WEBHOOK_NETWORKS"
            )
        except httpcore.ConnectTimeout:
            error = "no connection in time"
        except httpcore.ConnectError as failure:
            error = f"no connection: {_said(failure)}"
        except (httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException):
            error = "the connection was closed without a response"
        except (UnicodeError, ValueError, httpcore.UnsupportedProtocol):
            error = "the address can't be called"
        finally:
            self._free.append(pool)
        return Called(status, error, round((time.monotonic() - begun) * 1000))


def _said(failure: Exception) -> str:
    return str(failure)[:100] or type(failure).__name__


@asynccontextmanager
async def calling(networks: Sequence[Network]) -> AsyncIterator[Caller]:
    """Return a caller for one receiver. Close its connections at the end."""
    network = CheckedNetwork(networks)
    async with AsyncExitStack() as stack:
        pools = [
            await stack.enter_async_context(
                httpcore.AsyncConnectionPool(
                    ssl_context=_tls(),
                    max_connections=1,
                    keepalive_expiry=5.0,
                    network_backend=network,
                )
            )
            for _ in range(CONNECTIONS)
        ]
        yield Caller(pools)
