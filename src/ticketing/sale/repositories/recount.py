"""The recount: compares the counters of events with their bookings. It changes neither."""

import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias
from uuid import UUID

import asyncpg
from prometheus_client import Gauge
from sqlalchemy.ext.asyncio import AsyncEngine

from ticketing.db.alone import Alone
from ticketing.db.statements import Driver, Statement, driver
from ticketing.ops import logs
from ticketing.ops.metrics import LATEST
from ticketing.ops.progress import Tell, silent
from ticketing.sale.repositories.recount_statistics import ACTIVITY, REVENUES

EVENTS_AT_ONCE: Final = 1000
BOOKINGS_AT_ONCE: Final = 200_000
"""How many one transaction reads. A single event may have more bookings."""
STATEMENT_TIMEOUT: Final = 120.0
LOGGED: Final = 100
"""How many differences of one recount are logged."""
SHOWN: Final = 20
"""How many bookings one difference names."""

FIRST: Final = -(2**63)
LAST: Final = 2**63 - 1
LOCK: Final = 0x7469636B61756474
"""The number of the advisory lock: `tickaudt`."""

DIFFERENCES: Final = Gauge(
    "ticketing_audit_differences",
    "Differences that the last audit found.",
    multiprocess_mode=LATEST,
)
COMPLETED: Final = Gauge(
    "ticketing_audit_completed_timestamp_seconds",
    "When the last audit was completed.",
    multiprocess_mode=LATEST,
)
DURATION: Final = Gauge(
    "ticketing_audit_duration_seconds",
    "How long the last audit took.",
    multiprocess_mode=LATEST,
)
WHOLE: Final = "it counts all rows"

# Elsewhere the service prevents scans of whole tables, and plans statements once. The recount needs
# such scans, and new plans as tables grow.
PLANS: Final = "SET LOCAL enable_seqscan = on; SET LOCAL plan_cache_mode = force_custom_plan"

NEXT: Final = Statement(
    """
    SELECT max(id) AS upto FROM (
        SELECT id, row_number() OVER in_order AS place,
            sum(total_tickets - available_tickets + waiting_list_count) OVER in_order AS bookings
        FROM (
            SELECT * FROM events WHERE id > CAST(:after AS bigint) ORDER BY id LIMIT :events
        ) AS following
        WINDOW in_order AS (ORDER BY id)
    ) AS counted
    WHERE place = 1 OR bookings <= CAST(:bookings AS bigint)
    """
)

KEEPS: Final = "('held', 'offered')"
TAKES: Final = "('booked', 'held', 'offered')"
KNOWN: Final = "('booked', 'held', 'offered', 'waiting', 'cancelled')"

COUNTS: Final = Statement(
    f"""
    WITH counted AS (
        SELECT event_id,
            count(*) AS bookings,
            coalesce(sum(quantity) FILTER (WHERE status IN {TAKES}), 0) AS booked,
            count(*) FILTER (WHERE status = 'waiting') AS waiting,
            max(seq) FILTER (WHERE status IN {TAKES}) AS last_booked,
            min(seq) FILTER (WHERE status = 'waiting') AS first_waiting,
            min(expires_at) FILTER (WHERE status IN {KEEPS}) AS first_expiry,
            (array_agg(id) FILTER (WHERE status IN {KEEPS} AND expires_at IS NULL))
                [1 : {SHOWN}] AS endless,
            (array_agg(id) FILTER (WHERE status NOT IN {KNOWN}))[1 : {SHOWN}] AS unknown,
            (array_agg(id))[1 : {SHOWN}] AS examples
        FROM bookings
        WHERE event_id > CAST(:after AS bigint) AND event_id <= CAST(:upto AS bigint)
        GROUP BY event_id
    )
    SELECT coalesce(events.id, counted.event_id) AS event_id,
        events.id IS NULL AS is_missing,
        total_tickets, available_tickets, waiting_list_count, organiser_id,
        users.id IS NULL AS organiser_is_missing,
        coalesce(bookings, 0) AS bookings, coalesce(booked, 0) AS booked,
        coalesce(waiting, 0) AS waiting, unknown, examples,
        quota_available IS NULL AS is_plain, endless,
        -- The holds of a cancelled event are withdrawn, whenever they end.
        coalesce(first_expiry < next_expiry, first_expiry IS NOT NULL)
            AND events.status <> 'cancelled' AS is_late,
        CASE WHEN first_waiting < last_booked AND quota_available IS NULL THEN ARRAY(
            SELECT id FROM bookings
            WHERE bookings.event_id = counted.event_id AND seq IN (first_waiting, last_booked)
            ORDER BY seq
        ) END AS out_of_turn
    FROM (
        SELECT * FROM events
        WHERE id > CAST(:after AS bigint) AND id <= CAST(:upto AS bigint)
    ) AS events
    FULL JOIN counted ON counted.event_id = events.id
    LEFT JOIN users ON users.id = events.organiser_id
    ORDER BY 1
    """,  # noqa: S608 - a number of ours
    timeout=STATEMENT_TIMEOUT,
    reads_tables=WHOLE,
)

