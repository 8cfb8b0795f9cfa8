"""Objects made from the rows of the tables."""

from datetime import UTC, datetime
from typing import NamedTuple
from uuid import UUID

import asyncpg

from ticketing.sale.details import Details
from ticketing.sale.inventory.model import Booking, BookingStatus, Snapshot
from ticketing.sale.inventory.terms import EventStatus, SaleState, Terms
from ticketing.sale.times import When


class Event(NamedTuple):
    """An event at the time `read_at` of the database's clock."""

    id: int
    organiser_id: UUID
    details: Details
    terms: Terms
    total_tickets: int
    available_tickets: int
    waiting_list_count: int
    version: int
    created_at: datetime
    read_at: datetime

    @property
    def state(self) -> SaleState:
        """The state of its sale."""
        state = self.terms.state(self.read_at)
        is_sold_out = state is SaleState.OPEN and not self.available_tickets
        return SaleState.SOLD_OUT if is_sold_out else state

    @property
    def etag(self) -> str:
        """The entity tag. It begins with the revision, which bookings do not change."""
        return f'"{self.terms.revision}-{self.version}-{self.state}"'


def event(row: asyncpg.Record) -> Event:
    """Return the event from a row of `events` with its details."""
    details = Details(
        row["name"],
        row["description"],
        row["venue_name"],
        row["venue_address"],
        row["latitude"],
        row["longitude"],
        row["url"],
        row["timezone"],
        _when(row["starts_at"], row["starts_local"]),
        _when(row["ends_at"], row["ends_local"]),
        _when(row["sales_open_at"], row["sales_open_local"]),
        _when(row["sales_close_at"], row["sales_close_local"]),
        row["visibility"],
    )
    return Event(
        row["id"],
        row["organiser_id"],
        details,
        terms(row),
        row["total_tickets"],
        row["available_tickets"],
        row["waiting_list_count"],
        row["version"],
        row["created_at"],
        row["read_at"],
    )


def _when(at: datetime | None, local: datetime | None) -> When | None:
    return None if at is None else When(at.astimezone(UTC), local)


def booking(row: asyncpg.Record) -> Booking:
    """Return the booking from a row of `bookings`."""
    return Booking(
        row["id"], row["event_id"], row["user_id"], BookingStatus(row["status"]), row["created_at"]
    )


def snapshot(row: asyncpg.Record) -> Snapshot:
    """Return the inventory from a row of `events`."""
    return Snapshot(
        row["id"],
        row["version"],
        row["total_tickets"],
        row["available_tickets"],
        row["waiting_list_count"],
        terms(row),
    )


def terms(row: asyncpg.Record) -> Terms:
    """Return the terms of the sale from a row of `events`."""
    return Terms(
        row["revision"],
        EventStatus(row["status"]),
        row["sales_paused"],
        row["sales_open_at"],
        row["sales_close_at"],
        row["ends_at"],
    )
