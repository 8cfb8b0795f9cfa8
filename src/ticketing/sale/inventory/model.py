"""An event's inventory, its bookings, and the outcomes of requests."""

from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple, TypeAlias
from uuid import UUID

from ticketing.sale.inventory.terms import Terms


class BookingStatus(StrEnum):
    """The status of a booking. `booked` and `waiting` are active."""

    BOOKED = "booked"
    WAITING = "waiting"
    CANCELLED = "cancelled"


class StaleSnapshot(Exception):
    """The waiting list is shorter than in the snapshot, because another process wrote since."""


class Snapshot(NamedTuple):
    """An event's inventory at one version."""

    event_id: int
    version: int
    total: int
    available: int
    waiting: int
    terms: Terms = Terms()


class Booking(NamedTuple):
    """One person's place, or position in the waiting list, at one event."""

    id: UUID
    event_id: int
    user_id: UUID
    status: BookingStatus
    created_at: datetime


class Booked(NamedTuple):
    """The person has a place."""

    booking: Booking


class Waiting(NamedTuple):
    """No place was left. The person is in the waiting list at `position`, counted from 1."""

    booking: Booking
    position: int


class Cancelled(NamedTuple):
    """The booking is cancelled. `promoted` are the bookings that got a place because of it."""

    booking: Booking
    promoted: Sequence[Booking] = ()


Outcome: TypeAlias = Booked | Waiting | Cancelled | Exception
"""The outcome of a request. An exception is a refusal."""
