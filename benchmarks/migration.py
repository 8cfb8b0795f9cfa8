"""Migrate while an earlier version sells: `python -m benchmarks.migration --help`."""

import argparse
import asyncio
import itertools
import json
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

import asyncpg
from benchmarks.console import say, status_of
from benchmarks.ground import (
    PERSON_SQL,
    SECRET,
    BooksWrongError,
    CannotRunError,
    Ground,
    ground,
    make_database,
    person_id,
)
from benchmarks.servers import ROOT, service_environment, serving
from benchmarks.sides import Code, git, worktree

from ticketing.embedded.server import embedded
from ticketing.identity.tokens import Tokens

RESULT: Final = Path(__file__).with_name("results") / "migration.md"
EVENTS: Final = 300
SOLD_OUT: Final = 10
"""Every tenth event is sold out, with a waiting list."""
SHOPPERS: Final = 5_000
"""People who book during the run. The bookings before are by others."""
CROWD: Final = 1_000_000
"""The number of the first of the others."""
LIFETIME: Final = 86_400
CALM: Final = 5.0
"""Seconds of bookings before and after the migration, and with the new version."""
ATTEMPTS: Final = 5
"""A migration that waits too long for a lock gives up, and is repeated by its operator."""
LOOK_EVERY: Final = 0.01
BUSY: Final = 503
ACKNOWLEDGED: Final = {201: "booked", 202: "waiting"}
CHUNK: Final = 10_000

FILL: Final = (
    f"""
    INSERT INTO users (id, username, password_hash)
    SELECT {PERSON_SQL}, 'person-' || n, '' FROM generate_series(0, $1::int - 1) AS n
    """,  # noqa: S608 - our own constants
    f"""
    INSERT INTO users (id, username, password_hash)
    SELECT {PERSON_SQL}, 'person-' || n, ''
    FROM generate_series({CROWD}, {CROWD} + $1::int - 1) AS n
    """,  # noqa: S608
)
BOOKINGS: Final = f"""
    INSERT INTO bookings (id, event_id, user_id, status, created_at)
    SELECT uuidv7(), events.id, {PERSON_SQL},
        CASE WHEN n % 20 = 19 THEN 'cancelled'
        WHEN events.id % {SOLD_OUT} = 0 AND n - {CROWD} >= $1::int * 3 / 4 THEN 'waiting'
        ELSE 'booked' END, now()
    FROM generate_series({CROWD}, {CROWD} + $1::int - 1) AS n, events
"""  # noqa: S608
COUNT: Final = f"""
    UPDATE events SET version = version + booked, waiting_list_count = waiting,
        total_tickets = CASE WHEN id % {SOLD_OUT} = 0 THEN booked ELSE total_tickets END,
        available_tickets = CASE WHEN id % {SOLD_OUT} = 0 THEN 0 ELSE total_tickets - booked END
    FROM (
        SELECT event_id, count(*) FILTER (WHERE status = 'booked') AS booked,
            count(*) FILTER (WHERE status = 'waiting') AS waiting
        FROM bookings GROUP BY event_id
    ) AS counted WHERE event_id = id
"""  # noqa: S608
TRAIL: Final = """
    INSERT INTO audit_records (action, event_id, subject, actor, details)
    SELECT 'booking.booked', event_id, user_id, user_id, '{}' FROM bookings
"""
WAITING: Final = """
    SELECT extract(epoch FROM clock_timestamp() - waitstart)::float8 AS seconds, locktype, mode,
        coalesce(relation::regclass::text, '') AS relation, regexp_replace(query, '\\s+', ' ', 'g')
        AS query
    FROM pg_locks JOIN pg_stat_activity USING (pid)
    WHERE NOT granted AND locktype <> 'advisory' AND waitstart IS NOT NULL
"""
FOUND: Final = """
    SELECT id::text, event_id, user_id::text, status FROM bookings WHERE id = ANY($1::uuid[])
"""


class Attempt(NamedTuple):
    """A request to book, and its response. Times in seconds."""

    event: int
    user: str
    start: float
    seconds: float
    status: int
    """0: no response."""
    booking: str = ""
    code: str = ""

    @property
    def row(self) -> tuple[str, int, str, str]:
        """The row that the response promises."""
        return self.booking, self.event, self.user, ACKNOWLEDGED[self.status]


