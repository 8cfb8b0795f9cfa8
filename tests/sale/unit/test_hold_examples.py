"""Decisions about holds, offers and the patience of groups, by example."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

import pytest

from tests.sale.unit import examples
from tests.sale.unit.examples import (
    ADA,
    BOB,
    CLEO,
    DAN,
    EVE,
    EVENT,
    FAY,
    MINUTE,
    NOW,
    change,
    done,
    ids,
    revise,
)
from tests.sale.unit.rows import Rows
from ticketing.errors import AlreadyWaiting, HoldExpired, LimitReached
from ticketing.sale.inventory import resize
from ticketing.sale.inventory.book import Book
from ticketing.sale.inventory.cancel import Cancel, CancelBooking
from ticketing.sale.inventory.hold import Confirm, Expire, Extend
from ticketing.sale.inventory.kinds import InventoryRequest
from ticketing.sale.inventory.model import (
    Booked,
    Booking,
    BookingStatus,
    Cancelled,
    Kept,
    Snapshot,
    Waiting,
)
from ticketing.sale.inventory.offer import TicketType
from ticketing.sale.inventory.terms import EventStatus, Terms, WaitingMode
from ticketing.sale.inventory.withdraw import Withdraw

SEATS = TicketType(10)
OFFERS = Terms(waiting=WaitingMode.OFFER)
PATIENT = Terms(patience_minutes=10)


def event(total: int, terms: Terms | None = None, kind: TicketType = SEATS) -> Rows:
    """An event with counters, which sells one type."""
    return examples.event(kind, total=total, terms=terms)


def plain(total: int, terms: Terms | None = None) -> Rows:
    snapshot = Snapshot(EVENT, 1, total, total, 0, terms or Terms())
    return Rows(snapshot, NOW, lambda number: UUID(int=1_000_000 + number))


def book(person: UUID, quantity: int = 1, *, by_team: bool = False) -> Book:
    return Book(EVENT, person, UUID(int=next(ids)), [(None, quantity)], by_team)


def hold(person: UUID, quantity: int = 1, until: datetime | None = None) -> Book:
    return book(person, quantity)._replace(holds=True, until=until)


def held(rows: Rows, person: UUID, quantity: int = 1, until: datetime | None = None) -> Booking:
    (kept,) = done(rows, hold(person, quantity, until))
    assert isinstance(kept, Kept)
    return kept.booking


def statuses(rows: Rows) -> dict[UUID, str]:
    return {each.user_id: each.status.value for each in rows.bookings.values()}


def confirm(booking: Booking, *, by_team: bool = False) -> Confirm:
    return Confirm(EVENT, booking.user_id, booking.id, by_team)


def pass_time(rows: Rows, minutes: int) -> None:
    rows.at += minutes * MINUTE


def test_a_group_is_patient_from_the_moment_at_which_it_joins_the_line() -> None:
    rows = event(3, PATIENT)
    done(rows, book(ADA, 2), book(BOB, 2))
    (cleo,) = done(rows, book(CLEO))
    assert isinstance(cleo, Waiting)
    assert rows.snapshot.next_expiry == NOW + 10 * MINUTE
    pass_time(rows, 10)
    decision = rows.commit([Expire(EVENT)])
    rows.check()
    assert [(each.name, each.booking.user_id) for each in decision.facts] == [
        ("passed", BOB),
        ("promoted", CLEO),
    ]


def test_a_group_without_any_patience_keeps_nobody_waiting() -> None:
    rows = event(2, Terms(patience_minutes=0))
    done(rows, book(ADA), book(BOB))
    done(rows, book(CLEO, 2), book(DAN))
    (gone,) = done(rows, Cancel(EVENT, ADA))
    assert isinstance(gone, Cancelled)
    assert [each.user_id for each in gone.promoted] == [DAN]
    done(rows, Expire(EVENT))
    assert rows.snapshot.next_expiry is None


def test_the_patience_of_a_group_behind_another_begins_when_it_is_the_first() -> None:
    rows = event(3, PATIENT)
    done(rows, book(ADA, 2), book(BOB, 2), book(CLEO, 2))
    ends = [each.expires_at for each in rows.with_status(BookingStatus.WAITING)]
    assert ends == [NOW + 10 * MINUTE, None]


def test_a_group_of_a_full_event_has_no_end_of_its_patience() -> None:
    rows = event(2, PATIENT)
    done(rows, book(ADA, 2), book(BOB, 2))
    assert [each.expires_at for each in rows.with_status(BookingStatus.WAITING)] == [None]
    assert rows.snapshot.next_expiry is None


def test_patience_goes_on_when_places_are_free_again_for_a_group() -> None:
    """The event must be looked at again, although no booking changes."""
    rows = event(3, PATIENT)
    made = held(rows, ADA, 2)
    done(rows, book(BOB, 2))
    pass_time(rows, 1)
    rows.snapshot = rows.snapshot._replace(total=2, available=0)
    done(rows, Extend(EVENT, ADA, made.id, NOW + 90 * MINUTE))
    rows.snapshot = rows.snapshot._replace(next_expiry=NOW + 90 * MINUTE, total=3, available=1)
    line = rows.line(0, 9)
    decision = resize.serve(rows.snapshot, 9, line=line, at=rows.at, new_id=rows.new_id())
    assert not decision.is_empty
    rows.write(decision)
    assert rows.snapshot.next_expiry == NOW + 10 * MINUTE


def test_impatient_groups_that_were_not_read_do_not_stop_an_event() -> None:
    rows = event(2, Terms(patience_minutes=0))
    (ada,) = done(rows, book(ADA))
    assert isinstance(ada, Booked)
    for person in (BOB, CLEO, DAN):
        done(rows, book(person, 2))
        done(rows, Expire(EVENT))
    assert len(rows.with_status(BookingStatus.WAITING)) == 3
    (eve,) = done(rows, book(EVE))
    assert isinstance(eve, Booked)
    (gone,) = done(rows, Cancel(EVENT, EVE))
    assert isinstance(gone, Cancelled)
    (gone,) = done(rows, Cancel(EVENT, ADA))
    assert isinstance(gone, Cancelled)
    assert [each.user_id for each in gone.promoted] == [BOB]


def test_a_group_that_fits_is_served_before_those_behind_it_however_many_groups_are_before() -> (
    None
):
    rows = event(4, Terms(patience_minutes=0))
    (ada,) = done(rows, book(ADA, 3))
    assert isinstance(ada, Booked)
    for person in (BOB, CLEO, DAN):
        done(rows, book(person, 4))
        done(rows, Expire(EVENT))
    done(rows, book(EVE, 2))
    (fay,) = done(rows, Expire(EVENT), book(FAY))[1:]
    assert isinstance(fay, Booked)
    (left,) = done(rows, Cancel(EVENT, FAY))
    assert isinstance(left, Cancelled)
    assert not left.promoted
    gone = CancelBooking(EVENT, ADA, ada.booking.id, [ada.booking.tickets[0].id])
    (reduced,) = done(rows, gone)
    assert isinstance(reduced, Cancelled)
    assert [each.user_id for each in reduced.promoted] == [EVE]


def test_without_patience_places_gather_again_for_a_group_that_was_impatient() -> None:
    rows = event(3, PATIENT)
    done(rows, book(ADA, 2), book(BOB, 2))
    pass_time(rows, 11)
    done(rows, Expire(EVENT))
    change(rows, Terms())
    (cleo,) = done(rows, book(CLEO))
    assert isinstance(cleo, Waiting)


def test_a_person_whose_group_waits_is_told_that_it_waits() -> None:
    rows = event(3, PATIENT)
    done(rows, book(ADA, 2), book(BOB, 2))
    done(rows, Cancel(EVENT, CLEO))
    (refused,) = rows.decide([book(BOB, 1)], all_ask=True).outcomes
    assert isinstance(refused, AlreadyWaiting)


def test_an_offer_that_is_made_in_the_batch_of_the_request_ends() -> None:
    rows = event(1, OFFERS)
    done(rows, book(ADA))
    decision = rows.commit([book(BOB), Cancel(EVENT, ADA)])
    first = next(each for each in decision.facts if each.is_new)
    row = decision.told(first)
    assert row.status is BookingStatus.OFFERED
    assert row.expires_at == NOW + 60 * MINUTE
    assert decision.concerns_holds


def test_the_currency_of_an_offer_is_written_although_the_type_was_free() -> None:
    rows = event(1, OFFERS)
    done(rows, book(ADA))
    (waits,) = done(rows, book(BOB))
    assert isinstance(waits, Waiting)
    assert waits.booking.currency is None
    revise(rows, SEATS._replace(amount=500, currency="EUR"))
    decision = rows.commit([Cancel(EVENT, ADA)])
    change_of = decision.changes[waits.booking.id]
    assert (change_of.amount, change_of.currency) == (500, "EUR")
    rows.check()


def test_an_offer_has_the_price_of_its_places_in_every_mode() -> None:
    priced = SEATS._replace(amount=500, currency="EUR")
    rows = event(1, OFFERS, priced)
    done(rows, book(ADA, by_team=True))
    (waits,) = done(rows, book(BOB))
    assert isinstance(waits, Waiting)
    change(rows, Terms())
    revise(rows, priced._replace(amount=700))
    done(rows, Cancel(EVENT, ADA))
    offered = rows.read(waits.booking.id)
    assert offered.status is BookingStatus.OFFERED
    assert offered.amount == sum(each.amount for each in offered.kept_places) == 700
    (paid,) = done(rows, confirm(offered, by_team=True))
    assert isinstance(paid, Booked)
    assert [each.amount for each in paid.booking.tickets] == [700]


def test_a_hold_that_is_released_and_confirmed_in_one_batch_was_released() -> None:
    rows = event(2)
    made = held(rows, ADA)
    _, refused = done(rows, CancelBooking(EVENT, ADA, made.id), confirm(made))
    assert isinstance(refused, HoldExpired)
    assert refused.members["reason"] == "released"


def test_a_hold_that_is_confirmed_and_cancelled_in_one_batch_can_not_be_confirmed_again() -> None:
    rows = event(2)
    made = held(rows, ADA)
    done(rows, confirm(made), CancelBooking(EVENT, ADA, made.id))
    (refused,) = done(rows, confirm(made))
    assert isinstance(refused, HoldExpired)
    assert refused.members["reason"] == "released"


def test_two_extensions_are_written_one_after_the_other() -> None:
    """The second would give the hold an earlier end than the first has acknowledged."""
    rows = event(2)
    made = held(rows, ADA)
    assert rows.decide([Extend(EVENT, ADA, made.id, NOW + 90 * MINUTE)]).needs is None


def test_a_confirmation_needs_no_version_while_nobody_waits() -> None:
    rows = event(2)
    made = held(rows, ADA)
    assert rows.decide([confirm(made)]).needs == [0]


def test_a_late_confirmation_is_within_the_limits_of_the_person() -> None:
    rows = event(9, Terms(max_bookings=2, max_tickets=4, had_several=True))
    made = held(rows, ADA, 3)
    pass_time(rows, 10)
    done(rows, book(ADA, 2))
    (refused,) = done(rows, confirm(made))
    assert isinstance(refused, HoldExpired)
    assert refused.members["reason"] == "limit"
    (refused,) = done(rows, hold(ADA, 3))
    assert isinstance(refused, LimitReached)


def test_a_hold_at_a_plain_event_ends_after_the_event_although_people_wait() -> None:
    """A place of a plain event is free only while nobody waits: see ck_events_line_served."""
    rows = plain(1, Terms(ends_at=NOW + 5 * MINUTE))
    held(rows, ADA)
    done(rows, book(BOB))
    pass_time(rows, 10)
    done(rows, Expire(EVENT))
    assert statuses(rows) == {ADA: "expired", BOB: "booked"}
    assert rows.snapshot.next_expiry is None


def test_the_holds_of_a_cancelled_event_are_withdrawn_after_those_who_wait() -> None:
    rows = plain(1)
    held(rows, ADA)
    done(rows, book(BOB), book(CLEO))
    change(rows, Terms(status=EventStatus.CANCELLED))
    pass_time(rows, 10)
    done(rows, Expire(EVENT), Withdraw(EVENT, BOB))
    assert statuses(rows) == {ADA: "held", BOB: "cancelled", CLEO: "waiting"}
    assert rows.snapshot.next_expiry is None
    done(rows, Withdraw(EVENT, CLEO), Withdraw(EVENT, ADA))
    assert set(statuses(rows).values()) == {"cancelled"}


@pytest.mark.parametrize("due", [1, 2, 3])
def test_holds_that_were_not_read_stay_until_the_next_look(due: int) -> None:
    rows = event(4)
    for person in (ADA, BOB, CLEO, DAN):
        held(rows, person)
        rows.at += MINUTE
    assert rows.snapshot.next_expiry == NOW + 10 * MINUTE
    rows.at = NOW + 60 * MINUTE
    rows.due_at_once = due
    for left in range(4 - due, -1, -due):
        done(rows, Expire(EVENT))
        kept = [each.expires_at for each in rows.kept() if each.expires_at is not None]
        assert len(kept) == left
        assert rows.snapshot.next_expiry == min(kept, default=None)


def test_places_are_kept_at_their_price_until_they_are_booked() -> None:
    priced = SEATS._replace(amount=500, currency="EUR")
    rows = event(2, None, priced)
    made = held(rows, ADA, 2)
    revise(rows, priced._replace(amount=900))
    (paid,) = done(rows, confirm(made, by_team=True))
    assert isinstance(paid, Booked)
    assert [each.amount for each in paid.booking.tickets] == [500, 500]
    assert paid.booking.amount == 1000


def test_a_change_of_the_event_leaves_the_ends_of_holds_as_they_are() -> None:
    """It reads no holds, so it can't know which of them ends next."""
    rows = event(3, Terms(patience_minutes=0))
    made = held(rows, ADA, 2)
    done(rows, book(BOB, 2))
    for _ in range(2):
        line = rows.line(0, 9)
        decision = resize.serve(rows.snapshot, 9, line=line, at=rows.at, new_id=rows.new_id())
        rows.write(decision)
    pass_time(rows, 10)
    done(rows, Expire(EVENT))
    assert rows.read(made.id).status is BookingStatus.EXPIRED
    assert people(rows, BookingStatus.BOOKED) == [BOB]


