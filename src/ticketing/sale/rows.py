"""What the rows of each table are made into."""

import asyncpg

from ticketing.sale.inventory.model import Booking, BookingStatus, Snapshot


def booking(row: asyncpg.Record) -> Booking:
    """Return the booking in a row of `bookings`."""
    return Booking(
        row["id"], row["event_id"], row["user_id"], BookingStatus(row["status"]), row["created_at"]
    )


def snapshot(row: asyncpg.Record) -> Snapshot:
    """Return the inventory in a row of `events`."""
    return Snapshot(
        row["id"],
        row["version"],
        row["total_tickets"],
        row["available_tickets"],
        row["waiting_list_count"],
    )
