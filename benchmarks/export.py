"""Export many tickets while people book: `python -m benchmarks.export --help`.

The owner of an event with 200,000 bookings exports its attendees again and again. The latency of
bookings at other events is compared with that of quiet rounds. There are few clients, because with
many each request mostly waits for others.
"""

import argparse
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection
from pathlib import Path
from statistics import median
from typing import Final

from benchmarks.arena import Arena, arena
from benchmarks.console import say, status_of
from benchmarks.ground import SECRET, CannotRunError, person_id
from benchmarks.servers import PATIENCE, Server

from ticketing.identity.tokens import Tokens

RESULT: Final = Path(__file__).with_name("results") / "export.md"
TICKETS: Final = 200_000
EVENTS: Final = 8
"""Events for each second of load. Every person books each of them once."""
CONNECTIONS: Final = 16
"""Clients that book, each after the response to its last booking."""
AT_ONCE: Final = 65_536
"""Bytes that are read at a time."""
FIRST: Final = 1.0
"""Seconds until the first byte, at most."""
GROWN: Final = 50.0
"""MiB by which a worker may grow, at most."""
AT_MOST: Final = 2.0
"""How many times longer the p99 of a booking may be."""


@dataclass
class Exports:
    """What exports took."""

    first: list[float] = field(default_factory=list)
    """Seconds until the first byte, of each."""
    whole: list[float] = field(default_factory=list)
    """Seconds until the last one."""


def _export(server: Server, event: int, token: str, exports: Exports) -> None:
    """Export everything once. Raises CannotRunError if the file is not whole."""
    started = time.monotonic()
    lines, first = 0, 0.0
    with closing(HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE)) as connection:
        path = f"/api/events/{event}/attendees.csv"
        connection.request("GET", path, headers={"Authorization": f"Bearer {token}"})
        response = connection.getresponse()
        while block := response.read1(AT_ONCE):
            first = first or time.monotonic() - started
            lines += block.count(b"\n")
    if lines != TICKETS + 1:
        raise CannotRunError(f"{response.status}: {lines:,} lines of {TICKETS + 1:,}")
    exports.first.append(first)
    exports.whole.append(time.monotonic() - started)


@contextmanager
def _exporting(server: Server, event: int, token: str, exports: Exports) -> Iterator[None]:
    """Export again and again until the context ends."""
    done = threading.Event()
    failed: list[CannotRunError] = []

    def go_on() -> None:
        try:
            while not done.is_set():
                _export(server, event, token, exports)
        except CannotRunError as error:
            failed.append(error)

    thread = threading.Thread(target=go_on)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
    if failed:
        raise failed[0]


def _burst(here: Arena, server: Server, seconds: int) -> float:
    """Return the p99 in milliseconds of bookings at new events."""
    events = here.ground().add_events(EVENTS * seconds)
    return here.driver.book(server, events, seconds, connections=CONNECTIONS).p99


def _page(p99: dict[bool, list[float]], exports: Exports, grown: float) -> str:
    quiet, busy = (median(p99[kind]) for kind in (False, True))
    rows = [
        ("seconds until the first byte", f"{max(exports.first):.2f}", f"at most {FIRST:g}"),
        ("seconds until the last one", f"{median(exports.whole):.1f}", ""),
        ("MiB by which a worker has grown", f"{grown:.1f}", f"at most {GROWN:g}"),
        ("p99 of bookings without it, in ms", f"{quiet:.1f}", ""),
        ("p99 beside it, in ms", f"{busy:.1f}", ""),
        ("ratio", f"{busy / quiet:.2f}", f"at most {AT_MOST:g}"),
    ]
    return "\n".join(
        [
            "# Exports beside a sale\n",
            f"Written by `python -m benchmarks.export`, {len(p99[True])} rounds of each kind.",
            f"{TICKETS:,} tickets, and {CONNECTIONS} clients that book.",
            f"{len(exports.whole)} exports, each of them whole.\n",
            "| what | measured | must be |",
            "|---|--:|--:|",
            *(f"| {what} | {measured} | {bound} |" for what, measured, bound in rows),
            "",
        ]
    )


def _measure(rounds: int, seconds: int) -> None:
    p99: dict[bool, list[float]] = {False: [], True: []}
    exports = Exports()
    owner = person_id(0)
    token = Tokens(SECRET, 86_400).issue(owner, owner)
    with arena() as here:
        server = here.server("service")
        event = here.ground().add_events(1)
        here.ground().preload(event, TICKETS)
        here.ground().settle()
        _burst(here, server, seconds)
        before = server.memory()
        for number in range(rounds):
            for kind in (False, True) if number % 2 else (True, False):
                if kind:
                    with _exporting(server, event, token, exports):
                        found = _burst(here, server, seconds)
                else:
                    found = _burst(here, server, seconds)
                server.wait_until_idle()
                p99[kind].append(found)
                say(f"{'exporting' if kind else 'quiet':10} p99 {found:7.1f} ms")
        grown = max(now - was for now, was in zip(server.memory(), before, strict=True))
    page = _page(p99, exports, grown)
    RESULT.write_text(page)
    sys.stdout.write(page)
    slower = median(p99[True]) / median(p99[False])
    if slower > AT_MOST or max(exports.first) > FIRST or grown > GROWN:
        raise CannotRunError("a promise is broken: see the table")


def main() -> int:
    """Measure, and return 1 if a promise is broken."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.export",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--rounds", type=int, default=5, help="rounds of each kind (5)")
    parser.add_argument("--seconds", type=int, default=6, help="seconds of a round (6)")
    given = parser.parse_args()
    return status_of(lambda: _measure(given.rounds, given.seconds))


if __name__ == "__main__":
    sys.exit(main())
