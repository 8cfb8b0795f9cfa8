"""A server process: serves until it is told to leave, and leaves nobody without an answer."""

import asyncio
import signal
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from types import FrameType
from typing import Final

import uvicorn

LINGER: Final = 1.0
"""Seconds after the last accept in which connections that are open may still send a request."""
RETIRE: Final = signal.SIGUSR1
"""Tells a process to leave while others go on: it stops accepting at once, and stays ready."""

_CLOSE: Final = (b"connection", b"close")


class Server(uvicorn.Server):
    """Serves one worker's share of the connections.

    Told to stop, it is not ready first, and goes on accepting for `drain` seconds, so that
    whoever sends it traffic can send it elsewhere. Then, as when it retires, it stops accepting;
    every answer says `Connection: close`, so that clients who keep connections open take their
    next request to a new one; connections on which nothing comes within LINGER are closed, and
    what is under way is finished.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        *,
        drain: float,
        ready: Connection,
        on_stopping: Callable[[], None],
    ) -> None:
        """Say so on `ready` once it serves, and call `on_stopping` when it is told to stop."""
        super().__init__(config)
        self._drain = drain
        self._ready = ready
        self._on_stopping = on_stopping
        self._retiring = False

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start to serve."""
        signal.signal(RETIRE, self.handle_exit)
        await super().startup(sockets)
        if self.started:
            self._ready.send("ready")
            self._ready.close()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Take a signal to leave."""
        if self.should_exit:
            return
        if sig == RETIRE:
            self._retiring = self.should_exit = True
        else:
            self._on_stopping()
            super().handle_exit(sig, frame)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Drain, then finish what is under way and shut the application down."""
        self.config.encoded_headers = [*self.config.encoded_headers, _CLOSE]
        if not self._retiring:
            await self._serve_until(time.monotonic() + self._drain)
        await self._stop_accepting(sockets or [])
        await self._serve_until(time.monotonic() + LINGER, while_connected=True)
        await super().shutdown(sockets)

    async def _stop_accepting(self, sockets: list[socket.socket]) -> None:
        """Take in whoever is in the queue of each socket, and close it in the same breath."""
        queues = [] if self._retiring else [each.dup() for each in sockets]
        for server in self.servers:
            server.close()
        taken = []
        for queue in queues:
            with queue, suppress(OSError):
                while True:
                    taken.append(queue.accept()[0])
        loop = asyncio.get_running_loop()
        for each in taken:
            await loop.connect_accepted_socket(self._protocol, each)

    def _protocol(self) -> asyncio.Protocol:
        protocol: asyncio.Protocol = self.config.http_protocol_class(  # type: ignore[call-arg]
            config=self.config,
            server_state=self.server_state,
            app_state=self.lifespan.state,
        )
        return protocol

    async def _serve_until(self, deadline: float, *, while_connected: bool = False) -> None:
        tick = 0
        while time.monotonic() < deadline:
            await self.on_tick(tick)  # The first and each tenth puts the headers in force.
            await asyncio.sleep(0.1)
            tick += 1
            if while_connected and not self.server_state.connections:
                return
