"""Requests, their times and their responses: the record that the checker checks."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import inf
from pathlib import Path
from typing import Any, Literal

import asyncpg

Verb = Literal["book", "cancel", "read"]


@dataclass(slots=True)
class Operation:
    """One request of one person at one event, or one read of the event.

    Times are seconds of one monotonic clock. `end` is infinite and `answer` None while the outcome
    is unknown: it may have taken effect, may do so later, or never. An answer has the `status` and
    the members of the body that the checker needs: `id`, `position`, `promoted`, `code`; for a read
    `available` and `waiting`.
    """

    verb: Verb
    event: int
    user: str
    start: float
    end: float = inf
    answer: dict[str, Any] | None = None

    @property
    def is_known(self) -> bool:
        """Whether its outcome is known."""
        return self.answer is not None


@dataclass(frozen=True, slots=True)
class Row:
    """A booking in the database."""

    id: str
    event: int
    user: str
    status: str


@dataclass(frozen=True, slots=True)
class Books:
    """An event in the database at the end, with its bookings in the order of `seq`."""

    event: int
    total: int
    available: int
    waiting: int
    rows: Sequence[Row]


async def read_books(connection: "asyncpg.Connection[asyncpg.Record]", event: int) -> Books:
    """Return a snapshot of an event with its bookings. Raises LookupError."""
    async with connection.transaction(isolation="repeatable_read"):
        found = await connection.fetchrow(
            "SELECT id, total_tickets, available_tickets, waiting_list_count"
            " FROM events WHERE id = $1",
            event,
        )
        rows = await connection.fetch(
            "SELECT id::text, event_id, user_id::text, status FROM bookings"
            " WHERE event_id = $1 ORDER BY seq",
            event,
        )
    if found is None:
        raise LookupError(event)
    id_, total, available, waiting = found.values()
    return Books(id_, total, available, waiting, [Row(*row.values()) for row in rows])


def save(path: Path, operations: Sequence[Operation], books: Sequence[Books], **more: Any) -> None:  # noqa: ANN401 - JSON
    """Write a history to a file, so that it can be checked again."""
    document = {
        **more,
        "books": [asdict(each) for each in books],
        # JSON has no infinity.
        "operations": [{**asdict(o), "end": o.end if o.end != inf else None} for o in operations],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=1))


def load(path: Path) -> tuple[list[Operation], list[Books]]:
    """Read a history that `save` wrote."""
    document = json.loads(path.read_text())
    operations = [
        Operation(**{**each, "end": inf if each["end"] is None else each["end"]})
        for each in document["operations"]
    ]
    books = [
        Books(**{**each, "rows": [Row(**row) for row in each["rows"]]})
        for each in document["books"]
    ]
    return operations, books
