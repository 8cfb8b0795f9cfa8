"""One round: wrk sends requests to one contender for some seconds; then the rows are checked."""

import json
import resource
import shutil
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from benchmarks.ground import (
    PEOPLE,
    Books,
    BooksWrongError,
    CannotRunError,
    Ground,
    environment,
)
from benchmarks.servers import Server, machine_cpu_seconds, tree_cpu_seconds

from ticketing.server.admission import FIRST

SCRIPT: Final = Path(__file__).with_name("wrk.lua")
TIMEOUT: Final = 30
"""Seconds after which wrk counts a response as late."""
MAX_RATE: Final = 40_000
"""Bookings per second that no server here reaches. Fresh pairs are prepared for this rate."""
GREETINGS: Final = 3
"""How often all tokens are sent before a server is measured. Each time, a worker sees half of the
tokens that are still new to it."""
MAX_GREETING: Final = 12
"""Seconds for sending the tokens."""


@dataclass(frozen=True, slots=True)
class Contest:
    """A contender under one load."""

    contender: str
    load: str
    server: Server
    ground: Ground
    mode: str = "book"
    connections: int = 256
    at_once: int = 1
    """Events that are booked at the same time."""
    event: int | None = None
    """An event that is cleared after each round. Without it, each round has new events."""
    types: int = 0
    """Ticket types of each event, which also share a quota. 0: the event has one free type."""
    quantity: int = 1
    """Places of a booking of these types."""

    @property
    def key(self) -> str:
        """Return the name of the contest within a run."""
        return contest_key(self.contender, self.load, self.connections, len(self.server.workers))

    @property
    def writes(self) -> bool:
        """Whether responses have rows in the database."""
        return self.contender not in {"noop", "bare"} and self.mode != "read"

    @property
    def may_refuse(self) -> bool:
        """Whether it may return 503: a textbook way, or more requests than a worker accepts."""
        return self.contender in {"rowlock", "cas"} or self.connections > FIRST


def contest_key(contender: str, load: str, connections: int = 256, workers: int = 2) -> str:
    """Return the name of a contest within a run."""
    return f"{contender}, {load}, {connections} connections, {workers} workers"


@dataclass(frozen=True, slots=True)
class Round:
    """Measurements of one round. Times in milliseconds, processor use in cores."""

    contest: str
    per_second: float
    """Requests with a successful response."""
    p50: float
    p90: float
    p99: float
    worst: float
    answered: int = 0
    refused: int = 0
    unanswered: int = 0
    """Requests under way when the load stopped."""
    rows: int = 0
    """Bookings that the round added to the database."""
    connections: list[int] = field(default_factory=list)
    """Connections of each worker."""
    worker_cpu: list[float] = field(default_factory=list)
    cpu: dict[str, float] = field(default_factory=dict)
    """Used by the workers, the load, PostgreSQL and all other programs."""


def wrk() -> str:
    """Return the path of wrk. Raises CannotRunError if it is not installed."""
    found = shutil.which("wrk")
    if found is None:
        raise CannotRunError(
            "wrk makes the load and is not installed: `apt-get install wrk` on Debian and Ubuntu,"
            " `brew install wrk` on macOS, else see https://github.com/wg/wrk"
        )
    return found


CONNECTIONS: Final = 256


@dataclass(frozen=True, slots=True)
class _Load:
    """The input of wrk."""

    mode: str
    connections: int
    seconds: int
    first_event: int = 1
    at_once: int = 1
    limit: int = 0
    types: Sequence[int] = ()
    quantity: int = 1


@dataclass(frozen=True, slots=True)
class Sent:
    """The output of wrk. Times in milliseconds."""

    seconds: float
    answers: float
    refused: float
    broken: float
    sent_books: float
    sent_cancels: float
    sent_reads: float
    p50: float
    p90: float
    p99: float
    worst: float

    @property
    def unanswered(self) -> int:
        """Requests under way when the load stopped."""
        sent = self.sent_books + self.sent_cancels + self.sent_reads
        return int(sent - self.answers)