TWICE: Final = Statement(
    """
    SELECT event_id, user_id, array_agg(id) AS ids FROM bookings
    WHERE event_id > CAST(:after AS bigint) AND event_id <= CAST(:upto AS bigint)
        AND status <> 'cancelled'
    GROUP BY event_id, user_id, slot HAVING count(*) > 1
    """,
    timeout=STATEMENT_TIMEOUT,
    reads_tables=WHOLE,
)

# The places of the types of events with counters, counted and recorded.
TYPES: Final = Statement(
    f"""
    WITH events AS (
        SELECT * FROM events
        WHERE id > CAST(:after AS bigint) AND id <= CAST(:upto AS bigint)
            AND quota_available IS NOT NULL
    ), held AS (
        SELECT bookings.*, (
            SELECT min(id) FROM ticket_types WHERE ticket_types.event_id = events.id
        ) AS first_type
        FROM bookings JOIN events ON events.id = bookings.event_id
        WHERE bookings.status <> 'cancelled'
    ), counted AS (
        SELECT event_id, tickets.ticket_type_id AS type_id, count(*) AS taken, 0 AS waiting,
            max(seq) FILTER (WHERE held.ticket_type_id IS NOT NULL) AS last_booked,
            CAST(NULL AS bigint) AS first_waiting
        FROM held JOIN tickets ON tickets.booking_id = held.id
        WHERE held.status = 'booked' AND tickets.status = 'valid'
        GROUP BY event_id, type_id
        UNION ALL
        SELECT event_id, coalesce(CAST(place ->> 0 AS bigint), first_type), count(*), 0, max(seq),
            NULL
        FROM held CROSS JOIN LATERAL jsonb_array_elements(places) AS of(place)
        WHERE status IN {KEEPS}
        GROUP BY 1, 2
        UNION ALL
        SELECT event_id, coalesce(ticket_type_id, first_type), sum(quantity), 0, max(seq), NULL
        FROM held WHERE status IN {KEEPS} AND places IS NULL
        GROUP BY 1, 2
        UNION ALL
        SELECT event_id, coalesce(ticket_type_id, first_type),
            count(*) FILTER (
                WHERE status = 'booked' AND ticket_type_id IS NULL AND quantity = 1
            ),
            count(*) FILTER (WHERE status = 'waiting'), NULL,
            min(seq) FILTER (WHERE status = 'waiting')
        FROM held GROUP BY 1, 2
    ), summed AS (
        SELECT event_id, type_id, sum(taken) AS taken, sum(waiting) AS waiting,
            min(first_waiting) < max(last_booked) AS is_out_of_turn
        FROM counted GROUP BY event_id, type_id
    )
    SELECT events.id AS event_id, ticket_types.id AS type_id, quotas, quota_capacity,
        quota_available, type_taken[slot + 1] AS recorded_taken,
        type_waiting[slot + 1] AS recorded_waiting, coalesce(taken, 0) AS taken,
        coalesce(waiting, 0) AS waiting,
        -- Patience that has run out lets others pass a group.
        coalesce(is_out_of_turn, false) AND group_patience_minutes IS NULL AS is_out_of_turn
    FROM events JOIN ticket_types ON ticket_types.event_id = events.id
    LEFT JOIN summed ON summed.event_id = events.id AND summed.type_id = ticket_types.id
    ORDER BY 1, 2
    """,  # noqa: S608 - statuses of ours
    timeout=STATEMENT_TIMEOUT,
    reads_tables=WHOLE,
)

