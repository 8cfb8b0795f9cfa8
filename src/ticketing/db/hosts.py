"""The hosts of a database: connect to a usable one, and notice lost connections."""

import asyncio
import socket
import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final, cast

import asyncpg
from asyncpg.connect_utils import SessionAttribute

from ticketing.database_address import Address, Host
from ticketing.db.attempts import Attempts
from ticketing.settings import Pooler

if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record]
else:
    Connection = asyncpg.Connection

CONNECT_TIMEOUT: Final = 5.0
"""Seconds for all hosts together. If the address has `connect_timeout`, that is for each host."""
HOST_TIMEOUT: Final = 1.5
"""Seconds for each of several hosts."""
SHORT_FOR: Final = 5.0
"""Seconds for which a worker that got no connection counts as short of them."""
STATEMENTS: Final = 100
"""Prepared statements that a connection keeps, unless it may keep none."""

NEXT: Final = (
    OSError,  # TimeoutError is one.
    asyncpg.TargetServerAttributeNotMatched,
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,  # The server is starting or stopping.
)
"""After these errors the next host is tried. Others, such as a wrong password, end the search, as
with libpq."""

OPTIONS: Final = {
    # macOS has another name for the first.
    "keepalives_idle": (
        getattr(socket, "TCP_KEEPIDLE", getattr(socket, "TCP_KEEPALIVE", None)),
        32_767,
    ),
    "keepalives_interval": (getattr(socket, "TCP_KEEPINTVL", None), 32_767),
    "keepalives_count": (getattr(socket, "TCP_KEEPCNT", None), 127),
    "tcp_user_timeout": (getattr(socket, "TCP_USER_TIMEOUT", None), 2**31 - 1),
}
"""Socket options, None if the platform lacks them, and their largest values."""


class NotReplicatedError(ConnectionError):
    """A commit is durable on the primary alone, because its wait for a standby was cancelled."""

    def __init__(self) -> None:
        """Say so."""
        super().__init__("the wait for a synchronous standby was cancelled")


class NoHostError(OSError):
    """None of several hosts can be used. The text has a reason for each."""


class Link(Connection):
    """A connection. It knows whether one that was made at the same time or later was lost."""

    __slots__ = ("_has_worked", "_is_lost", "_is_unconfirmed", "_server", "epoch", "socket")

    def __init__(self, protocol: Any, transport: asyncio.Transport, *rest: Any) -> None:  # noqa: ANN401 - the driver's own
        """Only the driver calls this."""
        super().__init__(protocol, transport, *rest)
        self.socket: socket.socket = transport.get_extra_info("socket")
        self._server: Server | None = None
        self._has_worked = False
        self._is_lost = False
        self._is_unconfirmed = False
        self.epoch = 0
        """The server's epoch when the connection was made."""

    def belong_to(self, server: "Server", epoch: int) -> None:
        """Join the connections of `server`."""
        self._server, self.epoch = server, epoch
        _watch(self.socket, server.address.numbers)
        self.add_log_listener(_hear)

    def confirm(self) -> None:
        """Raise NotReplicatedError if a commit since the last call did not wait for its standby.

        PostgreSQL reports such a commit as a success, with a warning.
        """
        if self._is_unconfirmed:
            self._is_unconfirmed = False
            raise NotReplicatedError
        self._has_worked = True

    def doubt(self) -> None:
        """Note that the last commit may be durable on the primary alone."""
        self._is_unconfirmed = True

    @property
    def pooler(self) -> Pooler:
        """What is between the service and PostgreSQL."""
        return "none" if self._server is None else self._server.pooler

    @property
    def is_suspect(self) -> bool:
        """Whether the connection is closed, or probably lost."""
        return self.is_closed() or (self._server is not None and self.epoch < self._server.epoch)

    def lose(self) -> None:
        """Close the connection at once, and mark all that are not newer as suspect.

        The same cause, for example a failover or a firewall, probably broke them too.
        """
        self.terminate()
        if self._server is not None:
            self._server.lost += not self._is_lost
            self._server.epoch = max(self._server.epoch, self.epoch + 1)
            # A pooler accepts connections also while it has no server.
            self._server.attempts.is_failing |= not self._has_worked
        self._is_lost = True


