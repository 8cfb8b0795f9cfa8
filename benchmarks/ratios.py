"""Computes ratios from the rounds of both sides, and a table of them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any, Final

from benchmarks import report
from benchmarks.rounds import Round

NOTE: Final = """\
Above 1, the current code is better. The ratio is one of medians. "By round" shows the lowest and
the highest ratio of one round, and the number of rounds in which it was above 1. Beside each median
are the lowest and the highest round of that side. Times in milliseconds.
"""


@dataclass(frozen=True, slots=True)
class Spread:
    """A median with the lowest and the highest round."""

    median: float
    lowest: float
    highest: float

    @classmethod
    def of(cls, values: Iterable[float]) -> "Spread":
        """Return the spread of some values."""
        found = list(values)
        return cls(median(found), min(found), max(found))

    def told(self, digits: int) -> str:
        """Return the cell of a table."""
        low, middle, high = (
            f"{value:,.{digits}f}" for value in (self.lowest, self.median, self.highest)
        )
        return f"{middle} ({low} to {high})"


@dataclass(frozen=True, slots=True)
class Figures:
    """Measurements of one side's rounds. Times in milliseconds."""

    per_second: Spread
    p50: Spread
    p99: Spread

    @classmethod
    def of(cls, rounds: Sequence[Round]) -> "Figures":
        """Return the figures of some rounds."""
        return cls(
            Spread.of(each.per_second for each in rounds),
            Spread.of(each.p50 for each in rounds),
            Spread.of(each.p99 for each in rounds),
        )


@dataclass(frozen=True, slots=True)
class Comparison:
    """Both sides under one load. Above 1, the current code is better."""

    load: str
    compared: str
    ratio: float
    by_round: list[float]
    now: Figures
    before: Figures

    @property
    def above(self) -> int:
        """Number of rounds in which the current code was better."""
        return sum(each > 1 for each in self.by_round)

    def row(self, name: str) -> list[str]:
        """Return the row of the table."""
        return [
            f"`{name}`: {self.load}",
            self.compared,
            f"{self.ratio:.3f}",
            f"{min(self.by_round):.2f} to {max(self.by_round):.2f}",
            f"{self.above} of {len(self.by_round)}",
            self.now.per_second.told(0),
            self.before.per_second.told(0),
            self.now.p50.told(2),
            self.before.p50.told(2),
            self.now.p99.told(2),
            self.before.p99.told(2),
        ]


def compare(
    load: str, now: Sequence[Round], before: Sequence[Round], *, by_latency: bool
) -> Comparison:
    """Compare the rounds of both sides by requests per second, or by the p50 of the latency."""
    ours, theirs = Figures.of(now), Figures.of(before)
    pairs = list(zip(now, before, strict=True))
    if by_latency:
        ratio = theirs.p50.median / ours.p50.median
        by_round = [old.p50 / new.p50 for new, old in pairs]
        return Comparison(load, "p50, before / now", ratio, by_round, ours, theirs)
    ratio = ours.per_second.median / theirs.per_second.median
    by_round = [new.per_second / old.per_second for new, old in pairs]
    return Comparison(load, "requests/s, now / before", ratio, by_round, ours, theirs)


@dataclass(frozen=True, slots=True)
class Outcome:
    """The results of a comparison."""

    commits: Mapping[str, str]
    """The commit of each side."""
    options: Mapping[str, Any]
    postgres: Mapping[str, str]
    audits: Mapping[str, str]
    """The output of each side's own recount."""
    comparisons: Mapping[str, Comparison]
    rounds: Mapping[str, Mapping[str, Sequence[Round]]]
    """By scenario and side."""

    def document(self, around: Mapping[str, Any]) -> dict[str, Any]:
        """Return the results for JSON."""
        return {**around, **asdict(self)}

    def markdown(self, around: Mapping[str, Any]) -> str:
        """Return the results as a page."""
        head = ["scenario", "compared", "ratio", "by round", "above 1 in"]
        for what in ("requests/s", "p50", "p99"):
            head += [f"{what} now", f"{what} before"]
        counting = "on, on both sides" if self.options["metrics"] else "off, on both sides"
        return (
            "# Comparison of two commits\n\n"
            f"{around['when']}\n\n"
            f"- Now: {self.commits['now']}\n"
            f"- Before: {self.commits['before']}, with the same installed packages\n"
            f"{report.facts(around, self.postgres)}"
            f"- Rounds: {self.options['rounds']} of {self.options['seconds']} s each on each side,"
            " in turn; the first side changes from round to round\n"
            f"- Metrics: {counting}\n"
            + "".join(f"- Recount of {name}: {said}\n" for name, said in self.audits.items())
            + f"\n{NOTE}\n"
            + report.table(head, [each.row(name) for name, each in self.comparisons.items()])
        )
