"""Drain a backlog of webhooks while people book: `python -m benchmarks.webhooks --help`.

100,000 events of the feed wait for one receiver on this machine. Its deliveries per second are
counted, and the bookings per second meanwhile are compared with those of quiet rounds.
"""

import argparse
import asyncio
import multiprocessing
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path
from statistics import median
from typing import Final, cast
from uuid import uuid4

from benchmarks.arena import MAIN, Arena, arena
from benchmarks.console import say, status_of
from benchmarks.ground import SECRET, CannotRunError
from benchmarks.servers import ROOT, Server, service_environment, serving

from ticketing.feed.signing import new_secret
from ticketing.web.seals import Seals

RESULT: Final = Path(__file__).with_name("results") / "webhooks.md"
EVENTS: Final = 8
"""Events for each second of load. Every person books each of them once."""
AT_LEAST: Final = 300
"""Deliveries per second."""
LONGEST: Final = 900
"""Seconds in which a backlog must be delivered."""

BACKLOG: Final = """
    INSERT INTO audit_records (action, event_id, subject, details)
    SELECT 'booking.booked', $1, uuidv7(), jsonb_build_object('bookingId', uuidv7())
    FROM generate_series(1, $2)
"""
HOOK: Final = """
    INSERT INTO webhooks (id, user_id, event_id, url, secret, position)
    SELECT $1, organiser_id, id, $3, $4, 0 FROM events WHERE id = $2
"""
WAKE: Final = "UPDATE webhooks SET due_at = now(), rests = false WHERE id = $1"
RESTS: Final = "SELECT rests AND position > 0 AS done FROM webhooks WHERE id = $1"
OFF: Final = "UPDATE webhooks SET state = 'disabled' WHERE id = $1"


class _Receiver(asyncio.Protocol):
    """Accepts each POST at once. It reads only what tells where a request ends."""

    RESPONSE: Final = b"HTTP/1.1 204 No Content\r\n\r\n"

    def __init__(self, count: "Synchronized[int]") -> None:
        self._count = count
        self._read = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._read += data
        while (head := self._read.find(b"\r\n\r\n")) >= 0:
            lines = self._read[:head].lower().split(b"\r\n")
            length = next(int(each[15:]) for each in lines if each.startswith(b"content-length:"))
            if len(self._read) < head + 4 + length:
                return
            self._read = self._read[head + 4 + length :]
            self._count.value += 1
            self._transport.write(self.RESPONSE)


def _receive(count: "Synchronized[int]", port: "Synchronized[int]") -> None:
    async def serve() -> None:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: _Receiver(count), "127.0.0.1", 0)
        port.value = server.sockets[0].getsockname()[1]
        await server.serve_forever()

    asyncio.run(serve())


@contextmanager
def _receiver() -> Iterator[tuple[str, "Synchronized[int]"]]:
    """Run a receiver. Yield its address, and the number of its deliveries so far."""
    count: Synchronized[int] = multiprocessing.Value("q", 0)
    port: Synchronized[int] = multiprocessing.Value("q", 0)
    process = multiprocessing.Process(target=_receive, args=(count, port), daemon=True)
    process.start()
    while not port.value:
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{port.value}/hook", count
    finally:
        process.kill()
        process.join()


def _bookings(here: Arena, server: Server, seconds: int) -> float:
    """Return the bookings per second at new events."""
    sent = here.driver.book(server, here.ground().add_events(EVENTS * seconds), seconds)
    return (sent.answers - sent.refused) / sent.seconds


def _round(
    here: Arena, server: Server, url: str, count: "Synchronized[int]", given: argparse.Namespace
) -> tuple[float, float]:
    """Return the deliveries per second of a backlog, and the bookings per second meanwhile."""
    on, hook = here.ground(), uuid4()
    event = on.add_events(1)
    on.execute(BACKLOG, event, given.backlog)
    sealed = Seals(SECRET).seal(new_secret().encode())
    on.execute(HOOK, hook, event, url, sealed)
    before, begun = count.value, time.monotonic()
    on.execute(WAKE, hook)
    rate = _bookings(here, server, given.seconds)
    while not on.row(RESTS, hook)["done"]:
        if time.monotonic() - begun > LONGEST:
            raise CannotRunError(f"only {count.value - before:,} were delivered")
        time.sleep(0.1)
    taken = time.monotonic() - begun
    on.execute(OFF, hook)
    if count.value - before < given.backlog:
        raise CannotRunError(f"only {count.value - before:,} were delivered, and none is left")
    return given.backlog / taken, rate


def _page(delivered: list[float], busy: list[float], quiet: list[float], backlog: int) -> str:
    ratio = median(busy) / median(quiet)
    return "\n".join(
        [
            "# A backlog of webhooks\n",
            f"Written by `python -m benchmarks.webhooks`, {len(busy)} rounds of each kind.",
            f"{backlog:,} events of the feed wait for one receiver.\n",
            "| | quiet | while they are delivered | ratio |",
            "|---|--:|--:|--:|",
            f"| deliveries/s | | {median(delivered):,.0f} | |",
            f"| bookings/s | {median(quiet):,.0f} | {median(busy):,.0f} | {ratio:.2f} |\n",
        ]
    )


def _measure(given: argparse.Namespace) -> None:
    delivered, busy, quiet = [], [], []
    with arena() as here, _receiver() as (url, count):
        variables = service_environment(here.url(MAIN), here.folder, workers=2)
        variables["TICKETING_WEBHOOK_NETWORKS"] = "127.0.0.0/8"
        command = ("benchmarks.serve", "service")
        with serving("service", command, variables, ROOT) as server:
            here.driver.greet(server)
            for _ in range(given.rounds):
                quiet.append(_bookings(here, server, given.seconds))
                server.wait_until_idle()
                say(f"{'quiet':10} {quiet[-1]:8,.0f} bookings/s")
                rate, bookings = _round(here, server, url, count, given)
                delivered.append(rate)
                busy.append(bookings)
                say(f"{'delivering':10} {bookings:8,.0f} bookings/s, {rate:8,.0f} deliveries/s")
                server.wait_until_idle()
    page = _page(delivered, busy, quiet, given.backlog)
    RESULT.write_text(page)
    sys.stdout.write(page)
    if median(delivered) < AT_LEAST:
        raise CannotRunError("a promise is broken: see the deliveries per second")


def main() -> int:
    """Measure, and return 1 if a promise is broken."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.webhooks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--rounds", type=int, default=3, help="rounds of each kind (3)")
    parser.add_argument("--seconds", type=int, default=5, help="seconds of load in a round (5)")
    parser.add_argument("--backlog", type=int, default=100_000, help="events to deliver (100000)")
    given = parser.parse_args()
    return status_of(lambda: _measure(given))


if __name__ == "__main__":
    sys.exit(main())
