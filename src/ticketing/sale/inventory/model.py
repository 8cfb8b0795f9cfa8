"""What is decided about: an event's inventory, its bookings, and what becomes of a request."""

from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple, TypeAlias
from uuid import UUID


class BookingStatus(StrEnum):
    """Where a booking stands; `booked` and `waiting` are the active ones."""

    BOOKED = "booked"
    WAITING = "waiting"
    CANCELLED = "cancelled"


class StaleSnapshot(Exception):
    """The line is shorter than the snapshot says: somebody has written since it was read."""


class Snapshot(NamedTuple):
    """An event's inventory as it was at one version."""

    event_id: int
    version: int
    total: int
    available: int
    waiting: int


class Booking(NamedTuple):
    """One person's place, or place in the line, at one event."""

    id: UUID
    event_id: int
    user_id: UUID
    status: BookingStatus
    created_at: datetime


class Booked(NamedTuple):
    """A place is held."""

    booking: Booking


class Waiting(NamedTuple):
    """No place was left: the person stands in the line at `position`, counted from 1."""

    booking: Booking
    position: int


class Cancelled(NamedTuple):
    """The booking is given up, and `promoted` are those from the line who got a place by it."""

    booking: Booking
    promoted: Sequence[Booking] = ()


Outcome: TypeAlias = Booked | Waiting | Cancelled | Exception
"""What became of a request; an exception is its refusal."""