TICKETS: Final = Statement(
    f"""
    SELECT event_id,
        (array_agg(id) FILTER (WHERE tickets <> quantity))[1 : {SHOWN}] AS ids,
        sum(quantity) FILTER (WHERE tickets <> quantity) AS places,
        sum(tickets) FILTER (WHERE tickets <> quantity) AS tickets,
        (array_agg(id) FILTER (WHERE prices <> amount))[1 : {SHOWN}] AS priced_ids,
        sum(amount) FILTER (WHERE prices <> amount) AS amount,
        sum(prices) FILTER (WHERE prices <> amount) AS prices
    FROM (
        SELECT event_id, bookings.id, count(tickets.id) AS tickets,
            coalesce(sum(tickets.amount), 0) AS prices,
            CASE WHEN bookings.status = 'booked' AND (
                bookings.ticket_type_id IS NOT NULL OR quantity > 1
            ) THEN quantity ELSE 0 END AS quantity,
            CASE WHEN bookings.status = 'booked' THEN bookings.amount ELSE 0 END AS amount
        FROM bookings
        LEFT JOIN tickets ON tickets.booking_id = bookings.id AND tickets.status = 'valid'
        WHERE event_id > CAST(:after AS bigint) AND event_id <= CAST(:upto AS bigint)
        GROUP BY bookings.id
    ) AS held
    WHERE tickets <> quantity OR prices <> amount
    GROUP BY event_id
    """,  # noqa: S608 - a number of ours
    timeout=STATEMENT_TIMEOUT,
    reads_tables=WHOLE,
)

# What the bookings say was paid and is kept, and what their payments and tickets say. Free bookings
# have neither, so the first condition leaves them out.
MONEY: Final = Statement(
    f"""
    WITH held AS (
        SELECT event_id, id, coalesce(paid, 0) AS paid, coalesce(refunded, 0) AS refunded,
            coalesce(kept, 0) AS kept
        FROM bookings
        WHERE event_id > CAST(:after AS bigint) AND event_id <= CAST(:upto AS bigint)
            AND (currency IS NOT NULL OR paid IS NOT NULL OR kept IS NOT NULL)
    ), counted AS (
        SELECT held.*,
            (
                SELECT coalesce(sum(payments.amount), 0) FROM payments
                WHERE booking_id = held.id AND kind = 'payment'
            ) AS payments,
            (
                SELECT coalesce(sum(payments.amount), 0) FROM payments
                WHERE booking_id = held.id AND kind = 'refund'
            ) AS refunds,
            (
                SELECT coalesce(sum(tickets.amount), 0) FROM tickets
                WHERE booking_id = held.id AND tickets.status = 'cancelled'
            ) AS cancelled
        FROM held
    ), compared AS (
        SELECT event_id, id, kind, recorded, counted
        FROM counted CROSS JOIN LATERAL (VALUES
            ('paid_miscounted', paid, payments, paid = payments),
            ('refunded_miscounted', refunded, refunds, refunded = refunds),
            ('refunded_too_much', payments, refunds, refunds <= payments),
            ('kept_too_much', kept, cancelled, kept BETWEEN 0 AND cancelled)
        ) AS checks(kind, recorded, counted, is_true)
        WHERE NOT is_true
    )
    SELECT event_id, kind, (array_agg(id))[1 : {SHOWN}] AS ids, sum(recorded) AS recorded,
        sum(counted) AS counted
    FROM compared GROUP BY event_id, kind ORDER BY event_id, kind
    """,  # noqa: S608 - a number of ours
    timeout=STATEMENT_TIMEOUT,
    reads_tables=WHOLE,
)

