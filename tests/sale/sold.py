"""Bookings of ticket types, written as a commit writes them."""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from ticketing.db.ids import uuid7

BOOK = """
    INSERT INTO bookings
        (id, event_id, user_id, status, created_at, ticket_type_id, quantity, currency)
    SELECT :id, :event, id, :status, now(), :type, :places, :currency
    FROM users LIMIT 1
"""
TICKET = """
    INSERT INTO tickets (id, booking_id, ticket_type_id, ordinal, amount, status)
    VALUES (:id, :booking, :type, :ordinal, 0, 'cancelled')
"""
TAKE = """
    UPDATE events SET
        version = version + 1,
        available_tickets = available_tickets - :places,
        type_taken = ARRAY(
            SELECT taken + CASE WHEN of.slot - 1 = sold.slot THEN :places ELSE 0 END
            FROM unnest(type_taken) WITH ORDINALITY AS of(taken, slot), sold ORDER BY of.slot
        ),
        quota_available = ARRAY(
            SELECT available - CASE WHEN of.slot - 1 = ANY(sold.quotas) THEN :places ELSE 0 END
            FROM unnest(quota_available) WITH ORDINALITY AS of(available, slot), sold
            ORDER BY of.slot
        )
    WHERE id = :event
"""


async def sell(  # noqa: PLR0913 - a booking has many properties
    engine: AsyncEngine,
    event: int,
    ticket_type: int | None,
    places: int = 1,
    *,
    status: str = "booked",
    currency: str | None = None,
    tickets: Sequence[int] = (),
) -> UUID:
    """Book places of a type, any number of times. Only those that are booked take places."""
    booking = uuid7()
    async with engine.begin() as connection:
        await connection.execute(text("DROP INDEX IF EXISTS uq_bookings_active"))
        await connection.execute(
            text(BOOK),
            {
                "id": booking,
                "event": event,
                "status": status,
                "type": ticket_type,
                "places": places,
                "currency": currency,
            },
        )
        for ordinal, each in enumerate(tickets):
            await connection.execute(
                text(TICKET),
                {"id": uuid7(), "booking": booking, "type": each, "ordinal": ordinal},
            )
        if status == "booked":
            sold = f"WITH sold AS (SELECT slot, quotas FROM ticket_types WHERE id = :type) {TAKE}"
            await connection.execute(
                text(sold), {"event": event, "type": ticket_type, "places": places}
            )
    return booking
