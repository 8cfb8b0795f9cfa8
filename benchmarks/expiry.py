"""Let holds and offers end by the thousand while people book: `python -m benchmarks.expiry --help`.

Part one: 10,000 holds of one event end in the same second, and 10,000 people book. Each must get a
place. Quiet rounds, in which the places are free from the start, are in turn with these.

Part two: 100,000 people wait at an event whose waiting list makes offers. Each second the open
offers end and pass on. Bookings at other events are compared with those of quiet rounds.
"""

import argparse
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Final

from benchmarks.arena import Arena, arena
from benchmarks.console import say, status_of
from benchmarks.ground import (
    CROWD,
    PEOPLE,
    PERSON_SQL,
    BooksWrongError,
    CannotRunError,
    Ground,
    ground,
)
from benchmarks.rounds import Sent
from benchmarks.servers import Server

RESULT: Final = Path(__file__).with_name("results") / "expiry.md"
LINE: Final = 100_000
"""People on the waiting list."""
OFFERED: Final = 100
"""Offers that are open at a time."""
EVENTS: Final = 8
"""Events for each second of load. Every person books each of them once."""
LEAD: Final = 1.5
"""Seconds between making holds and their end, which is the start of the load."""
AT_MOST: Final = 3.0
"""How many times longer the p99 of a booking may be while the holds end."""
AT_LEAST: Final = 0.9
"""The part of the quiet bookings that is left while offers pass on."""

HOLDS: Final = f"""
    INSERT INTO bookings (id, event_id, user_id, status, created_at, expires_at)
    SELECT uuidv7(), $1, {PERSON_SQL}, 'held', now(), to_timestamp($2)
    FROM generate_series({CROWD}, {CROWD} + {PEOPLE} - 1) AS n
"""  # noqa: S608 - our own numbers
HELD: Final = """
    UPDATE events SET available_tickets = 0, next_expiry = to_timestamp($2), version = version + 1
    WHERE id = $1
"""
WAIT: Final = f"""
    WITH kinds AS (SELECT min(id) AS id FROM ticket_types WHERE event_id = $1)
    INSERT INTO bookings (id, event_id, user_id, status, created_at, ticket_type_id, expires_at)
    SELECT uuidv7(), $1, {PERSON_SQL}, CASE WHEN n < {CROWD} + {OFFERED} THEN 'offered'
        ELSE 'waiting' END, now(), kinds.id,
        CASE WHEN n < {CROWD} + {OFFERED} THEN now() + interval '1 hour' END
    FROM generate_series({CROWD}, {CROWD} + {OFFERED} + {LINE} - 1) AS n, kinds
"""  # noqa: S608 - our own numbers
WAITED: Final = f"""
    UPDATE events SET available_tickets = 0, waiting_list_count = {LINE}, quota_capacity = '{{}}',
        quota_available = '{{}}', type_taken = '{{{OFFERED}}}', type_waiting = '{{{LINE}}}',
        waiting_list_mode = 'offer', next_expiry = now() + interval '1 hour',
        revision = revision + 1, version = version + 1
    WHERE id = $1
"""  # noqa: S608 - our own numbers
END: Final = """
    WITH ended AS (
        UPDATE bookings SET expires_at = now() WHERE event_id = $1 AND status = 'offered'
    )
    UPDATE events SET next_expiry = now(), version = version + 1 WHERE id = $1
"""


def _burst(here: Arena, server: Server, *, held: bool) -> Sent:
    """Have PEOPLE people book PEOPLE places, which are free, or are held until the load starts."""
    on = here.ground()
    event = on.add_events(1, PEOPLE)
    end = time.time() + LEAD
    if held:
        _quickly(on, HOLDS, event, end)
        on.execute(HELD, event, end)
    time.sleep(max(0.0, end - time.time()))
    sent = here.driver.book(server, event, 60, limit=PEOPLE)
    server.wait_until_idle()
    books = on.books(event, 1)
    # wrk makes one request that it does not send.
    if books.booked_rows < PEOPLE - 1 or books.waiting_rows or books.crooked:
        raise BooksWrongError(f"{PEOPLE} places, and {books}")
    return sent


