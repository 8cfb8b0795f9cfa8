"""Scan tickets at the door, alone and beside a sale: `python -m benchmarks.door --help`.

Rounds of a sale at full speed alone, of scans at a steady rate alone and beside such a sale, and of
scans as fast as they go are in turn. Beside a sale, people book other events at the same time. Each
ticket is scanned once. At the end of a round, each that was admitted has one entry in the database.
"""

import argparse
import json
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Final, NamedTuple

from benchmarks import gates
from benchmarks.arena import Arena, arena
from benchmarks.console import say, status_of
from benchmarks.gates import Scanned
from benchmarks.ground import (
    CROWD,
    PERSON_SQL,
    SECRET,
    BooksWrongError,
    CannotRunError,
    Ground,
    environment,
)
from benchmarks.rounds import Contest, Round, wrk
from benchmarks.servers import Server
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ticketing.door import codes
from ticketing.web.seals import Seals

RESULT: Final = Path(__file__).with_name("results") / "door.md"
SCRIPT: Final = Path(__file__).with_name("door.lua")
RATES: Final = (300, 1_000)
"""Scans per second beside a sale."""
WANTED: Final = 1_000
"""Scans per second that are promised."""
AT_MOST: Final = 50.0
"""Milliseconds of their p99."""
LEFT: Final = 0.8
"""Part of the bookings that must be left beside them."""
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


class Kind(NamedTuple):
    """What a round does."""

    sale: bool
    rate: int | None
    """Scans per second; 0: none; None: as many as go."""

    def __str__(self) -> str:
        """Say it in a row of the table."""
        scans = "scans as fast as they go" if self.rate is None else ""
        if self.rate:
            scans = f"{self.rate:,} scans/s"
        return " beside ".join(filter(None, (scans, "a sale" if self.sale else "")))


KINDS: Final = (
    Kind(sale=True, rate=0),
    *(Kind(sale=True, rate=rate) for rate in RATES),
    *(Kind(sale=False, rate=rate) for rate in RATES),
    Kind(sale=False, rate=None),
)


@dataclass(frozen=True, slots=True)
class Measured:
    """One round."""

    sold: Round | None
    scanned: Scanned | None


@contextmanager
def _gates(server: Server, *arguments: object, token: str) -> Iterator["subprocess.Popen[str]"]:
    """Run the process of the gates until the context ends. They are connected, and wait."""
    command = [sys.executable, "-m", "benchmarks.gates", str(server.port), *map(str, arguments)]
    pipe = subprocess.PIPE
    variables = environment(BENCH_TOKEN=token)
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=variables) as process:
        try:
            if process.stdout is None or process.stdout.readline() != "ready\n":
                raise CannotRunError("not all gates could connect")
            yield process
        finally:
            process.kill()


def _sale(here: Arena, server: Server, seconds: int) -> Round:
    """Sell other events at full speed. The responses are compared with the rows."""
    return here.driver.run(Contest("service", "sale", server, here.ground()), seconds)


def _steady(  # noqa: PLR0913 - what is scanned, and how long
    here: Arena, server: Server, event: int, kind: Kind, *, seconds: int, number: int
) -> Measured:
    arguments = (_codes(here), event, number, kind.rate, seconds)
    with _gates(server, *arguments, token=_token(here)) as process:
        if process.stdin is None or process.stdout is None:
            raise ValueError("the process needs both pipes")
        process.stdin.write("\n")
        process.stdin.flush()
        sold = None
        if kind.sale:
            time.sleep(gates.LEAD)
            sold = _sale(here, server, seconds)
        return Measured(sold, Scanned(**json.loads(process.stdout.readline())))


def _token(here: Arena) -> str:
    """Return the token of the owner of all events."""
    return (here.folder / "people").read_text().split("\n", 1)[0].split()[1]


def _codes(here: Arena) -> Path:
    """Return the file of the codes that are scanned."""
    return here.folder / "codes"


def _fast(here: Arena, server: Server, event: int, *, seconds: int, number: int) -> Measured:
    """Scan with 32 gates, each as soon as it has the response before."""
    out = here.folder / "scanned.json"
    subprocess.run(
        [
            *(wrk(), "-t", str(THREADS), "-c", "32", "-d", f"{seconds}s"),
            *("-s", str(SCRIPT), f"http://127.0.0.1:{server.port}"),
        ],
        env=environment(
            BENCH_CODES=str(_codes(here)),
            BENCH_TOKEN=_token(here),
            BENCH_EVENT=str(event),
            BENCH_ROUND=str(number),
            BENCH_THREADS=str(THREADS),
            BENCH_OUT=str(out),
        ),
        stdout=subprocess.DEVNULL,
        check=True,
    )
    found = json.loads(out.read_text())
    return Measured(
        None,
        Scanned(
            admitted=found["admitted"],
            rate=(found["admitted"] + found["refused"]) / found["seconds"],
            broken=found["broken"],
            p50=found["p50"],
            p99=found["p99"],
            cores=0.0,
        ),
    )