# What codes say is used of them, and what the bookings that were made with them say.
CODES: Final = Statement(
    f"""
    WITH held AS (
        SELECT event_id, code_id, count(*) AS uses, coalesce(sum(code_tickets), 0) AS tickets,
            (array_agg(id))[1 : {SHOWN}] AS ids
        FROM bookings
        WHERE event_id > CAST(:after AS bigint) AND event_id <= CAST(:upto AS bigint)
            AND code_id IS NOT NULL AND status <> 'cancelled'
        GROUP BY event_id, code_id
    ), known AS (
        SELECT * FROM codes
        WHERE event_id > CAST(:after AS bigint) AND event_id <= CAST(:upto AS bigint)
    ), compared AS (
        SELECT coalesce(known.event_id, held.event_id) AS event_id,
            coalesce(known.id, held.code_id) AS code_id, known.id IS NULL AS is_missing,
            known.uses AS recorded_uses, known.tickets AS recorded_tickets,
            coalesce(held.uses, 0) AS uses, coalesce(held.tickets, 0) AS tickets, ids
        FROM known FULL JOIN held ON held.code_id = known.id AND held.event_id = known.event_id
    )
    SELECT event_id, code_id, kind, recorded, counted, ids
    FROM compared CROSS JOIN LATERAL (VALUES
        ('code_missing', NULL, uses, NOT is_missing),
        ('code_uses_miscounted', recorded_uses, uses, coalesce(recorded_uses = uses, true)),
        (
            'code_tickets_miscounted', recorded_tickets, tickets,
            coalesce(recorded_tickets = tickets, true)
        )
    ) AS checks(kind, recorded, counted, is_true)
    WHERE NOT is_true
    ORDER BY event_id, code_id, kind
    """,  # noqa: S608 - a number of ours
    timeout=STATEMENT_TIMEOUT,
    reads_tables=WHOLE,
)

STRANGERS: Final = Statement(
    f"""
    SELECT event_id, (array_agg(bookings.id))[1 : {SHOWN}] AS ids, count(*) AS bookings
    FROM bookings LEFT JOIN users ON users.id = user_id
    WHERE event_id > CAST(:after AS bigint) AND event_id <= CAST(:upto AS bigint)
        AND users.id IS NULL
    GROUP BY event_id
    """,  # noqa: S608 - a number of ours
    timeout=STATEMENT_TIMEOUT,
    reads_tables=WHOLE,
)


@dataclass(frozen=True, slots=True)
class Difference:
    """A difference between the counters and the bookings of one event."""

    kind: str
    event_id: int
    recorded: int | None = None
    """The number in the event's row."""
    counted: int | None = None
    """The number of places, bookings or tickets, or the sum of prices."""
    user_id: UUID | None = None
    ticket_type_id: int | None = None
    quota: int | None = None
    """The index of a quota in the counters of the event."""
    code_id: int | None = None
    booking_ids: Sequence[UUID] = ()
    """The bookings concerned, at most SHOWN."""
    ticket_ids: Sequence[UUID] = ()
    """The tickets concerned, at most SHOWN."""

    def document(self) -> dict[str, object]:
        """Return the fields that are not empty, as in the log."""
        fields = {
            "kind": self.kind,
            "eventId": self.event_id,
            "recorded": self.recorded,
            "counted": self.counted,
            "userId": self.user_id,
            "ticketTypeId": self.ticket_type_id,
            "quota": self.quota,
            "codeId": self.code_id,
            "bookingIds": list(self.booking_ids) or None,
            "ticketIds": list(self.ticket_ids) or None,
        }
        return {name: value for name, value in fields.items() if value is not None}


