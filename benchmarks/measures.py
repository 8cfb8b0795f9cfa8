"""Computes figures from rounds, and compares them with targets."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final

from benchmarks import pgbench
from benchmarks.rounds import Round, contest_key
from benchmarks.scenarios import (
    CUSTOMERS,
    HOT,
    KEYED,
    MILLION,
    MIX,
    READ,
    SPREAD,
    Memory,
    loaded_with,
)

MAX_WORKER: Final = 120.0
"""MiB."""


@dataclass(frozen=True, slots=True)
class Summary:
    """A contest's medians, and the lowest and highest rate of its rounds."""

    rounds: int
    per_second: float
    lowest: float
    highest: float
    p50: float
    p99: float
    refused: int
    connections: list[list[int]]
    """Connections of each worker, by round."""
    cpu: dict[str, float]


def summarise(rounds: Sequence[Round]) -> Summary:
    """Return the medians of a contest's rounds."""
    rates = [each.per_second for each in rounds]
    return Summary(
        rounds=len(rounds),
        per_second=median(rates),
        lowest=min(rates),
        highest=max(rates),
        p50=median(each.p50 for each in rounds),
        p99=median(each.p99 for each in rounds),
        refused=sum(each.refused for each in rounds),
        connections=[each.connections for each in rounds],
        cpu={name: median(each.cpu[name] for each in rounds) for name in rounds[0].cpu},
    )


@dataclass(frozen=True, slots=True)
class Measure:
    """One target and its measured value."""

    name: str
    value: float
    target: float
    aim: float | None = None
    at_most: bool = False
    note: str = ""

    @property
    def is_reached(self) -> bool:
        """Whether the target is met."""
        return self.value <= self.target if self.at_most else self.value >= self.target

    @property
    def verdict(self) -> str:
        """Return the verdict as one word."""
        if not self.is_reached:
            return "missed"
        return "reached" if self.aim is None or self.value < self.aim else "aim reached"


SERVICE: Final = contest_key("service", HOT)
NOOP: Final = contest_key("noop", HOT)


def _ratio(over: str, under: str) -> Callable[[Mapping[str, Summary]], float]:
    return lambda found: found[over].per_second / found[under].per_second


def _alone(found: Mapping[str, Summary]) -> float:
    floor = found[contest_key("noop", HOT, 1)].p50 + found[pgbench.contest_name(1, 1)].p50
    return found[contest_key("service", HOT, 1)].p50 / floor


TARGETS: Final[
    Sequence[tuple[str, Callable[[Mapping[str, Summary]], float], float, float | None, bool]]
] = (
    (
        "hot event, 256 connections: bookings/s over the no-op route's",
        _ratio(SERVICE, NOOP),
        *(0.8, 0.9, False),
    ),
    (
        "hot event, 256 connections: bookings/s over row lock per request",
        _ratio(SERVICE, contest_key("rowlock", HOT)),
        *(20, 30, False),
    ),
    (
        "hot event, 256 connections: bookings/s over a bare ASGI response's",
        _ratio(SERVICE, contest_key("bare", HOT)),
        *(0.25, 0.35, False),
    ),
    (
        "hot event, 256 connections: bookings/s with Idempotency-Keys over without",
        _ratio(contest_key("service", KEYED), SERVICE),
        *(0.8, None, False),
    ),
    (
        "hot event, 256 connections: bookings/s for new customers over those of accounts",
        _ratio(contest_key("service", CUSTOMERS), SERVICE),
        *(0.7, None, False),
    ),
    (
        "100 events, 256 connections: bookings/s over the no-op route's",
        _ratio(contest_key("service", SPREAD), NOOP),
        *(0.7, 0.85, False),
    ),
    (
        "event with 1,000,000 bookings over an empty one",
        _ratio(
            contest_key("service", loaded_with(MILLION)), contest_key("service", loaded_with(0))
        ),
        *(0.95, None, False),
    ),
    (
        "hot event, 1 connection: p50 latency over the no-op's plus a pgbench transaction's",
        _alone,
        *(1.5, None, True),
    ),
    (
        "hot event, 256 connections: p99 latency over the no-op route's p99",
        lambda found: found[SERVICE].p99 / found[NOOP].p99,
        *(1.5, None, True),
    ),
    (
        "mixed load: requests/s over the no-op route's",
        _ratio(contest_key("service", MIX), NOOP),
        *(0.7, None, False),
    ),
    (
        "GET of an event: requests/s over the no-op route's",
        _ratio(contest_key("service", READ), NOOP),
        *(0.8, None, False),
    ),
)
"""Name, function that computes it, target, aim, and whether the target is an upper limit."""


def measures(found: Mapping[str, Summary], memory: Memory | None) -> list[Measure]:
    """Compute every measure whose contests were run."""
    done = []
    for name, work_out, target, aim, at_most in TARGETS:
        try:
            value = work_out(found)
        except KeyError:
            continue
        done.append(Measure(name, value, target, aim, at_most))
    if memory is not None:
        after = f"after {memory.many:,} bookings"
        ratio = memory.after_many / memory.after_few
        weight = f"worker memory (PSS) {after}"
        done += [
            Measure(f"{weight} over after {memory.few:,}", ratio, 1.2, at_most=True),
            Measure(f"{weight}, MiB", memory.after_many, MAX_WORKER, at_most=True),
        ]
    return done
