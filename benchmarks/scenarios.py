"""The scenarios: contests that are interleaved round by round, and others that run alone."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from typing import Final, TypeAlias

from benchmarks import pgbench
from benchmarks.arena import Arena
from benchmarks.ground import CROWD
from benchmarks.rounds import Contest, Round

HOT: Final = "hot event"
KEYED: Final = "hot event, each booking with an Idempotency-Key"
CUSTOMERS: Final = "hot event, each booking with a new customer"
SPREAD: Final = "100 events"
MIX: Final = "70% reads, 25% books, 5% cancels"
READ: Final = "read an event"
EVENTS: Final = 100
MILLION: Final = 1_000_000
CLIENTS: Final = 8
FEW: Final = 1_000
"""Bookings before a worker's memory is first measured."""

Task: TypeAlias = tuple[str, Callable[[int], Round]]
"""A contest's key, and the function that runs one round of some seconds."""


@dataclass(frozen=True, slots=True)
class Memory:
    """Memory of workers: proportional set size in MiB of the largest one."""

    fresh: float
    few: int
    after_few: float
    many: int
    after_many: float


def loaded_with(bookings: int) -> str:
    """Return the name of the load for a hot event that already has `bookings`."""
    return f"event with {bookings:,} bookings"


def _tasks(arena: Arena, contests: Iterable[Contest]) -> list[Task]:
    return [(contest.key, partial(arena.driver.run, contest)) for contest in contests]


def hot(arena: Arena, *, full: bool) -> list[Task]:
    """One event that everybody wants."""
    del full
    names = ("service", "noop", "bare", "rowlock", "cas")
    contests = [Contest(name, HOT, arena.server(name), arena.ground()) for name in names]
    service = contests[0]
    return _tasks(arena, [*contests, replace(service, load=KEYED, mode="keyed")])


def customers(arena: Arena, *, full: bool) -> list[Task]:
    """Book one event for new customers of its owner, beside bookings of people with accounts."""
    del full
    service = Contest("service", HOT, arena.server("service"), arena.ground())
    return _tasks(arena, [service, replace(service, load=CUSTOMERS, mode="customers")])


def events(arena: Arena, *, full: bool) -> list[Task]:
    """Many events at the same time."""
    names = ("service", "noop", "rowlock", "cas") if full else ("service",)
    return _tasks(
        arena,
        (
            Contest(name, SPREAD, arena.server(name), arena.ground(), at_once=EVENTS)
            for name in names
        ),
    )


def mix(arena: Arena, *, full: bool) -> list[Task]:
    """A typical mix of requests."""
    del full
    server = arena.server("service")
    return _tasks(
        arena, [Contest("service", MIX, server, arena.ground(), mode="mix", at_once=EVENTS)]
    )


def read(arena: Arena, *, full: bool) -> list[Task]:
    """Everybody reads one event."""
    del full
    return _tasks(
        arena, [Contest("service", READ, arena.server("service"), arena.ground(), mode="read")]
    )


def latency(arena: Arena, *, full: bool) -> list[Task]:
    """One client alone."""
    del full
    contests = [
        Contest(name, HOT, arena.server(name), arena.ground(), connections=1)
        for name in ("service", "noop")
    ]
    return [*_tasks(arena, contests), _pgbench(arena, clients=1, batch=1)]


def ceiling(arena: Arena, *, full: bool) -> list[Task]:
    """Measure PostgreSQL alone, with one and with a hundred bookings per transaction."""
    del full
    return [_pgbench(arena, clients=CLIENTS, batch=batch) for batch in (1, pgbench.BATCH)]


def _pgbench(arena: Arena, *, clients: int, batch: int) -> Task:
    run = partial(pgbench.run, arena.ground(), arena.folder, clients=clients, batch=batch)
    return pgbench.contest_name(clients, batch), run


def growth(arena: Arena, *, full: bool) -> list[Task]:
    """Book an event that already has many bookings, in a separate database."""
    contests = []
    for bookings in (0, 100_000, MILLION) if full else (0, MILLION):
        database = f"growth_{bookings}"
        ground = arena.ground(database)
        event = ground.add_events(1)
        if bookings:
            ground.add_people(CROWD, bookings)
            ground.preload(event, bookings)
            ground.settle()
        server = arena.server("service", database=database)
        contests.append(Contest("service", loaded_with(bookings), server, ground, event=event))
    return _tasks(arena, contests)


def connections(arena: Arena, *, full: bool) -> list[Task]:
    """Book from few and from many connections."""
    del full
    return _tasks(
        arena,
        (
            Contest(name, HOT, arena.server(name), arena.ground(), connections=count)
            for count in (1, 64, 256, 1024)
            for name in ("service", "noop", "rowlock")
        ),
    )


def workers(arena: Arena, *, full: bool) -> list[Task]:
    """Book on few and on many workers."""
    del full
    return _tasks(
        arena,
        (
            Contest(name, HOT, arena.server(name, workers=count), arena.ground())
            for count in (1, 2, 4)
            for name in ("service", "noop")
        ),
    )


CONTESTS: Final[dict[str, Callable[..., list[Task]]]] = {
    "hot": hot,
    "customers": customers,
    "events": events,
    "mix": mix,
    "read": read,
    "latency": latency,
    "ceiling": ceiling,
    "growth": growth,
    "connections": connections,
    "workers": workers,
}
"""Scenarios whose contests are interleaved."""


def memory(arena: Arena, bookings: int, seconds: float, say: Callable[[str], None]) -> Memory:
    """Measure the memory of new workers, for at most `seconds`, up to `bookings` bookings."""
    with arena.fresh("service") as server:
        contest = Contest("service", HOT, server, arena.ground())
        fresh = max(server.memory())
        few = arena.driver.run(contest, 30, limit=FEW).rows
        after_few = max(server.memory())
        many, spent, step = few, 0.0, 10
        while many < bookings and spent < seconds:
            done = arena.driver.run(contest, step, limit=bookings - many)
            many += done.rows
            spent += step
            say(f"{many:,} bookings, {max(server.memory()):.1f} MiB")
        return Memory(fresh, few, after_few, many, max(server.memory()))
