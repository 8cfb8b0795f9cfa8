"""What the recount compares of statistics: what was counted of the trail, and the trail."""

from typing import Final

from ticketing.db.statements import Statement

TIMEOUT: Final = 120.0
WHOLE: Final = "it counts all rows"

# What was counted from the trail, and the trail up to the record that was counted last.
ACTIVITY: Final = Statement(
    """
    WITH counted AS (
        SELECT event_id, count(*) AS counted
        FROM audit_records
        WHERE event_id > CAST(:after AS bigint) AND event_id <= CAST(:upto AS bigint)
            AND seq <= (SELECT seq FROM activity_cursor) AND action IN (
                'booking.booked', 'booking.promoted', 'booking.confirmed', 'booking.cancelled',
                'booking.waiting'
            ) AND details ->> 'was' IS NULL
        GROUP BY event_id
    ), recorded AS (
        SELECT event_id, minutes, sum(bookings + cancels + waiting) AS recorded
        FROM activity
        WHERE event_id > CAST(:after AS bigint) AND event_id <= CAST(:upto AS bigint)
        GROUP BY event_id, minutes
    ), expected AS (
        SELECT * FROM counted CROSS JOIN (VALUES (1), (15)) AS widths(minutes)
    )
    SELECT DISTINCT ON (event_id) event_id, coalesce(recorded, 0) AS recorded,
        coalesce(counted, 0) AS counted
    FROM recorded FULL JOIN expected USING (event_id, minutes)
    WHERE recorded IS DISTINCT FROM counted
    ORDER BY event_id, minutes
    """,
    timeout=TIMEOUT,
    reads_tables=WHOLE,
)

# Only of events of which the whole trail was counted.
REVENUES: Final = Statement(
    """
    WITH sold AS (
        SELECT event_id, tickets.ticket_type_id, sum(tickets.amount) AS counted
        FROM bookings JOIN tickets ON tickets.booking_id = bookings.id
        WHERE event_id > CAST(:after AS bigint) AND event_id <= CAST(:upto AS bigint)
            AND tickets.amount > 0 AND tickets.status = 'valid' AND bookings.status = 'booked'
        GROUP BY 1, 2
    ), earned AS (
        SELECT event_id, ticket_type_id, amount AS recorded FROM revenues
        WHERE event_id > CAST(:after AS bigint) AND event_id <= CAST(:upto AS bigint)
    )
    SELECT event_id, ticket_type_id, coalesce(recorded, 0) AS recorded,
        coalesce(counted, 0) AS counted
    FROM earned FULL JOIN sold USING (event_id, ticket_type_id)
    WHERE coalesce(recorded, 0) <> coalesce(counted, 0) AND (
        SELECT max(seq) FROM audit_records
        WHERE audit_records.event_id = coalesce(earned.event_id, sold.event_id)
    ) <= (SELECT seq FROM activity_cursor)
    ORDER BY 1, 2
    """,
    timeout=TIMEOUT,
    reads_tables=WHOLE,
)