@dataclass(frozen=True, slots=True)
class LockWait:
    """The longest wait that was seen for a lock."""

    seconds: float = 0.0
    lock: str = "none was seen"
    query: str = ""


@dataclass(slots=True)
class Run:
    """Everything that a run found."""

    before: list[Attempt] = field(default_factory=list)
    """Bookings with the earlier version."""
    after: list[Attempt] = field(default_factory=list)
    """Bookings with the new version."""
    migration: tuple[float, float] = (0.0, 0.0)
    """Its start and its end."""
    attempts: int = 0
    said: str = ""
    """The last line of `ticketing migrate`."""
    lock: LockWait = LockWait()
    lost: list[Attempt] = field(default_factory=list)
    audit: str = ""
    wrong: list[str] = field(default_factory=list)

    @property
    def during(self) -> list[Attempt]:
        """The bookings that were under way at some time during the migration."""
        start, end = self.migration
        return [
            each for each in self.before if each.start < end and each.start + each.seconds > start
        ]

    def judge(self) -> list[str]:
        """Return every promise that was broken."""
        broken = [*self.wrong]
        if self.lost:
            broken.append(f"{len(self.lost)} acknowledged bookings are lost")
        if unexpected := self.unexpected():
            broken.append(f"unexpected responses: {unexpected}")
        for name, attempts in (("during the migration", self.during), ("afterwards", self.after)):
            if not any(each.status in ACKNOWLEDGED for each in attempts):
                broken.append(f"no booking was acknowledged {name}")
        return broken

    def unexpected(self) -> dict[str, int]:
        """Count the responses that are no outcome of a booking, nor 503 `busy`."""
        every = [*self.before, *self.after]
        return dict(
            Counter(
                f"{each.status} {each.code}".strip()
                for each in every
                if each.status not in ACKNOWLEDGED and (each.status, each.code) != (BUSY, "busy")
            )
        )


