"""Clients that do not take in what they are sent.

Such a client would hold a connection and a request for ever.
"""

import asyncio
import socket
import struct
from typing import Final

LOOKS: Final = 10
"""As often is looked at a client that reads on; one that is behind for longer is too slow."""
INFO: Final = struct.Struct("=24xI92xQ16xI")
"""Of Linux's `struct tcp_info`: packets under way, bytes confirmed, and bytes not sent yet."""


def bound_unread(listener: socket.socket, seconds: float) -> None:
    """Have the kernel end each connection whose client is behind for LOOKS times `seconds`.

    For what the kernel has taken over whole, and goes on sending after the connection was closed.
    A setting of Linux (RFC 5482), which sockets have of their listener; elsewhere, nothing is done.
    It measures no progress: a client that reads a little at a time may be ended all the same.
    """
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        option, milliseconds = socket.TCP_USER_TIMEOUT, int(LOOKS * seconds * 1000)
        listener.setsockopt(socket.IPPROTO_TCP, option, milliseconds)


def confirmed(transport: asyncio.WriteTransport) -> int | None:
    """Return how many bytes the client's system has confirmed, or None if it has confirmed all.

    Only Linux says; elsewhere, it is always None.
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
    """Ends a connection on which writing is paused, unless the client reads on.

    Every `seconds` some more must have been confirmed, and all of it after LOOKS times.
    """

    def __init__(self, transport: asyncio.WriteTransport, seconds: float) -> None:
        """Begin."""
        self._transport = transport
        self._seconds = seconds
        self._looks = LOOKS
        self._confirmed = confirmed(transport)
        self._timer = self._later()

    def stop(self) -> None:
        """Look no more: it was taken in, or the connection is gone."""
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


def has_stalled(before: int | None, now: int | None) -> bool:
    """Whether nothing was taken in between two looks, at both of which something was left."""
    return now is not None and now == before
