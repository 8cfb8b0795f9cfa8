"""Requests, their times and their responses: the record that the checker checks."""

import json
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import inf
from pathlib import Path
from typing import Any, Final, Literal

import asyncpg

Verb = Literal["book", "hold", "confirm", "extend", "release", "cancel", "read"]


Asked = tuple[tuple[int | None, int], ...]
"""Ids of ticket types, None for the only one, each with a quantity."""
ONE_PLACE: Final[Asked] = ((None, 1),)

NUMBERS: Final = (
    *("requested", "available", "ticketTypeId", "quotaId", "capacity", "limit", "has"),
    *("state", "reason"),
)
"""The members of refusals that the checker compares."""
EPOCH: Final = time.time() - time.monotonic()
"""The time at which the clock of the operations was 0. The database uses this machine's clock."""


@dataclass(slots=True)
class Operation:
    """One request of one person at one event, or one read of the event.

    Times are seconds of one monotonic clock. `end` is infinite and `answer` None while the outcome
    is unknown: it may have taken effect, may do so later, or never. An answer has the `status` and
    the members of the body that the checker compares. In it, `became` is the status of the booking.
    The answer of a read has `available` and `waiting`. At an event with ticket types it also has
    `types`, with the id, available, taken and waiting of each, and `quotas`, with the id and
    available of each shared one, both by id.
    """

    verb: Verb
    event: int
    user: str
    start: float
    end: float = inf
    answer: dict[str, Any] | None = None
    lines: Asked = ONE_PLACE
    """The places to book."""
    has_code: bool = False
    """Whether a code came with them."""
    booking: str = ""
    """The id of the booking or hold; to cancel, empty for the person's only one."""
    until: float | None = None
    """The end of a hold that the event's team chose."""
    tickets: tuple[str, ...] = ()
    """The ids of its tickets to cancel; empty for all."""

    @property
    def is_known(self) -> bool:
        """Whether its outcome is known."""
        return self.answer is not None


@dataclass(frozen=True, slots=True)
class Ticket:
    """A ticket in the database."""

    id: str
    kind: int
    """The id of its type."""
    is_valid: bool = True


@dataclass(frozen=True, slots=True)
class Row:
    """A booking in the database."""

    id: str
    event: int
    user: str
    status: str
    quantity: int = 1
    kind: int | None = None
    """The id of its type; None for the first type, or for several."""
    tickets: tuple[Ticket, ...] = ()
    """None if it is one place of an event without further types."""
    places: tuple[int | None, ...] = ()
    """The types of the places of a hold, unless all are of one type."""
    ends: float | None = None
    """When a hold or an offer ends, or has ended."""


@dataclass(frozen=True, slots=True)
class Quota:
    """A capacity besides the event's own."""

    id: int
    capacity: int
    available: int
    shared: bool = True


@dataclass(frozen=True, slots=True)
class Kind:
    """A ticket type, with its counters if the event has them."""

    id: int
    draws: tuple[int, ...] = (0,)
    """The capacities that it draws from: 0 is the event's own, then come the quotas."""
    taken: int | None = None
    waiting: int | None = None


@dataclass(frozen=True, slots=True)
class Books:
    """An event in the database at the end, with its bookings in the order of `seq`."""

    event: int
    total: int
    available: int
    waiting: int
    rows: tuple[Row, ...]
    quotas: tuple[Quota, ...] = ()
    kinds: tuple[Kind, ...] = (Kind(0),)
    most: int = 1
    """How many active bookings a person may have."""
    offers: bool = False
    """Whether places that become free are offered to those who wait."""
    lag: float = 0.0
    """Seconds after the end of a hold in which a worker may not have noticed it."""