class Shop:
    """Clients that book, each on a connection of its own, and never the same place twice."""

    def __init__(self, port: int, first_event: int, pairs: Iterator[int]) -> None:
        self._port = port
        self._first_event = first_event
        self._pairs = pairs
        self._tokens = Tokens(SECRET, LIFETIME)
        self._open = True
        self.attempts: list[Attempt] = []

    def close(self) -> None:
        """Let each client finish its request, and stop."""
        self._open = False

    async def client(self, pause: float) -> None:
        """Book until the shop closes, pausing after each response."""
        link: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        while self._open:
            number = next(self._pairs)
            event, who = self._first_event + number % EVENTS, person_id(number // EVENTS)
            started = time.monotonic()
            status, booking, code = 0, "", ""
            try:
                link = link or await asyncio.open_connection("127.0.0.1", self._port)
                link[1].write(self._request(event, str(who), self._tokens.issue(who, who)))
                status, document = await _response(link[0])
                booking, code = document.get("id", ""), document.get("code", "")
            except (OSError, asyncio.IncompleteReadError):
                link = None
            self.attempts.append(
                Attempt(event, str(who), started, time.monotonic() - started, status, booking, code)
            )
            await asyncio.sleep(pause)
        if link is not None:
            link[1].close()

    @staticmethod
    def _request(event: int, who: str, token: str) -> bytes:
        body = f'{{"eventId":{event},"userId":"{who}"}}'
        return (
            "POST /api/events/book HTTP/1.1\r\nHost: localhost\r\n"
            f"Authorization: Bearer {token}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n\r\n{body}"
        ).encode()


async def _response(reader: asyncio.StreamReader) -> tuple[int, dict[str, str]]:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
    length = int(head.partition("content-length:")[2].partition("\r\n")[0])
    return int(head.split()[1]), json.loads(await reader.readexactly(length))


async def _watch_locks(url: str, run: Run) -> None:
    """Look for waits for locks until cancelled. Shorter waits than the pause may be missed."""
    connection = await asyncpg.connect(url)
    try:
        while True:
            for row in await connection.fetch(WAITING):
                if row["seconds"] > run.lock.seconds:
                    lock = f"{row['mode']} on {row['relation'] or row['locktype']}"
                    run.lock = LockWait(row["seconds"], lock, row["query"].strip()[:80])
            await asyncio.sleep(LOOK_EVERY)
    finally:
        await connection.close()


async def _migrate_under_load(shop: Shop, new: Code, run: Run, clients: int, pause: float) -> None:
    watching = asyncio.create_task(_watch_locks(new.variables["TICKETING_DATABASE_URL"], run))
    booking = [asyncio.create_task(shop.client(pause)) for _ in range(clients)]
    await asyncio.sleep(CALM)
    start = time.monotonic()
    for number in range(1, ATTEMPTS + 1):
        run.attempts = number
        done = await asyncio.to_thread(new.python, "-m", "ticketing", "migrate")
        run.said = (done.stdout + done.stderr).strip().rpartition("\n")[2]
        if done.returncode == 0:
            break
    else:
        run.wrong.append(f"the migration failed {ATTEMPTS} times: {run.said}")
    run.migration = start, time.monotonic()
    await asyncio.sleep(CALM)
    shop.close()
    await asyncio.gather(*booking)
    watching.cancel()
    with suppress(asyncio.CancelledError):
        await watching
    run.before = shop.attempts


async def _book_for_a_while(shop: Shop, clients: int, pause: float) -> list[Attempt]:
    booking = [asyncio.create_task(shop.client(pause)) for _ in range(clients)]
    await asyncio.sleep(CALM)
    shop.close()
    await asyncio.gather(*booking)
    return shop.attempts


def fill(here: Ground, bookings: int) -> int:
    """Make events with these bookings, about as a service would, and return the first event."""
    crowd = -(-bookings // EVENTS)
    for statement, people in zip(FILL, (SHOPPERS, crowd), strict=True):
        here.execute(statement, people)
    first = here.add_events(EVENTS)
    # The triggers check what is correct by construction here, and would take longest.
    here.execute("SET session_replication_role = replica")
    here.execute(BOOKINGS, crowd)
    here.execute(COUNT)
    here.execute(TRAIL)
    here.execute("RESET session_replication_role")
    here.settle()
    return first


async def lost(url: str, attempts: Sequence[Attempt]) -> list[Attempt]:
    """Return the acknowledged bookings that have no row, or another one than the response says."""
    promised = [each for each in attempts if each.status in ACKNOWLEDGED]
    found: set[tuple[str, int, str, str]] = set()
    connection = await asyncpg.connect(url)
    for start in range(0, len(promised), CHUNK):
        ids = [each.booking for each in promised[start : start + CHUNK]]
        found |= {tuple(row) for row in await connection.fetch(FOUND, ids)}
    await connection.close()
    return [each for each in promised if each.row not in found]


def _code(name: str, tree: Path, folder: Path, url: str) -> Code:
    own = folder / name
    own.mkdir()
    path = str(tree / "src")
    return Code(name, tree, own, service_environment(url, own, workers=2, PYTHONPATH=path))


def prove(base: str, bookings: int, clients: int, pause: float) -> Run:
    """Run everything once."""
    run = Run()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ticketing-bench-")))
        folder.chmod(0o711)  # As root, PostgreSQL has another account, which must pass through.
        running = stack.enter_context(embedded(folder / "data", max_connections="200"))
        url = make_database(running.url, "sale")
        earlier = _code(
            "earlier", stack.enter_context(worktree(base, folder / "tree")), folder, url
        )
        new = _code("new", ROOT, folder, url)
        earlier.prepare()
        say(f"making {bookings:,} bookings at {EVENTS} events")
        with ground(url) as here:
            first = fill(here, bookings)
        pairs = itertools.count()
        with serving(
            "earlier", ("ticketing", "serve"), earlier.variables, earlier.folder
        ) as server:
            say("the earlier version sells; the migration begins in 5 s")
            shop = Shop(server.port, first, pairs)
            asyncio.run(_migrate_under_load(shop, new, run, clients, pause))
        say(f"{run.said} ({run.migration[1] - run.migration[0]:.1f} s)")
        with serving("new", ("ticketing", "serve"), new.variables, new.folder) as server:
            say("the new version sells")
            run.after = asyncio.run(
                _book_for_a_while(Shop(server.port, first, pairs), clients, pause)
            )
        run.lost = asyncio.run(lost(url, [*run.before, *run.after]))
        try:
            run.audit = new.audit()
        except BooksWrongError as error:
            run.audit = str(error)
            run.wrong.append(str(error))
    return run


def report(run: Run, commits: tuple[str, str], bookings: int, clients: int) -> str:
    """Return the page of results."""
    start, end = run.migration
    every = [*run.before, *run.after]
    under_way = set(run.during)
    quiet = [each for each in run.before if each not in under_way]
    busy = sum((each.status, each.code) == (BUSY, "busy") for each in every)
    rows = [
        ("migration", f"{end - start:.2f} s, {run.attempts} attempt{'s' * (run.attempts > 1)}"),
        ("it said", f"`{run.said}`"),
        ("longest booking request during the migration", _longest(run.during)),
        ("longest booking request before and after it, by the earlier version", _longest(quiet)),
        ("longest booking request by the new version", _longest(run.after)),
        (
            "longest wait for a lock that was seen",
            f"{run.lock.seconds * 1000:.0f} ms: {run.lock.lock}",
        ),
        ("bookings acknowledged by the earlier version", f"{_acknowledged(run.before):,}"),
        ("of these during the migration", f"{_acknowledged(run.during):,}"),
        ("bookings acknowledged by the new version", f"{_acknowledged(run.after):,}"),
        ("acknowledged bookings lost", f"{len(run.lost)}"),
        ("503 `busy`", f"{busy}"),
        ("other responses", f"{run.unexpected() or 'none'}"),
        ("recount by the new version", run.audit),
    ]
    lines = [
        "# Migration under load",
        "",
        "Written by `python -m benchmarks.migration`. The earlier version serves clients that",
        "book, while its database is migrated. Then the new version replaces it.",
        "",
        f"- Earlier version: `{commits[0]}`. New version: `{commits[1]}`. {clients} clients.",
        f"- Before: {bookings:,} bookings at {EVENTS} events, and as many trail records.",
        f"- On one machine with {os.cpu_count()} cores, PostgreSQL with its default durability.",
        "",
        "| | |",
        "|---|---|",
        *(f"| {name} | {value} |" for name, value in rows),
        "",
        f"A wait for a lock that is shorter than {LOOK_EVERY * 1000:.0f} ms may not be seen."
        + (f" The longest was that of\n`{run.lock.query}`." if run.lock.query else ""),
    ]
    return "\n".join(lines) + "\n"


def _longest(attempts: Sequence[Attempt]) -> str:
    return f"{max((each.seconds for each in attempts), default=0) * 1000:.0f} ms"


def _acknowledged(attempts: Sequence[Attempt]) -> int:
    return sum(each.status in ACKNOWLEDGED for each in attempts)


def _positive(text: str) -> int:
    if (number := int(text)) < 1:
        raise ValueError(text)
    return number


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, write the result, and return 1 if a promise was broken."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.migration",
        description="Migrate the database of an earlier commit while that version sells, and"
        " compare every acknowledged booking with its row. The status is 1 if one is lost, if a"
        " response is not expected, or if the recount finds a difference.",
    )
    parser.add_argument("--base", required=True, metavar="REV", help="the earlier commit")
    parser.add_argument("--bookings", type=_positive, default=1_000_000, help="rows (1000000)")
    parser.add_argument("--clients", type=_positive, default=16, help="that book (16)")
    parser.add_argument("--pause", type=float, default=0.02, help="s after a response (0.02)")
    parser.add_argument("--out", type=Path, default=RESULT, help="where to write")
    given = parser.parse_args(arguments)

    def work() -> None:
        commit = git(
            "rev-parse", "--short", "--verify", "--end-of-options", f"{given.base}^{{commit}}"
        )
        changed = git("status", "--porcelain", "--", "src", "alembic")
        head = git("rev-parse", "--short", "HEAD") + (" with changes" if changed else "")
        run = prove(commit, given.bookings, given.clients, given.pause)
        page = report(run, (commit, head), given.bookings, given.clients)
        given.out.write_text(page, encoding="utf-8")
        sys.stdout.write(page)
        if broken := run.judge():
            raise CannotRunError("; ".join(broken))

    return status_of(work)


if __name__ == "__main__":
    sys.exit(main())
