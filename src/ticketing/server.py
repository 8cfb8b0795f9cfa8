"""A server process: serves until it is told to leave, and leaves nobody without an answer."""

import asyncio
import gc
import multiprocessing
import os
import resource
import signal
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from types import FrameType
from typing import Any, Final, cast

import uvicorn

from ticketing import telemetry
from ticketing.admission import Admission
from ticketing.corked import Cork
from ticketing.headers import CLOSES
from ticketing.metrics import Counts
from ticketing.protocol import BoundedProtocol, Limits, drop_unread
from ticketing.rates import Memory
from ticketing.settings import Settings
from ticketing.supervisor import RETIRE

GRACE: Final = 30
"""Seconds that requests under way get to finish when the service stops."""
LINGER: Final = 1.0
"""Seconds after the last accept in which connections that are open may still send a request."""

BACKLOG: Final = 65_535
"""Connections that wait to be taken, or as many as the system allows: one more waits a second."""
SPARE: Final = 100
"""Files that a worker has open besides its connections, at the most."""


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
        admission: Admission,
    ) -> None:
        """Say so on `ready` once it serves, and call `on_stopping` when it is told to stop."""
        super().__init__(config)
        self._drain = drain
        self._ready = ready
        self._on_stopping = on_stopping
        self._admission = admission
        self._retiring = False

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start to serve."""
        signal.signal(RETIRE, self.handle_exit)
        await super().startup(sockets)
        if self.started:
            telemetry.log.info("worker.started", pid=os.getpid())
            self._ready.send("ready")
            self._ready.close()

    def handle_exit(self, sig: int, _frame: FrameType | None) -> None:
        """Take a signal to leave."""
        if self.should_exit:
            return
        # Uvicorn itself would end the process by the same signal, before the last lines are logged.
        self.should_exit = True
        if sig == RETIRE:
            self._retiring = True
        else:
            self._on_stopping()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Drain, then finish what is under way and shut the application down."""
        self.config.encoded_headers = [*self.config.encoded_headers, CLOSES]
        await self.on_tick(0)  # Puts them in force.
        self._admission.close()
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
            await self.on_tick(tick)  # Each tenth renews the date.
            await asyncio.sleep(0.1)
            tick += 1
            if while_connected and not self.server_state.connections:
                return


def _room(connections: int) -> int:
    """Let this process open the files it needs, if it may; return how many connections it can take.

    The soft limit is 1,024 on most machines, and the hard one far above.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections + SPARE
    files = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if files > soft:
        resource.setrlimit(resource.RLIMIT_NOFILE, (files, hard))
    return max(1, min(connections, files - SPARE))


def server_config(
    make_app: Callable[[], Any],
    settings: Settings,
    admission: Admission,
    counts: Counts | None = None,
) -> uvicorn.Config:
    """Return how uvicorn serves the application that `make_app` makes in each worker."""
    connections = _room(settings.max_connections)
    limits = Limits(settings.header_timeout, settings.body_timeout, connections)
    protocol = partial(BoundedProtocol, limits, admission, Cork(), counts)
    return uvicorn.Config(
        make_app,
        factory=True,
        workers=settings.workers,
        loop="uvloop",
        http=cast("type[asyncio.Protocol]", protocol),
        ws="none",
        backlog=BACKLOG,
        log_config=None,
        access_log=False,
        proxy_headers=False,  # It would believe whoever calls from this machine.
        server_header=False,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=GRACE,
        timeout_worker_healthcheck=GRACE,
    )


def work(
    settings: Settings,
    listener: socket.socket,
    memory: Memory,
    counted: Path | None,
    ready: Connection,
) -> None:
    """Be a worker, which leaves when its parent is gone, even by kill -9."""
    parent = multiprocessing.parent_process()
    if parent is not None:

        def follow() -> None:
            parent.join()
            os.kill(os.getpid(), RETIRE)

        threading.Thread(target=follow, daemon=True).start()
    gc.disable()  # What is loaded stays: looking through it over and over is a tenth of the time.
    from ticketing.app import create_app  # noqa: PLC0415 - not for the parent, who names `work`

    counts = Counts(counted) if counted is not None else None
    app = create_app(settings, memory, counts)
    app.state.document()  # Takes longer than any request may hold the others up.
    gc.enable()

    def stopping() -> None:
        app.state.stopping = True

    drop_unread(listener, settings.body_timeout)
    admission = Admission(counts)
    server = Server(
        server_config(lambda: app, settings, admission, counts),
        drain=settings.drain,
        ready=ready,
        on_stopping=stopping,
        admission=admission,
    )
    server.run([listener])
