"""Compare the checkout with an earlier commit: `python -m benchmarks.compare --help`."""

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from benchmarks import ratios, report
from benchmarks.arena import cluster
from benchmarks.console import say, status_of
from benchmarks.ground import PEOPLE, CannotRunError
from benchmarks.rounds import Contest, Driver, Round
from benchmarks.scenarios import EVENTS, HOT, MIX, READ, SPREAD
from benchmarks.servers import ROOT
from benchmarks.sides import Side, git, side, worktree

NOW: Final = "now"
RESULTS: Final = Path(__file__).with_name("results") / "compare"


@dataclass(frozen=True, slots=True)
class Scenario:
    """A load for both sides."""

    load: str
    mode: str = "book"
    connections: int = 256
    at_once: int = 1
    """Events that are booked at the same time."""
    by_latency: bool = False
    """Whether the p50 is compared instead of the requests per second."""
    types: int = 0
    """Ticket types of an event of the current code. The earlier code has the load without them."""
    quantity: int = 1
    """Places of a booking of the current code, if its events have types."""

    @property
    def name(self) -> str:
        """The load and its connections, for a reader."""
        return f"{self.load}, {self.connections} connection{'s' * (self.connections > 1)}"

    def contest(self, on: Side) -> Contest:
        """Return the contest of one side."""
        types = self.types if on.code.name == NOW else 0
        return Contest(
            on.code.name,
            self.load,
            on.server,
            on.ground,
            self._mode(types),
            self.connections,
            self.at_once,
            types=types,
            quantity=self.quantity,
        )

    def _mode(self, types: int) -> str:
        if self.mode == "holds" and not types:
            return "book"
        return "types" if types and self.mode == "book" else self.mode


SCENARIOS: Final = {
    "hot": Scenario(HOT),
    "events": Scenario(SPREAD, at_once=EVENTS),
    "mix": Scenario(MIX, mode="mix", at_once=EVENTS),
    "read": Scenario(READ, mode="read"),
    "lone": Scenario(HOT, connections=1, by_latency=True),
    "types": Scenario("hot event with two ticket types and a shared quota", types=2),
    "four": Scenario("the same, four places a booking", types=2, quantity=4),
    "holds": Scenario(
        "hold and confirm of two ticket types, two requests for a booking", mode="holds", types=2
    ),
    "read20": Scenario("read an event with 20 ticket types", mode="read", types=20),
}


@dataclass(frozen=True, slots=True)
class Options:
    """Options of a comparison."""

    base: str
    scenarios: Sequence[str]
    rounds: int
    seconds: int
    metrics: bool
    stem: Path


def _positive(text: str) -> int:
    if (number := int(text)) < 1:
        raise ValueError(text)
    return number


def _options(arguments: Sequence[str] | None = None) -> Options:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.compare",
        description="Measure the checkout and an earlier commit in turn, and compare"
        " every acknowledged booking with its row. The status is 1 if any differs.",
    )
    names = ", ".join(SCENARIOS)
    parser.add_argument("scenarios", nargs="*", metavar="scenario", help=f"{names} (all)")
    parser.add_argument("--base", required=True, metavar="REV", help="the earlier commit")
    parser.add_argument("--rounds", type=_positive, default=6, help="rounds of each scenario (6)")
    parser.add_argument("--seconds", type=_positive, default=3, help="length of a round (3)")
    parser.add_argument("--metrics", action="store_true", help="have both sides count metrics")
    parser.add_argument("--out", type=Path, default=RESULTS, help="where to write, no suffix")
    given = parser.parse_args(arguments)
    if unknown := set(given.scenarios) - set(SCENARIOS):
        parser.error(f"no such scenario: {', '.join(sorted(unknown))}; there are {names}")
    return Options(
        base=given.base,
        scenarios=list(dict.fromkeys(given.scenarios)) or list(SCENARIOS),
        rounds=given.rounds,
        seconds=given.seconds,
        metrics=given.metrics,
        stem=given.out,
    )


def _commits(base: str) -> dict[str, str]:
    try:
        commit = git("rev-parse", "--verify", "--end-of-options", f"{base}^{{commit}}")
    except CannotRunError as error:
        raise CannotRunError(f"--base {base} is not a commit ({error})") from error
    # The service only, because docs and results do not affect the measurement.
    changes = git("status", "--porcelain", "--", "src", "alembic")
    changed = ", with changes that are not committed" if changes else ""
    return {"now": git("rev-parse", "HEAD") + changed, "before": commit}


Rounds = dict[str, dict[str, list[Round]]]
"""By scenario and side."""


def _take_turns(options: Options, driver: Driver, sides: Sequence[Side]) -> Rounds:
    """Run all rounds: both sides one after the other, and each is first in every second round."""
    done: Rounds = {name: {each.code.name: [] for each in sides} for name in options.scenarios}
    for number in range(options.rounds):
        for name in options.scenarios:
            for each in sides if number % 2 == 0 else reversed(sides):
                found = driver.run(SCENARIOS[name].contest(each), options.seconds)
                done[name][each.code.name].append(found)
                say(
                    f"round {number + 1}/{options.rounds} {name:<6} {each.code.name:<6}"
                    f" {found.per_second:>9,.0f}/s  p50 {found.p50:7.2f} ms"
                    f"  p99 {found.p99:7.2f} ms"
                )
    return done


def _run(options: Options, commits: Mapping[str, str]) -> ratios.Outcome:
    settings = {"TICKETING_METRICS_PORT": "0"} if options.metrics else {}
    with cluster() as here, worktree(commits["before"], here.folder / "before") as tree:
        driver = here.driver(PEOPLE)
        say("setting up both sides")
        with (
            side(NOW, ROOT, here, driver, **settings) as now,
            side("before", tree, here, driver, **settings) as before,
        ):
            rounds = _take_turns(options, driver, (now, before))
            audits = {each.code.name: each.code.audit() for each in (now, before)}
            postgres = now.ground.settings()
    comparisons = {
        name: ratios.compare(
            SCENARIOS[name].name,
            found["now"],
            found["before"],
            by_latency=SCENARIOS[name].by_latency,
        )
        for name, found in rounds.items()
    }
    about = {
        "base": options.base,
        "rounds": options.rounds,
        "seconds": options.seconds,
        "metrics": options.metrics,
        "people": PEOPLE,
    }
    return ratios.Outcome(commits, about, postgres, audits, comparisons, rounds)


def _compare(options: Options) -> None:
    """Measure, print the table and write the results."""
    outcome = _run(options, _commits(options.base))
    around = report.surroundings()
    text = outcome.markdown(around)
    print(text)
    for path in report.save(options.stem, text, outcome.document(around)):
        say(f"wrote {path}")


if __name__ == "__main__":
    sys.exit(status_of(partial(_compare, _options())))