BOOKS: Final = """
    SELECT total_tickets, available_tickets, waiting_list_count, max_bookings_per_person,
        quota_capacity, quota_available, type_taken, type_waiting, waiting_list_mode = 'offer'
    FROM events WHERE id = $1
"""
QUOTAS: Final = "SELECT id, slot, name FROM quotas WHERE event_id = $1 ORDER BY slot"
KINDS: Final = "SELECT id, slot, quotas FROM ticket_types WHERE event_id = $1 ORDER BY slot"
ROWS: Final = """
    SELECT id::text, event_id AS event, user_id::text AS user, quantity, ticket_type_id AS kind,
        CASE WHEN status = 'cancelled' AND expires_at IS NOT NULL THEN 'expired' ELSE status END
            AS status,
        extract(epoch FROM expires_at)::float8 AS ends, places
    FROM bookings WHERE event_id = $1 ORDER BY seq
"""
TICKETS: Final = """
    SELECT booking_id::text, tickets.id::text, tickets.ticket_type_id, tickets.status = 'valid'
    FROM bookings JOIN tickets ON booking_id = bookings.id
    WHERE event_id = $1 ORDER BY booking_id, ordinal
"""


async def read_books(
    connection: "asyncpg.Connection[asyncpg.Record]", event: int, lag: float = 0.0
) -> Books:
    """Return a snapshot of an event with its bookings. Raises LookupError."""
    async with connection.transaction(isolation="repeatable_read"):
        found = await connection.fetchrow(BOOKS, event)
        quotas = await connection.fetch(QUOTAS, event)
        kinds = await connection.fetch(KINDS, event)
        rows = await connection.fetch(ROWS, event)
        tickets = defaultdict(list)
        for booking, *ticket in await connection.fetch(TICKETS, event):
            tickets[booking].append(Ticket(*ticket))
    if found is None:
        raise LookupError(event)
    total, available, waiting, most, capacity, left, taken, waits, offers = found.values()
    return Books(
        event,
        total,
        available,
        waiting,
        tuple(_row(row, tickets[row["id"]]) for row in rows),
        tuple(
            Quota(id_, capacity[slot], left[slot], name is not None) for id_, slot, name in quotas
        ),
        tuple(
            Kind(
                id_,
                (0, *sorted(each + 1 for each in drawn)),
                None if taken is None else taken[slot],
                None if waits is None else waits[slot],
            )
            for id_, slot, drawn in kinds
        ),
        most,
        offers,
        lag,
    )


def _row(row: asyncpg.Record, tickets: Sequence[Ticket]) -> Row:
    found = dict(row)
    places = json.loads(found.pop("places") or "[]")
    ends = found.pop("ends")
    return Row(
        **found,
        tickets=tuple(tickets),
        places=tuple(kind for kind, _ in places),
        ends=None if ends is None else ends - EPOCH,
    )


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
    operations = [_operation(**each) for each in document["operations"]]
    return operations, [_books(**each) for each in document["books"]]


def _operation(
    *,
    end: float | None,
    lines: Sequence[Sequence[int | None]] = ONE_PLACE,
    tickets: Sequence[str] = (),
    **more: Any,  # noqa: ANN401 - JSON
) -> Operation:
    asked = tuple((kind, quantity or 0) for kind, quantity in lines)
    found = Operation(**more, lines=asked, tickets=tuple(tickets))
    found.end = inf if end is None else end
    return found


def _books(
    *,
    rows: Sequence[dict[str, Any]],
    quotas: Sequence[dict[str, Any]],
    kinds: Sequence[dict[str, Any]],
    **more: Any,  # noqa: ANN401 - JSON
) -> Books:
    return Books(
        **more,
        rows=tuple(
            Row(
                **{
                    **row,
                    "tickets": tuple(Ticket(**each) for each in row["tickets"]),
                    "places": tuple(row.get("places", ())),
                }
            )
            for row in rows
        ),
        quotas=tuple(Quota(**each) for each in quotas),
        kinds=tuple(Kind(**{**each, "draws": tuple(each["draws"])}) for each in kinds),
    )
