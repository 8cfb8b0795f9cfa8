"""A server process: serves until it must stop, and completes every accepted request."""

import asyncio
import os
import resource
import signal
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from multiprocessing.connection import Connection
from types import FrameType
from typing import Any, Final, cast

import uvicorn
from prometheus_client import Gauge

from ticketing.ops import logs
from ticketing.ops.metrics import LIVE
from ticketing.server.admission import Admission
from ticketing.server.corked import Cork
from ticketing.server.protocol import BoundedProtocol, Bounds
from ticketing.server.terms import BACKLOG, GRACE, LINGER, RETIRE
from ticketing.server.unread import Vanished
from ticketing.settings import Settings
from ticketing.web.headers import CLOSES
from ticketing.web.service import Service

WORKERS: Final = Gauge("ticketing_workers", "Processes that serve.", multiprocess_mode=LIVE)
LOOK_EVERY: Final = 80
"""Tenths of a second between two looks for clients of streams that are gone. With the comments that
are sent to a silent stream, a client that vanished is disconnected within half a minute."""
SPARE: Final = 100
"""Files that a worker has open besides its connections, at most."""


class Server(uvicorn.Server):
    """Serves the connections of one worker.

    When it stops, it first reports "not ready" and still accepts for `drain` seconds, so that a
    load balancer can send traffic elsewhere. Then, and also when it retires, it stops accepting.
    Every response says `Connection: close`, so that clients open a new connection for their next
    request. Connections that are idle for LINGER are closed, and requests under way are finished.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        *,
        drain: float,
        ready: Connection,
        service: Service,
        admission: Admission,
    ) -> None:
        """Send to `ready` once it serves, and notify `service` when it stops and drains."""
        super().__init__(config)
        self._drain = drain
        self._ready = ready
        self._service = service
        self._admission = admission
        self._retiring = False
        self._vanished = Vanished()

    async def on_tick(self, counter: int) -> bool:
        """Do what is done each tenth of a second."""
        if counter % LOOK_EVERY == 0:
            self._vanished.look(self.server_state.connections)
        return await super().on_tick(counter)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start to serve."""
        signal.signal(RETIRE, self.handle_exit)
        await super().startup(sockets)
        if self.started:
            WORKERS.set(1)
            logs.log.info("worker.started", pid=os.getpid())
            self._ready.send("ready")
            self._ready.close()

    def handle_exit(self, sig: int, _frame: FrameType | None) -> None:
        """Begin to stop or retire after a signal."""
        if self.should_exit:
            return
        # uvicorn itself would end the process by the same signal, before the last lines are logged.
        self.should_exit = True
        if sig == RETIRE:
            self._retiring = True
        else:
            self._service.stop()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Drain, then finish requests under way and shut the application down."""
        self.config.encoded_headers = [*self.config.encoded_headers, CLOSES]
        await self.on_tick(0)  # Applies the headers.
        self._admission.close()
        self._service.drain()
        if not self._retiring:
            await self._serve_until(time.monotonic() + self._drain)
        await self._stop_accepting(sockets or [])
        await self._serve_until(time.monotonic() + LINGER, while_connected=True)
        await super().shutdown(sockets)

    async def _stop_accepting(self, sockets: list[socket.socket]) -> None:
        """Accept the connections in the queue of each socket, and close the socket."""
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
            await self.on_tick(tick)  # Each tenth tick renews the date.
            await asyncio.sleep(0.1)
            tick += 1
            if while_connected and not self.server_state.connections:
                return


def _room(connections: int, streams: int) -> tuple[int, int]:
    """Raise the limit of open files as far as allowed; return how many of both are possible.

    The soft limit is 1,024 on most machines, and the hard one far above. If there are too few for
    both, each gets half of them.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections + streams + SPARE
    files = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if files > soft:
        resource.setrlimit(resource.RLIMIT_NOFILE, (files, hard))
    room = max(2, files - SPARE)
    connections = min(connections, max(room // 2, room - streams))
    return connections, min(streams, room - connections)


def server_config(
    make_app: Callable[[], Any],
    settings: Settings,
    admission: Admission,
) -> uvicorn.Config:
    """Return how uvicorn serves the application that `make_app` makes in each worker."""
    connections, admission.streams.limit = _room(settings.max_connections, settings.max_streams)
    bounds = Bounds(settings.header_timeout, settings.body_timeout, connections)
    protocol = partial(BoundedProtocol, bounds, admission, Cork())
    return uvicorn.Config(
        make_app,
        factory=True,
        workers=settings.workers,
        loop="uvloop",
        http=cast("type[asyncio.Protocol]", protocol),
        ws="none",
        lifespan="on",  # By default, one that fails is taken for none, and the worker serves.
        backlog=BACKLOG,
        log_config=None,
        access_log=False,
        proxy_headers=False,  # It would trust every client on this machine.
        server_header=False,
        timeout_keep_alive=settings.keep_alive,
        timeout_graceful_shutdown=GRACE,
        timeout_worker_healthcheck=GRACE,
    )
