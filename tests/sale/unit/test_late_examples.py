"""Decisions about holds of the team, and about what comes too late, by example."""

from datetime import datetime
from uuid import UUID

import pytest

from tests.sale.unit.examples import (
    ADA,
    BOB,
    CLEO,
    DAN,
    EVENT,
    MINUTE,
    NOW,
    change,
    done,
    event,
    ids,
    revise,
)
from tests.sale.unit.rows import Rows
from ticketing.errors import (
    AlreadyHeld,
    GroupTooLarge,
    HoldExpired,
    LimitReached,
    NotHeld,
    PaymentRequired,
    SaleClosed,
    SaleNotOpen,
    SoldOut,
    TicketingError,
)
from ticketing.sale.inventory import book as booking
from ticketing.sale.inventory import resize
from ticketing.sale.inventory.book import Book
from ticketing.sale.inventory.cancel import Cancel, CancelBooking
from ticketing.sale.inventory.codes import Code, CodeKind
from ticketing.sale.inventory.hold import Confirm, Expire, Extend
from ticketing.sale.inventory.model import (
    Booked,
    Booking,
    BookingStatus,
    Cancelled,
    Kept,
    Outcome,
    SeveralMissing,
    StaleSnapshot,
    Waiting,
)
from ticketing.sale.inventory.offer import Offer, TicketType
from ticketing.sale.inventory.terms import EventStatus, SaleState, Terms, WaitingMode
from ticketing.sale.inventory.withdraw import Withdraw
from ticketing.sale.pricing import Policy, RefundKind

SEAT, BOX = TicketType(10, 0), TicketType(11, 1)
CLUB = TicketType(12, 2, hidden=True)
PRICED = SEAT._replace(amount=1000, currency="EUR")
MANY = Terms(had_several=True)
LATER = NOW + 60 * MINUTE
UNTIL_LATER = Policy(RefundKind.FULL_UNTIL, LATER)


def hold(person: UUID, until: datetime | None = None, kind: TicketType = SEAT) -> Book:
    return Book(EVENT, person, UUID(int=next(ids)), [(kind.id, 1)], holds=True, until=until)


def held(rows: Rows, request: Book) -> Booking:
    (kept,) = done(rows, request)
    assert isinstance(kept, Kept)
    return kept.booking


def refused(outcome: Outcome, error: type[TicketingError]) -> object:
    """Return the members of the error that is expected."""
    assert isinstance(outcome, error)
    return outcome.members


def reason(rows: Rows, made: Booking) -> object:
    """Return why a hold that ended can't be confirmed."""
    (outcome,) = done(rows, confirm(made))
    return refused(outcome, HoldExpired)


def confirm(of: Booking, *, by_team: bool = False) -> Confirm:
    return Confirm(EVENT, of.user_id, of.id, by_team)


