"""The terms of a sale, and changes of the capacity."""

from datetime import UTC, datetime, timedelta
from functools import partial
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ticketing.errors import BookingNotFound, Busy, CapacityBelowTaken, SaleClosed, SaleNotOpen
from ticketing.sale.inventory import kinds, resize
from ticketing.sale.inventory.book import Book
from ticketing.sale.inventory.cancel import Cancel
from ticketing.sale.inventory.kinds import InventoryRequest
from ticketing.sale.inventory.model import (
    Booked,
    Booking,
    BookingStatus,
    Cancelled,
    Reading,
    Snapshot,
)
from ticketing.sale.inventory.terms import ALLOWED, EventStatus, SaleState, Terms
from ticketing.sale.inventory.withdraw import Withdraw

decide = partial(kinds.decide, new_id=uuid4)
EVENT = 1
NOW = datetime(2027, 1, 1, tzinfo=UTC)
AFTER, BEFORE = NOW + timedelta(seconds=90), NOW - timedelta(seconds=1)
ADA, BOB = UUID(int=1), UUID(int=2)

STATES = [
    (Terms(), SaleState.OPEN),
    (Terms(opens_at=AFTER), SaleState.SCHEDULED),
    (Terms(opens_at=NOW), SaleState.OPEN),
    (Terms(opens_at=AFTER, paused=True), SaleState.PAUSED),
    (Terms(paused=True), SaleState.PAUSED),
    (Terms(closes_at=NOW, paused=True), SaleState.CLOSED),
    (Terms(closes_at=AFTER), SaleState.OPEN),
    (Terms(ends_at=NOW), SaleState.ENDED),
    (Terms(ends_at=BEFORE, closes_at=BEFORE), SaleState.ENDED),
    (Terms(status=EventStatus.DRAFT), SaleState.DRAFT),
    (Terms(status=EventStatus.CANCELLED, ends_at=BEFORE), SaleState.CANCELLED),
]


def snapshot(terms: Terms, *, total: int = 5, available: int = 5, waiting: int = 0) -> Snapshot:
    return Snapshot(EVENT, 7, total, available, waiting, terms)


def held(user: UUID, status: BookingStatus) -> Booking:
    return Booking(uuid4(), EVENT, user, status, NOW)


@pytest.mark.parametrize(("terms", "state"), STATES)
def test_a_sale_is_in_one_state_at_a_time(terms: Terms, state: SaleState) -> None:
    assert terms.state(NOW) is state
    assert terms.allow_booking(NOW) is ALLOWED[state].book


@pytest.mark.parametrize(("terms", "state"), STATES)
def test_what_the_state_does_not_allow_is_refused_and_changes_nothing(
    terms: Terms, state: SaleState
) -> None:
    booked = held(BOB, BookingStatus.BOOKED)
    requests: list[InventoryRequest] = [Book(EVENT, ADA, uuid4()), Cancel(EVENT, BOB)]
    decision = decide(snapshot(terms, available=4), requests, Reading({BOB: (booked,)}, []), at=NOW)
    made, cancelled = decision.outcomes
    assert isinstance(made, Booked) is ALLOWED[state].book
    assert isinstance(cancelled, Cancelled) is ALLOWED[state].cancel
    assert decision.is_empty is not (ALLOWED[state].book or ALLOWED[state].cancel)
    if not ALLOWED[state].book:
        assert isinstance(made, SaleNotOpen | SaleClosed)
        assert made.members["state"] == state


def test_who_comes_too_early_learns_when_the_sale_opens() -> None:
    (refused,) = decide(
        snapshot(Terms(opens_at=AFTER)), [Book(EVENT, ADA, uuid4())], Reading({}, []), at=NOW
    ).outcomes
    assert isinstance(refused, SaleNotOpen)
    assert refused.members == {
        "state": "scheduled",
        "opensAt": "2027-01-01T00:01:30Z",
        "retryAfter": 90,
    }


@pytest.mark.parametrize("terms", [Terms(paused=True), Terms(status=EventStatus.DRAFT)])
def test_the_opening_is_named_only_if_nothing_else_keeps_the_sale_closed(terms: Terms) -> None:
    refused = terms._replace(opens_at=AFTER).refusal(NOW)
    assert isinstance(refused, SaleNotOpen)
    assert refused.members == {"state": terms.state(NOW)}


def test_the_decision_carries_the_terms_that_it_rests_on() -> None:
    terms = Terms(revision=3, closes_at=AFTER)
    decision = decide(snapshot(terms), [Book(EVENT, ADA, uuid4())], Reading({}, []), at=NOW)
    assert decision.before.terms == decision.after.terms == terms


def test_the_bookings_of_a_cancelled_event_go_to_nobody_and_those_who_wait_go_first() -> None:
    terms = Terms(status=EventStatus.CANCELLED)
    booked, waiting = held(ADA, BookingStatus.BOOKED), held(BOB, BookingStatus.WAITING)
    active = {ADA: (booked,), BOB: (waiting,)}
    before = snapshot(terms, total=1, available=0, waiting=1)
    requests = [Withdraw(EVENT, person) for person in (ADA, BOB, ADA, ADA)]
    decision = decide(before, requests, Reading(active, []), at=NOW)
    first, second, third, fourth = decision.outcomes
    assert isinstance(first, Busy)
    assert isinstance(second, Cancelled)
    assert isinstance(third, Cancelled)
    assert isinstance(fourth, BookingNotFound)
    assert (decision.after.available, decision.after.waiting) == (1, 0)
    assert {fact.name for fact in decision.facts} == {"cancelled"}


@given(st.integers(1, 5), st.integers(0, 9), st.integers(1, 12))
def test_more_places_serve_the_head_of_the_waiting_list_first(
    total: int, waiting: int, more: int
) -> None:
    line = [held(UUID(int=number), BookingStatus.WAITING) for number in range(waiting)]
    free = 0 if waiting else 1
    before = snapshot(Terms(), total=total, available=free, waiting=waiting)
    decision = resize.grow(before, more, line=line[:more], at=NOW, new_id=uuid4)
    served = min(waiting, more)
    assert list(decision.changes) == [booking.id for booking in line[:served]]
    after = decision.after
    assert (after.total, after.waiting) == (total + more, waiting - served)
    assert after.available == free + more - served
    assert decision.needs is None


@given(st.integers(2, 50), st.integers(0, 50), st.integers(1, 49))
def test_places_are_taken_away_down_to_what_is_taken(total: int, taken: int, fewer: int) -> None:
    taken, fewer = min(taken, total), min(fewer, total - 1)
    before = snapshot(Terms(), total=total, available=total - taken)
    if total - fewer < taken:
        with pytest.raises(CapacityBelowTaken) as refused:
            resize.shrink(before, fewer, at=NOW, new_id=uuid4)
        assert refused.value.members == {"requested": total - fewer, "taken": taken}
    else:
        after = resize.shrink(before, fewer, at=NOW, new_id=uuid4).after
        assert (after.total, after.available) == (total - fewer, total - fewer - taken)
