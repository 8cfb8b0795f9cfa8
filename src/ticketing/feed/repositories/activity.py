"""Statistics of events: counted once from the trail as it grows, so that a read is short."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final, NamedTuple

from sqlalchemy.ext.asyncio import AsyncEngine

from ticketing.db.statements import Driver, Statement, driver
from ticketing.feed.repositories.facts import DRAWN, RUNNING

AT_ONCE: Final = 50_000
"""Numbers of the trail that one transaction counts."""
SOLD: Final = "('booking.booked', 'booking.promoted', 'booking.confirmed')"
"""What a booking does when it gets its places."""
CANCELLED: Final = "action = 'booking.cancelled' AND details ->> 'was' IS NULL"
"""A booking that had its places is cancelled. Others say what they were."""

TAKE: Final = Statement(
    "SELECT seq, drawn, next_xact FROM activity_cursor WHERE id FOR UPDATE SKIP LOCKED"
)
BEGIN: Final = Statement(
    """
    INSERT INTO activity_cursor (seq, drawn, next_xact) VALUES (0, 0, 0) ON CONFLICT DO NOTHING
    """
)
MOVE: Final = Statement(
    "UPDATE activity_cursor SET seq = :seq, drawn = :drawn, next_xact = :next WHERE id"
)

_NEW: Final = "seq > CAST(:after AS bigint) AND seq <= CAST(:until AS bigint)"
COUNT: Final = Statement(
    f"""
    INSERT INTO activity (event_id, minutes, at, bookings, places, cancels, waiting)
    SELECT event_id, minutes,
        date_bin(make_interval(mins => minutes), at, timestamptz '2000-01-01 UTC'),
        count(*) FILTER (WHERE action IN {SOLD}),
        coalesce(sum(coalesce(CAST(details ->> 'quantity' AS bigint), 1))
            FILTER (WHERE action IN {SOLD}), 0),
        count(*) FILTER (WHERE action = 'booking.cancelled'),
        count(*) FILTER (WHERE action = 'booking.waiting')
    FROM audit_records CROSS JOIN (VALUES (1), (15)) AS widths(minutes)
    WHERE {_NEW} AND event_id IS NOT NULL AND (
        action IN {SOLD} OR action = 'booking.waiting' OR ({CANCELLED})
    )
    GROUP BY 1, 2, 3
    ON CONFLICT (event_id, minutes, at) DO UPDATE SET
        bookings = activity.bookings + excluded.bookings,
        places = activity.places + excluded.places,
        cancels = activity.cancels + excluded.cancels,
        waiting = activity.waiting + excluded.waiting
    """  # noqa: S608 - our own text
)
REDUCE: Final = Statement(
    f"""
    INSERT INTO reduced_tickets (ticket_id)
    SELECT CAST(ticket AS uuid)
    FROM audit_records CROSS JOIN LATERAL jsonb_array_elements_text(details -> 'ticketIds')
        AS of(ticket)
    WHERE {_NEW} AND action = 'booking.reduced'
    ON CONFLICT DO NOTHING
    """  # noqa: S608 - our own text
)
# A ticket keeps its price, and all tickets of a booking are issued when it gets its places. Events
# without counters have no prices, and most records are theirs.
EARN: Final = Statement(
    f"""
    WITH records AS (
        SELECT event_id, action, details, CAST(details ->> 'bookingId' AS uuid) AS booking_id
        FROM audit_records
        WHERE {_NEW} AND (
            action IN {SOLD} OR action IN ('booking.cancelled', 'booking.reduced')
        ) AND event_id = ANY(ARRAY(
            SELECT id FROM events WHERE quota_available IS NOT NULL AND id = ANY(ARRAY(
                SELECT DISTINCT event_id FROM audit_records
                WHERE {_NEW} AND event_id IS NOT NULL
            ))
        ))
    ), changes AS (
        SELECT event_id, tickets.*,
            CASE WHEN action IN {SOLD} THEN amount ELSE -amount END AS change
        FROM records CROSS JOIN LATERAL (
            SELECT ticket_type_id, amount FROM tickets
            WHERE tickets.booking_id = records.booking_id AND amount > 0 AND CASE records.action
                WHEN 'booking.reduced' THEN records.details -> 'ticketIds' ? CAST(id AS text)
                WHEN 'booking.cancelled' THEN (
                    SELECT count(*) FROM reduced_tickets WHERE ticket_id = tickets.id
                ) = 0
                ELSE true
            END
            OFFSET 0
        ) AS tickets
    )
    INSERT INTO revenues (event_id, ticket_type_id, amount)
    SELECT event_id, ticket_type_id, sum(change) FROM changes GROUP BY 1, 2
    ON CONFLICT (event_id, ticket_type_id) DO UPDATE SET amount = revenues.amount + excluded.amount
    """  # noqa: S608 - our own text
)

REVENUES: Final = Statement("SELECT ticket_type_id, amount FROM revenues WHERE event_id = :event")
# Those are few, whatever an event has sold. The types of a hold are in its row.
KEPT: Final = Statement(
    """
    SELECT status, coalesce(CAST(place ->> 0 AS bigint), ticket_type_id) AS type_id,
        sum(CASE WHEN places IS NULL THEN quantity ELSE 1 END) AS places,
        count(DISTINCT id) AS bookings,
        count(DISTINCT id) FILTER (WHERE expires_at < now() + interval '10 minutes') AS ending,
        min(expires_at) AS ends_at
    FROM (
        SELECT * FROM bookings
        WHERE event_id = :event AND expires_at IS NOT NULL AND status IN ('held', 'offered')
        OFFSET 0
    ) AS kept
    LEFT JOIN LATERAL jsonb_array_elements(places) AS of(place) ON true
    GROUP BY 1, 2
    """
)


class StatsInterval(StrEnum):
    """The length of a step of a series."""

    MINUTE = "minute"
    HOUR = "hour"
    DAY = "day"


class Step(NamedTuple):
    """What happened in one step of a series. Its fields are the columns of SERIES."""

    at: datetime
    bookings: int
    places: int
    cancels: int
    waiting: int


SERIES: Final = Statement(
    """
    SELECT date_trunc(:interval, at, :zone) AS step, CAST(sum(bookings) AS bigint) AS bookings,
        CAST(sum(places) AS bigint) AS places, CAST(sum(cancels) AS bigint) AS cancels,
        CAST(sum(waiting) AS bigint) AS waiting
    FROM activity
    WHERE event_id = :event AND minutes = :minutes
        AND at >= date_trunc(:interval, CAST(:since AS timestamptz), :zone)
        AND at < CAST(:until AS timestamptz)
    GROUP BY 1 ORDER BY 1
    """
)


@dataclass(frozen=True, slots=True)
class Keeping:
    """The places of a type that are held, or offered."""

    status: str
    type_id: int | None
    """None: the first type of the event."""
    places: int
    bookings: int
    ending: int
    """How many of the bookings end within ten minutes."""
    ends_at: datetime


class ActivityRepository:
    """Counts the trail, and reads what was counted."""

    def __init__(self, engine: AsyncEngine) -> None:
        """Work on `engine`."""
        self._engine = engine

    async def count(self) -> None:
        """Count the records that are new, unless another process is about to.

        The cursor moves in the transaction that counts, so each record is counted once.
        """
        async with driver(self._engine) as connection:
            while await self._count_some(connection):
                pass

    async def _count_some(self, connection: Driver) -> bool:
        """Count up to AT_ONCE records. Return whether there are more."""
        async with connection.transaction():
            # Before the lock, which gives this transaction its id: so that id is above those of all
            # transactions that drew one of the numbers.
            (last,) = await DRAWN.fetch(connection)
            rows = await TAKE.fetch(connection)
            if not rows:  # Another process has it, or there is none yet.
                await BEGIN.fetch(connection)
                return False
            seq, drawn, next_xact = rows[0]
            (running,) = await RUNNING.fetch(connection)
            until = seq
            # A number is drawn by a transaction that already has its id. So all up to `drawn` are
            # visible once the ids of that time are below the horizon.
            if next_xact <= running["horizon"]:
                until = min(drawn, seq + AT_ONCE)
            if until > seq:
                bounds = {"after": seq, "until": until}
                await COUNT.fetch(connection, **bounds)
                await REDUCE.fetch(connection, **bounds)
                await EARN.fetch(connection, **bounds)
            # Another process may have counted further since `last` was read.
            if until == drawn < last["seq"]:
                drawn, next_xact = last["seq"], running["next"]
            elif next_xact > running["next"]:
                # Another server has replaced this one, with other numbers of transactions.
                next_xact = running["next"]
            if until > seq or drawn != rows[0]["drawn"] or next_xact != rows[0]["next_xact"]:
                await MOVE.fetch(connection, seq=until, drawn=drawn, next=next_xact)
            return bool(seq < until < rows[0]["drawn"])

    async def revenues(self, event_id: int) -> dict[int, int]:
        """Return the sum of the prices of valid tickets, by the id of the ticket type."""
        async with driver(self._engine) as connection:
            rows = await REVENUES.fetch(connection, event=event_id)
        return {row["ticket_type_id"]: row["amount"] for row in rows}

    async def kept(self, event_id: int) -> Sequence[Keeping]:
        """Return what is held and offered, by type."""
        async with driver(self._engine) as connection:
            rows = await KEPT.fetch(connection, event=event_id)
        return [Keeping(*row.values()) for row in rows]

    async def series(
        self, event_id: int, interval: StatsInterval, zone: str, since: datetime, until: datetime
    ) -> Sequence[Step]:
        """Return the steps in which something happened, from that with `since` up to `until`."""
        async with driver(self._engine) as connection:
            rows = await SERIES.fetch(
                connection,
                event=event_id,
                interval=interval,
                zone=zone,
                # All offsets of zones are multiples of a quarter of an hour.
                minutes=1 if interval is StatsInterval.MINUTE else 15,
                since=since,
                until=until,
            )
        return [Step(*row.values()) for row in rows]
