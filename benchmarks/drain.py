"""Stop a service that thousands listen to: `python -m benchmarks.drain`.

Two services share a database. All listeners follow one event at the first one, which then gets
SIGTERM while people book. They come back to the second one, each after the time that it was told.
Then the first one is stopped once more without listeners, and 10,000 listen while people book.
The exit status is 1 if a promise is broken.
"""

import argparse
import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from http import HTTPStatus
from http.client import HTTPConnection
from pathlib import Path
from statistics import median
from typing import Final, NamedTuple

import uvloop
from benchmarks.arena import Arena, arena
from benchmarks.console import say, status_of
from benchmarks.ground import CannotRunError
from benchmarks.servers import Server, service_environment, serving

RESULT: Final = Path(__file__).with_name("results") / "drain.md"
WORKERS: Final = 2
PEOPLE: Final = 10_000
LISTENERS: Final = 5_000
MANY: Final = 10_000
BOOKINGS: Final = 200
"""Bookings beside MANY listeners."""
EVERY: Final = 0.05
"""Seconds between two bookings while the service stops."""
BACK: Final = 10.0
"""Seconds within which all must be back."""
LONGER: Final = 5.0
"""Seconds by which the stop may be longer than without listeners, because each is told to go."""
PATIENCE: Final = 60.0
CONNECTING: Final = 64
"""Listeners that connect at the same time at first."""
ID: Final = re.compile(rb"^id: (\d+-(\d+)-\w+)$", re.MULTILINE)
RETRY: Final = re.compile(rb"^retry: (\d+)$", re.MULTILINE)


class Back(NamedTuple):
    """How the listeners came back."""

    last: float
    """The time at which the last one had its number."""
    refused: int
    """Attempts to come back that were not let in."""


class Stopped(NamedTuple):
    """How a service stopped."""

    seconds: float
    status: int


class _Listener(asyncio.Protocol):
    """A client that follows an event, and comes back to `elsewhere` when the stream ends."""

    def __init__(self, crowd: "_Crowd", last: bytes = b"") -> None:
        self._crowd = crowd
        self._last = last
        self._retry = 1.0
        self._is_in = False
        self.version = -1
        self.ready = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        since = b"Last-Event-ID: %b\r\n" % self._last if self._last else b""
        head = b"GET /api/events/%d/live HTTP/1.1\r\nHost: localhost\r\n" % self._crowd.event
        transport.write(head + since + b"\r\n")  # type: ignore[attr-defined]

    def data_received(self, data: bytes) -> None:
        if not self._is_in and data.startswith(b"HTTP/1.1 200"):
            self._is_in = True
        if found := RETRY.findall(data):
            self._retry = int(found[-1]) / 1000
        if found := ID.findall(data):
            self._last, version = found[-1]
            self.version = int(version)
        # One that has the last number already gets a beat.
        if self._is_in and not self.ready.done():
            self.ready.set_result(time.time())

    def connection_lost(self, _: Exception | None) -> None:
        if not self.ready.done():
            self.ready.set_exception(ConnectionError("not let in"))
        elif self._is_in:
            self._crowd.come_back(self, self._retry, self._last)


class _Crowd:
    """All listeners. The place of each in the list is taken by the one that comes back."""

    def __init__(self, event: int, port: int, elsewhere: int) -> None:
        self.event = event
        self._port = port
        self._elsewhere = elsewhere
        self.listeners: list[_Listener] = []
        self.refused = 0
        self._returning: set[asyncio.Task[None]] = set()
        self.back: list[float] = []

    async def come(self, count: int) -> None:
        gate = asyncio.Semaphore(CONNECTING)

        async def one() -> None:
            async with gate:
                listener = _Listener(self)
                self.listeners.append(listener)
                await self._connect(listener, self._port)

        await asyncio.gather(*(one() for _ in range(count)))

    def come_back(self, left: _Listener, after: float, last: bytes) -> None:
        task = asyncio.create_task(self._come_back(left, after, last))
        self._returning.add(task)
        task.add_done_callback(self._returning.discard)

    async def _come_back(self, left: _Listener, after: float, last: bytes) -> None:
        place = self.listeners.index(left)
        while True:
            await asyncio.sleep(after)
            listener = _Listener(self, last)
            # It still has the number of before, until it is told another one.
            listener.version = left.version
            try:
                self.back.append(await self._connect(listener, self._elsewhere))
            except OSError:
                self.refused += 1
                continue
            self.listeners[place] = listener
            return

    async def _connect(self, listener: _Listener, port: int) -> float:
        loop = asyncio.get_running_loop()
        await loop.create_connection(lambda: listener, "127.0.0.1", port)
        at: float = await listener.ready
        return at


async def _listen(event: int, port: int, elsewhere: int, count: int) -> None:
    """Be `count` listeners. A line asks them to be back; a version, whether all have it."""
    crowd = _Crowd(event, port, elsewhere)
    await crowd.come(count)
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    while len(crowd.back) < count:  # noqa: ASYNC110 - measured to a hundredth
        await asyncio.sleep(0.01)
    print(json.dumps(Back(max(crowd.back), crowd.refused)), flush=True)
    version = int(await asyncio.to_thread(sys.stdin.readline))
    print(sum(each.version != version for each in crowd.listeners), flush=True)
    await asyncio.to_thread(sys.stdin.readline)


