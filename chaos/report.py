"""Reports on the rounds: a line for each, and a table at the end."""

import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Final

from chaos.failovers import FAILOVERS
from chaos.faults import FAULTS
from chaos.rig import Kind
from chaos.rounds import Round

BEHIND: Final[Mapping[Kind, str]] = {
    "cluster": "HAProxy",
    "hosts": "hosts in the URL",
    "pooled": "PgBouncer and HAProxy",
}
"""Ways from the service to the primary of a cluster."""
OF_GAPS: Final = """
Seconds, median / maximum. The gap is the longest time without a success. It is *the cluster's*
until a probe of the tool commits on it, and *ours* from then until a request of a client succeeds,
which may take one second. *Unknown at first* are requests with a response that left the outcome
open, or with none. Clients resend them with the same key: *known after* is when the last outcome
was known, after the probe, which may take five seconds. Two replicas serve behind
`deploy/haproxy.cfg`. Each round also checks that all acknowledged bookings came to a webhook, and
that sessions, limits, live streams and the audit hold for both replicas.
"""


def say(line: str) -> None:
    """Print a line without buffering."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _seconds(rounds: Sequence[Round]) -> str:
    return _spread([each.healthy_after for each in rounds])


def _spread(times: Sequence[float]) -> str:
    return f"{median(times):.2f} / {max(times):.2f}" if times else "-"


def table(rounds: Sequence[Round]) -> list[str]:
    """Return a table by fault."""
    lines = [
        (
            "| fault | rounds | alone | operations | unknown | failed rounds"
            " | healthy after, alone (median / max s) | in combination (median / max s) |"
        ),
        "|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for name, does in FAULTS.items():
        of_it = [each for each in rounds if name in each.faults]
        if not of_it:
            continue
        alone = [each for each in of_it if len(each.faults) == 1]
        together = [each for each in of_it if len(each.faults) > 1]
        what = (does.__doc__ or name).split(".")[0].split(";")[0]
        lines.append(
            f"| `{name}`: {what[0].lower() + what[1:]} | {len(of_it)} | {len(alone)}"
            f" | {sum(len(each.operations) for each in of_it):,}"
            f" | {sum(each.unknown for each in of_it):,}"
            f" | {sum(bool(each.wrong) for each in of_it)}"
            f" | {_seconds(alone)} | {_seconds(together)} |"
        )
    return lines


def gaps(rounds: Sequence[Round]) -> list[str]:
    """Return a table of failovers by fault."""
    lines = [
        (
            "| fault | way to the primary | rounds | operations | gap | of it the cluster's"
            " | of it ours | unknown at first | known after | wrong |"
        ),
        "|---|---|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for name, does in FAILOVERS.items():
        for kind, behind in BEHIND.items():
            of_it = [each for each in rounds if name in each.faults and each.kind == kind]
            if not of_it:
                continue
            what = (does.__doc__ or name).split(".")[0].split(";")[0]
            found = [each.recovery for each in of_it if each.recovery is not None]
            lines.append(
                f"| `{name}`: {what[0].lower() + what[1:]} | {behind} | {len(of_it)}"
                f" | {sum(len(each.operations) for each in of_it):,}"
                f" | {_spread([each.gap for each in found])}"
                f" | {_spread([each.clusters for each in found])}"
                f" | {_spread([each.ours for each in found])}"
                f" | {sum(len(each.unsure) for each in of_it):,}"
                f" | {max((each.settled for each in found), default=0):.2f}"
                f" | {sum(bool(each.wrong) for each in of_it)} |"
            )
    return lines


def _places(kinds: Counter[Kind]) -> str:
    if kinds.keys() & BEHIND.keys():
        return ", ".join(f"{kinds[kind]} by way of {name}" for kind, name in BEHIND.items())
    return (
        f"{kinds['embedded']} on the embedded database,"
        f" {kinds['proxied']} on one behind the harness's proxy, {kinds['earlier']} the same with"
        " the previous version"
    )


def write(path: Path, rounds: Sequence[Round], *, seed: str) -> None:
    """Write the table and the totals to a file."""
    failed = [each for each in rounds if each.wrong]
    kinds = Counter(each.kind for each in rounds)
    loads = [each.load for each in rounds] or [0.0]
    summary = (
        f"{len(rounds)} rounds (seed {seed}; {_places(kinds)}),"
        f" {sum(len(r.operations) for r in rounds):,} operations,"
        f" {sum(r.unknown for r in rounds):,} of them of unknown outcome,"
        f" {sum(r.sightings for r in rounds):,} reads of the rows under load,"
        f" {sum(r.keyed for r in rounds)} rounds with `Idempotency-Key`, in which"
        f" {sum(r.replays for r in rounds):,} requests were resent long after their response."
        f" The machine's load was {median(loads):.1f} (median) to {max(loads):.1f}."
        f" Failed: {len(failed)}."
    )
    is_of_cluster = any(each.is_of_cluster for each in rounds)
    lines = [
        "# Failovers of a cluster under load" if is_of_cluster else "# Faults under load",
        "",
        summary,
        *(OF_GAPS.splitlines() if is_of_cluster else ()),
        "",
        *(gaps(rounds) if is_of_cluster else table(rounds)),
        "",
        *(
            f"- round {each.number} (seed {each.seed}): {each.faults[0]}: {each.wrong[0]}"
            for each in failed
        ),
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines).rstrip() + "\n")
    say("\n".join(["", *lines]))
