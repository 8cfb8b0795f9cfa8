"""A decision about an event, and the state that each request of it changes in turn."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, NamedTuple
from uuid import UUID

from ticketing.errors import TicketingError
from ticketing.sale.inventory.model import (
    Booking,
    BookingStatus,
    Outcome,
    Snapshot,
    StaleSnapshot,
)
from ticketing.sale.inventory.terms import ALLOWED, SaleState

PROMOTED = "promoted"


class Fact(NamedTuple):
    """A change of a booking: its new status, or `promoted`, and the request that caused it."""

    name: str
    booking: Booking
    by: int
    """The index of the request among those for the event."""
    is_new: bool = False
    """Whether the request made the booking."""


class Change(NamedTuple):
    """The old and the new status of a booking."""

    was: BookingStatus
    to: BookingStatus


@dataclass(slots=True)
class Decision:
    """Changes to write, all or nothing, if the event still has these terms and `before.version`.

    A decision that does not involve the waiting list is also valid at any other version, if nobody
    waits and `needs` places are available. Constraints check the rest: the person who books has no
    active booking, and a booking to cancel is not cancelled yet. Two such decisions from one
    snapshot may both be written, in any order (O'Neil, "The escrow transactional method", 1986).
    Until an event is sold out, nearly all decisions are of this kind.
    """

    before: Snapshot
    after: Snapshot
    outcomes: list[Outcome] = field(default_factory=list)
    inserts: dict[UUID, Booking] = field(default_factory=dict)
    changes: dict[UUID, Change] = field(default_factory=dict)
    facts: list[Fact] = field(default_factory=list)
    """In order of arrival."""
    needs: int | None = None
    """Available places that it requires; None if it requires `before.version`."""

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to write, because every request was refused."""
        return not (self.inserts or self.changes)

    @property
    def taken(self) -> int:
        """By how many the available places decrease; negative if they increase."""
        return self.before.available - self.after.available

    @property
    def joined(self) -> int:
        """By how many the waiting list grows; negative if it shrinks."""
        return self.after.waiting - self.before.waiting


class State:
    """An event after the requests that are decided so far.

    `active` and `line` are what was read from the database: see `kinds.decide`. A kind of request
    changes the event only by these methods. Each of them keeps the invariants.
    """

    __slots__ = (
        *("_active", "_at", "_available", "_decision", "_line", "_rests_on_version", "_total"),
        "_waiting",
        *("allows", "request", "sale"),
    )

    def __init__(
        self,
        snapshot: Snapshot,
        active: Mapping[UUID, Booking],
        line: Sequence[Booking],
        at: datetime,
    ) -> None:
        """Start from the snapshot."""
        self._total = snapshot.total
        self._available = snapshot.available
        self._waiting = snapshot.waiting
        self._rests_on_version = snapshot.waiting > 0
        self._active = dict(active) if active else {}
        self._line = {booking.id: booking for booking in line} if line else {}
        self._at = at
        self._decision = Decision(snapshot, snapshot)
        terms = snapshot.terms
        self.sale: Final = SaleState.OPEN if terms.are_plain else terms.state(at)
        self.allows: Final = ALLOWED[self.sale]
        """The actions that the terms of the sale allow at this time."""
        self.request = 0
        """The index of the request that is being decided."""

    def refusal(self) -> TicketingError:
        """Return the error that says why the terms of the sale refuse the request."""
        return self._decision.before.terms.refusal(self._at)

    def active(self, user_id: UUID) -> Booking | None:
        """Return the person's active booking, or None if none is known."""
        return self._active.get(user_id)

    @property
    def has_line(self) -> bool:
        """Whether anybody waits."""
        return self._waiting > 0

    @property
    def has_place(self) -> bool:
        """Whether a newcomer gets a place: one is free, and nobody waits for it."""
        return self._available > 0 and self._waiting == 0

    def take(self, booking_id: UUID, user_id: UUID) -> Booking:
        """Give a free place to a newcomer."""
        self._available -= 1
        return self._insert(booking_id, user_id, BookingStatus.BOOKED)

    def join(self, booking_id: UUID, user_id: UUID) -> tuple[Booking, int]:
        """Put a newcomer at the end of the waiting list. Return the booking and its position."""
        booking = self._insert(booking_id, user_id, BookingStatus.WAITING)
        if self._waiting == len(self._line):
            # The whole waiting list was read, so this decision may promote its new tail too.
            self._line[booking.id] = booking
        self._waiting += 1
        self._rests_on_version = True
        return booking, self._waiting

    def cancel(self, held: Booking) -> Booking:
        """Cancel an active booking: its place becomes free, or it leaves the waiting list."""
        del self._active[held.user_id]
        if held.id in self._decision.inserts:
            # It is inserted as cancelled, so no constraint checks that the person had none active.
            self._rests_on_version = True
        cancelled = self._write(held, BookingStatus.CANCELLED)
        self._record(BookingStatus.CANCELLED, cancelled)
        if held.status is BookingStatus.WAITING:
            self._waiting -= 1
            self._rests_on_version = True
            self._line.pop(held.id, None)
        else:
            self._available += 1
        return cancelled

    def promote(self) -> list[Booking]:
        """Give the free places to the head of the waiting list. Raises StaleSnapshot."""
        promoted = []
        while self._available and self._waiting:
            if not self._line:
                raise StaleSnapshot
            head = self._line.pop(next(iter(self._line)))
            booking = self._write(head, BookingStatus.BOOKED)
            self._record(PROMOTED, booking)
            self._active[booking.user_id] = booking
            self._available -= 1
            self._waiting -= 1
            promoted.append(booking)
        return promoted

    def grow(self, places: int) -> None:
        """Add free places. The caller promotes the waiting list afterwards."""
        self._total += places
        self._available += places
        self._rests_on_version = True

    def shrink(self, places: int) -> None:
        """Remove free places."""
        self._total -= places
        self._available -= places
        self._rests_on_version = True

    def decided(self, outcomes: list[Outcome]) -> Decision:
        """Return the decision, with the outcomes of all requests."""
        decision, before = self._decision, self._decision.before
        decision.outcomes = outcomes
        decision.after = Snapshot(
            before.event_id,
            before.version + 1,
            self._total,
            self._available,
            self._waiting,
            before.terms,
        )
        if not self._rests_on_version:
            # If a cancellation comes first, fewer would be enough.
            decision.needs = len(decision.inserts)
        return decision

    def _insert(self, booking_id: UUID, user_id: UUID, status: BookingStatus) -> Booking:
        decision = self._decision
        booking = Booking(booking_id, decision.before.event_id, user_id, status, self._at)
        self._active[user_id] = booking
        decision.inserts[booking_id] = booking
        decision.facts.append(Fact(status, booking, self.request, True))  # noqa: FBT003
        return booking

    def _write(self, booking: Booking, status: BookingStatus) -> Booking:
        changes, was = self._decision.changes, booking.status
        booking = booking._replace(status=status)
        if booking.id in self._decision.inserts:
            self._decision.inserts[booking.id] = booking
        else:
            changes[booking.id] = Change(changes.get(booking.id, Change(was, was)).was, status)
        return booking

    def _record(self, name: str, booking: Booking) -> None:
        self._decision.facts.append(Fact(name, booking, self.request))
