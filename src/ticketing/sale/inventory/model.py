"""An event's inventory, its bookings, and the outcomes of requests."""

from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple, TypeAlias
from uuid import UUID

from ticketing.sale.inventory.offer import Offer, TicketType
from ticketing.sale.inventory.terms import Terms


class BookingStatus(StrEnum):
    """The status of a booking. `booked` and `waiting` are active."""

    BOOKED = "booked"
    WAITING = "waiting"
    CANCELLED = "cancelled"


class StaleSnapshot(Exception):
    """The bookings do not fit the snapshot, because another process wrote since.

    The waiting list is shorter, or the snapshot lacks a booking's ticket type.
    """


class CountersMissing(Exception):
    """The event needs counters per type, because a group has to wait."""


class Counters(NamedTuple):
    """The counters of an event that is not plain: of its quotas, then of its types, by slot."""

    capacity: Sequence[int] = ()
    available: Sequence[int] = ()
    taken: Sequence[int] = ()
    """Places that are taken."""
    waiting: Sequence[int] = ()
    """Bookings that wait."""


class Line(NamedTuple):
    """A number of places of one type."""

    type: TicketType
    quantity: int


def total(lines: Sequence[Line]) -> tuple[int, int, str | None]:
    """Return the number of places, their price, and its currency: None if they are free.

    All types of an event have the same currency.
    """
    places, amount, currency = 0, 0, None
    for kind, quantity in lines:
        places += quantity
        if kind.amount:
            amount += kind.amount * quantity
            currency = kind.currency
    return places, amount, currency


class Snapshot(NamedTuple):
    """An event's inventory at one version."""

    event_id: int
    version: int
    total: int
    available: int
    waiting: int
    terms: Terms = Terms()
    offer: Offer = Offer({1: TicketType(1)}, {})
    counters: Counters | None = None
    """None if the offer is plain."""


class Ticket(NamedTuple):
    """One place of a booking."""

    id: UUID
    type_id: int
    ordinal: int
    amount: int
    """The price that was agreed, in the minor unit of the currency."""
    is_valid: bool = True


class Booking(NamedTuple):
    """One person's places, or position in the waiting list, at one event.

    `type_id` is None for several types. It is also None for one place of the event's first type:
    such a booking has no tickets of its own.
    """

    id: UUID
    event_id: int
    user_id: UUID
    status: BookingStatus
    created_at: datetime
    slot: int = 0
    """Numbers the person's active bookings at the event."""
    quantity: int = 1
    type_id: int | None = None
    amount: int = 0
    currency: str | None = None
    tickets: Sequence[Ticket] = ()
    """If they were read."""

    @property
    def has_tickets(self) -> bool:
        """Whether its places have rows of their own."""
        return self.type_id is not None or self.quantity > 1


class Booked(NamedTuple):
    """The person has the places."""

    booking: Booking


class Waiting(NamedTuple):
    """Too few places were left. The person waits at `position`, counted from 1."""

    booking: Booking
    position: int


class Cancelled(NamedTuple):
    """The booking is cancelled. `promoted` are the bookings that got a place because of it."""

    booking: Booking
    promoted: Sequence[Booking] = ()


Outcome: TypeAlias = Booked | Waiting | Cancelled | Exception
"""The outcome of a request. An exception is a refusal."""