def test_the_team_holds_places_for_a_person_beyond_the_limits_of_people(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(booking, "MOST_HOLDS", 2)
    rows = event(SEAT, total=9, terms=MANY)
    slots = [held(rows, hold(ADA, LATER)).slot for _ in range(2)]
    assert slots == [0, 1]
    (third,) = done(rows, hold(ADA, LATER))
    expected = {"limits": "bookings", "limit": 2, "has": 2, "requested": 1}
    assert refused(third, LimitReached) == expected
    # The person may have one booking, so the first hold is in its way.
    (own,) = done(rows, hold(ADA))
    first = min(rows.kept(), key=lambda each: each.slot)
    assert refused(own, AlreadyHeld) == {
        "bookingId": str(first.id),
        "expiresAt": "2026-01-01T01:00:00Z",
    }


def test_a_second_hold_of_the_team_is_refused_until_the_event_knows_of_such() -> None:
    rows = event(SEAT, total=9)
    held(rows, hold(ADA, LATER))
    decision = rows.decide([hold(ADA, LATER)], all_ask=True)
    assert isinstance(decision.outcomes[0], SeveralMissing)


def test_the_team_holds_no_place_of_a_closed_type_and_opens_a_hidden_one_by_its_code() -> None:
    code = Code(1, "club", CodeKind.ACCESS, type_ids=(12,))
    rows = event(SEAT._replace(closed=True), BOX, CLUB, total=9, terms=MANY, codes=[code])
    (closed,) = done(rows, hold(ADA, LATER))
    assert refused(closed, SaleClosed) == {"state": SaleState.CLOSED, "ticketTypeId": 10}
    assert held(rows, hold(ADA, LATER, CLUB)._replace(code="club")).code_id == 1


def test_only_a_hold_or_an_offer_is_confirmed_extended_or_released() -> None:
    rows = event(SEAT, total=1)
    (ada, bob) = done(rows, hold(ADA)._replace(holds=False), hold(BOB)._replace(holds=False))
    assert isinstance(ada, Booked)
    waiting = {each.user_id: each for each in rows.bookings.values()}[BOB]
    outcomes = done(
        rows,
        confirm(waiting),
        Extend(EVENT, ADA, ada.booking.id),
        CancelBooking(EVENT, ADA, ada.booking.id, only_kept=True),
    )
    statuses = [refused(outcome, NotHeld) for outcome in outcomes]
    assert statuses == [{"state": each} for each in ("waiting", "booked", "booked")]
    (gone,) = done(rows, CancelBooking(EVENT, ADA, ada.booking.id))
    assert isinstance(gone, Cancelled)
    del bob


def test_a_release_gives_the_places_of_a_hold_back_and_no_money() -> None:
    rows = event(PRICED, total=1)
    made = held(rows, hold(ADA))
    (gone,) = done(rows, CancelBooking(EVENT, ADA, made.id, only_kept=True))
    assert isinstance(gone, Cancelled)
    assert gone.refund == 0
    assert rows.snapshot.available == 1


def test_an_event_knows_the_first_end_of_the_holds_of_one_batch() -> None:
    rows = event(SEAT, total=9)
    done(rows, hold(ADA, NOW + 2 * MINUTE), hold(BOB, NOW + MINUTE), hold(CLEO, NOW + 3 * MINUTE))
    assert rows.snapshot.next_expiry == NOW + MINUTE
    held(rows, hold(DAN, LATER))
    assert rows.snapshot.next_expiry == NOW + MINUTE


def test_a_hold_of_another_process_that_has_just_ended_is_read_again() -> None:
    rows = event(SEAT, total=9)
    before = rows.snapshot
    made = held(rows, hold(ADA))
    assert made.expires_at is not None
    rows.snapshot, rows.at = before, made.expires_at
    with pytest.raises(StaleSnapshot):
        rows.decide([confirm(made)])


def test_a_group_that_can_never_have_its_places_is_told_how_many_there_are() -> None:
    rows = event(SEAT, BOX, total=3)
    (group,) = done(rows, hold(ADA)._replace(lines=[(SEAT.id, 4)], holds=False))
    assert refused(group, GroupTooLarge) == {"requested": 4, "capacity": 3}


def test_a_group_whose_patience_is_over_is_passed_by_the_lines_of_all_types() -> None:
    rows = event(SEAT, BOX, total=3, terms=Terms(patience_minutes=1))
    group = hold(BOB)._replace(lines=[(SEAT.id, 3)], holds=False)
    done(rows, hold(ADA)._replace(lines=[(SEAT.id, 2)], holds=False), group)
    done(rows, hold(CLEO, kind=BOX)._replace(holds=False), hold(DAN)._replace(holds=False))
    rows.at += MINUTE
    decision = rows.commit([Expire(EVENT)])
    rows.check()
    served = [each.booking.user_id for each in decision.facts if each.name == "promoted"]
    assert served == [CLEO]
    decision = rows.commit([Cancel(EVENT, ADA)])
    served = [each.booking.user_id for each in decision.facts if each.name == "promoted"]
    assert served == [DAN]


def test_a_second_booking_of_a_person_has_the_next_slot() -> None:
    rows = event(SEAT, total=3, terms=Terms(max_bookings=2, had_several=True))
    rows.snapshot = rows.snapshot._replace(
        offer=Offer({SEAT.id: SEAT}, {}), counters=None
    )  # A plain event.
    made = done(rows, *(hold(ADA)._replace(holds=False) for _ in range(2)))
    assert [each.booking.slot for each in made if isinstance(each, Booked)] == [0, 1]


def test_an_extension_says_the_time_of_the_decision_and_the_event_knows_the_new_end() -> None:
    rows = event(SEAT, total=2)
    made = held(rows, hold(ADA))
    rows.at += 5 * MINUTE
    (extended,) = done(rows, Extend(EVENT, ADA, made.id))
    assert isinstance(extended, Kept)
    assert extended.at == rows.at
    assert extended.booking.expires_at == NOW + 15 * MINUTE
    (shorter,) = done(rows, Extend(EVENT, ADA, made.id, NOW + 6 * MINUTE))
    assert isinstance(shorter, Kept)
    assert rows.snapshot.next_expiry == NOW + 6 * MINUTE


def test_no_hold_of_a_cancelled_event_is_confirmed() -> None:
    rows = event(SEAT, total=2)
    made = held(rows, hold(ADA))
    change(rows, Terms(status=EventStatus.CANCELLED))
    (late,) = done(rows, confirm(made))
    assert isinstance(late, TicketingError)
    assert not isinstance(late, HoldExpired)


def late(rows: Rows, request: Book) -> Booking:
    """Return a hold whose end has passed."""
    made = held(rows, request)
    rows.at += 30 * MINUTE
    done(rows, Expire(EVENT))
    return made


def test_a_late_confirmation_says_why_its_places_cannot_be_had_again() -> None:
    rows = event(SEAT, BOX, total=2)
    made = late(rows, hold(ADA))
    change(rows, Terms(closes_at=rows.at))
    assert reason(rows, made) == {"reason": "sale"}
    change(rows, Terms())
    revise(rows, SEAT._replace(closed=True))
    assert reason(rows, made) == {"reason": "sale"}
    revise(rows, SEAT)
    (made_again,) = done(rows, confirm(made))
    assert isinstance(made_again, Booked)
    assert made_again.booking.slot == 0
    rows = event(SEAT, total=1)
    other = late(rows, hold(ADA))
    done(rows, hold(BOB)._replace(holds=False))
    assert reason(rows, other) == {"reason": "sold_out"}
    done(rows, hold(CLEO)._replace(holds=False))
    assert reason(rows, other) == {"reason": "waiting_list"}


def test_a_late_confirmation_takes_a_free_slot_beside_the_other_bookings_of_the_person() -> None:
    rows = event(SEAT, total=5, terms=Terms(max_bookings=2, had_several=True))
    made = late(rows, hold(ADA))
    done(rows, hold(ADA)._replace(holds=False))
    (again,) = done(rows, confirm(made))
    assert isinstance(again, Booked)
    assert again.booking.slot == 1
    assert len(rows.active([ADA])[ADA]) == 2


def test_holds_end_in_the_order_of_their_ends() -> None:
    rows = event(SEAT, total=5, terms=MANY)
    ends = {BOB: 3, ADA: 1, CLEO: 2}
    for person, minutes in ends.items():
        held(rows, hold(person, NOW + minutes * MINUTE))
    done(rows, hold(DAN)._replace(holds=False))
    rows.at = LATER
    decision = rows.commit([Expire(EVENT)])
    assert [each.booking.user_id for each in decision.facts] == [ADA, CLEO, BOB]


def test_an_offer_has_the_price_and_the_refund_policy_of_its_moment() -> None:
    terms = Terms(waiting=WaitingMode.OFFER, refunds=UNTIL_LATER)
    rows = event(PRICED, BOX, total=1, terms=terms)
    done(rows, hold(ADA)._replace(holds=False, by_team=True))
    done(rows, hold(BOB)._replace(holds=False), hold(CLEO, kind=BOX)._replace(holds=False))
    decision = rows.commit([Cancel(EVENT, ADA)])
    (_, offered) = decision.facts
    assert (offered.name, offered.booking.status) == ("offered", BookingStatus.OFFERED)
    assert decision.told(offered) is offered.booking
    offer = {each.user_id: each for each in rows.bookings.values()}[BOB]
    assert (offer.amount, offer.currency, offer.refunds) == (1000, "EUR", UNTIL_LATER)
    done(rows, CancelBooking(EVENT, BOB, offer.id))
    free = {each.user_id: each for each in rows.bookings.values()}[CLEO]
    assert (free.status, free.amount, free.refunds) == (BookingStatus.OFFERED, 0, None)


def test_who_is_promoted_has_no_end_although_their_group_was_patient() -> None:
    rows = event(SEAT, total=3, terms=Terms(patience_minutes=10))
    group = Book(EVENT, BOB, UUID(int=next(ids)), [(SEAT.id, 2)])
    done(rows, hold(ADA)._replace(lines=[(SEAT.id, 2)], holds=False), group)
    assert rows.bookings[group.booking_id].expires_at == NOW + 10 * MINUTE
    decision = rows.commit([Cancel(EVENT, ADA)])
    assert [(each.name, each.booking.expires_at) for each in decision.facts] == [
        ("cancelled", None),
        ("promoted", None),
    ]
    assert rows.bookings[group.booking_id].expires_at is None


def test_a_cancelled_event_keeps_nothing_whatever_the_policy_says() -> None:
    rows = event(PRICED, total=1)
    (sold,) = done(rows, hold(ADA)._replace(holds=False, by_team=True))
    assert isinstance(sold, Booked)
    change(rows, Terms(status=EventStatus.CANCELLED))
    done(rows, Withdraw(EVENT, ADA))
    assert rows.read(sold.booking.id).kept == 0


def test_a_part_is_cancelled_by_the_policy_at_its_moment() -> None:
    rows = event(PRICED, total=3, terms=Terms(refunds=UNTIL_LATER))
    asked = hold(ADA)._replace(lines=[(SEAT.id, 3)], holds=False, by_team=True)
    (sold,) = done(rows, asked)
    assert isinstance(sold, Booked)
    first, second, _ = [each.id for each in sold.booking.tickets]
    decision = rows.commit([CancelBooking(EVENT, ADA, sold.booking.id, [first])])
    ((name, told, *_, tickets),) = decision.facts
    assert (name, told.kept, told.quantity, tickets) == ("reduced", 0, 2, [first])
    rows.at = LATER
    done(rows, CancelBooking(EVENT, ADA, sold.booking.id, [second]))
    assert rows.read(sold.booking.id).kept == 1000


def test_who_asks_for_what_is_sold_out_without_paying_is_told_the_price_first() -> None:
    rows = event(PRICED, total=1)
    done(rows, hold(ADA)._replace(holds=False, by_team=True))
    (bob,) = done(rows, hold(BOB)._replace(holds=False))
    assert refused(bob, PaymentRequired) == {"amount": 1000, "currency": "EUR"}


def test_a_late_confirmation_looks_at_the_types_of_its_places_alone() -> None:
    rows = event(SEAT, BOX, total=2)
    made = late(rows, hold(ADA, kind=BOX))
    revise(rows, SEAT._replace(closed=True))
    (again,) = done(rows, confirm(made))
    assert isinstance(again, Booked)


def test_places_are_added_without_a_look_at_holds_that_have_ended() -> None:
    rows = event(SEAT, total=1)
    rows.snapshot = rows.snapshot._replace(offer=Offer({SEAT.id: SEAT}, {}), counters=None)
    held(rows, hold(ADA)._replace(lines=[(None, 1)]))
    decision = resize.grow(rows.snapshot, 1, line=(), at=LATER, new_id=rows.new_id())
    assert not decision.facts
    assert decision.after.next_expiry == rows.snapshot.next_expiry


def test_after_the_close_of_a_sale_who_waits_for_an_offer_is_left_out() -> None:
    rows = event(PRICED, BOX, total=1, terms=Terms(waiting=WaitingMode.OFFER))
    done(rows, hold(ADA, kind=BOX)._replace(holds=False))
    done(rows, hold(BOB)._replace(holds=False), hold(CLEO, kind=BOX)._replace(holds=False))
    change(rows, Terms(closes_at=rows.at))
    (gone,) = done(rows, Cancel(EVENT, ADA))
    assert isinstance(gone, Cancelled)
    assert [each.user_id for each in gone.promoted] == [CLEO]


def test_the_patience_of_a_group_begins_when_the_first_place_is_free() -> None:
    rows = event(SEAT, total=2, terms=Terms(patience_minutes=10))
    done(rows, hold(ADA)._replace(holds=False), hold(BOB)._replace(holds=False))
    group = Book(EVENT, CLEO, UUID(int=next(ids)), [(SEAT.id, 2)])
    done(rows, group)
    rows.at += MINUTE
    done(rows, Cancel(EVENT, ADA))
    assert rows.bookings[group.booking_id].expires_at == NOW + 11 * MINUTE


def test_an_offer_is_made_by_the_refund_policy_of_its_moment_not_of_the_line() -> None:
    rows = event(PRICED, total=1, terms=Terms(waiting=WaitingMode.OFFER, refunds=UNTIL_LATER))
    done(rows, hold(ADA)._replace(holds=False, by_team=True))
    done(rows, hold(BOB)._replace(holds=False))
    change(rows, Terms(waiting=WaitingMode.OFFER))
    done(rows, Cancel(EVENT, ADA))
    offer = {each.user_id: each for each in rows.bookings.values()}[BOB]
    assert (offer.status, offer.refunds) == (BookingStatus.OFFERED, None)


def test_a_newcomer_waits_for_a_group_behind_one_whose_patience_is_over() -> None:
    rows = event(SEAT, BOX, total=3, terms=Terms(patience_minutes=10))
    groups = [(BOB, SEAT, 3), (CLEO, BOX, 2)]
    done(rows, hold(ADA)._replace(lines=[(SEAT.id, 2)], holds=False))
    for person, kind, places in groups:
        done(rows, hold(person)._replace(lines=[(kind.id, places)], holds=False))
    rows.at += 11 * MINUTE
    done(rows, Expire(EVENT))
    (dan,) = done(rows, hold(DAN)._replace(holds=False))
    assert isinstance(dan, Waiting)


def test_an_import_books_before_the_sale_opens_but_not_after_the_event() -> None:
    rows = event(SEAT._replace(opens_at=LATER), total=1, terms=Terms(opens_at=LATER))
    (early,) = done(rows, hold(ADA)._replace(holds=False, by_team=True))
    assert refused(early, SaleNotOpen)
    (made,) = done(rows, hold(ADA)._replace(holds=False, by_team=True, imported=True))
    assert isinstance(made, Booked)
    (full,) = done(rows, hold(BOB)._replace(holds=False, by_team=True, imported=True))
    assert refused(full, SoldOut)
    change(rows, Terms(ends_at=rows.at))
    (late,) = done(rows, hold(CLEO)._replace(holds=False, by_team=True, imported=True))
    assert refused(late, SaleClosed)


def test_an_import_books_a_type_outside_its_times_but_not_a_closed_one() -> None:
    rows = event(SEAT._replace(closes_at=NOW), BOX._replace(closed=True), total=5)
    for kind, error in ((SEAT, None), (BOX, SaleClosed)):
        asked = hold(ADA, kind=kind)._replace(holds=False, by_team=True, imported=True)
        (outcome,) = done(rows, asked._replace(user_id=BOB if error else ADA))
        assert isinstance(outcome, error or Booked)


def test_all_holds_of_the_people_of_a_batch_end_whatever_was_read_of_the_others() -> None:
    rows = event(SEAT, total=5, terms=MANY)
    ends = {ADA: NOW + MINUTE, BOB: LATER, CLEO: NOW + 2 * MINUTE}
    made = {person: held(rows, hold(person, end)) for person, end in ends.items()}
    rows.at = NOW + 3 * MINUTE
    rows.due_at_once = 1
    decision = rows.commit([confirm(made[BOB]), confirm(made[CLEO])])
    ended = [each.booking.user_id for each in decision.facts if each.name == "expired"]
    assert ended == [ADA, CLEO]
