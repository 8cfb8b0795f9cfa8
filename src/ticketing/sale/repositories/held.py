"""Bookings, their tickets, their codes and the heads of waiting lists, as decisions need them."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

from ticketing.db.statements import Driver, Statement
from ticketing.errors import BookingNotFound
from ticketing.sale.inventory.book import Book
from ticketing.sale.inventory.codes import Code
from ticketing.sale.inventory.hold import Confirm, Extend
from ticketing.sale.inventory.kinds import KINDS, InventoryRequest
from ticketing.sale.inventory.model import Booking, BookingStatus, Snapshot, Ticket
from ticketing.sale.inventory.offer import left
from ticketing.sale.rows import BOOKING, booking, code

DUE_AT_ONCE: Final = 300
"""How many holds and offers of an event one commit ends."""
NOTHING_DUE: Final[tuple[Sequence[Booking], datetime | None]] = ((), None)

# Statements reach every table by conditions for which every plan uses an index (`= ANY`, LATERAL
# with LIMIT), because a statement that was prepared while a table was empty keeps its plan.

ACTIVE: Final = Statement(
    f"""
    SELECT {BOOKING}
    FROM (
        SELECT DISTINCT * FROM unnest(CAST(:events AS bigint[]), CAST(:users AS uuid[]))
    ) AS asked(event_id, user_id)
    CROSS JOIN LATERAL (
        SELECT * FROM bookings
        WHERE bookings.event_id = asked.event_id AND bookings.user_id = asked.user_id
            AND status <> 'cancelled'
        ORDER BY slot OFFSET 0
    ) AS bookings
    """  # noqa: S608 - our own text
)

LINES: Final = Statement(
    f"""
    SELECT {BOOKING}
    FROM unnest(CAST(:events AS bigint[]), CAST(:lengths AS bigint[])) AS asked(event_id, length)
    CROSS JOIN LATERAL (
        SELECT * FROM bookings
        WHERE bookings.event_id = asked.event_id AND status = 'waiting'
        ORDER BY seq LIMIT asked.length
    ) AS bookings
    ORDER BY bookings.seq
    """  # noqa: S608 - our own text
)

TYPE_LINES: Final = Statement(
    f"""
    SELECT {BOOKING}
    FROM unnest(CAST(:events AS bigint[]), CAST(:types AS bigint[]), CAST(:lengths AS bigint[]))
        AS asked(event_id, type_id, length)
    CROSS JOIN LATERAL (
        SELECT * FROM bookings
        WHERE bookings.event_id = asked.event_id AND status = 'waiting'
            AND ticket_type_id = asked.type_id
        ORDER BY seq LIMIT asked.length
    ) AS bookings
    ORDER BY bookings.seq
    """  # noqa: S608 - our own text
)

# As many that nobody may pass, and all before them: groups whose patience is over.
PASSED_LINES: Final = Statement(
    f"""
    SELECT {BOOKING}
    FROM unnest(CAST(:events AS bigint[]), CAST(:types AS bigint[]), CAST(:lengths AS bigint[]))
        AS asked(event_id, type_id, length)
    LEFT JOIN LATERAL (
        SELECT seq FROM bookings
        WHERE bookings.event_id = asked.event_id AND status = 'waiting'
            AND ticket_type_id = asked.type_id
            AND coalesce(expires_at > CAST(:at AS timestamptz), true)
        ORDER BY seq OFFSET asked.length - 1 LIMIT 1
    ) AS last ON true
    CROSS JOIN LATERAL (
        SELECT * FROM bookings
        WHERE bookings.event_id = asked.event_id AND status = 'waiting'
            AND ticket_type_id = asked.type_id
            AND seq <= coalesce(last.seq, 9223372036854775807)
        OFFSET 0
    ) AS bookings
    ORDER BY bookings.seq
    """  # noqa: S608 - our own text
)

DUE: Final = Statement(
    f"""
    SELECT {BOOKING}
    FROM unnest(CAST(:events AS bigint[])) AS asked(event_id)
    CROSS JOIN LATERAL (
        SELECT * FROM bookings
        WHERE bookings.event_id = asked.event_id AND expires_at IS NOT NULL
            AND status IN ('held', 'offered')
        ORDER BY expires_at LIMIT :length
    ) AS bookings
    ORDER BY bookings.expires_at
    """  # noqa: S608 - our own text
)

# One statement, so that the tickets are those of the booking at the same moment.
TICKETS: Final = Statement(
    f"""
    SELECT {BOOKING}, tickets.id AS ticket_id, tickets.ticket_type_id AS ticket_kind, ordinal,
        tickets.amount AS ticket_amount, tickets.status AS ticket_status, tax
    FROM unnest(CAST(:bookings AS uuid[])) AS asked(id)
    CROSS JOIN LATERAL (
        SELECT * FROM bookings WHERE bookings.id = asked.id OFFSET 0
    ) AS bookings
    CROSS JOIN LATERAL (
        SELECT * FROM tickets WHERE booking_id = asked.id ORDER BY ordinal OFFSET 0
    ) AS tickets
    ORDER BY asked.id, ordinal
    """  # noqa: S608 - our own text
)

NAMED: Final = Statement(
    f"""
    SELECT {BOOKING} FROM unnest(CAST(:bookings AS uuid[])) AS asked(id)
    CROSS JOIN LATERAL (SELECT * FROM bookings WHERE bookings.id = asked.id OFFSET 0) AS bookings
    """  # noqa: S608 - our own text
)
CODES: Final = Statement(
    """
    SELECT codes.* FROM unnest(CAST(:events AS bigint[]), CAST(:codes AS text[]))
        AS asked(event_id, folded)
    CROSS JOIN LATERAL (
        SELECT * FROM codes WHERE codes.folded = asked.folded OFFSET 0
    ) AS codes
    WHERE codes.event_id = asked.event_id
    """
)
CODES_BY_ID: Final = Statement("SELECT * FROM codes WHERE id = ANY(CAST(:ids AS bigint[]))")
BY_ID: Final = Statement(f"SELECT {BOOKING} FROM bookings WHERE id = :booking")  # noqa: S608
LAST_CANCELLED: Final = Statement(
    f"""
    SELECT {BOOKING} FROM bookings
    WHERE event_id = :event AND user_id = :user AND status = 'cancelled' AND expires_at IS NULL
    ORDER BY seq DESC LIMIT 1
    """  # noqa: S608 - our own text
)


async def read(connection: Driver, booking_id: UUID) -> Booking:
    """Return the booking with its tickets. Raises BookingNotFound."""
    rows = await BY_ID.fetch(connection, booking=booking_id)
    if not rows:
        raise BookingNotFound
    found = booking(rows[0])
    if not found.has_tickets:
        return found
    # One that waits has none yet.
    return (await _with_tickets(connection, [found])).get(found.id, found)


async def read_active(
    connection: Driver,
    known: Mapping[int, Snapshot],
    requests: Mapping[int, Sequence[InventoryRequest]],
    asking: Iterable[InventoryRequest],
) -> Mapping[int, Mapping[UUID, Sequence[Booking]]]:
    """Return the active bookings of the people of the requests in `asking`, by event and person.

    At events where people may have several bookings, all requests ask.
    """
    asked = list(asking)
    for event, before in known.items():
        if before.terms.had_several:
            asked += requests[event]
    active: dict[int, dict[UUID, tuple[Booking, ...]]] = defaultdict(dict)
    if not asked:
        return active
    people = {
        "events": [each.event_id for each in asked],
        "users": [each.user_id for each in asked],
    }
    found = [booking(row) for row in await ACTIVE.fetch(connection, **people)]
    with_tickets = [
        each for each in found if each.has_tickets and each.status is BookingStatus.BOOKED
    ]
    now = await _with_tickets(connection, with_tickets) if with_tickets else {}
    for each in found:
        held = now.get(each.id, each)
        if held.status.is_active:
            of_event = active[each.event_id]
            of_event[each.user_id] = (*of_event.get(each.user_id, ()), held)
    return active


async def _with_tickets(connection: Driver, bookings: Sequence[Booking]) -> Mapping[UUID, Booking]:
    """Return the bookings that have tickets, by id, as both are now."""
    found: dict[UUID, Booking] = {}
    for row in await TICKETS.fetch(connection, bookings=[each.id for each in bookings]):
        ticket = Ticket(
            row["ticket_id"],
            row["ticket_kind"],
            row["ordinal"],
            row["ticket_amount"],
            row["ticket_status"] == "valid",
            row["tax"] or 0,
        )
        held = found.get(row["id"]) or booking(row)
        found[held.id] = held._replace(tickets=(*held.tickets, ticket))
    return found


async def read_named(
    connection: Driver,
    requests: Mapping[int, Sequence[InventoryRequest]],
    active: Mapping[int, Mapping[UUID, Sequence[Booking]]],
) -> Mapping[UUID, Booking]:
    """Return the bookings that requests name and that are not active, by id."""
    wanted = [
        each.booking_id
        for event, asked in requests.items()
        for each in asked
        if isinstance(each, (Confirm, Extend))
        and all(held.id != each.booking_id for held in active[event].get(each.user_id, ()))
    ]
    return await read_several(connection, wanted) if wanted else {}


async def read_several(connection: Driver, ids: Sequence[UUID]) -> Mapping[UUID, Booking]:
    """Return these bookings without their tickets, by id."""
    return {row["id"]: booking(row) for row in await NAMED.fetch(connection, bookings=list(ids))}


async def read_codes(
    connection: Driver,
    requests: Mapping[int, Sequence[InventoryRequest]],
    active: Mapping[int, Mapping[UUID, Sequence[Booking]]],
    named: Mapping[UUID, Booking],
) -> Mapping[int, Sequence[Code]]:
    """Return the codes that requests name, or that the holds had which they confirm, by event."""
    wanted = {
        (each.event_id, each.code)
        for asked in requests.values()
        for each in asked
        if isinstance(each, Book) and each.code is not None
    }
    found: dict[int, dict[int, Code]] = defaultdict(dict)
    if wanted:
        events, codes = zip(*wanted, strict=True)
        for row in await CODES.fetch(connection, events=events, codes=codes):
            found[row["event_id"]][row["id"]] = code(row)
    # A hold that a request confirms may end in this very decision.
    confirmed = {
        each.booking_id
        for asked in requests.values()
        for each in asked
        if isinstance(each, Confirm)
    }
    ids: set[int] = set()
    if confirmed:
        held = [*named.values()]
        held += [each for people in active.values() for has in people.values() for each in has]
        ids = {each.code_id for each in held if each.code_id and each.id in confirmed}
    if ids:
        for row in await CODES_BY_ID.fetch(connection, ids=list(ids)):
            found[row["event_id"]][row["id"]] = code(row)
    return {event: list(codes.values()) for event, codes in found.items()}


async def read_due(
    connection: Driver,
    known: Mapping[int, Snapshot],
    at: datetime,
) -> Mapping[int, tuple[Sequence[Booking], datetime | None]]:
    """Return the holds and offers that have ended, by event, and the end of the next one.

    At most DUE_AT_ONCE of each event. If there are more, the end of the next one has passed too.
    """
    events = [
        event
        for event, before in known.items()
        if before.next_expiry is not None and before.next_expiry <= at
    ]
    if not events:
        return {}
    found: dict[int, list[Booking]] = defaultdict(list)
    # One more is read only to know when it ends.
    for row in await DUE.fetch(connection, events=events, length=DUE_AT_ONCE + 1):
        found[row["event_id"]].append(booking(row))
    due: dict[int, tuple[Sequence[Booking], datetime | None]] = {}
    for event in events:
        held = [each for each in found[event][:DUE_AT_ONCE] if _end(each) <= at]
        following = found[event][len(held) : len(held) + 1]
        due[event] = held, _end(following[0]) if following else None
    return due


def _end(held: Booking) -> datetime:
    if held.expires_at is None:
        raise ValueError("the booking has no end")
    return held.expires_at


async def read_lines(  # noqa: PLR0913, PLR0917 - all that was read before
    connection: Driver,
    known: Mapping[int, Snapshot],
    requests: Mapping[int, Sequence[InventoryRequest]],
    active: Mapping[int, Mapping[UUID, Sequence[Booking]]],
    due: Mapping[int, tuple[Sequence[Booking], datetime | None]],
    at: datetime,
) -> Mapping[int, Sequence[Booking]]:
    """Return the heads of the waiting lists, as far as the requests and the time may need them."""
    lengths: list[tuple[int, int]] = []
    of_types: list[tuple[int, int, int]] = []
    for event, before in known.items():
        if not before.waiting:
            continue
        freed = _may_free(requests[event], active[event])
        freed += sum(held.quantity for held in due.get(event, NOTHING_DUE)[0])
        if before.counters is not None:
            of_types += [(event, *each) for each in heads(before, freed)]
        elif freed:
            lengths.append((event, freed))
    lines: dict[int, list[Booking]] = defaultdict(list)
    if lengths:
        events, most = zip(*lengths, strict=True)
        for row in await LINES.fetch(connection, events=events, lengths=most):
            lines[row["event_id"]].append(booking(row))
    passes = any(each.terms.patience_minutes is not None for each in known.values())
    lines.update(await read_type_lines(connection, of_types, passes=passes, at=at))
    return lines


def heads(before: Snapshot, freed: int) -> Iterator[tuple[int, int]]:
    """Yield the id of each open type for which people wait, and how many of them to read.

    One more than can be promoted, because it may close capacities to those behind it.
    """
    counters = before.counters
    if counters is None or not before.available + freed:
        return
    available = (before.available, *counters.available)
    for each in before.offer.types.values():
        if counters.waiting[each.slot] and not each.closed:
            yield each.id, left(each.draws, available) + freed + 1


async def read_type_lines(
    connection: Driver, asked: Sequence[tuple[int, int, int]], *, passes: bool, at: datetime
) -> dict[int, list[Booking]]:
    """Return the heads of the waiting lists by event, in one order of all its types.

    `asked` has an event, one of its types, and a length. `passes` says that groups may be passed.
    """
    lines: dict[int, list[Booking]] = defaultdict(list)
    if asked:
        events, types, lengths = zip(*asked, strict=True)
        wanted: dict[str, object] = {"events": events, "types": types, "lengths": lengths}
        statement = PASSED_LINES if passes else TYPE_LINES
        if passes:
            wanted["at"] = at
        for row in await statement.fetch(connection, **wanted):
            lines[row["event_id"]].append(booking(row))
    return lines


def _may_free(
    requests: Sequence[InventoryRequest], active: Mapping[UUID, Sequence[Booking]]
) -> int:
    return sum(
        sum(booking.quantity for booking in active.get(each.user_id, ()))
        for each in requests
        if KINDS[type(each)].frees
    )


async def last_cancelled(connection: Driver, event_id: int, user_id: UUID) -> Booking:
    """Return the person's latest cancelled booking at the event. Raises BookingNotFound."""
    rows = await LAST_CANCELLED.fetch(connection, event=event_id, user=user_id)
    if not rows:
        raise BookingNotFound
    return booking(rows[0])
