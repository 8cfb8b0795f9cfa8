"""A TCP relay on the loopback, which can cut a node off as a broken network does."""

import asyncio
from contextlib import suppress


class Relay:
    """Listens on a port, and forwards to one of several others."""

    def __init__(self, *targets: int) -> None:
        """Forward to the first of these ports that accepts."""
        self._targets = targets
        self._is_cut = False
        self._healed = asyncio.Event()
        self._writers: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None

    async def start(self) -> int:
        """Listen, and return the port."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        return int(self._server.sockets[0].getsockname()[1])

    def cut(self) -> None:
        """Deliver nothing from now on, and end no connection."""
        self._is_cut = True

    def heal(self) -> None:
        """Drop what was not delivered, with its connections, and forward new ones."""
        self._is_cut = False
        self._healed.set()
        self._healed = asyncio.Event()
        self._drop()

    async def close(self) -> None:
        """Stop, and drop all connections."""
        if self._server is not None:
            self._server.close()
        self.heal()
        while self._writers:  # noqa: ASYNC110 - each connection removes its own
            await asyncio.sleep(0.01)

    def _drop(self) -> None:
        for writer in list(self._writers):
            with suppress(OSError):
                writer.transport.abort()

    async def _accept(self, reader: asyncio.StreamReader, ours: asyncio.StreamWriter) -> None:
        self._writers.add(ours)
        theirs: asyncio.StreamWriter | None = None
        try:
            if self._is_cut:
                await self._healed.wait()
                return
            for port in self._targets:
                with suppress(OSError):
                    answers, theirs = await asyncio.open_connection("127.0.0.1", port)
                    break
            if theirs is None:
                return
            self._writers.add(theirs)
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pump(reader, theirs))
                group.create_task(self._pump(answers, ours))
        except* (OSError, EOFError):
            pass
        finally:
            for writer in (ours, theirs):
                if writer is not None:
                    self._writers.discard(writer)
                    with suppress(OSError):
                        writer.transport.abort()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65_536):
            if self._is_cut:
                await self._healed.wait()
                raise EOFError
            writer.write(data)
            await writer.drain()
        raise EOFError
