"""The decisions, compared with a simple model that serves one request at a time."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from uuid import UUID, uuid4

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ticketing.errors import AlreadyBooked, AlreadyHeld, AlreadyWaiting, BookingNotFound, EventState
from ticketing.sale.inventory import kinds
from ticketing.sale.inventory.book import Book
from ticketing.sale.inventory.cancel import Cancel, CancelBooking
from ticketing.sale.inventory.decision import Decision
from ticketing.sale.inventory.hold import Confirm, Expire, Extend
from ticketing.sale.inventory.kinds import KINDS, InventoryRequest
from ticketing.sale.inventory.model import (
    Booked,
    Booking,
    BookingStatus,
    Cancelled,
    Expired,
    Kept,
    Outcome,
    Reading,
    Snapshot,
    StaleSnapshot,
    Waiting,
)
from ticketing.sale.inventory.withdraw import Withdraw

decide = partial(kinds.decide, new_id=uuid4)
EVENT = 1
PEOPLE = [UUID(int=number) for number in range(8)]
NOW = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass
class Model:
    """The simplest model of an event."""

    total: int
    booked: list[UUID] = field(default_factory=list)
    waiting: list[UUID] = field(default_factory=list)
    held: list[UUID] = field(default_factory=list)
    """Of those in `booked`, the ones whose places are only kept."""

    def serve(self, request: InventoryRequest) -> object:  # noqa: C901, PLR0911 - one per answer
        """Serve one request and return its expected outcome."""
        user = request.user_id
        if isinstance(request, Withdraw):
            return EventState
        if isinstance(request, Expire):
            return Expired
        if isinstance(request, CancelBooking | Confirm | Extend):
            return BookingNotFound
        if isinstance(request, Book):
            if user in self.booked:
                return AlreadyHeld if user in self.held else AlreadyBooked
            if user in self.waiting:
                return AlreadyWaiting
            if len(self.booked) < self.total:
                self.booked.append(user)
                self.held += [user] * request.holds
                return Kept if request.holds else Booked
            self.waiting.append(user)
            return Waiting, len(self.waiting)
        if user in self.waiting:
            self.waiting.remove(user)
            return Cancelled, []
        if user not in self.booked:
            return BookingNotFound
        self.booked.remove(user)
        if user in self.held:
            self.held.remove(user)
        promoted = self.waiting[:1]
        self.booked += promoted
        del self.waiting[:1]
        return Cancelled, promoted


@dataclass
class Rows:
    """The rows of the database, in the order in which they were inserted."""

    snapshot: Snapshot
    bookings: dict[UUID, Booking] = field(default_factory=dict)

    def with_status(self, status: BookingStatus) -> list[Booking]:
        return [booking for booking in self.bookings.values() if booking.status is status]

    def active(self) -> dict[UUID, tuple[Booking, ...]]:
        held = [booking for booking in self.bookings.values() if booking.status.is_active]
        assert len({booking.user_id for booking in held}) == len(held)
        return {booking.user_id: (booking,) for booking in held}

    def commit(self, requests: list[InventoryRequest]) -> list[Outcome]:
        """Decide with only the rows that a decision may read, and write."""
        kinds = [KINDS[type(request)] for request in requests]
        asking = zip(requests, kinds, strict=True)
        askers = {request.user_id for request, kind in asking if kind.needs_active}
        known = self.active()
        line = self.with_status(BookingStatus.WAITING)[: sum(kind.frees for kind in kinds)]
        asked = {user: booking for user, booking in known.items() if user in askers}
        decision = decide(self.snapshot, requests, Reading(asked, line), at=NOW)
        new = [b for b in decision.inserts.values() if b.status is not BookingStatus.CANCELLED]
        changes = decision.changes.items()
        cancelled = {id_ for id_, change in changes if change.to is BookingStatus.CANCELLED}
        if any(b.user_id in known and known[b.user_id][0].id not in cancelled for b in new):
            # The unique index refuses the batch. It is decided again with all active bookings.
            decision = decide(self.snapshot, requests, Reading(known, line), at=NOW, new_id=uuid4)
        for fact in decision.facts:
            assert not fact.is_new or (fact.by is not None and kinds[fact.by].inserts)
        self._write(decision)
        return decision.outcomes

    def _write(self, decision: Decision) -> None:
        assert decision.before == self.snapshot
        for booking_id, change in decision.changes.items():
            assert self.bookings[booking_id].status is change.was
            self.bookings[booking_id] = self.bookings[booking_id]._replace(status=change.to)
        for booking in decision.inserts.values():
            assert booking.id not in self.bookings
            self.bookings[booking.id] = booking
        if not decision.is_empty:
            self.snapshot = decision.after


def seen(outcome: Outcome) -> object:
    """Return the part of an outcome that the model knows."""
    match outcome:
        case Waiting(position=position):
            return Waiting, position
        case Cancelled(promoted=promoted):
            return Cancelled, [booking.user_id for booking in promoted]
        case _:
            return type(outcome)


def book(user: UUID) -> Book:
    return Book(EVENT, user, uuid4())


def hold(user: UUID) -> Book:
    return book(user)._replace(holds=True)


def rows(total: int) -> Rows:
    return Rows(Snapshot(EVENT, version=1, total=total, available=total, waiting=0))


MAKE: dict[type, Callable[[UUID], InventoryRequest]] = {
    Book: book,
    Cancel: lambda user: Cancel(EVENT, user),
    CancelBooking: lambda user: CancelBooking(EVENT, user, UUID(int=0)),
    Withdraw: lambda user: Withdraw(EVENT, user),
    Confirm: lambda user: Confirm(EVENT, user, UUID(int=0)),
    Extend: lambda user: Extend(EVENT, user, UUID(int=0)),
    Expire: lambda _: Expire(EVENT),
}
"""Functions that make a request of each kind, for a person."""

requests = st.builds(
    lambda user, make: make(user), st.sampled_from(PEOPLE), st.sampled_from([*MAKE.values(), hold])
)


def test_every_kind_of_request_is_tried() -> None:
    assert MAKE.keys() == KINDS.keys()


@pytest.mark.usefixtures("unmeasured")
@settings(max_examples=1000, deadline=None)
@given(st.integers(1, 4), st.lists(st.lists(requests, min_size=1, max_size=12), max_size=12))
def test_a_batch_has_the_same_outcomes_and_rows_as_one_request_at_a_time(
    total: int, batches: list[list[InventoryRequest]]
) -> None:
    kept, model = rows(total), Model(total)
    for batch in batches:
        version = kept.snapshot.version
        outcomes = kept.commit(batch)
        assert [seen(outcome) for outcome in outcomes] == [model.serve(each) for each in batch]

        held = {
            booking.user_id
            for booking in kept.bookings.values()
            if booking.status is BookingStatus.BOOKED or booking.status.keeps
        }
        assert set(model.held) == {
            booking.user_id for booking in kept.with_status(BookingStatus.HELD)
        }
        line = [booking.user_id for booking in kept.with_status(BookingStatus.WAITING)]
        assert held == set(model.booked)
        assert line == model.waiting
        after = kept.snapshot
        assert after.available == total - len(held) >= 0
        assert after.waiting == len(line)
        assert not (after.available and after.waiting)
        assert after.version - version in {0, 1}


@pytest.mark.usefixtures("unmeasured")
@settings(max_examples=2000, deadline=None)
@given(
    st.integers(1, 30),
    st.sets(st.sampled_from(PEOPLE)),
    st.lists(requests, max_size=12),
    st.lists(requests, max_size=12),
)
@example(
    2,
    set(),
    [book(PEOPLE[0]), book(PEOPLE[1]), Cancel(EVENT, PEOPLE[0]), Cancel(EVENT, PEOPLE[1])],
    [book(PEOPLE[2])],
)
@example(1, {PEOPLE[0]}, [Cancel(EVENT, PEOPLE[0]), book(PEOPLE[1])], [book(PEOPLE[2])])
@example(2, {PEOPLE[0]}, [book(PEOPLE[1]), Cancel(EVENT, PEOPLE[0])], [book(PEOPLE[2])])
@example(5, set(), [book(PEOPLE[0]), Cancel(EVENT, PEOPLE[0])], [book(PEOPLE[0])])
@example(5, {PEOPLE[0]}, [Cancel(EVENT, PEOPLE[0])], [Cancel(EVENT, PEOPLE[0])])
def test_decisions_that_need_no_version_may_be_written_after_each_other(
    total: int, holding: set[UUID], ours: list[InventoryRequest], theirs: list[InventoryRequest]
) -> None:
    """Decide in two processes from one snapshot, and write as far as constraints allow."""
    kept = rows(total)
    kept.commit([book(user) for user in sorted(holding)])
    snapshot, line = kept.snapshot, kept.with_status(BookingStatus.WAITING)
    askers = {request.user_id for request in ours if KINDS[type(request)].needs_active}
    asked = {user: booking for user, booking in kept.active().items() if user in askers}
    second = decide(snapshot, ours, Reading(asked, line), at=NOW)
    assert second.needs is None or snapshot.waiting == second.after.waiting == 0
    kept.commit(theirs)
    if second.needs is None or kept.snapshot.waiting or kept.snapshot.available < second.needs[0]:
        return
    if any(kept.bookings[each].status is BookingStatus.CANCELLED for each in second.changes):
        return  # cancelled_stays
    active = kept.active()
    holders = {user for user, (held,) in active.items() if held.id not in second.changes}
    new = [b for b in second.inserts.values() if b.status is not BookingStatus.CANCELLED]
    if holders & {booking.user_id for booking in new}:
        return  # uq_bookings_active
    # A refused request was right when it was read, and wrote nothing.
    done = [
        (request, seen(outcome))
        for request, outcome in zip(ours, second.outcomes, strict=True)
        if not isinstance(outcome, Exception)
    ]
    in_turn = decide(
        kept.snapshot, [each for each, _ in done], Reading(active, []), at=NOW, new_id=uuid4
    )
    assert [seen(outcome) for outcome in in_turn.outcomes] == [outcome for _, outcome in done]
    assert in_turn.inserts == second.inserts
    assert in_turn.changes == second.changes
    assert in_turn.taken == second.taken


def test_the_outcome_has_the_booking_that_is_written() -> None:
    kept = rows(1)
    first, second = book(PEOPLE[0]), book(PEOPLE[1])
    outcomes = kept.commit([first, second])
    assert [type(outcome) for outcome in outcomes] == [Booked, Waiting]
    assert list(kept.bookings) == [first.booking_id, second.booking_id]
    (cancelled,) = kept.commit([Cancel(EVENT, PEOPLE[0])])
    assert isinstance(cancelled, Cancelled)
    assert cancelled.booking == kept.bookings[first.booking_id]
    assert list(cancelled.promoted) == [kept.bookings[second.booking_id]]


def test_a_person_who_joins_and_is_promoted_in_one_batch_is_written_once_as_booked() -> None:
    kept = rows(1)
    kept.commit([book(PEOPLE[0])])
    newcomer = book(PEOPLE[1])
    outcomes = kept.commit([newcomer, Cancel(EVENT, PEOPLE[0])])
    assert [type(outcome) for outcome in outcomes] == [Waiting, Cancelled]
    assert kept.bookings[newcomer.booking_id].status is BookingStatus.BOOKED


def test_a_newcomer_is_not_promoted_past_a_waiting_list_that_was_read_in_part() -> None:
    kept = rows(1)
    kept.commit([book(user) for user in PEOPLE[:4]])
    (_, cancelled) = kept.commit([book(PEOPLE[4]), Cancel(EVENT, PEOPLE[0])])
    assert isinstance(cancelled, Cancelled)
    assert [booking.user_id for booking in cancelled.promoted] == [PEOPLE[1]]
    line = [booking.user_id for booking in kept.with_status(BookingStatus.WAITING)]
    assert line == [PEOPLE[2], PEOPLE[3], PEOPLE[4]]


def test_a_waiting_list_that_is_shorter_than_its_count_shows_a_stale_snapshot() -> None:
    kept = rows(1)
    kept.commit([book(PEOPLE[0]), book(PEOPLE[1])])
    with pytest.raises(StaleSnapshot):
        decide(
            kept.snapshot,
            [Cancel(EVENT, PEOPLE[0])],
            Reading(kept.active(), []),
            at=NOW,
            new_id=uuid4,
        )


def test_a_batch_of_refusals_writes_nothing() -> None:
    kept = rows(1)
    kept.commit([book(PEOPLE[0])])
    decision = decide(
        kept.snapshot, [book(PEOPLE[0])], Reading(kept.active(), []), at=NOW, new_id=uuid4
    )
    assert decision.is_empty
    assert isinstance(decision.outcomes[0], AlreadyBooked)
