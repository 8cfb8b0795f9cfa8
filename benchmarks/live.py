"""Sell one event at full speed while thousands follow its numbers: `python -m benchmarks.live`.

Rounds without listeners, with 1,000 and with 10,000 are in turn. A listener's number is as old as
its time (`at`) says, until the next one replaces it. The listeners are a process of their own on
the same machine, so that it also takes from what the service has. Nobody's token is remembered, as
in a real rush. The exit status is 1 if a promise is broken.
"""

import argparse
import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from statistics import median
from typing import Final, NamedTuple

import uvloop
from benchmarks.arena import Arena, arena
from benchmarks.console import say, status_of
from benchmarks.ground import CannotRunError
from benchmarks.servers import Server, service_environment, serving

RESULT: Final = Path(__file__).with_name("results") / "live.md"
WORKERS: Final = 2
PEOPLE: Final = 60_000
"""Everybody books once, so that there must be enough for a round."""
CROWDS: Final = {0: 1.0, 1_000: 0.8, 10_000: 0.6}
"""Listeners, and the part of the bookings that must be left."""
OLDEST: Final = 2.0
"""Seconds that the number of 99 of 100 may be old at most."""
MOST: Final = 25.0
"""KiB of a worker's memory for each listener."""
AT: Final = b'"at":"'
STAMP: Final = len("2026-11-02T19:30:00.123456")
CONNECTING: Final = 64
"""Listeners that connect at the same time."""


class Heard(NamedTuple):
    """What the listeners of a round saw. Times in seconds."""

    messages: int
    arriving: float
    """The 99th percentile of the age of a number when it arrives."""
    oldest: float
    """That of the age when the next one replaces it."""


class Round(NamedTuple):
    """One round."""

    per_second: float
    heard: Heard | None
    memory: float
    """KiB for each listener."""


class _Listener(asyncio.Protocol):
    """One connection."""

    arriving: Final[list[float]] = []
    replaced: Final[list[float]] = []
    begun: Final[list[float]] = []
    """Has an entry once the sale has begun."""

    def __init__(self, request: bytes, ready: "asyncio.Future[None]") -> None:
        self._request = request
        self._ready = ready
        self._at: float | None = None
        """The time of its number, unless nothing has changed since that."""
        self._of = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport.write(self._request)  # type: ignore[attr-defined]

    def data_received(self, data: bytes) -> None:
        found = data.rfind(AT)
        if found < 0:
            return
        now = time.time()
        stamp = data[found + len(AT) : found + len(AT) + STAMP].decode()
        if len(stamp) < STAMP:  # It is in two pieces.
            return
        at = datetime.fromisoformat(stamp + "+00:00").timestamp()
        if not self._ready.done():
            self._ready.set_result(None)
        else:
            self.arriving.append(now - at)
            # Before the sale began, a number was old and right.
            if self._at is not None and self._of == len(self.begun):
                self.replaced.append(now - self._at)
        self._at, self._of = at, len(self.begun)

    def connection_lost(self, _: Exception | None) -> None:
        if not self._ready.done():
            self._ready.set_exception(ConnectionError("refused"))


async def _listen(port: int, event: int, count: int) -> None:
    """Be `count` listeners, until a line arrives; then begin to measure, until another does."""
    loop = asyncio.get_running_loop()
    request = f"GET /api/events/{event}/live HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
    gate = asyncio.Semaphore(CONNECTING)

    async def connect() -> None:
        async with gate:
            ready = loop.create_future()
            await loop.create_connection(lambda: _Listener(request, ready), "127.0.0.1", port)
            await ready

    await asyncio.gather(*(connect() for _ in range(count)))
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    _Listener.arriving.clear()
    _Listener.replaced.clear()
    _Listener.begun.append(time.time())
    await asyncio.to_thread(sys.stdin.readline)
    heard = Heard(len(_Listener.arriving), _p99(_Listener.arriving), _p99(_Listener.replaced))
    print(json.dumps(heard._asdict()), flush=True)


def _p99(of: list[float]) -> float:
    return sorted(of)[int(0.99 * len(of))] if of else float("inf")