class Server:
    """The server behind an address: one of its hosts at a time."""

    def __init__(self, address: Address, pooler: Pooler = "none") -> None:
        """Connect to nothing yet. `pooler` is what is in between."""
        self.address = address
        self.pooler = pooler
        self.epoch = 0
        """A number that grows when a connection is lost."""
        self.lost = 0
        """How many connections were discarded because they were lost, or probably lost."""
        self.refused = 0
        """How many connections the server had no room for."""
        self._refused_at = -SHORT_FOR
        self.attempts = Attempts()
        """Attempts to connect while that fails."""
        self._hosts = list(address.hosts)
        """Those that failed last are at the end, so the one that worked last is the first."""

    def suspect_all(self) -> None:
        """Mark every connection as probably lost."""
        self.epoch += 1

    @property
    def is_short(self) -> bool:
        """Whether the server had no room for a connection a short while ago."""
        return time.monotonic() - self._refused_at < SHORT_FOR

    @property
    def names_statements(self) -> bool:
        """Whether a statement that was prepared in a session is still there at its next use."""
        return self.pooler != "transaction"

    async def connect(
        self,
        *,
        command_timeout: float | None = None,
        server_settings: dict[str, str] | None = None,
        patience: float | None = None,
    ) -> Link:
        """Connect to the first host that responds and has the required role.

        `patience` limits the seconds for each host, if it is less than the usual timeout. Raises
        NoHostError if none of several hosts can be used. A single host raises its own error. While
        that fails, callers share attempts.
        """

        async def connected() -> Link:
            return await self._connect(command_timeout, server_settings, patience)

        async def attempt() -> None:
            link = await connected()
            try:
                await link.execute("SELECT 1", timeout=CONNECT_TIMEOUT)
            finally:
                link.terminate()
            # This may be another server than that of connections which were idle meanwhile.
            self.suspect_all()

        await self.attempts.succeed(attempt)
        try:
            return await connected()
        except NEXT:
            self.attempts.is_failing = True
            raise

    async def _connect(
        self,
        command_timeout: float | None,
        server_settings: dict[str, str] | None,
        patience: float | None,
    ) -> Link:
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
                            statement_cache_size=STATEMENTS if self.names_statements else 0,
                            connection_class=Link,
                        )
                    except BaseException as error:
                        failed[host] = error
                        self._note(error)
                        # Also if this call was cancelled: the next call tries another host first.
                        self._hosts.remove(host)
                        self._hosts.append(host)
                        if not isinstance(error, NEXT):
                            raise
                    else:
                        link.belong_to(self, epoch)
                        return link
        except TimeoutError:
            if len(self._hosts) == 1:
                raise
        if len(self._hosts) == 1:
            raise failed.popitem()[1]
        raise NoHostError("; ".join(f"{host} {self._why(failed[host])}" for host in failed))

    def _note(self, error: BaseException) -> None:
        if isinstance(error, asyncpg.TooManyConnectionsError):
            self.refused += 1
            self._refused_at = time.monotonic()

    def _candidates(self) -> Iterator[tuple[Host, SessionAttribute]]:
        """Yield each host, with the role that it must have."""
        role = self.address.role
        for each in ("standby", "any") if role == "prefer-standby" else (role,):
            for host in tuple(self._hosts):
                yield host, SessionAttribute(each)

    def _why(self, error: BaseException) -> str:
        if isinstance(error, (TimeoutError, asyncio.CancelledError)):
            return "does not respond in time"
        if isinstance(error, asyncpg.TargetServerAttributeNotMatched):
            return f"is not {self.address.role}"
        lines = str(error).splitlines() or [type(error).__name__]
        return f"can't be used ({lines[0]})"


def _hear(link: object, message: asyncpg.PostgresLogMessage) -> None:
    # Its text is in the language of the server, and its SQLSTATE that of any warning.
    if getattr(message, "server_source_function", None) == "SyncRepWaitForLSN":
        cast("Link", link).doubt()


def _watch(connected: socket.socket, numbers: Mapping[str, int]) -> None:
    """Let the kernel detect a dead peer, as libpq's parameters say."""
    if connected.family not in {socket.AF_INET, socket.AF_INET6} or numbers["keepalives"] == 0:
        return
    connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, (option, most) in OPTIONS.items():
        # As with libpq, 0 leaves it to the system.
        if option is not None and numbers[name] > 0:
            connected.setsockopt(socket.IPPROTO_TCP, option, min(numbers[name], most))
