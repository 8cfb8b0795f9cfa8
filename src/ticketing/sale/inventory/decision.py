"""A decision about an event: what it changes, and under which conditions it may be written."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from ticketing.sale.inventory.codes import Redemption
from ticketing.sale.inventory.model import (
    Booking,
    BookingStatus,
    Counters,
    Outcome,
    Place,
    Snapshot,
    Ticket,
)
from ticketing.sale.pricing import Policy

PROMOTED = "promoted"
REDUCED = "reduced"
OFFERED = "offered"
CONFIRMED = "confirmed"
EXTENDED = "extended"
EXPIRED = "expired"
PASSED = "passed"


class Fact(NamedTuple):
    """A change of a booking: its new status or one of the names above, and what is behind it."""

    name: str
    booking: Booking
    by: int | None
    """The index of the request among those for the event. None if time alone has done it."""
    is_new: bool = False
    """Whether the request made the booking."""
    tickets: Sequence[UUID] = ()
    """The tickets that were cancelled while the rest of the booking stays."""


class Change(NamedTuple):
    """The old and the new status of a booking, and the places that it has then."""

    was: BookingStatus
    to: BookingStatus
    quantity: int = 1
    amount: int = 0
    type_id: int | None = None
    kept: int = 0
    slot: int = 0
    expires_at: datetime | None = None
    places: Sequence[Place] = ()
    currency: str | None = None
    refunds: Policy | None = None
    concerns_end: bool = False
    """Whether the booking has an end, or had one."""


@dataclass(slots=True)
class Decision:
    """Changes to write, all or nothing, if the event still has these terms and `before.version`.

    A decision that does not involve the waiting list is also valid at any other version, if nobody
    waits and every capacity has the places that it `needs`. Constraints check the rest: the person
    who books has no active booking, and a booking or ticket to cancel is not cancelled yet. Two
    such decisions from one snapshot may both be written, in any order (O'Neil, "The escrow
    transactional method", 1986). Until an event is sold out, nearly all decisions are of this kind.
    """

    before: Snapshot
    after: Snapshot
    outcomes: list[Outcome] = field(default_factory=list)
    inserts: dict[UUID, Booking] = field(default_factory=dict)
    changes: dict[UUID, Change] = field(default_factory=dict)
    issued: dict[UUID, tuple[UUID, Ticket]] = field(default_factory=dict)
    """New tickets by id, each with the id of its booking."""
    voided: dict[UUID, UUID] = field(default_factory=dict)
    """The bookings of existing tickets that are cancelled, by the id of the ticket."""
    redeemed: dict[int, Redemption] = field(default_factory=dict)
    """By how much the counters of codes grow, by the id of the code."""
    facts: list[Fact] = field(default_factory=list)
    """In order of arrival."""
    needs: Sequence[int] | None = None
    """Places that each capacity must have; None if it requires `before.version`."""
    next_expiry: datetime | None = None
    """The first end of holds and offers: of the new ones, or if `knows_expiry` of all."""
    knows_expiry: bool = False

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to write, because every request was refused."""
        return not (self.inserts or self.changes or self.moves_expiry)

    @property
    def moves_expiry(self) -> bool:
        """Whether the event's next expiry changes."""
        return self.after.next_expiry != self.before.next_expiry

    @property
    def concerns_holds(self) -> bool:
        """Whether it makes or ends holds or offers, or looks for their ends."""
        return (
            self.next_expiry is not None
            or self.knows_expiry
            or any(change.concerns_end for change in self.changes.values())
        )

    def told(self, fact: Fact) -> Booking:
        """Return the booking of a fact. A new one is as the whole batch leaves it."""
        return self.inserts[fact.booking.id] if fact.is_new else fact.booking

    @property
    def taken(self) -> int:
        """By how many the available places decrease; negative if they increase."""
        return self.before.available - self.after.available

    @property
    def joined(self) -> int:
        """By how many the waiting list grows; negative if it shrinks."""
        return self.after.waiting - self.before.waiting

    @property
    def counted(self) -> Counters | None:
        """By how many the counters grow, or shrink if negative. None if the event is plain."""
        before, after = self.before.counters, self.after.counters
        if before is None or after is None:
            return None
        return Counters(*map(_grown, before, after))


def _grown(before: Sequence[int], after: Sequence[int]) -> Sequence[int]:
    return [now - was for was, now in zip(before, after, strict=True)]
