"""A worker that serves in this process, on a real port."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from multiprocessing import Pipe
from socket import create_server

from fastapi import FastAPI

from ticketing.server.admission import Admission
from ticketing.server.serving import Server, server_config
from ticketing.settings import Settings
from ticketing.web.service import Service


@dataclass
class Worker:
    """The server in this process."""

    server: Server
    admission: Admission
    service: Service
    port: int

    async def ask(self, request: bytes) -> tuple[asyncio.StreamReader, bytes]:
        """Send a request on a new connection, and return the first bytes of the response."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(request)
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
        self._writers.append(writer)
        return reader, head

    def __post_init__(self) -> None:
        self._writers: list[asyncio.StreamWriter] = []

    def close(self) -> None:
        for writer in self._writers:
            writer.close()


@asynccontextmanager
async def serving(app: FastAPI, settings: Settings, *, drain: float = 0.0) -> AsyncIterator[Worker]:
    """Serve. It goes on to accept connections for `drain` seconds when it is told to stop."""
    service: Service = app.state.provided[Service]
    admission = Admission(streams=service.streams)
    _parent, ready = Pipe()
    with create_server(("127.0.0.1", 0)) as listener:
        server = Server(
            server_config(lambda: app, settings, admission),
            drain=drain,
            ready=ready,
            service=service,
            admission=admission,
        )
        task = asyncio.create_task(server.serve([listener]))
        while not server.started:  # noqa: ASYNC110 - it sends no event
            await asyncio.sleep(0.01)
        worker = Worker(server, admission, service, listener.getsockname()[1])
        try:
            yield worker
        finally:
            worker.close()
            server.should_exit = True
            await task