@dataclass(frozen=True, slots=True)
class Driver:
    """Runs rounds."""

    people: Path
    """The file of tokens."""
    folder: Path
    postmaster: int
    """Process id of PostgreSQL."""

    def greet(self, server: Server) -> None:
        """Send all tokens to the workers, so that all contenders have cached them."""
        self._finish(
            self._start(server, _Load("greet", 64, MAX_GREETING, limit=GREETINGS * PEOPLE))
        )
        server.wait_until_idle()

    def run(self, contest: Contest, seconds: int, *, limit: int = 0) -> Round:
        """Run one round of at most `limit` requests, and check counters and rows.

        Raises BooksWrongError.
        """
        server, ground = contest.server, contest.ground
        events: int = contest.at_once
        types: Sequence[int] = ()
        if contest.event is not None:
            first = contest.event
            # Requests that are under way at the limit are fresh pairs too.
            limit = PEOPLE - 2 * contest.connections
        else:
            # A contender that writes nothing does not need real events.
            if contest.writes:
                events *= int(MAX_RATE * seconds / (events * PEOPLE)) + 2
            if contest.types:
                first, types = ground.add_offers(events, contest.types)
            else:
                first = ground.add_events(events)
        before = ground.books(first, events)
        cpu, worker_cpu = self._cpu(server), server.cpu()
        load = _Load(
            contest.mode,
            contest.connections,
            seconds,
            first,
            contest.at_once,
            limit,
            types,
            contest.quantity,
        )
        process = self._start(server, load)
        time.sleep(0.6)
        connections = server.connections()
        sent = self._finish(process)
        used = {name: value - cpu[name] for name, value in self._cpu(server).items()}
        used["other"] = max(0.0, used.pop("machine") - sum(used.values()))
        worker_used = [b - a for a, b in zip(worker_cpu, server.cpu(), strict=True)]
        server.wait_until_idle()
        after = ground.books(first, events)
        _check(contest, sent, before, after)
        if contest.event is not None:
            ground.clear(first, events)
        return Round(
            contest=contest.key,
            per_second=(sent.answers - sent.refused) / sent.seconds,
            p50=sent.p50,
            p90=sent.p90,
            p99=sent.p99,
            worst=sent.worst,
            answered=int(sent.answers - sent.refused),
            refused=int(sent.refused),
            unanswered=sent.unanswered,
            rows=after.rows - before.rows,
            connections=connections,
            worker_cpu=[round(each / sent.seconds, 3) for each in worker_used],
            cpu={name: round(each / sent.seconds, 3) for name, each in used.items()},
        )

    def book(
        self,
        server: Server,
        event: int,
        seconds: int,
        *,
        limit: int = 0,
        connections: int = CONNECTIONS,
    ) -> Sent:
        """Have each person book the event in turn, without checking any row."""
        load = _Load("book", connections, seconds, event, limit=limit)
        return self._finish(self._start(server, load))

    def _start(self, server: Server, load: _Load) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [
                wrk(),
                *("--threads", "1", "--connections", str(load.connections)),
                *("--duration", f"{load.seconds}s", "--timeout", f"{TIMEOUT}s"),
                *("--script", str(SCRIPT), f"http://127.0.0.1:{server.port}"),
            ],
            env=environment(
                BENCH_MODE=load.mode,
                BENCH_PEOPLE=str(self.people),
                BENCH_EVENT=str(load.first_event),
                BENCH_AT_ONCE=str(load.at_once),
                BENCH_CONNECTIONS=str(load.connections),
                BENCH_LIMIT=str(load.limit),
                BENCH_TYPES=",".join(map(str, load.types)),
                BENCH_QUANTITY=str(load.quantity),
                BENCH_OUT=str(self._out),
            ),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )

    @property
    def _out(self) -> Path:
        return self.folder / "wrk.json"

    def _finish(self, process: subprocess.Popen[bytes]) -> Sent:
        _, errors = process.communicate()
        if process.returncode or errors:
            raise RuntimeError(f"wrk failed: {errors.decode()}")
        found = Sent(**json.loads(self._out.read_text()))
        self._out.unlink()
        return found

    def _cpu(self, server: Server) -> dict[str, float]:
        ended = resource.getrusage(resource.RUSAGE_CHILDREN)
        return {
            "workers": sum(server.cpu()),
            "load": ended.ru_utime + ended.ru_stime,
            "postgres": tree_cpu_seconds(self.postmaster),
            "machine": machine_cpu_seconds(),
        }


def _check(contest: Contest, sent: Sent, before: Books, after: Books) -> None:
    """Compare all responses with all rows."""

    def require(agrees: bool, complaint: str) -> None:  # noqa: FBT001 - a condition
        if not agrees:
            raise BooksWrongError(f"{contest.key}: {complaint}")

    require(sent.broken == 0, f"{sent.broken:.0f} connections broke")
    require(sent.refused == 0 or contest.may_refuse, f"{sent.refused:.0f} responses were errors")
    # wrk sends one request at its start that it does not count.
    open_end = sent.unanswered
    require(0 <= open_end <= contest.connections + 1, f"{open_end} requests without a response")
    require(after.crooked == 0, "an event's counters differ from its rows")
    require(after.waiting_rows == 0, "people wait although places are free")
    written = after.rows - before.rows
    if not contest.writes:
        require(written == 0, f"wrote {written} bookings and should not")
        return
    # The number of open requests of each kind is unknown, so each kind is bounded by the total.
    books, cancels = int(sent.sent_books - sent.refused), int(sent.sent_cancels)
    require(
        books - open_end <= written <= books,
        f"{written} bookings written for {books} sent, at most {open_end} of them without response",
    )
    cancelled = after.cancelled_rows - before.cancelled_rows
    require(
        cancels - open_end <= cancelled <= cancels,
        f"{cancelled} cancelled for {cancels} sent, at most {open_end} of them without response",
    )