def _quickly(on: Ground, statement: str, *parameters: object) -> None:
    """Insert rows that are correct by construction."""
    on.execute("SET session_replication_role = replica")
    on.execute(statement, *parameters)
    on.execute("RESET session_replication_role")


@contextmanager
def _passing_on(url: str, event: int) -> Iterator[None]:
    """End the open offers of the event each second."""
    done = threading.Event()

    def go_on() -> None:
        with ground(url) as on:
            while not done.wait(1.0):
                on.execute(END, event)

    thread = threading.Thread(target=go_on)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _offers(here: Arena, server: Server, line: int, seconds: int, *, passing: bool) -> float:
    """Return the bookings per second at new events, perhaps while offers of another pass on."""
    event = here.ground().add_events(EVENTS * seconds)
    if not passing:
        sent = here.driver.book(server, event, seconds)
    else:
        with _passing_on(here.url(), line):
            sent = here.driver.book(server, event, seconds)
    server.wait_until_idle()
    return (sent.answers - sent.refused) / sent.seconds


def _moved(on: Ground, event: int) -> int:
    row = on.row("SELECT waiting_list_count AS waiting FROM events WHERE id = $1", event)
    return LINE - int(row["waiting"])


def _page(bursts: dict[bool, list[Sent]], rates: dict[bool, list[float]], moved: int) -> str:
    quiet, held = (median(each.p99 for each in bursts[kind]) for kind in (False, True))
    calm, busy = (median(rates[kind]) for kind in (False, True))
    rounds = len(bursts[True])
    rows = [
        ("| | quiet | while they end | ratio |", "|---|--:|--:|--:|"),
        (
            f"| p99 of {PEOPLE:,} bookings, as {PEOPLE:,} holds of the event end",
            f"| {quiet:.0f} ms | {held:.0f} ms | {held / quiet:.2f} |",
        ),
        (
            f"| bookings/s elsewhere, as offers to {LINE:,} people pass on",
            f"| {calm:,.0f} | {busy:,.0f} | {busy / calm:.2f} |",
        ),
    ]
    (head, rule), *told = rows
    return "\n".join(
        [
            "# Holds and offers that end by the thousand\n",
            f"Written by `python -m benchmarks.expiry`, {rounds} rounds of each kind.\n",
            head,
            rule,
            *(f"{what} {figures}" for what, figures in told),
            f"\nEverybody got a place. {moved:,} offers passed on.\n",
        ]
    )


def _measure(rounds: int, seconds: int) -> None:
    bursts: dict[bool, list[Sent]] = {False: [], True: []}
    rates: dict[bool, list[float]] = {False: [], True: []}
    with arena() as here:
        server = here.server("service")
        line = here.ground().add_events(1, OFFERED)
        _quickly(here.ground(), WAIT, line)
        here.ground().execute(WAITED, line)
        here.ground().settle()
        for number in range(rounds):
            for kind in (False, True) if number % 2 else (True, False):
                sent = _burst(here, server, held=kind)
                bursts[kind].append(sent)
                say(f"{'holds end' if kind else 'quiet':10} p99 {sent.p99:7.1f} ms")
                rate = _offers(here, server, line, seconds, passing=kind)
                rates[kind].append(rate)
                say(f"{'offers' if kind else 'quiet':10} {rate:8,.0f}/s elsewhere")
        moved = _moved(here.ground(), line)
    page = _page(bursts, rates, moved)
    RESULT.write_text(page)
    sys.stdout.write(page)
    slower = median(each.p99 for each in bursts[True]) / median(each.p99 for each in bursts[False])
    left = median(rates[True]) / median(rates[False])
    if slower > AT_MOST or left < AT_LEAST or not moved:
        raise CannotRunError("a promise is broken: see the ratios")


def main() -> int:
    """Measure, and return 1 if a promise is broken."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.expiry",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--rounds", type=int, default=5, help="rounds of each kind (5)")
    parser.add_argument("--seconds", type=int, default=4, help="seconds of a round (4)")
    given = parser.parse_args()
    return status_of(lambda: _measure(given.rounds, given.seconds))


if __name__ == "__main__":
    sys.exit(main())
