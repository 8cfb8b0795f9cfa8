"""A decision, and the state that requests walk through while it is made."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from ticketing.sale.inventory.model import (
    Booking,
    BookingStatus,
    Outcome,
    Snapshot,
    StaleSnapshot,
)

PROMOTED = "promoted"


class Fact(NamedTuple):
    """What became of a booking: its status, or `promoted`; and which request did it."""

    name: str
    booking: Booking
    by: int
    """The place of the request among the event's."""
    is_new: bool = False
    """Whether the booking was not there before."""


class Change(NamedTuple):
    """The status that a booking had, and the one that it gets."""

    was: BookingStatus
    to: BookingStatus


@dataclass(slots=True)
class Decision:
    """What to write, all or nothing, if the event is still at `before.version`.

    Or, at any version, if nobody waits and there are `needs` places. A decision that has to do
    with no line rests on that, and on two things that constraints see to: the person who books is
    not active, and what is cancelled was not cancelled yet. Two such, made of one snapshot, may
    both be written, in whatever order (O'Neil, "The escrow transactional method", 1986): until an
    event is sold out, nearly all are such.
    """

    before: Snapshot
    after: Snapshot
    outcomes: list[Outcome] = field(default_factory=list)
    inserts: dict[UUID, Booking] = field(default_factory=dict)
    changes: dict[UUID, Change] = field(default_factory=dict)
    facts: list[Fact] = field(default_factory=list)
    """In order of arrival."""
    needs: int | None = None
    """None if it rests on the version."""

    @property
    def is_empty(self) -> bool:
        """Whether nothing is to be written: every request was refused."""
        return not (self.inserts or self.changes)

    @property
    def taken(self) -> int:
        """How many places fewer there are; negative when more."""
        return self.before.available - self.after.available

    @property
    def joined(self) -> int:
        """By how many the line is longer; negative when shorter."""
        return self.after.waiting - self.before.waiting


class State:
    """An event as it is after the requests that were decided so far.

    `active` and `line` are what was read of it: see `decide`. The methods are all that a kind of
    request may do; they keep the invariants, whoever calls them.
    """

    __slots__ = (
        *("_active", "_at", "_available", "_decision", "_line", "_rests_on_version", "_waiting"),
        "request",
    )

    def __init__(
        self,
        snapshot: Snapshot,
        active: Mapping[UUID, Booking],
        line: Sequence[Booking],
        at: datetime,
    ) -> None:
        """Begin as the snapshot says."""
        self._available = snapshot.available
        self._waiting = snapshot.waiting
        self._rests_on_version = snapshot.waiting > 0
        self._active = dict(active) if active else {}
        self._line = {booking.id: booking for booking in line} if line else {}
        self._at = at
        self._decision = Decision(snapshot, snapshot)
        self.request = 0
        """The place of the request that is being decided."""

    def active(self, user_id: UUID) -> Booking | None:
        """Return the person's active booking, if it is known."""
        return self._active.get(user_id)

    @property
    def has_place(self) -> bool:
        """Whether a newcomer gets a place: one is free, and nobody waits for it."""
        return self._available > 0 and self._waiting == 0

    def take(self, booking_id: UUID, user_id: UUID) -> Booking:
        """Give a free place to a newcomer."""
        self._available -= 1
        return self._insert(booking_id, user_id, BookingStatus.BOOKED)

    def join(self, booking_id: UUID, user_id: UUID) -> tuple[Booking, int]:
        """Put a newcomer at the end of the line, and return the position there."""
        booking = self._insert(booking_id, user_id, BookingStatus.WAITING)
        if self._waiting == len(self._line):
            # The whole line is in hand, so its tail is: it may be promoted in this decision.
            self._line[booking.id] = booking
        self._waiting += 1
        self._rests_on_version = True
        return booking, self._waiting

    def cancel(self, held: Booking) -> Booking:
        """Take back an active booking: its place is free, or its place in the line is gone."""
        del self._active[held.user_id]
        if held.id in self._decision.inserts:
            # Inserted as cancelled, where no constraint sees whether its person was active.
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
        """Give the free places to the head of the line. Raises StaleSnapshot."""
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

    def decided(self, outcomes: list[Outcome]) -> Decision:
        """Return the decision, with the outcomes of all requests."""
        decision, before = self._decision, self._decision.before
        decision.outcomes = outcomes
        decision.after = Snapshot(
            before.event_id, before.version + 1, before.total, self._available, self._waiting
        )
        if not self._rests_on_version:
            # More than enough if somebody cancels first.
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