def raced(rows: Rows, first: InventoryRequest, second: InventoryRequest, later: int = 0) -> str:
    """Decide the second of two processes from the same snapshot, and write it after the first.

    The first decides `later`, but writes first.
    """
    decided = rows.decide([second], new_id=lambda: UUID(int=next(ids)))
    assert not decided.is_empty
    rows.at += later * MINUTE
    rows.commit([first])
    now = rows.snapshot
    if decided.needs is None or now.waiting or now.available < decided.needs[0]:
        return "lost"
    refused = rows.refuses(decided)
    if refused is None:
        rows.write(decided)
        rows.check()
    return refused or "written"


def test_a_confirmation_that_comes_after_the_expiry_of_another_process_is_refused() -> None:
    rows = event(3)
    made = held(rows, ADA)
    assert raced(rows, Expire(EVENT), confirm(made), later=10) == "not as read"
    assert statuses(rows) == {ADA: "expired"}


def test_an_expiry_that_comes_after_a_confirmation_is_lost() -> None:
    rows = event(3)
    made = held(rows, ADA)
    rows.at += 10 * MINUTE
    expiry = rows.decide([Expire(EVENT)])
    rows.at -= MINUTE
    done(rows, confirm(made))
    assert expiry.needs is None


def test_the_places_of_two_holds_are_checked_as_those_of_two_bookings() -> None:
    assert raced(event(2), hold(ADA), hold(BOB)) == "written"
    assert raced(event(2), hold(ADA, 2), hold(BOB)) == "lost"
    assert raced(event(2), book(ADA, 2), hold(BOB)) == "lost"
    assert raced(event(2), hold(ADA), hold(ADA)) == "uq_bookings_active"


