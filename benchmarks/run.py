"""Run the benchmarks: `python -m benchmarks.run --help`."""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from benchmarks import report, stampede
from benchmarks.arena import Arena, arena
from benchmarks.console import say, status_of
from benchmarks.ground import CROWD, PEOPLE
from benchmarks.scenarios import CONTESTS, MILLION, Task, memory

RESULTS: Final = Path(__file__).with_name("results") / "latest"
ALONE: Final = ("stampede", "memory")
EVERYTHING: Final = (*CONTESTS, *ALONE)
SHORT: Final = (
    *("hot", "events", "mix", "read", "latency", "ceiling", "growth"),
    *ALONE,
)


@dataclass(frozen=True, slots=True)
class Options:
    """Options of a run."""

    scenarios: Sequence[str]
    contenders: Sequence[str]
    full: bool
    rounds: int
    seconds: int
    people: int
    stem: Path | None


def _options(arguments: Sequence[str] | None = None) -> Options:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.run",
        description="Compare the service with other ways to book, and check counters and rows.",
        epilog="Without scenarios, a run measures all of its scenarios and writes the results to"
        f" {RESULTS.parent.name}/. With scenarios, results are written only if --out is given.",
    )
    parser.add_argument("scenarios", nargs="*", metavar="scenario", help=", ".join(EVERYTHING))
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--quick", action="store_true", help="under five minutes (the default)")
    length.add_argument("--full", action="store_true", help="every scenario, more rounds")
    parser.add_argument("--rounds", type=int, help="rounds of each contest")
    parser.add_argument("--seconds", type=int, help="length of a round")
    parser.add_argument(
        "--people",
        type=int,
        default=PEOPLE,
        help=f"people with a token; workers cache {PEOPLE:,}, but not {3 * PEOPLE:,}",
    )
    parser.add_argument("--contenders", default="", help="only these, separated by commas")
    parser.add_argument("--out", type=Path, help="file to write, without a suffix")
    given = parser.parse_args(arguments)
    if unknown := set(given.scenarios) - set(EVERYTHING):
        parser.error(f"no such scenario: {', '.join(sorted(unknown))}")
    if not PEOPLE <= given.people <= CROWD:
        parser.error(f"--people must be from {PEOPLE} to {CROWD}")
    return Options(
        scenarios=given.scenarios or (EVERYTHING if given.full else SHORT),
        contenders=[name for name in given.contenders.split(",") if name],
        full=given.full,
        rounds=given.rounds or (7 if given.full else 3),
        seconds=given.seconds or (5 if given.full else 2),
        people=given.people,
        stem=given.out or (None if given.scenarios else RESULTS),
    )


def _compete(here: Arena, options: Options, record: report.Record) -> None:
    """Run all contests, interleaved: each runs once in every round, in a changing order."""
    tasks: dict[str, Task] = {}
    for name in options.scenarios:
        if name in CONTESTS:
            say(f"setting up {name}")
            for task in CONTESTS[name](here, full=options.full):
                if not options.contenders or task[0].split(",")[0] in options.contenders:
                    tasks[task[0]] = task
    here.ground().settle()
    queue = list(tasks.values())
    for number in range(options.rounds):
        for turn, (key, run) in enumerate(queue, 1):
            done = run(options.seconds)
            record.rounds.setdefault(key, []).append(done)
            say(
                f"round {number + 1}/{options.rounds} {turn:>2}/{len(queue)}"
                f" {key:<72} {done.per_second:>9,.0f}/s"
                f"  p50 {done.p50:7.2f} ms  p99 {done.p99:7.2f} ms"
                + (f"  refused {done.refused}" if done.refused else "")
            )
        # So that no contest always follows the same one.
        queue = queue[len(queue) // 2 :] + queue[: len(queue) // 2]
    record.rounds = {key: record.rounds[key] for key in tasks}


def _stampede(here: Arena, options: Options, record: report.Record) -> None:
    names = ("service", "noop", "rowlock") if options.full else ("service",)
    for _ in range(3 if options.full else 1):
        for name in names:
            say(f"stampede on {name}")
            with here.fresh(name) as server:
                done = stampede.run(server, here.ground(), here.people, here.folder)
            record.stampedes.append(done)
            say(
                f"{done.people:,} people, {done.places:,} places:"
                f" all responses after {done.everybody:.2f} s"
            )


def _run(options: Options) -> report.Record:
    with arena(options.people) as here:
        record = report.Record(
            {
                "scenarios": list(options.scenarios),
                "rounds": options.rounds,
                "seconds": options.seconds,
                "people": options.people,
            },
            here.ground().settings(),
        )
        _compete(here, options, record)
        if "stampede" in options.scenarios:
            _stampede(here, options, record)
        if "memory" in options.scenarios:
            say("measuring the memory of workers")
            seconds = 600 if options.full else 20
            record.memory = memory(here, MILLION, seconds, say)
        return record


def _measure(options: Options) -> None:
    """Run, print the tables and write the results."""
    record = _run(options)
    around = report.surroundings()
    print(report.markdown(record, around))
    if options.stem is not None:
        for path in report.write(record, around, options.stem):
            say(f"wrote {path}")


if __name__ == "__main__":
    sys.exit(status_of(partial(_measure, _options())))
