"""A transport that collects the writes of one turn of the event loop, and sends them at its end."""

import asyncio
from collections import deque
from typing import Any, Final

MAX_HELD: Final = 64 * 1024
"""Bytes of a connection that are held until the end of a turn; more are sent at once."""
MAX_HOLDING: Final = 64
"""Connections that are held. With more, the first would leave the processor's cache."""


class Corked(asyncio.Transport):
    """Joins the writes to a connection in one turn, such as the head and body of a response.

    Each write of uvloop is a system call and often a packet. At the end of a turn the connections
    are written one after another, while the code for it is in the processor's cache.
    """

    __slots__ = ("_cork", "_held", "_size", "_transport")

    def __init__(self, transport: asyncio.Transport, cork: "Cork") -> None:
        """Write to `transport` when `cork` flushes."""
        self._transport = transport
        self._cork = cork
        self._held: list[bytes] = []
        self._size = 0

    def write(self, data: Any) -> None:  # noqa: ANN401 - bytes; asyncio's own says more
        """Send `data` at the end of the turn."""
        if not self._held:
            self._cork.hold(self)
        self._held.append(data)
        self._size += len(data)
        if self._size > MAX_HELD:
            self.flush()

    def write_now(self, data: bytes) -> None:
        """Send `data` at once, after the held data."""
        if self._size:
            self.flush()
        self._transport.write(data)

    def flush(self) -> None:
        """Send the held data, unless the connection is closing."""
        held, self._held = self._held, []
        self._size = 0
        if held and not self._transport.is_closing():
            self._transport.write(b"".join(held))

    def write_eof(self) -> None:
        """Send the held data, and then end the stream."""
        self.flush()
        self._transport.write_eof()

    def close(self) -> None:
        """Send the held data, and close the connection."""
        self.flush()
        self._transport.close()

    def abort(self) -> None:
        """Close the connection at once."""
        self._transport.abort()

    def get_write_buffer_size(self) -> int:
        """Return the number of bytes that are not sent yet."""
        return self._size + self._transport.get_write_buffer_size()

    def is_closing(self) -> bool:
        """Whether the connection is closing."""
        return self._transport.is_closing()

    def pause_reading(self) -> None:
        """Stop reading."""
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Read again."""
        self._transport.resume_reading()

    def get_extra_info(self, name: str, default: Any = None) -> Any:  # noqa: ANN401 - asyncio's own
        """Return the transport's information about the connection."""
        return self._transport.get_extra_info(name, default)


class Cork:
    """Holds the writes of all connections in one turn of an event loop."""

    def __init__(self) -> None:
        """Begin without held writes."""
        self._holding: deque[Corked] = deque()

    def hold(self, corked: Corked) -> None:
        """Flush `corked` at the end of the turn."""
        if not self._holding:
            asyncio.get_running_loop().call_soon(self._pull)
        elif len(self._holding) >= MAX_HOLDING:
            self._pull()
        self._holding.append(corked)

    def _pull(self) -> None:
        try:
            while self._holding:
                self._holding.popleft().flush()
        finally:
            if self._holding:  # One connection failed; the others must still be flushed.
                asyncio.get_running_loop().call_soon(self._pull)
