"""Disconnects clients that do not read their responses.

Such a client would hold a connection and a request forever.
"""

import asyncio
import socket
import struct
from collections.abc import Iterable
from typing import Any, Final

from ticketing.web.streams import is_stream

LOOKS: Final = 10
"""Number of checks of a client that reads slowly. After the last one it is disconnected."""
INFO: Final = struct.Struct("=24xI92xQ16xI")
"""Linux's `struct tcp_info`: packets under way, bytes confirmed, and bytes not sent yet."""


def bound_unread(listener: socket.socket, seconds: float) -> None:
    """Have the kernel close each connection whose client confirms nothing for LOOKS * `seconds`.

    This is for data that the kernel still sends after the connection was closed. It uses an option
    of Linux (RFC 5482), which sockets inherit from their listener; on other systems it does
    nothing. It does not measure progress, so it may also close the connection of a slow client.
    """
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        option, milliseconds = socket.TCP_USER_TIMEOUT, int(LOOKS * seconds * 1000)
        listener.setsockopt(socket.IPPROTO_TCP, option, milliseconds)


def confirmed(transport: asyncio.WriteTransport) -> int | None:
    """Return how many bytes the client's system has confirmed, or None if it confirmed all.

    It is always None on systems other than Linux.
    """
    if not hasattr(socket, "TCP_USER_TIMEOUT"):
        return None
    connection: socket.socket = transport.get_extra_info("socket")
    info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, INFO.size)
    if len(info) < INFO.size:  # Not over TCP, or before Linux 4.6.
        return None
    under_way, taken, not_sent = INFO.unpack(info)
    return taken if under_way or not_sent else None


class Watch:
    """Closes a connection on which writing is paused, unless the client reads on.

    The client must confirm some data every `seconds`, and all of it within LOOKS times that.
    """

    def __init__(self, transport: asyncio.WriteTransport, seconds: float) -> None:
        """Begin."""
        self._transport = transport
        self._seconds = seconds
        self._looks = LOOKS
        self._confirmed = confirmed(transport)
        self._timer = self._later()

    def stop(self) -> None:
        """Stop checking, because the client read all, or the connection is gone."""
        self._timer.cancel()

    def _later(self) -> asyncio.TimerHandle:
        return asyncio.get_running_loop().call_later(self._seconds, self._look)

    def _look(self) -> None:
        self._looks -= 1
        before, self._confirmed = self._confirmed, confirmed(self._transport)
        if has_stalled(before, self._confirmed) or not self._looks:
            self._transport.abort()
        else:
            self._timer = self._later()


class Vanished:
    """Disconnects clients of streams whose system confirms nothing any more.

    Such a client has lost its network or its power, without a word. What is sent to a stream is too
    little for a Watch.
    """

    def __init__(self) -> None:
        self._before: dict[Any, int] = {}

    def look(self, connections: Iterable[Any]) -> None:
        """Disconnect those that have confirmed nothing since the last look, and had to.

        A connection is a BoundedProtocol.
        """
        before, self._before = self._before, {}
        for each in connections:
            cycle = each.cycle
            if cycle is None or cycle.response_complete:
                continue
            if not is_stream(cycle.scope):
                continue
            now = confirmed(each.transport)
            if has_stalled(before.get(each), now):
                each.transport.abort()
            elif now is not None:
                self._before[each] = now


def has_stalled(before: int | None, now: int | None) -> bool:
    """Whether the client confirmed nothing between two checks, although data was left."""
    return now is not None and now == before
