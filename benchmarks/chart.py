"""A chart of the contests: one SVG that is readable on light and dark pages."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Final

from benchmarks import pgbench
from benchmarks.measures import Summary
from benchmarks.rounds import contest_key
from benchmarks.scenarios import CLIENTS, HOT, MILLION, MIX, READ, SPREAD, loaded_with

WIDTH: Final = 760
LABELS: Final = 272
"""Width of the column of labels."""
BARS: Final = 370
"""Length of the longest bar."""
ROW: Final = 26
STYLE: Final = """\
text{font:13px system-ui,-apple-system,"Segoe UI",sans-serif;fill:#1f2933}
.title{font-size:17px;font-weight:600}.head{font-weight:600}.small{font-size:11px;fill:#66727f}
.label{text-anchor:end}.ours{fill:#0f766e}.theirs{fill:#94a3b8}.spread{stroke:#1f2933;opacity:.55}
@media(prefers-color-scheme:dark){text{fill:#e5e9ee}.small{fill:#9aa7b4}.ours{fill:#2dd4bf}
.theirs{fill:#64748b}.spread{stroke:#e5e9ee}}
"""

Line = tuple[str, str]
"""A label and the contest that it names."""

PANELS: Final[Sequence[tuple[str, Sequence[Line]]]] = (
    (
        "One hot event, 256 connections: bookings per second",
        (
            ("ticketing", contest_key("service", HOT)),
            ("row lock per request", contest_key("rowlock", HOT)),
            ("compare-and-swap per request", contest_key("cas", HOT)),
            ("the same server without a database", contest_key("noop", HOT)),
            ("a bare ASGI response", contest_key("bare", HOT)),
            ("PostgreSQL alone, one per transaction", pgbench.contest_name(CLIENTS, 1)),
        ),
    ),
    (
        "Other loads, 256 connections: requests per second",
        (
            ("100 events", contest_key("service", SPREAD)),
            ("70% reads, 25% books, 5% cancels", contest_key("service", MIX)),
            ("reads of one event", contest_key("service", READ)),
        ),
    ),
    (
        "An event that has bookings already: bookings per second",
        tuple(
            (f"{count:,} bookings", contest_key("service", loaded_with(count)))
            for count in (0, 100_000, MILLION)
        ),
    ),
    (
        "One hot event, by connections: bookings per second",
        tuple(
            (f"{count:,} connection{'s' * (count > 1)}", contest_key("service", HOT, count))
            for count in (1, 64, 256, 1024)
        ),
    ),
    (
        "One hot event, by workers: bookings per second",
        tuple(
            (f"{count} worker{'s' * (count > 1)}", contest_key("service", HOT, workers=count))
            for count in (1, 2, 4)
        ),
    ),
)
LEAST: Final = 2
"""Bars that a panel needs at least, because one bar compares nothing."""


def chart(found: Mapping[str, Summary], machine: str) -> str:
    """Draw the measurements. Panels without contests are left out."""
    body = [_text(24, 32, "ticketing", "title"), _text(24, 50, f"Medians. {machine}.", "small")]
    y = 66
    for title, lines in PANELS:
        bars = [(label, found[key], "service" in key) for label, key in lines if key in found]
        if len(bars) < LEAST:
            continue
        y += 22
        body.append(_text(24, y, title, "head"))
        y += 10
        longest = max(each.highest for _, each, _ in bars)
        for label, each, is_ours in bars:
            body.append(_bar(y, label, each, longest, is_ours=is_ours))
            y += ROW
        y += 12
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y + 8}" width="{WIDTH}"'
        f' role="img" aria-label="Benchmarks of ticketing">\n<style>\n{STYLE}</style>\n'
        + "\n".join(body)
        + "\n</svg>\n"
    )


def _text(x: float, y: float, text: str, style: str) -> str:
    return f'<text x="{x:.0f}" y="{y:.0f}" class="{style}">{escape(text)}</text>'


def _bar(y: int, label: str, each: Summary, longest: float, *, is_ours: bool) -> str:
    left, scale = LABELS + 10, BARS / longest
    length = max(1.5, each.per_second * scale)
    low, high = left + each.lowest * scale, left + each.highest * scale
    middle = y + 9
    style = "ours" if is_ours else "theirs"
    return (
        _text(LABELS, y + 14, label, "label")
        + f'<rect x="{left}" y="{y}" width="{length:.1f}" height="18" rx="3" class="{style}"/>'
        + f'<path d="M{low:.1f} {middle}H{high:.1f}" class="spread"/>'
        + _text(max(left + length, high) + 8, y + 14, f"{each.per_second:,.0f}", "head")
    )
