"""The decisions: pure functions over an event's inventory, with no I/O.

The invariants that every decision keeps (the database refuses the first two by constraint):

- 0 <= available <= total, and every place is either available or held by one booked row;
- a place is free only while nobody waits;
- the line is served from its head: nobody is served past it, and a newcomer joins its tail.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple, TypeAlias
from uuid import UUID

from ticketing.errors import AlreadyBooked, AlreadyWaiting, BookingNotFound
from ticketing.idempotency import Intent
from ticketing.origin import COMMAND_LINE, Origin


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


class Book(NamedTuple):
    """A request for one place. The id is made before, so that a batch knows its rows."""

    event_id: int
    user_id: UUID
    booking_id: UUID
    origin: Origin = COMMAND_LINE
    intent: Intent | None = None


class Cancel(NamedTuple):
    """A request to give up a place, or a place in the line."""

    event_id: int
    user_id: UUID
    origin: Origin = COMMAND_LINE
    intent: Intent | None = None


Request: TypeAlias = Book | Cancel


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


def facts_of(outcome: Outcome) -> Iterator[tuple[str, Booking]]:
    """Yield what becomes of places and of the line: a booking's status, or `promoted`."""
    if isinstance(outcome, Exception):
        return
    yield outcome.booking.status, outcome.booking
    if isinstance(outcome, Cancelled):
        for booking in outcome.promoted:
            yield "promoted", booking


@dataclass(slots=True)
class Decision:
    """What to write, all or nothing, if the event is still at `before.version`.

    Or, at any version, if nobody waits and there are `needs` places. A decision that has to do
    with no line rests on that, and on two things that constraints see to: who books is not active,
    and what is cancelled was not cancelled yet. Two such, made of one snapshot, may both be
    written, in whatever order (O'Neil, "The escrow transactional method", 1986): until an event is
    sold out, nearly all are such.
    """

    before: Snapshot
    after: Snapshot
    outcomes: list[Outcome] = field(default_factory=list)
    inserts: dict[UUID, Booking] = field(default_factory=dict)
    changes: dict[UUID, BookingStatus] = field(default_factory=dict)
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


def decide(
    snapshot: Snapshot,
    requests: Sequence[Request],
    *,
    active: Mapping[UUID, Booking],
    line: Sequence[Booking],
    at: datetime,
) -> Decision:
    """Decide requests for one event in order of arrival; `at` is when.

    `active` holds the active bookings by user, of everybody who cancels at least: a Book of
    somebody not in it is taken for a first one, and a constraint of the database refuses it if
    it is not. `line` is the head of the waiting list in order, one per Cancel unless the list is
    shorter. Both must be read at `snapshot.version` or later; a later one fails the swap, or
    raises StaleSnapshot where the line has become too short to decide.
    """
    return _Deciding(snapshot, active, line, at).run(requests)


class _Deciding:
    """The state that a decision walks through."""

    def __init__(
        self,
        snapshot: Snapshot,
        active: Mapping[UUID, Booking],
        line: Sequence[Booking],
        at: datetime,
    ) -> None:
        self.before = snapshot
        self.available = snapshot.available
        self.waiting = snapshot.waiting
        self.rests_on_version = snapshot.waiting > 0
        self.active = dict(active)
        self.line = {booking.id: booking for booking in line}
        self.at = at
        self.decision = Decision(snapshot, snapshot)

    def run(self, requests: Sequence[Request]) -> Decision:
        decision = self.decision
        for request in requests:
            outcome = self.book(request) if isinstance(request, Book) else self.cancel(request)
            decision.outcomes.append(outcome)
        before = self.before
        decision.after = Snapshot(
            before.event_id, before.version + 1, before.total, self.available, self.waiting
        )
        if not self.rests_on_version:
            # More than enough where somebody cancels first.
            decision.needs = len(decision.inserts)
        return decision

    def book(self, request: Book) -> Outcome:
        held = self.active.get(request.user_id)
        if held is not None:
            return AlreadyBooked() if held.status is BookingStatus.BOOKED else AlreadyWaiting()
        has_place = self.available > 0 and self.waiting == 0
        booking = Booking(
            request.booking_id,
            request.event_id,
            request.user_id,
            BookingStatus.BOOKED if has_place else BookingStatus.WAITING,
            self.at,
        )
        self.active[request.user_id] = booking
        self.decision.inserts[booking.id] = booking
        if has_place:
            self.available -= 1
            return Booked(booking)
        if self.waiting == len(self.line):
            # The whole line is in hand, so its tail is: a later Cancel may promote this one.
            self.line[booking.id] = booking
        self.waiting += 1
        self.rests_on_version = True
        return Waiting(booking, self.waiting)

    def cancel(self, request: Cancel) -> Outcome:
        held = self.active.pop(request.user_id, None)
        if held is None:
            return BookingNotFound()
        if held.id in self.decision.inserts:
            # Inserted as cancelled, where no constraint sees whether its person was active.
            self.rests_on_version = True
        cancelled = self.write(held, BookingStatus.CANCELLED)
        if held.status is BookingStatus.WAITING:
            self.waiting -= 1
            self.rests_on_version = True
            self.line.pop(held.id, None)
            return Cancelled(cancelled)
        self.available += 1
        return Cancelled(cancelled, self.promote())

    def promote(self) -> list[Booking]:
        promoted = []
        while self.available and self.waiting:
            if not self.line:
                raise StaleSnapshot
            head = self.line.pop(next(iter(self.line)))
            booking = self.write(head, BookingStatus.BOOKED)
            self.active[booking.user_id] = booking
            self.available -= 1
            self.waiting -= 1
            promoted.append(booking)
        return promoted

    def write(self, booking: Booking, status: BookingStatus) -> Booking:
        booking = booking._replace(status=status)
        if booking.id in self.decision.inserts:
            self.decision.inserts[booking.id] = booking
        else:
            self.decision.changes[booking.id] = status
        return booking
