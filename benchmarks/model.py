"""Many replicas on one hot event, by simulation: `python -m benchmarks.model [--check]`.

One machine can't run a hundred replicas, but they share only one thing: the event's row, which a
commit locks from its swap until it is durable. So the bookings per second are those that fit into
commits one after the other. The model has a replica's processor, which works on one request at a
time, its combiner, which commits everything that waits, and the row with its queue. `--check` also
measures the service itself on this machine, with slow commits.
"""

import argparse
import heapq
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from statistics import median
from typing import Final

from benchmarks.arena import arena
from benchmarks.rounds import Contest
from benchmarks.scenarios import HOT

from ticketing.db.combiner import MAX_BATCH

MILLISECOND: Final = 1e-3
LATENCIES: Final = (0.2, 1.0, 5.0)
"""Milliseconds until a commit is durable: a local disk, a good remote disk, a remote replica."""
REPLICAS: Final = (1, 2, 5, 10, 20, 50, 100)
LOCK_TIMEOUT: Final = 0.25


@dataclass(frozen=True)
class Costs:
    """Seconds, as measured on one machine."""

    request: float = 100e-6
    """Processor time of a replica for a request, with its share of a batch."""
    commit: float = 0.4e-3
    """Time of a commit without its rows: the round trip and the swap."""
    row: float = 10e-6
    """Time of the database for each booking of a commit."""
    durable: float = 0.0
    """Time from the last written row until the commit is durable. The event's row is locked until
    then."""


@dataclass
class _Replica:
    working: int
    """Requests that its processor has not passed to the combiner yet."""
    waiting: int = 0
    under_way: int = 0


@dataclass
class Simulation:
    """Replicas with `connections` each, which send a request as soon as they have a response."""

    replicas: int
    connections: int
    costs: Costs
    now: float = 0.0
    booked: int = 0
    gave_up: int = 0
    """Commits that did not get the row in time and were tried again."""
    waits: list[float] = field(default_factory=list)
    """Seconds of waiting for the row."""

    def run(self, seconds: float) -> "Simulation":
        """Simulate `seconds`."""
        self._all = [_Replica(self.connections) for _ in range(self.replicas)]
        self._row_free = True
        self._queue: deque[tuple[int, float]] = deque()
        # They do not all begin at the same time.
        self._events = [
            (number / self.replicas * MILLISECOND, number, "work")
            for number in range(self.replicas)
        ]
        heapq.heapify(self._events)
        while self._events and self._events[0][0] < seconds:
            self.now, number, what = heapq.heappop(self._events)
            getattr(self, "_" + what)(number)
        return self

    @property
    def per_second(self) -> float:
        """Bookings per second."""
        return self.booked / self.now

    def _after(self, delay: float, number: int, what: str) -> None:
        heapq.heappush(self._events, (self.now + delay, number, what))

    def _work(self, number: int) -> None:
        """Pass one request to the combiner, and take the next."""
        replica = self._all[number]
        if replica.working:
            replica.working -= 1
            replica.waiting += 1
            self._after(self.costs.request, number, "work")
        self._commit(number)

    def _commit(self, number: int) -> None:
        replica = self._all[number]
        if replica.under_way or not replica.waiting:
            return
        replica.under_way = min(replica.waiting, MAX_BATCH)
        replica.waiting -= replica.under_way
        self._queue.append((number, self.now))
        self._grant()

    def _grant(self) -> None:
        while self._row_free and self._queue:
            number, since = self._queue.popleft()
            if self.now - since > LOCK_TIMEOUT:
                self.gave_up += 1
                self._queue.append((number, self.now))
                continue
            self.waits.append(self.now - since)
            self._row_free = False
            costs, rows = self.costs, self._all[number].under_way
            self._after(costs.commit + rows * costs.row + costs.durable, number, "committed")

    def _committed(self, number: int) -> None:
        replica = self._all[number]
        self._row_free = True
        self.booked += replica.under_way
        was_idle = not replica.working
        replica.working += replica.under_way
        replica.under_way = 0
        if was_idle:
            self._after(self.costs.request, number, "work")
        self._commit(number)
        self._grant()


def table(costs: Costs, connections: int) -> Iterator[str]:
    """Yield the lines of a table: replicas down, latencies across."""
    names = [f"{latency} ms" for latency in LATENCIES]
    yield "| replicas | " + " | ".join(f"{name}: bookings/s, wait" for name in names) + " |"
    yield "| ---: |" + " ---: |" * len(names)
    for replicas in REPLICAS:
        cells = []
        for latency in LATENCIES:
            slow = Costs(costs.request, costs.commit, costs.row, latency * MILLISECOND)
            done = Simulation(replicas, connections, slow).run(5.0)
            wait = median(done.waits) / MILLISECOND
            tried = f", {done.gave_up} tried again" if done.gave_up else ""
            cells.append(f"{done.per_second:,.0f}, {wait:.1f} ms{tried}")
        yield f"| {replicas} | " + " | ".join(cells) + " |"


def check(rounds: int, seconds: int) -> Iterator[str]:
    """Measure the service with slow commits, and yield a table with the model's values."""
    yield "| commit takes | workers | connections | measured | model | model / measured |"
    yield "| ---: | ---: | ---: | ---: | ---: | ---: |"
    for delay in (1.0, 5.0, 20.0):
        # PostgreSQL sleeps for this time before it writes a commit, while the row is locked.
        slow = str(int(delay * 1000))
        with arena(commit_delay=slow, commit_siblings="0") as here:
            cases = [(workers, each) for workers in (1, 2, 4) for each in (16, 64, 256)]
            found: dict[tuple[int, int], list[float]] = {case: [] for case in cases}
            for _ in range(rounds):
                for workers, connections in cases:
                    server = here.server("service", workers=workers)
                    contest = Contest(
                        "service", HOT, server, here.ground(), connections=connections
                    )
                    found[workers, connections].append(here.driver.run(contest, seconds).per_second)
        for (workers, connections), rates in found.items():
            costs = Costs(durable=delay * MILLISECOND)
            said = Simulation(workers, connections // workers, costs).run(5.0).per_second
            measured = median(rates)
            yield (
                f"| {delay} ms | {workers} | {connections} | {measured:,.0f} | {said:,.0f} |"
                f" {said / measured:.2f} |"
            )


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="measure the service too")
    parser.add_argument("--connections", type=int, default=128, help="connections of each replica")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=2)
    options = parser.parse_args()
    lines = (
        check(options.rounds, options.seconds)
        if options.check
        else table(Costs(), options.connections)
    )
    for line in lines:
        print(line, flush=True)


if __name__ == "__main__":
    main()