def test_a_release_and_a_confirmation_exclude_each_other() -> None:
    for is_released in (False, True):
        rows = event(2)
        made = held(rows, ADA)
        release = CancelBooking(EVENT, ADA, made.id)
        first, second = (release, confirm(made)) if is_released else (confirm(made), release)
        assert raced(rows, first, second) == "not as read"
        assert statuses(rows) == {ADA: "cancelled" if is_released else "booked"}


def test_what_ended_in_one_process_is_neither_released_nor_extended_in_another() -> None:
    for late in (CancelBooking, Extend):
        rows = event(3)
        made = held(rows, ADA)
        rows.at += MINUTE
        found = raced(rows, Expire(EVENT), late(EVENT, ADA, made.id), later=10)
        assert found in {"cancelled_stays", "lost"}
        assert statuses(rows) == {ADA: "expired"}


def test_confirmations_of_two_processes_are_written_once() -> None:
    rows = event(2)
    made = held(rows, ADA)
    assert raced(rows, confirm(made), confirm(made)) == "not as read"
    assert len(rows.tickets) == 1


def people(rows: Rows, status: BookingStatus) -> Sequence[UUID]:
    return [each.user_id for each in rows.with_status(status)]


def test_an_offer_passes_on_until_somebody_takes_it() -> None:
    rows = event(1, OFFERS)
    done(rows, book(ADA))
    done(rows, book(BOB), book(CLEO), book(DAN))
    done(rows, Cancel(EVENT, ADA))
    assert people(rows, BookingStatus.OFFERED) == [BOB]
    done(rows, Cancel(EVENT, BOB))
    assert people(rows, BookingStatus.OFFERED) == [CLEO]
    pass_time(rows, 60)
    done(rows, Expire(EVENT))
    assert people(rows, BookingStatus.OFFERED) == [DAN]
    (offered,) = rows.kept()
    (booked,) = done(rows, confirm(offered))
    assert isinstance(booked, Booked)
    assert booked.booking.tickets


def test_an_offer_ends_with_the_sale() -> None:
    rows = event(1, OFFERS._replace(closes_at=NOW + 5 * MINUTE))
    done(rows, book(ADA))
    done(rows, book(BOB))
    done(rows, Cancel(EVENT, ADA))
    assert [each.expires_at for each in rows.kept()] == [NOW + 5 * MINUTE]