@contextmanager
def _crowd(
    event: int, server: Server, elsewhere: Server, count: int
) -> "Iterator[subprocess.Popen[str]]":
    """Run the listeners, once all of them are let in. Raises CannotRunError."""
    command = [
        *(sys.executable, "-m", "benchmarks.drain", "--event", str(event)),
        *("--port", str(server.port), "--elsewhere", str(elsewhere.port)),
        *("--listeners", str(count)),
    ]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
        try:
            if _read(process) != "ready":
                raise CannotRunError("not all listeners were let in")
            yield process
        finally:
            process.kill()


def _read(process: "subprocess.Popen[str]") -> str:
    if process.stdout is None:
        raise ValueError("the process needs a pipe")
    return process.stdout.readline().strip()


def _write(process: "subprocess.Popen[str]", line: str) -> None:
    if process.stdin is None:
        raise ValueError("the process needs a pipe")
    process.stdin.write(f"{line}\n")
    process.stdin.flush()


class _Sale:
    """People who book, one after the other, each once."""

    def __init__(self, here: Arena, event: int) -> None:
        lines = (here.folder / "people").read_text().splitlines()
        self._people = iter([line.split() for line in lines])
        self._event = event

    def book(self, server: Server) -> float:
        """Book, and return the seconds. Raises CannotRunError if it is refused."""
        person, token = next(self._people)
        begun = time.monotonic()
        server.create("/api/events/book", {"eventId": self._event, "userId": person}, token)
        return time.monotonic() - begun

    @contextmanager
    def going_on(self, server: Server) -> Iterator[None]:
        """Book every EVERY seconds."""
        over = threading.Event()
        failures: list[Exception] = []

        def work() -> None:
            try:
                while not over.wait(EVERY):
                    self.book(server)
            except Exception as error:  # noqa: BLE001 - raised by whoever waits
                failures.append(error)

        thread = threading.Thread(target=work)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()
        if failures:
            raise failures[0]


def _stop(server: Server) -> tuple[float, Stopped]:
    """Send SIGTERM. Return when, and how the service stopped."""
    at, begun = time.time(), time.monotonic()
    os.kill(server.pid, signal.SIGTERM)
    # Left to be waited for by what has started it.
    ended = os.waitid(os.P_PID, server.pid, os.WEXITED | os.WNOWAIT)
    if ended is None:
        raise CannotRunError("the service was not started here")
    return at, Stopped(time.monotonic() - begun, ended.si_status)


def _version(server: Server, event: int) -> int:
    with closing(HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE)) as connection:
        connection.request("GET", f"/api/events/{event}")
        response = connection.getresponse()
        body = response.read()
    if response.status != HTTPStatus.OK:
        raise CannotRunError(f"the event can't be read: {response.status}")
    return int(json.loads(body)["version"])


def _measure() -> None:
    with arena(PEOPLE) as here:
        event = here.ground().add_events(1, PEOPLE)
        here.ground().settle()
        sale = _Sale(here, event)

        def service() -> AbstractContextManager[Server]:
            variables = service_environment(here.url(), here.folder, workers=WORKERS)
            return serving("service", ("ticketing", "serve"), variables, here.folder)

        with service() as elsewhere:
            with service() as server:
                _, alone = _stop(server)
            say(f"without listeners: {alone}")
            with (
                service() as server,
                _crowd(event, server, elsewhere, LISTENERS) as crowd,
            ):
                with sale.going_on(elsewhere):
                    _write(crowd, "come back")
                    at, stopped = _stop(server)
                    back = Back(*json.loads(_read(crowd)))
                # Numbers are at most so old.
                time.sleep(2.0)
                _write(crowd, str(_version(elsewhere, event)))
                stale = int(_read(crowd))
            say(f"with {LISTENERS:,}: {stopped}, back after {back.last - at:.2f} s, {stale} stale")
        with (
            service() as server,
            _crowd(event, server, server, MANY),
        ):
            taken = sorted(sale.book(server) for _ in range(BOOKINGS))
    p50, p99 = median(taken) * 1000, taken[int(0.99 * len(taken))] * 1000
    page = "\n".join(
        [
            "# Stopping a service that thousands listen to\n",
            "Written by `python -m benchmarks.drain`.\n",
            "| what | measured | must be |",
            "|---|--:|--:|",
            f"| seconds from SIGTERM to the exit without listeners | {alone.seconds:.2f} | |",
            f"| with {LISTENERS:,} listeners | {stopped.seconds:.2f} | at most {LONGER:.0f} more |",
            f"| status of the exit | {stopped.status} | 0 |",
            f"| seconds until all are back elsewhere | {back.last - at:.2f} | {BACK:.0f} |",
            f"| attempts to come back that failed | {back.refused} | |",
            f"| listeners with a number that is not the last | {stale} | 0 |",
            f"| of {BOOKINGS} bookings beside {MANY:,} listeners, made | {len(taken)} | all |",
            f"| their p50 and p99 in ms | {p50:.1f}, {p99:.1f} | |",
            "",
        ]
    )
    RESULT.write_text(page)
    sys.stdout.write(page)
    if stopped.status or stale or stopped.seconds > alone.seconds + LONGER or back.last - at > BACK:
        raise CannotRunError("a promise is broken: see the table")


def main() -> int:
    """Measure, and return 1 if a promise is broken."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.drain",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    for hidden in ("event", "port", "elsewhere", "listeners"):
        parser.add_argument(f"--{hidden}", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.listeners is not None:
        uvloop.run(_listen(given.event, given.port, given.elsewhere, given.listeners))
        return 0
    return status_of(_measure)


if __name__ == "__main__":
    sys.exit(main())
