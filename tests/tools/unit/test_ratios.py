"""The figures of `make compare`, from rounds of both sides."""

from benchmarks.ratios import Comparison, Spread, compare
from benchmarks.rounds import Round


def rounds(*per_second: float) -> list[Round]:
    """Return rounds of a client that waits for each response."""
    return [
        Round("", rate, p50=1000 / rate, p90=0, p99=2000 / rate, worst=0) for rate in per_second
    ]


def compared(*, by_latency: bool) -> Comparison:
    return compare("", rounds(200, 400, 500), rounds(100, 100, 625), by_latency=by_latency)


def test_a_spread_is_the_median_with_the_lowest_and_the_highest() -> None:
    assert Spread.of([3, 1, 2]) == Spread(2, 1, 3)


def test_the_ratio_is_of_medians_and_above_1_if_more_is_done_now() -> None:
    found = compared(by_latency=False)
    assert found.ratio == 400 / 100
    assert found.by_round == [2, 4, 0.8]
    assert found.above == 2


def test_a_comparison_by_latency_is_above_1_if_a_response_takes_less_now() -> None:
    found = compared(by_latency=True)
    assert found.ratio == 10 / 2.5
    assert found.by_round == [2, 4, 0.8]


def test_a_row_names_the_contest_and_both_sides() -> None:
    row = compared(by_latency=True).row("lone")
    assert row[1:5] == ["p50, before / now", "4.000", "0.80 to 4.00", "2 of 3"]
    assert row[5:7] == ["400 (200 to 500)", "100 (100 to 625)"]
