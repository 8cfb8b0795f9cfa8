"""A transport that sends what is written in one turn of the event loop at the end of that turn."""

import asyncio
from collections import deque
from typing import Any, Final

MAX_HELD: Final = 64 * 1024
"""Bytes of a connection that are held until the end of a turn; more are sent at once."""
MAX_HOLDING: Final = 64
"""Connections that are held: of more, the first would have left the processor's cache again."""


class Corked(asyncio.Transport):
    """Joins what is written to a connection in one turn, as the head and the body of an answer.

    Each write of uvloop's is a system call and, to a client that reads at once, a packet. At the
    end of a turn the connections are written to one after another, while what that takes is in
    the processor's cache.
    """

    __slots__ = ("_cork", "_held", "_size", "_transport")

    def __init__(self, transport: asyncio.Transport, cork: "Cork") -> None:
        """Write to `transport` when `cork` is pulled."""
        self._transport = transport
        self._cork = cork
        self._held: list[bytes] = []
        self._size = 0

    def write(self, data: Any) -> None:  # noqa: ANN401 - bytes; asyncio's own says more
        """Send it at the end of the turn."""
        if not self._held:
            self._cork.hold(self)
        self._held.append(data)
        self._size += len(data)
        if self._size > MAX_HELD:
            self.flush()

    def write_now(self, data: bytes) -> None:
        """Send it at once, behind what is held."""
        if self._size:
            self.flush()
        self._transport.write(data)

    def flush(self) -> None:
        """Send what is held, unless the connection is gone meanwhile."""
        held, self._held = self._held, []
        self._size = 0
        if held and not self._transport.is_closing():
            self._transport.write(b"".join(held))

    def write_eof(self) -> None:
        """Send what is held, and no more after it."""
        self.flush()
        self._transport.write_eof()

    def close(self) -> None:
        """Send what is held, and end the connection."""
        self.flush()
        self._transport.close()

    def abort(self) -> None:
        """End the connection at once."""
        self._transport.abort()

    def get_write_buffer_size(self) -> int:
        """Return how many bytes are yet to be sent."""
        return self._size + self._transport.get_write_buffer_size()

    def is_closing(self) -> bool:
        """Whether it is being ended."""
        return self._transport.is_closing()

    def pause_reading(self) -> None:
        """Let what comes wait."""
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Take what comes."""
        self._transport.resume_reading()

    def get_extra_info(self, name: str, default: Any = None) -> Any:  # noqa: ANN401 - asyncio's own
        """Return what the transport knows of the connection."""
        return self._transport.get_extra_info(name, default)


class Cork:
    """Holds all connections' writes of one turn of an event loop."""

    def __init__(self) -> None:
        """Hold nothing yet."""
        self._holding: deque[Corked] = deque()

    def hold(self, corked: Corked) -> None:
        """Have it flushed at the end of the turn."""
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
            if self._holding:  # A fault of one is not to be the others'.
                asyncio.get_running_loop().call_soon(self._pull)
