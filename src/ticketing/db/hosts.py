"""The hosts of a database: which of them answers, and when what is connected to it is lost."""

import asyncio
import socket
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

import asyncpg
from asyncpg.connect_utils import SessionAttribute

from ticketing.database_address import Address, Host

if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record]
else:
    Connection = asyncpg.Connection

CONNECT_TIMEOUT: Final = 5.0
"""Seconds for all hosts together, unless the address has `connect_timeout`, for each of them."""
HOST_TIMEOUT: Final = 1.5
"""Seconds for each of several."""

NEXT: Final = (
    OSError,  # TimeoutError is one.
    asyncpg.TargetServerAttributeNotMatched,
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,  # It starts, or stops.
)
"""After these another host is tried; a wrong password, for example, ends it, as with libpq."""

OPTIONS: Final = {
    # macOS has the first by another name.
    "keepalives_idle": (
        getattr(socket, "TCP_KEEPIDLE", getattr(socket, "TCP_KEEPALIVE", None)),
        32_767,
    ),
    "keepalives_interval": (getattr(socket, "TCP_KEEPINTVL", None), 32_767),
    "keepalives_count": (getattr(socket, "TCP_KEEPCNT", None), 127),
    "tcp_user_timeout": (getattr(socket, "TCP_USER_TIMEOUT", None), 2**31 - 1),
}
"""The options of a socket, where the platform has them, and the most that it takes."""


class NoHostError(OSError):
    """None of several hosts can be used, and why each of them."""


class Link(Connection):
    """A connection, which knows whether another that was made no later was lost."""

    __slots__ = ("_server", "epoch", "socket")

    def __init__(self, protocol: Any, transport: asyncio.Transport, *rest: Any) -> None:  # noqa: ANN401 - the driver's own
        """Be made by the driver."""
        super().__init__(protocol, transport, *rest)
        self.socket: socket.socket = transport.get_extra_info("socket")
        self._server: Server | None = None
        self.epoch = 0
        """How often connections to its server had been lost when it was made."""

    def belong_to(self, server: "Server", epoch: int) -> None:
        """Be one of the server's connections."""
        self._server, self.epoch = server, epoch
        _watch(self.socket, server.address.numbers)

    @property
    def is_suspect(self) -> bool:
        """Whether it is closed, or most likely lost."""
        return self.is_closed() or (self._server is not None and self.epoch < self._server.epoch)

    def lose(self) -> None:
        """Close it at once, and have all that were made no later replaced before they are used.

        What took this one, a failover or a firewall, took them too.
        """
        self.terminate()
        if self._server is not None:
            self._server.epoch = max(self._server.epoch, self.epoch + 1)


class Server:
    """What an address leads to: one of its hosts, at a time."""

    def __init__(self, address: Address) -> None:
        """Nothing is connected yet."""
        self.address = address
        self.epoch = 0
        """How often connections were lost."""
        self._hosts = list(address.hosts)
        """The last one that was good is the first."""

    async def connect(
        self,
        *,
        command_timeout: float | None = None,
        server_settings: dict[str, str] | None = None,
        patience: float | None = None,
    ) -> Link:
        """Connect to the first host that answers and has the role that is meant.

        `patience` is how many seconds a host may take at most, where that is less than usual.
        Raises NoHostError if none of several does; of a lone one its own error.
        """
        epoch = self.epoch
        each = float(self.address.numbers["connect_timeout"])
        together = None
        if each <= 0:
            each, together = HOST_TIMEOUT, CONNECT_TIMEOUT
            if len(self._hosts) == 1:
                each = CONNECT_TIMEOUT
        failed: dict[Host, BaseException] = {}
        try:
            async with asyncio.timeout(together):
                for host, role in self._candidates():
                    try:
                        link = await asyncpg.connect(
                            self.address.dsn,
                            host=host.name or None,
                            port=host.port,
                            timeout=min(each, patience or each),
                            command_timeout=command_timeout,
                            target_session_attrs=role,
                            server_settings=server_settings,
                            connection_class=Link,
                        )
                    except BaseException as error:
                        failed[host] = error
                        # Also if nobody waits for it any more: the next to try it is not the first.
                        self._put(host, len(self._hosts))
                        if not isinstance(error, NEXT):
                            raise
                    else:
                        self._put(host, 0)
                        link.belong_to(self, epoch)
                        return link
        except TimeoutError:
            if len(self._hosts) == 1:
                raise
        if len(self._hosts) == 1:
            raise failed.popitem()[1]
        raise NoHostError("; ".join(f"{host} {self._why(failed[host])}" for host in failed))

    def _candidates(self) -> Iterator[tuple[Host, SessionAttribute]]:
        """Yield each host, with the role that it must have to be taken."""
        role = self.address.role
        for each in ("standby", "any") if role == "prefer-standby" else (role,):
            for host in tuple(self._hosts):
                yield host, SessionAttribute(each)

    def _put(self, host: Host, place: int) -> None:
        self._hosts.remove(host)
        self._hosts.insert(place, host)

    def _why(self, error: BaseException) -> str:
        if isinstance(error, (TimeoutError, asyncio.CancelledError)):
            return "does not answer in time"
        if isinstance(error, asyncpg.TargetServerAttributeNotMatched):
            return f"is not {self.address.role}"
        lines = str(error).splitlines() or [type(error).__name__]
        return f"can't be used ({lines[0]})"


def _watch(connected: socket.socket, numbers: Mapping[str, int]) -> None:
    """Have the kernel notice that the other end is gone, as libpq's parameters say."""
    if connected.family not in {socket.AF_INET, socket.AF_INET6} or numbers["keepalives"] == 0:
        return
    connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, (option, most) in OPTIONS.items():
        # As with libpq, 0 leaves it to the system.
        if option is not None and numbers[name] > 0:
            connected.setsockopt(socket.IPPROTO_TCP, option, min(numbers[name], most))
