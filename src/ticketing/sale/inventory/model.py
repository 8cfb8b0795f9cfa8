"""An event's inventory, its bookings, and the outcomes of requests."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType
from typing import NamedTuple, TypeAlias
from uuid import UUID

from ticketing.sale.inventory.codes import Code
from ticketing.sale.inventory.offer import Offer, TicketType
from ticketing.sale.inventory.terms import Terms
from ticketing.sale.pricing import Policy


class BookingStatus(StrEnum):
    """The status of a booking. All but the last two are active."""

    BOOKED = "booked"
    WAITING = "waiting"
    HELD = "held"
    """Places are kept until the hold is confirmed or ends."""
    OFFERED = "offered"
    """The same for a person who waited."""
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    """A hold or an offer that ended. It may still be confirmed, if its places are free."""

    @property
    def is_active(self) -> bool:
        """Whether the booking has places, or waits for them."""
        return self is not BookingStatus.CANCELLED and self is not BookingStatus.EXPIRED

    @property
    def keeps(self) -> bool:
        """Whether places are kept, for which there are no tickets yet."""
        return self is BookingStatus.HELD or self is BookingStatus.OFFERED


class TicketStatus(StrEnum):
    """Whether a ticket still admits somebody."""

    VALID = "valid"
    CANCELLED = "cancelled"


class StaleSnapshot(Exception):
    """The bookings do not fit the snapshot, because another process wrote since.

    The waiting list is shorter, or the snapshot lacks a booking's ticket type.
    """


def type_of(offer: Offer, type_id: int | None) -> TicketType:
    """Return the ticket type of a booking. Raises StaleSnapshot if it was added since."""
    if type_id is None:
        return offer.first
    found = offer.types.get(type_id)
    if found is None:
        # Bookings are read after the snapshot. The type was added in between.
        raise StaleSnapshot
    return found


class CountersMissing(Exception):
    """The event needs counters per type, because a group has to wait."""


class SeveralMissing(Exception):
    """The event must know that a person may have several bookings, because the team makes one."""


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
    next_expiry: datetime | None = None
    """No hold or offer ends before."""


class Place(NamedTuple):
    """One place that is kept: its type, None for the first of the event, and its price."""

    type_id: int | None
    amount: int


class Ticket(NamedTuple):
    """One place of a booking."""

    id: UUID
    type_id: int
    ordinal: int
    amount: int
    """The price that was agreed, in the minor unit of the currency."""
    is_valid: bool = True
    tax: int = 0
    """The part of the amount that is tax."""


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
    refunds: Policy | None = None
    """The refund policy that it was booked with."""
    kept: int = 0
    """What the organiser keeps of the prices of its cancelled tickets."""
    paid: int = 0
    refunded: int = 0
    """The sums of its payments and its refunds when it was read."""
    tickets: Sequence[Ticket] = ()
    """If they were read."""
    expires_at: datetime | None = None
    """The end of a hold or an offer; of a group that waits, the end of its patience."""
    places: Sequence[Place] = ()
    """Those of a hold or an offer, unless all are of one free type."""
    code_id: int | None = None
    """The code that it was booked or held with."""
    code_tickets: int = 0
    """How many tickets of the code it takes until it is cancelled or expires."""

    @property
    def ends_at(self) -> datetime | None:
        """The end of a hold or an offer."""
        return None if self.status is BookingStatus.WAITING else self.expires_at

    @property
    def kept_places(self) -> Sequence[Place]:
        """The places of a hold or an offer."""
        return self.places or (Place(self.type_id, 0),) * self.quantity

    @property
    def total(self) -> int:
        """What it costs: its places, and what the organiser keeps of cancelled tickets."""
        counts = self.status is BookingStatus.BOOKED or self.status.keeps
        return self.kept + (self.amount if counts else 0)

    @property
    def owed(self) -> int:
        """What the payer gets back. Negative if they still have to pay."""
        return self.paid - self.refunded - self.total

    @property
    def has_tickets(self) -> bool:
        """Whether its places have rows of their own."""
        return self.type_id is not None or self.quantity > 1


class Booked(NamedTuple):
    """The person has the places."""

    booking: Booking


class Kept(NamedTuple):
    """The places are kept for the person until `booking.expires_at`. `at` is the time now."""

    booking: Booking
    at: datetime


class Waiting(NamedTuple):
    """Too few places were left. The person waits at `position`, counted from 1."""

    booking: Booking
    position: int


class Cancelled(NamedTuple):
    """The booking is cancelled. `promoted` are the bookings that got a place because of it."""

    booking: Booking
    promoted: Sequence[Booking] = ()
    refund: int = 0
    """What the refund policy gives back for what was cancelled."""


class Expired(NamedTuple):
    """What had to end by now has ended."""


Outcome: TypeAlias = Booked | Kept | Waiting | Cancelled | Expired | Exception
"""The outcome of a request. An exception is a refusal."""


class Reading(NamedTuple):
    """What was read for a decision, at the version of its snapshot or later."""

    active: Mapping[UUID, Sequence[Booking]] = MappingProxyType({})
    """The active bookings of people."""
    line: Sequence[Booking] = ()
    """The head of the waiting list in order."""
    due: Sequence[Booking] | None = ()
    """The holds and offers that end first, if some have ended. None leaves all as they are."""
    next_due: datetime | None = None
    """The end of the first one that is not in `due`."""
    named: Mapping[UUID, Booking] = MappingProxyType({})
    """Bookings that are not active, but named by a request."""
    codes: Sequence[Code] = ()
    """The codes that are named by a request, or that such a booking had."""