class Crowd:
    """The process of the listeners."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        """Wait until all of them listen. Raises CannotRunError."""
        if process.stdin is None or process.stdout is None:
            raise ValueError("the process needs both pipes")
        self._to, self._from = process.stdin, process.stdout
        if self._from.readline().strip() != "ready":
            raise CannotRunError("not all listeners were let in")

    def begin(self) -> None:
        """Begin to measure."""
        self._to.write("\n")
        self._to.flush()

    def end(self) -> Heard:
        """Return what was heard."""
        self.begin()
        return Heard(**json.loads(self._from.readline()))


@contextmanager
def _crowd(server: Server, event: int, count: int) -> Iterator[Crowd]:
    command = [
        *(sys.executable, "-m", "benchmarks.live", "--port", str(server.port)),
        *("--event", str(event), "--listeners", str(count)),
    ]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
        try:
            yield Crowd(process)
        finally:
            process.kill()


def _round(here: Arena, listeners: int, seconds: int) -> Round:
    event = here.ground().add_events(1, PEOPLE)
    here.ground().settle()
    # A new one, so that its memory is that of these listeners.
    variables = service_environment(here.url(), here.folder, workers=WORKERS)
    with serving("service", ("ticketing", "serve"), variables, here.folder) as server:
        before = sum(server.memory())
        if not listeners:
            return Round(_sell(here, server, event, seconds), None, 0.0)
        with _crowd(server, event, listeners) as crowd:
            server.wait_until_idle()
            memory = (sum(server.memory()) - before) * 1024 / listeners
            crowd.begin()
            rate = _sell(here, server, event, seconds)
            heard = crowd.end()
    return Round(rate, heard, memory)


def _sell(here: Arena, server: Server, event: int, seconds: int) -> float:
    sent = here.driver.book(server, event, seconds, limit=PEOPLE)
    return (sent.answers - sent.refused) / sent.seconds


def _page(rounds: dict[int, list[Round]]) -> tuple[str, bool]:
    alone = median(each.per_second for each in rounds[0])
    lines = [
        "# Numbers that thousands follow\n",
        f"Written by `python -m benchmarks.live`, {len(rounds[0])} rounds of each kind.\n",
        "| listeners | bookings/s | ratio | must be | p99 of age | on arrival | sent | KiB each |",
        "|--:|--:|--:|--:|--:|--:|--:|--:|",
        f"| 0 | {alone:,.0f} | | | | | | |",
    ]
    kept = True
    for listeners, least in CROWDS.items():
        if listeners:
            found = rounds[listeners]
            rate = median(each.per_second for each in found)
            heard = [each.heard for each in found if each.heard is not None]
            oldest = median(each.oldest for each in heard)
            memory = median(each.memory for each in found)
            lines.append(
                f"| {listeners:,} | {rate:,.0f} | {rate / alone:.2f} | {least} | {oldest:.2f} s"
                f" | {median(each.arriving for each in heard):.2f} s"
                f" | {median(each.messages for each in heard):,.0f} | {memory:.1f} |"
            )
            kept &= rate / alone >= least and oldest <= OLDEST and memory <= MOST
    return "\n".join([*lines, ""]), kept


def _measure(count: int, seconds: int) -> None:
    rounds: dict[int, list[Round]] = {listeners: [] for listeners in CROWDS}
    with arena(PEOPLE) as here:
        for number in range(count):
            kinds = list(CROWDS)[:: -1 if number % 2 else 1]
            for listeners in kinds:
                found = _round(here, listeners, seconds)
                rounds[listeners].append(found)
                say(f"{listeners:6,} listeners {found.per_second:8,.0f}/s  {found.heard}")
    page, kept = _page(rounds)
    RESULT.write_text(page)
    sys.stdout.write(page)
    if not kept:
        raise CannotRunError("a promise is broken: see the table")


def main() -> int:
    """Measure, and return 1 if a promise is broken."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.live",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--rounds", type=int, default=3, help="rounds of each kind (3)")
    parser.add_argument("--seconds", type=int, default=8, help="seconds of a round (8)")
    for hidden in ("port", "event", "listeners"):
        parser.add_argument(f"--{hidden}", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.listeners is not None:
        uvloop.run(_listen(given.port, given.event, given.listeners))
        return 0
    return status_of(lambda: _measure(given.rounds, given.seconds))


if __name__ == "__main__":
    sys.exit(main())
