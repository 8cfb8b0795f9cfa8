"""Recounts what the door has recorded: nobody came in twice with one ticket, unless it is known."""

from collections.abc import Sequence
from typing import Final

from ticketing.db.statements import Driver, Statement
from ticketing.sale.repositories.recount import PLANS, SHOWN, STATEMENT_TIMEOUT, Difference

# Devices without network can let two people in with one ticket. Then one of both is marked.
TWICE: Final = Statement(
    f"""
    SELECT event_id, count(*) AS counted, (array_agg(DISTINCT ticket_id))[: {SHOWN}] AS tickets
    FROM (
        SELECT event_id, ticket_id, direction, lag(direction) OVER (
            PARTITION BY ticket_id, event_id, list ORDER BY happened_at, seq
        ) AS before
        FROM check_ins
        WHERE passed AND undone_at IS NULL AND NOT conflict
    ) AS passages
    WHERE direction = 'in' AND before = 'in'
    GROUP BY event_id ORDER BY event_id
    """,  # noqa: S608 - our own text
    timeout=STATEMENT_TIMEOUT,
    reads_tables="a recount reads everything",
)
STRANGERS: Final = Statement(
    f"""
    SELECT bookings.event_id, count(*) AS counted,
        (array_agg(ticket_details.ticket_id))[: {SHOWN}] AS tickets
    FROM ticket_details JOIN bookings ON bookings.id = ticket_details.booking_id
    WHERE ticket_details.ticket_id <> bookings.id AND NOT EXISTS (
        SELECT FROM tickets
        WHERE tickets.id = ticket_details.ticket_id AND tickets.booking_id = bookings.id
    )
    GROUP BY event_id ORDER BY event_id
    """,  # noqa: S608 - our own text
    timeout=STATEMENT_TIMEOUT,
    reads_tables="a recount reads everything",
)
KINDS: Final = {"admitted_twice": TWICE, "ticket_missing": STRANGERS}


async def recount(connection: Driver) -> Sequence[Difference]:
    """Return every difference at the door of any event."""
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        await connection.execute(PLANS)
        return [
            Difference(kind, row["event_id"], counted=row["counted"], ticket_ids=row["tickets"])
            for kind, statement in KINDS.items()
            for row in await statement.fetch(connection)
        ]
