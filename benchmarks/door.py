"""Scan tickets at the door, alone and beside a sale: `python -m benchmarks.door --help`.

Each ticket of one event is scanned once. Beside a sale, people book other events at the same time.
At the end, each ticket that was admitted has one entry in the database.
"""

import argparse
import json
import subprocess
import sys
import threading
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Final

from benchmarks.arena import Arena, arena
from benchmarks.console import say, status_of
from benchmarks.ground import (
    CROWD,
    PERSON_SQL,
    SECRET,
    BooksWrongError,
    CannotRunError,
    Ground,
    environment,
)
from benchmarks.rounds import wrk
from benchmarks.servers import Server
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ticketing.door import codes
from ticketing.web.seals import Seals

RESULT: Final = Path(__file__).with_name("results") / "door.md"
SCRIPT: Final = Path(__file__).with_name("door.lua")
WANTED: Final = 1_000
"""Scans per second."""
AT_MOST: Final = 50.0
"""Milliseconds of the p99."""
FASTEST: Final = 5_000
"""Scans per second that no service here reaches. So many tickets are prepared for each second."""
THREADS: Final = 2
SELL: Final = f"""
    INSERT INTO bookings (id, event_id, user_id, status, created_at)
    SELECT uuidv7(), $1, {PERSON_SQL}, 'booked', now()
    FROM generate_series({CROWD}, {CROWD} + $2::int - 1) AS n
"""  # noqa: S608 - our own numbers
CODES: Final = "SELECT array_agg(id) AS ids FROM bookings WHERE event_id = $1"
KEY: Final = "SELECT id, sealed FROM ticket_keys ORDER BY id DESC LIMIT 1"
ENTRIES: Final = """
    SELECT count(*) AS entries, count(DISTINCT ticket_id) AS tickets FROM check_ins
    WHERE event_id = $1 AND passed
"""


@dataclass(frozen=True, slots=True)
class Scanned:
    """The scans of one round. Times in milliseconds."""

    seconds: float
    admitted: int
    refused: int
    broken: int
    p50: float
    p99: float

    @property
    def rate(self) -> float:
        """Scans per second."""
        return (self.admitted + self.refused) / self.seconds


def _sold(on: Ground, server: Server, tickets: int, file: Path) -> int:
    """Make an event with so many tickets, write their codes to the file, and return its id."""
    event = on.add_events(1)
    on.execute("SET session_replication_role = replica")
    on.execute(SELL, event, tickets)
    on.execute("RESET session_replication_role")
    on.settle()
    url = f"http://127.0.0.1:{server.port}/.well-known/ticketing/keys.json"
    urllib.request.urlopen(url).close()
    key = on.row(KEY)
    private = Ed25519PrivateKey.from_private_bytes(Seals(SECRET).open(key["sealed"]) or b"")
    ids = on.row(CODES, event)["ids"]
    file.write_text(
        "\n".join(codes.write(codes.Claims(key["id"], event, each, 1), private) for each in ids)
    )
    return event


def _scan(  # noqa: PLR0913, PLR0917 - what is scanned, and how long
    here: Arena, server: Server, event: int, file: Path, seconds: int, connections: int, number: int
) -> Scanned:
    token = (here.folder / "people").read_text().split("\n", 1)[0].split()[1]
    out = here.folder / "scanned.json"
    subprocess.run(
        [
            *(wrk(), "-t", str(THREADS), "-c", str(connections), "-d", f"{seconds}s"),
            *("-s", str(SCRIPT), f"http://127.0.0.1:{server.port}"),
        ],
        env=environment(
            BENCH_CODES=str(file),
            BENCH_TOKEN=token,
            BENCH_EVENT=str(event),
            BENCH_ROUND=str(number),
            BENCH_THREADS=str(THREADS),
            BENCH_OUT=str(out),
        ),
        stdout=subprocess.DEVNULL,
        check=True,
    )
    return Scanned(**json.loads(out.read_text()))


def _round(  # noqa: PLR0913 - what is scanned, and how long
    here: Arena, server: Server, seconds: int, connections: int, number: int, *, sale: bool
) -> Scanned:
    on, file = here.ground(), here.folder / "codes"
    event = _sold(on, server, FASTEST * seconds, file)
    beside = on.add_events(8 * seconds)
    selling = threading.Thread(target=here.driver.book, args=(server, beside, seconds + 1))
    if sale:
        selling.start()
    scanned = _scan(here, server, event, file, seconds, connections, number)
    if sale:
        selling.join()
    server.wait_until_idle()
    row = on.row(ENTRIES, event)
    if row["entries"] != row["tickets"] or row["entries"] < scanned.admitted or scanned.broken:
        raise BooksWrongError(f"{scanned}, and in the database {dict(row)}")
    return scanned


def _page(rounds: dict[bool, list[Scanned]]) -> str:
    lines = [
        "# Scans at the door\n",
        f"Written by `python -m benchmarks.door`, {len(rounds[False])} rounds of each kind.\n",
        "| | scans/s | p50 | p99 |",
        "|---|--:|--:|--:|",
    ]
    for sale, told in ((False, "alone"), (True, "beside a sale")):
        rate, p50, p99 = (
            median(getattr(each, name) for each in rounds[sale]) for name in ("rate", "p50", "p99")
        )
        lines.append(f"| {told} | {rate:,.0f} | {p50:.1f} ms | {p99:.1f} ms |")
    return "\n".join([*lines, "\nEach ticket that was admitted has one entry.\n"])


def _measure(count: int, seconds: int, connections: int) -> None:
    rounds: dict[bool, list[Scanned]] = {False: [], True: []}
    with arena() as here:
        server = here.server("service")
        for number in range(count):
            for sale in (False, True):
                scanned = _round(here, server, seconds, connections, 2 * number + sale, sale=sale)
                rounds[sale].append(scanned)
                kind = "beside a sale" if sale else "alone"
                say(f"{kind:14} {scanned.rate:8,.0f}/s p99 {scanned.p99:7.1f} ms")
    page = _page(rounds)
    RESULT.write_text(page)
    sys.stdout.write(page)
    alone = rounds[False]
    if median(e.rate for e in alone) < WANTED or median(e.p99 for e in alone) > AT_MOST:
        raise CannotRunError(f"fewer than {WANTED} scans/s, or a p99 above {AT_MOST} ms")


def main() -> int:
    """Measure, and return 1 if the door is too slow."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.door",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--rounds", type=int, default=5, help="rounds of each kind (5)")
    parser.add_argument("--seconds", type=int, default=5, help="seconds of a round (5)")
    parser.add_argument("--connections", type=int, default=32, help="gates (32)")
    given = parser.parse_args()
    return status_of(lambda: _measure(given.rounds, given.seconds, given.connections))


if __name__ == "__main__":
    sys.exit(main())
