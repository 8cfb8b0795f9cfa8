"""A commit: decisions, the facts about bookings, and the responses to store."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import NamedTuple
from uuid import UUID

from ticketing.db.facts import Origin
from ticketing.db.ids import uuid7
from ticketing.sale.commit.shape import Shape
from ticketing.sale.inventory.decision import Decision
from ticketing.sale.inventory.model import Booking, BookingStatus
from ticketing.web.keyed import KeyedRequest, Rendered


class AttributedFact(NamedTuple):
    """A change of a booking: its name, see `Fact`, and the origin of the request.

    `inserted_as` is the status of a new booking when it is inserted, else None. `tickets` are those
    that were cancelled while the rest of the booking stays.
    """

    name: str
    booking: Booking
    origin: Origin
    inserted_as: BookingStatus | None
    tickets: Sequence[UUID] = ()


class Stored(NamedTuple):
    """The response to a keyed request. It is stored if the event's swap is won."""

    event_id: int
    keyed: KeyedRequest
    response: Rendered


@dataclass(frozen=True)
class Commit:
    """Decisions that one statement writes: those that are still valid."""

    decisions: Sequence[Decision]
    facts: Sequence[AttributedFact]
    stored: Sequence[Stored]
    at: datetime

    @cached_property
    def id(self) -> UUID:
        """The id of the commit. Ids sort by the database's time."""
        return uuid7(self.at)

    @cached_property
    def left(self) -> Mapping[UUID, BookingStatus]:
        """What the bookings were that are cancelled without ever having had their places.

        Released holds, offers that are given back, and bookings that leave the waiting list.
        """
        if not any(fact.name == BookingStatus.CANCELLED for fact in self.facts):
            return {}
        status = {of: change.was for each in self.decisions for of, change in each.changes.items()}
        left = {}
        for fact in self.facts:
            booking_id = fact.booking.id
            if fact.name != BookingStatus.CANCELLED:
                status[booking_id] = fact.booking.status
            elif (was := status[booking_id]) is not BookingStatus.BOOKED:
                left[booking_id] = was
        return left

    @property
    def shape(self) -> Shape:
        """Which parts the statement needs."""
        changes = any(each.changes for each in self.decisions)
        counted = any(each.before.counters is not None for each in self.decisions)
        holds = any(each.concerns_holds for each in self.decisions)
        codes = any(each.redeemed for each in self.decisions)
        return Shape(
            many=len(self.decisions) > 1,
            changes=changes,
            stores=bool(self.stored),
            # A second response may be that of a request which changed nothing.
            lone=len(self.facts) == 1 and len(self.stored) <= 1 and not changes,
            full=counted
            or holds
            or codes
            or bool(self.left)
            or any(_is_full(fact.booking) for fact in self.facts),
            counted=counted,
            holds=holds,
            codes=codes,
        )


def _is_full(booking: Booking) -> bool:
    return booking.has_tickets or booking.slot > 0