@dataclass(frozen=True, slots=True)
class Recount:
    """How much was checked, and the differences found."""

    events: int
    bookings: int
    differences: Sequence[Difference]


Recounted: TypeAlias = Callable[[Driver], Awaitable[Sequence[Difference]]]
"""Returns the differences in what another part has recorded."""


class RecountRepository:
    """Recounts every event's bookings, while the sale goes on."""

    def __init__(self, engine: AsyncEngine, also: Sequence[Recounted] = ()) -> None:
        """Work on a connection of `engine`. Nothing else may use it: see `take_turn`.

        `also` recounts what other parts have recorded.
        """
        self._engine = engine
        self._also = also
        self._alone = Alone(engine, LOCK)

    async def take_turn(self) -> bool:
        """Recount, unless another process does it. Return whether this process did.

        The process that holds the advisory lock recounts, until it ends.
        """
        if not await self._alone.is_ours():
            return False
        await self.recount()
        return True

    async def close(self) -> None:
        """Let another process recount."""
        await self._alone.close()

    async def recount(self, tell: Tell = silent) -> Recount:
        """Return every difference, and log the first of them.

        Each transaction reads up to EVENTS_AT_ONCE events with their bookings in one snapshot. So
        bookings made meanwhile cause no difference.
        """
        started = time.perf_counter()
        events = bookings = 0
        differences: list[Difference] = []
        async with driver(self._engine) as connection:
            after = FIRST
            while after < LAST:
                async with connection.transaction(isolation="repeatable_read", readonly=True):
                    await connection.execute(PLANS)
                    (row,) = await NEXT.fetch(
                        connection, after=after, events=EVENTS_AT_ONCE, bookings=BOOKINGS_AT_ONCE
                    )
                    upto = LAST if row["upto"] is None else row["upto"]
                    rows = await COUNTS.fetch(connection, after=after, upto=upto)
                    differences += [each for row in rows for each in _at_event(row)]
                    differences += _of_types(await TYPES.fetch(connection, after=after, upto=upto))
                    differences += await _among_bookings(connection, after, upto)
                    differences += await _of_statistics(connection, after, upto)
                events += sum(not row["is_missing"] for row in rows)
                bookings += sum(row["bookings"] for row in rows)
                tell(f"{events:,} events, {bookings:,} bookings")
                after = upto
            for recounted in self._also:
                differences += await recounted(connection)
        seconds = time.perf_counter() - started
        for each in differences[:LOGGED]:
            logs.log.error("audit.difference", **each.document())
        logs.log.info(
            "audit.completed",
            events=events,
            bookings=bookings,
            differences=len(differences),
            durationMs=round(seconds * 1000),
        )
        DIFFERENCES.set(len(differences))
        DURATION.set(seconds)
        COMPLETED.set(time.time())
        return Recount(events, bookings, differences)


def _at_event(row: asyncpg.Record) -> Iterator[Difference]:
    event = row["event_id"]
    booked, waiting = row["booked"], row["waiting"]
    if row["unknown"]:
        yield Difference("status_unknown", event, booking_ids=row["unknown"])
    if row["is_missing"]:
        yield Difference(
            "event_missing", event, counted=row["bookings"], booking_ids=row["examples"]
        )
        return
    yield from _of_holds(row)
    total, available = row["total_tickets"], row["available_tickets"]
    if booked > total:
        yield Difference("oversold", event, recorded=total, counted=booked)
    if booked != total - available:
        yield Difference("places_miscounted", event, recorded=total - available, counted=booked)
    if waiting != row["waiting_list_count"]:
        recorded = row["waiting_list_count"]
        yield Difference("line_miscounted", event, recorded=recorded, counted=waiting)
    if waiting and booked < total and row["is_plain"]:
        yield Difference("line_not_served", event, recorded=total - booked, counted=waiting)
    # A later booking has a place, and an earlier one still waits.
    if row["out_of_turn"]:
        yield Difference("served_out_of_turn", event, booking_ids=row["out_of_turn"])
    if row["organiser_is_missing"]:
        yield Difference("organiser_missing", event, user_id=row["organiser_id"])


