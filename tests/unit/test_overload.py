"""The judge of `make overload`, by runs that keep what is promised and runs that do not."""

from dataclasses import replace

import pytest
from benchmarks.overload import GIVEN_UP, Phase, judge

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


def broken(*phases: Phase) -> list[str]:
    return [what for kept, what in judge(phases) if not kept]


def test_a_run_that_keeps_what_is_promised_passes() -> None:
    assert broken(QUIET, OVER, AFTER) == []


@pytest.mark.parametrize(
    ("phases", "what"),
    [
        ((replace(QUIET, p99=3), OVER, AFTER), "it follows at first"),
        ((QUIET, replace(OVER, good=7900), AFTER), "of the peak"),
        ((QUIET, replace(OVER, p99=2.1), AFTER), "p99 of the booked"),
        ((QUIET, replace(OVER, other={GIVEN_UP: 200}), AFTER), "at most one in a hundred"),
        ((QUIET, replace(OVER, other={500: 1}), AFTER), "all others are told 503"),
        ((QUIET, replace(OVER, alive_missed=1), AFTER), "/livez"),
        ((QUIET, OVER, replace(AFTER, recovered=5.1)), "all is as usual"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_each_promise_that_is_broken_is_found_alone(phases: tuple[Phase, ...], what: str) -> None:
    (found,) = broken(*phases)
    assert found.startswith(what)