def _round(here: Arena, server: Server, kind: Kind, seconds: int, number: int) -> Measured:
    if kind.rate == 0:
        return Measured(_sale(here, server, seconds), None)
    on = here.ground()
    tickets = FASTEST * seconds
    if kind.rate is not None:
        tickets = int(kind.rate * (seconds + 2 * gates.LEAD)) + 1
    event = _sold(on, server, tickets, _codes(here))
    if kind.rate is None:
        found = _fast(here, server, event, seconds=seconds, number=number)
    else:
        found = _steady(here, server, event, kind, seconds=seconds, number=number)
    server.wait_until_idle()
    row, scanned = on.row(ENTRIES, event), found.scanned
    if (
        scanned is None
        or row["entries"] != row["tickets"]
        or row["entries"] < scanned.admitted
        or scanned.broken
    ):
        raise BooksWrongError(f"{kind}: {scanned}, and in the database {dict(row)}")
    return found


def _middle(of: Sequence[float]) -> float:
    return median(of) if of else 0.0


def _page(rounds: dict[Kind, list[Measured]], seconds: int) -> tuple[str, list[str]]:
    """Return the page, and each promise that was broken."""
    quiet = _middle([each.sold.per_second for each in rounds[KINDS[0]] if each.sold])
    count = len(rounds[KINDS[0]])
    broken = []
    lines = [
        "# Scans at the door\n",
        f"Written by `python -m benchmarks.door`, {count} rounds of {seconds} s of each kind.\n",
        "| | bookings/s | ratio | scans/s | p50 | p99 | service | PostgreSQL | bookers | gates |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for kind, each in rounds.items():
        sold = [one.sold for one in each if one.sold]
        scanned = [one.scanned for one in each if one.scanned]
        rate = _middle([one.per_second for one in sold])
        p99 = _middle([one.p99 for one in scanned])
        done = _middle([one.rate for one in scanned])
        cells = ["", "", "", "", "", "", "", "", ""]
        if sold:
            cells[:2] = f"{rate:,.0f}", f"{rate / quiet:.2f}"
            for place, name in ((5, "workers"), (6, "postgres"), (7, "load")):
                cells[place] = f"{_middle([one.cpu[name] for one in sold]):.2f}"
        if scanned:
            p50 = _middle([one.p50 for one in scanned])
            cells[2:5] = f"{done:,.0f}", f"{p50:.1f} ms", f"{p99:.1f} ms"
            if kind.rate is not None:
                cells[8] = f"{_middle([one.cores for one in scanned]):.2f}"
        lines.append(f"| {kind} | {' | '.join(cells)} |")
        if kind.rate == WANTED and (done < 0.98 * WANTED or p99 > AT_MOST):
            broken.append(f"{kind}: {done:,.0f}/s with a p99 of {p99:.1f} ms")
        if kind.rate == WANTED and sold and rate < LEFT * quiet:
            broken.append(f"{kind}: {rate / quiet:.2f} of the bookings are left")
    told = f"Missed: {'; '.join(broken)}" if broken else "Reached"
    lines.append(
        f"""
The last four columns are processor time, in cores. Bookers and gates make the load, on the same
machine. Scans at a steady rate are sent on schedule, and their latency counts from the scheduled
time. Each ticket that was admitted has one entry.

Goal: {WANTED:,} scans/s with a p99 of at most {AT_MOST:.0f} ms, beside {LEFT} of the bookings.
{told}.
"""
    )
    return "\n".join(lines), broken


def _measure(count: int, seconds: int) -> None:
    rounds: dict[Kind, list[Measured]] = {kind: [] for kind in KINDS}
    with arena() as here:
        server = here.server("service")
        number = 0
        for _ in range(count):
            for kind in KINDS:
                number += 1
                found = _round(here, server, kind, seconds, number)
                rounds[kind].append(found)
                sold = f"{found.sold.per_second:8,.0f} bookings/s" if found.sold else ""
                scans = ""
                if found.scanned:
                    scans = f"{found.scanned.rate:8,.0f} scans/s p99 {found.scanned.p99:7.1f} ms"
                say(f"{kind!s:28} {sold:20} {scans}")
    page, broken = _page(rounds, seconds)
    RESULT.write_text(page)
    sys.stdout.write(page)
    if broken:
        raise CannotRunError("; ".join(broken))


def main() -> int:
    """Measure, and return 1 if the door or the sale beside it is too slow."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.door",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--rounds", type=int, default=5, help="rounds of each kind (5)")
    parser.add_argument("--seconds", type=int, default=5, help="seconds of a round (5)")
    given = parser.parse_args()
    return status_of(lambda: _measure(given.rounds, given.seconds))


if __name__ == "__main__":
    sys.exit(main())