def _of_holds(row: asyncpg.Record) -> Iterator[Difference]:
    if row["endless"]:
        yield Difference("end_missing", row["event_id"], booking_ids=row["endless"])
    # The event would not be looked at when its first hold ends.
    if row["is_late"]:
        yield Difference("end_overlooked", row["event_id"])


def _of_types(rows: Sequence[asyncpg.Record]) -> Iterator[Difference]:
    """Yield the differences of the counters per type and quota."""
    quotas: dict[tuple[int, int], int] = {}
    recorded: dict[tuple[int, int], int] = {}
    for row in rows:
        event, kind = row["event_id"], row["type_id"]
        for name, counter in (("type", "taken"), ("type_line", "waiting")):
            was, now = row[f"recorded_{counter}"], row[counter]
            if was != now:
                yield Difference(
                    f"{name}_miscounted", event, recorded=was, counted=now, ticket_type_id=kind
                )
        if row["is_out_of_turn"]:
            yield Difference("served_out_of_turn", event, ticket_type_id=kind)
        for index, (capacity, available) in enumerate(
            zip(row["quota_capacity"], row["quota_available"], strict=True)
        ):
            recorded[event, index] = capacity - available
            quotas.setdefault((event, index), 0)
            if index in row["quotas"]:
                quotas[event, index] += row["taken"]
    for (event, index), counted in quotas.items():
        if recorded[event, index] != counted:
            yield Difference(
                "quota_miscounted",
                event,
                recorded=recorded[event, index],
                counted=counted,
                quota=index,
            )


async def _among_bookings(connection: Driver, after: int, upto: int) -> list[Difference]:
    found = [
        Difference("booked_twice", row["event_id"], user_id=row["user_id"], booking_ids=row["ids"])
        for row in await TWICE.fetch(connection, after=after, upto=upto)
    ]
    found += [
        Difference(
            kind, row["event_id"], recorded=row[of], counted=row[counted], booking_ids=row[ids]
        )
        for row in await TICKETS.fetch(connection, after=after, upto=upto)
        for kind, of, counted, ids in (
            ("tickets_miscounted", "places", "tickets", "ids"),
            ("amount_miscounted", "amount", "prices", "priced_ids"),
        )
        if row[ids]
    ]
    found += [
        Difference(
            row["kind"],
            row["event_id"],
            recorded=int(row["recorded"]),
            counted=int(row["counted"]),
            booking_ids=row["ids"],
        )
        for row in await MONEY.fetch(connection, after=after, upto=upto)
    ]
    found += [
        Difference(
            row["kind"],
            row["event_id"],
            recorded=row["recorded"],
            counted=int(row["counted"]),
            code_id=row["code_id"],
            booking_ids=row["ids"] or (),
        )
        for row in await CODES.fetch(connection, after=after, upto=upto)
    ]
    return found + [
        Difference("user_missing", row["event_id"], counted=row["bookings"], booking_ids=row["ids"])
        for row in await STRANGERS.fetch(connection, after=after, upto=upto)
    ]


async def _of_statistics(connection: Driver, after: int, upto: int) -> list[Difference]:
    found = [
        Difference(
            "activity_miscounted",
            row["event_id"],
            recorded=int(row["recorded"]),
            counted=int(row["counted"]),
        )
        for row in await ACTIVITY.fetch(connection, after=after, upto=upto)
    ]
    return found + [
        Difference(
            "revenue_miscounted",
            row["event_id"],
            recorded=int(row["recorded"]),
            counted=int(row["counted"]),
            ticket_type_id=row["ticket_type_id"],
        )
        for row in await REVENUES.fetch(connection, after=after, upto=upto)
    ]
