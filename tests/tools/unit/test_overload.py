"""The checker of `make overload`, with runs that keep the promises and runs that do not."""

from dataclasses import replace

import pytest
from benchmarks.overload import GIVEN_UP, Phase, Round, judge

QUIET = Phase(
    offered=1000,
    seconds=10,
    sent=10_000,
    good=10_000,
    told=10_000,
    shed=0,
    other={},
    p50=0.01,
    p99=0.1,
    alive_worst=0.1,
    alive_missed=0,
    generator=0.1,
    service=0.5,
    machine=1,
    connections=100,
    recovered=0,
)
OVER = replace(QUIET, offered=4000, sent=40_000, good=9000, told=9500, shed=30_500, p99=1.5)
AFTER = replace(QUIET, recovered=1)
KEPT = Round(QUIET, OVER, AFTER)


def broken(*rounds: Round) -> list[str]:
    return [what for kept, what in judge(rounds) if not kept]


def test_a_run_that_keeps_the_promises_passes() -> None:
    assert broken(KEPT, KEPT, KEPT) == []


def test_the_number_of_bookings_is_the_median_of_the_rounds() -> None:
    less = Round(QUIET, replace(OVER, good=7900), AFTER)
    assert broken(KEPT, less, KEPT) == []
    assert len(broken(less, KEPT, less)) == 1


@pytest.mark.parametrize(
    ("wrong", "what"),
    [
        (KEPT._replace(over=replace(OVER, p99=2.1)), "p99 of the booked"),
        (KEPT._replace(over=replace(OVER, other={GIVEN_UP: 300})), "at most one in a hundred"),
        (KEPT._replace(over=replace(OVER, other={500: 1})), "all others get 503"),
        (KEPT._replace(over=replace(OVER, alive_missed=1)), "/livez"),
        (KEPT._replace(after=replace(AFTER, recovered=5.1)), "everything is normal"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_promise_that_one_round_breaks_is_found(wrong: Round, what: str) -> None:
    (found,) = broken(KEPT, wrong, KEPT)
    assert found.startswith(what)


@pytest.mark.parametrize("less", [{"good": 9_600}, {"p99": 0.6}])
def test_late_bookings_are_not_counted(less: dict[str, float]) -> None:
    assert QUIET.follows
    assert not replace(QUIET, **less).follows  # type: ignore[arg-type]
