"""Decisions about types, quotas, groups and lines, by example."""

from datetime import timedelta
from uuid import UUID

import pytest

from tests.sale.unit.examples import ADA, BOB, CLEO, DAN, EVENT, NOW, done, event, ids, revise
from tests.sale.unit.rows import Rows
from ticketing.errors import (
    BookingAmbiguous,
    CapacityBelowTaken,
    LimitReached,
    PaymentRequired,
    SaleClosed,
    SaleNotOpen,
    SoldOut,
    TicketNotFound,
    TicketTypeNotFound,
)
from ticketing.sale.inventory import resize
from ticketing.sale.inventory.book import Book
from ticketing.sale.inventory.cancel import Cancel, CancelBooking
from ticketing.sale.inventory.keeping import kept_of
from ticketing.sale.inventory.kinds import InventoryRequest, decide
from ticketing.sale.inventory.model import (
    Booked,
    Booking,
    BookingStatus,
    Cancelled,
    CountersMissing,
    Reading,
    Snapshot,
    StaleSnapshot,
    Waiting,
)
from ticketing.sale.inventory.offer import TicketType
from ticketing.sale.inventory.state import State
from ticketing.sale.inventory.terms import EventStatus, Terms
from ticketing.sale.inventory.withdraw import Withdraw
from ticketing.sale.pricing import Policy, RefundKind, rate_of

SEATS, BALCONY = TicketType(10), TicketType(11, 1, (0, 1))


def book(person: UUID, *lines: tuple[TicketType, int], by_team: bool = False) -> Book:
    wanted = [(kind.id, quantity) for kind, quantity in lines]
    return Book(EVENT, person, UUID(int=next(ids)), wanted, by_team)


def booked(rows: Rows, request: Book) -> Booking:
    (outcome,) = done(rows, request)
    assert isinstance(outcome, Booked)
    return outcome.booking


def line(rows: Rows) -> list[UUID]:
    """Return the people who wait, in order."""
    return [each.user_id for each in rows.with_status(BookingStatus.WAITING)]


def test_the_head_of_the_line_of_a_closed_type_may_leave_it_while_others_wait_behind() -> None:
    rows = event(SEATS, total=4)
    done(rows, book(ADA, (SEATS, 2)), book(BOB, (SEATS, 3)), book(CLEO, (SEATS, 1)))
    assert line(rows) == [BOB, CLEO]
    revise(rows, SEATS._replace(closed=True))
    (left,) = done(rows, Cancel(EVENT, BOB))
    assert isinstance(left, Cancelled)
    assert line(rows) == [CLEO]


def test_no_ticket_of_a_cancelled_booking_is_valid() -> None:
    rows = event(SEATS, total=4)
    made = booked(rows, book(ADA, (SEATS, 2)))
    assert [each.is_valid for each in made.tickets] == [True, True]
    (cancelled,) = done(rows, Cancel(EVENT, ADA))
    assert isinstance(cancelled, Cancelled)
    assert [each.is_valid for each in cancelled.booking.tickets] == [False, False]
    assert cancelled.booking == rows.read(made.id)


def test_who_waits_for_free_places_gets_them_free_although_the_type_has_a_price_since() -> None:
    rows = event(SEATS, total=1)
    done(rows, book(ADA, (SEATS, 1)), book(BOB, (SEATS, 1)))
    revise(rows, SEATS._replace(amount=500, currency="EUR"))
    (cancelled,) = done(rows, Cancel(EVENT, ADA))
    assert isinstance(cancelled, Cancelled)
    (promoted,) = cancelled.promoted
    assert promoted.amount == sum(each.amount for each in promoted.tickets) == 0


def test_a_refused_line_is_told_how_many_places_are_left_beside_the_lines_before() -> None:
    rows = event(SEATS, BALCONY, total=1, quotas=[5])
    (refused,) = done(rows, book(ADA, (SEATS, 1), (BALCONY, 1)))
    assert isinstance(refused, SoldOut)
    assert refused.members == {
        "requested": 1,
        "available": 0,
        "ticketTypeId": BALCONY.id,
        "quotaId": None,
    }
    booked(rows, book(ADA, (SEATS, 1)))


def test_the_bookings_of_a_person_stay_in_the_order_in_which_they_are_read() -> None:
    rows = event(SEATS, total=9, terms=Terms(max_bookings=3, had_several=True))
    first, second = booked(rows, book(ADA, (SEATS, 2))), booked(rows, book(ADA, (SEATS, 1)))
    tickets = [first.tickets[0].id]
    _, in_batch = done(rows, CancelBooking(EVENT, ADA, first.id, tickets), Cancel(EVENT, ADA))
    (alone,) = done(rows, Cancel(EVENT, ADA))
    assert isinstance(in_batch, BookingAmbiguous)
    assert isinstance(alone, BookingAmbiguous)
    assert in_batch.members == alone.members == {"bookingIds": [str(first.id), str(second.id)]}


def test_the_limits_of_a_person_count_what_the_person_holds() -> None:
    rows = event(SEATS, total=9, terms=Terms(max_bookings=2, max_tickets=5, had_several=True))
    booked(rows, book(ADA, (SEATS, 3)))
    (refused,) = done(rows, book(ADA, (SEATS, 3)))
    assert isinstance(refused, LimitReached)
    assert refused.members == {"limits": "tickets", "limit": 5, "has": 3, "requested": 3}
    assert booked(rows, book(ADA, (SEATS, 2))).slot == 1
    (refused,) = done(rows, book(ADA, (SEATS, 1)))
    assert isinstance(refused, LimitReached)
    assert refused.members == {"limits": "bookings", "limit": 2, "has": 2, "requested": 1}


def test_a_type_is_sold_from_its_opening_until_just_before_its_closing() -> None:
    soon = NOW + timedelta(seconds=90)
    early, now, past = (
        SEATS._replace(opens_at=soon),
        BALCONY._replace(opens_at=NOW, closes_at=soon),
        TicketType(12, 2, (0,), closes_at=NOW),
    )
    rows = event(early, now, past, total=9, quotas=[9])
    too_early, on_time, too_late = done(
        rows, book(ADA, (early, 1)), book(BOB, (now, 1)), book(CLEO, (past, 1))
    )
    assert isinstance(too_early, SaleNotOpen)
    assert too_early.members == {
        "state": "scheduled",
        "opensAt": "2026-01-01T00:01:30Z",
        "retryAfter": 90,
        "ticketTypeId": early.id,
    }
    assert isinstance(on_time, Booked)
    assert isinstance(too_late, SaleClosed)
    assert too_late.members == {"state": "closed", "ticketTypeId": past.id}


def test_prices_add_up_and_only_the_team_takes_money() -> None:
    seats = SEATS._replace(amount=1600, currency="EUR")
    balcony = BALCONY._replace(amount=500, currency="EUR")
    rows = event(seats, balcony, total=9, quotas=[9])
    wanted = (seats, 2), (balcony, 1)
    own, by_team = done(rows, book(ADA, *wanted), book(ADA, *wanted, by_team=True))
    assert isinstance(own, PaymentRequired)
    assert own.members == {"amount": 3700, "currency": "EUR"}
    assert isinstance(by_team, Booked)
    made = by_team.booking
    assert (made.quantity, made.amount, made.currency, made.type_id) == (3, 3700, "EUR", None)
    assert [(each.ordinal, each.type_id, each.amount) for each in made.tickets] == [
        (1, seats.id, 1600),
        (2, seats.id, 1600),
        (3, balcony.id, 500),
    ]


def test_a_refusal_names_the_quota_that_lacks_places() -> None:
    first = BALCONY._replace(amount=500, currency="EUR")
    second = TicketType(12, 2, (0, 2), 500, "EUR")
    rows = event(SEATS, first, second, total=9, quotas=[1, 2])
    for kind, quota in ((first, 70), (second, 71)):
        (refused,) = done(rows, book(ADA, (kind, 3), by_team=True))
        assert isinstance(refused, SoldOut)
        assert refused.members == {
            "requested": 3,
            "available": quota - 69,
            "ticketTypeId": kind.id,
            "quotaId": quota,
        }


def test_a_part_of_a_booking_is_cancelled_at_the_price_of_each_ticket() -> None:
    seats = SEATS._replace(amount=1600, currency="EUR")
    rows = event(seats, BALCONY, total=6, quotas=[9])
    made = booked(rows, book(ADA, (seats, 5), (BALCONY, 1), by_team=True))
    done(rows, book(BOB, (BALCONY, 1)))
    third, last = made.tickets[2].id, made.tickets[5].id
    (unknown,) = done(rows, CancelBooking(EVENT, ADA, made.id, [third, UUID(int=1)]))
    assert isinstance(unknown, TicketNotFound)
    decision = rows.commit([CancelBooking(EVENT, ADA, made.id, [third])])
    assert decision.needs is None
    (cancelled,) = decision.outcomes
    assert isinstance(cancelled, Cancelled)
    kept = cancelled.booking
    assert (kept.quantity, kept.amount, kept.type_id) == (5, 4 * 1600, None)
    assert [each.user_id for each in cancelled.promoted] == [BOB]
    assert [each.is_valid for each in kept.tickets] == [True, True, False, True, True, True]
    assert [(each.name, list(each.tickets)) for each in decision.facts] == [
        ("reduced", [third]),
        ("promoted", []),
    ]
    (cancelled,) = done(rows, CancelBooking(EVENT, ADA, made.id, [last, third]))
    assert isinstance(cancelled, Cancelled)
    assert (cancelled.booking.quantity, cancelled.booking.type_id) == (4, seats.id)


def test_freed_places_go_to_the_earliest_whom_they_serve_whatever_the_type() -> None:
    rows = event(SEATS, BALCONY, total=3, quotas=[3])
    made = booked(rows, book(ADA, (SEATS, 3)))
    done(rows, book(BOB, (BALCONY, 2)), book(CLEO, (SEATS, 1)), book(DAN, (BALCONY, 1)))
    (cancelled,) = done(rows, CancelBooking(EVENT, ADA, made.id, [made.tickets[0].id]))
    assert isinstance(cancelled, Cancelled)
    assert not cancelled.promoted  # The group waits for one place more, before the others.
    (cancelled,) = done(rows, CancelBooking(EVENT, ADA, made.id))
    assert isinstance(cancelled, Cancelled)
    assert [each.user_id for each in cancelled.promoted] == [BOB, CLEO]
    assert line(rows) == [DAN]


def test_a_batch_keeps_the_order_of_those_who_join_in_it() -> None:
    rows = event(SEATS, BALCONY, total=2, quotas=[2])
    booked(rows, book(ADA, (SEATS, 2)))
    *_, cancelled = done(
        rows,
        book(BOB, (BALCONY, 1)),
        book(CLEO, (SEATS, 1)),
        book(DAN, (BALCONY, 1)),
        Cancel(EVENT, ADA),
    )
    assert isinstance(cancelled, Cancelled)
    assert [each.user_id for each in cancelled.promoted] == [BOB, CLEO]


def test_somebody_leaves_the_line_of_their_type() -> None:
    rows = event(SEATS, BALCONY, total=1, quotas=[3])
    done(rows, book(ADA, (SEATS, 1)), book(BOB, (SEATS, 1)), book(CLEO, (BALCONY, 1)))
    done(rows, Cancel(EVENT, CLEO))
    assert rows.snapshot.counters is not None
    assert list(rows.snapshot.counters.waiting) == [1, 0]


def test_a_first_booking_needs_places_and_no_version() -> None:
    rows = event(SEATS, BALCONY, total=9, quotas=[9])
    requests: list[InventoryRequest] = [
        book(ADA, (SEATS, 2)),
        book(BOB, (BALCONY, 3)),
        Cancel(EVENT, CLEO),
    ]
    assert rows.decide(requests).needs == [5, 3]
    booked(rows, book(CLEO, (SEATS, 1)))
    assert rows.decide([Cancel(EVENT, CLEO)]).needs == [0, 0]


def test_what_concerns_the_line_or_several_bookings_rests_on_the_version() -> None:
    rows = event(SEATS, total=1)
    booked(rows, book(ADA, (SEATS, 1)))
    assert rows.decide([book(BOB, (SEATS, 1))]).needs is None
    both: list[InventoryRequest] = [book(BOB, (SEATS, 1)), Cancel(EVENT, BOB)]
    assert event(SEATS, total=1).decide(both).needs is None
    several = Terms(max_bookings=2, had_several=True)
    assert event(SEATS, total=9, terms=several).decide(both[:1]).needs is None
    # It waits by now, although nobody waited when the snapshot was read.
    waits = Booking(UUID(int=1), EVENT, BOB, BookingStatus.WAITING, NOW, type_id=SEATS.id)
    seen = decide(
        rows.snapshot,
        [Cancel(EVENT, BOB)],
        Reading({BOB: (waits,)}, [waits]),
        at=NOW,
        new_id=rows.new_id(),
    )
    assert seen.needs is None


def test_a_cancel_of_a_booking_that_lost_tickets_since_it_was_read_rests_on_the_version() -> None:
    rows = event(SEATS, total=9)
    made = booked(rows, book(ADA, (SEATS, 3)))
    first, *others = made.tickets
    read_between = made._replace(tickets=(first._replace(is_valid=False), *others))
    for held, needs in ((read_between, None), (made, [0])):
        decision = decide(
            rows.snapshot,
            [Cancel(EVENT, ADA)],
            Reading({ADA: (held,)}),
            at=NOW,
            new_id=rows.new_id(),
        )
        assert decision.needs == needs


def test_a_person_who_could_hold_one_booking_more_is_read_again_when_it_is_written() -> None:
    rows = event(SEATS, total=9, terms=Terms(max_bookings=2))
    booked(rows, book(ADA, (SEATS, 1)))
    assert rows.decide([book(ADA, (SEATS, 1))], all_ask=True).needs is None


def test_the_line_is_served_in_parts_that_keep_its_order() -> None:
    rows = event(SEATS, total=1, terms=Terms(closes_at=NOW + timedelta(days=1)))
    booked(rows, book(ADA, (SEATS, 1)))
    done(rows, *(book(each, (SEATS, 1)) for each in (BOB, CLEO, DAN)))
    rows.snapshot = rows.snapshot._replace(total=4, available=3)
    for limit, people in ((2, [BOB, CLEO]), (9, [DAN]), (9, [])):
        decision = resize.serve(
            rows.snapshot, limit, line=rows.line(0, limit), at=NOW, new_id=rows.new_id()
        )
        assert [(each.booking.user_id, each.by) for each in decision.facts] == [
            (person, None) for person in people
        ]
        assert decision.outcomes == []
        assert decision.needs is None
        rows.write(decision)
    rows.check()


def test_the_places_of_a_plain_event_grow_and_shrink_at_a_time() -> None:
    terms = Terms(closes_at=NOW + timedelta(days=1))
    snapshot = Snapshot(EVENT, 1, 2, 2, 0, terms)
    rows = Rows(snapshot, NOW, lambda number: UUID(int=number))
    more = resize.grow(snapshot, 3, line=[], at=NOW, new_id=rows.new_id())
    assert (more.after.total, more.after.available, more.outcomes) == (5, 5, [])
    fewer = resize.shrink(snapshot, 2, at=NOW, new_id=rows.new_id())
    assert (fewer.after.total, fewer.after.available, fewer.outcomes) == (0, 0, [])
    with pytest.raises(CapacityBelowTaken) as refused:
        resize.shrink(snapshot._replace(available=1), 2, at=NOW, new_id=rows.new_id())
    assert refused.value.members == {"requested": 0, "taken": 1}


def test_a_quota_that_lacks_places_keeps_nobody_waiting_for_other_types() -> None:
    rows = event(SEATS, BALCONY, total=2, quotas=[1])
    done(rows, book(ADA, (BALCONY, 1)), book(DAN, (SEATS, 1)))
    done(rows, book(BOB, (BALCONY, 1)), book(CLEO, (SEATS, 1)))
    (cancelled,) = done(rows, Cancel(EVENT, DAN))
    assert isinstance(cancelled, Cancelled)
    assert [each.user_id for each in cancelled.promoted] == [CLEO]
    assert line(rows) == [BOB]


def test_a_line_for_one_quota_closes_that_quota_alone_to_newcomers() -> None:
    rows = event(SEATS, BALCONY, total=3, quotas=[1])
    done(rows, book(ADA, (BALCONY, 1)), book(BOB, (BALCONY, 1)))
    assert line(rows) == [BOB]
    booked(rows, book(CLEO, (SEATS, 1)))


def test_a_newcomer_does_not_pass_a_line_that_is_not_yet_served() -> None:
    rows = event(SEATS, total=1)
    done(rows, book(ADA, (SEATS, 1)), book(BOB, (SEATS, 1)))
    rows.snapshot = rows.snapshot._replace(total=2, available=1)
    (waits,) = rows.decide([book(CLEO, (SEATS, 1))]).outcomes
    assert isinstance(waits, Waiting)
    assert waits.position == 2


def test_nothing_is_left_for_newcomers_while_a_group_waits_for_it() -> None:
    priced = BALCONY._replace(amount=500, currency="EUR")
    rows = event(SEATS, priced, total=3, quotas=[9])
    done(rows, book(ADA, (SEATS, 2)), book(BOB, (SEATS, 2)))
    (refused,) = done(rows, book(CLEO, (priced, 1), by_team=True))
    assert isinstance(refused, SoldOut)
    assert refused.members["available"] == 0
    assert refused.members["quotaId"] is None
    (waits,) = done(rows, book(CLEO, (SEATS, 1)))
    assert isinstance(waits, Waiting)
    assert waits.position == 2


def test_a_booking_that_is_promoted_and_cancelled_in_one_batch_was_waiting() -> None:
    rows = event(SEATS, total=1)
    booked(rows, book(ADA, (SEATS, 1)))
    (waits,) = done(rows, book(BOB, (SEATS, 1)))
    assert isinstance(waits, Waiting)
    decision = rows.commit([Cancel(EVENT, ADA), Cancel(EVENT, BOB)])
    assert decision.needs is None
    change = decision.changes[waits.booking.id]
    assert (change.was, change.to) == (BookingStatus.WAITING, BookingStatus.CANCELLED)
    rows.check()


def test_places_that_are_freed_while_one_person_waits_rest_on_the_version() -> None:
    rows = event(SEATS, total=2)
    booked(rows, book(ADA, (SEATS, 1)))
    booked(rows, book(CLEO, (SEATS, 1)))
    done(rows, book(BOB, (SEATS, 1)))
    assert rows.decide([Cancel(EVENT, ADA)]).needs is None


def test_a_line_that_is_shorter_than_its_count_is_served_as_far_as_it_is_known() -> None:
    rows = event(SEATS, total=2)
    booked(rows, book(ADA, (SEATS, 2)))
    done(rows, book(BOB, (SEATS, 1)), book(CLEO, (SEATS, 1)))
    known = rows.with_status(BookingStatus.WAITING)[:1]
    with pytest.raises(StaleSnapshot):
        decide(
            rows.snapshot,
            [Cancel(EVENT, ADA)],
            Reading(rows.active([ADA]), known),
            at=NOW,
            new_id=rows.new_id(),
        )
    rows.snapshot = rows.snapshot._replace(total=4, available=2)
    decision = resize.serve(rows.snapshot, 9, line=known, at=NOW, new_id=rows.new_id())
    assert [each.booking.user_id for each in decision.facts] == [BOB]
    state = State(rows.snapshot, Reading(line=known), at=NOW, new_id=rows.new_id())
    assert [each.user_id for each in state.promote(9)] == [BOB]


def test_a_place_goes_to_the_next_when_the_first_left_the_line_just_before() -> None:
    rows = event(SEATS, total=1)
    booked(rows, book(ADA, (SEATS, 1)))
    done(rows, book(BOB, (SEATS, 1)), book(CLEO, (SEATS, 1)))
    _, cancelled = done(rows, Cancel(EVENT, BOB), Cancel(EVENT, ADA))
    assert isinstance(cancelled, Cancelled)
    assert [each.user_id for each in cancelled.promoted] == [CLEO]


def test_the_only_place_of_a_plain_booking_is_a_ticket_with_the_id_of_the_booking() -> None:
    plain = Snapshot(EVENT, 1, 1, 1, 0)
    rows = Rows(plain, NOW, lambda number: UUID(int=number))
    made = booked(rows, Book(EVENT, ADA, UUID(int=7)))
    (unknown,) = done(rows, CancelBooking(EVENT, ADA, made.id, [made.id, UUID(int=8)]))
    assert isinstance(unknown, TicketNotFound)
    (cancelled,) = done(rows, CancelBooking(EVENT, ADA, made.id, [made.id]))
    assert isinstance(cancelled, Cancelled)
    assert cancelled.booking.status is BookingStatus.CANCELLED


def test_a_group_can_not_wait_at_an_event_without_counters() -> None:
    rows = Rows(Snapshot(EVENT, 1, 2, 2, 0), NOW, lambda number: UUID(int=number))
    booked(rows, Book(EVENT, ADA, UUID(int=7)))
    pair = Book(EVENT, BOB, UUID(int=8), [(None, 2)])
    (refused,) = done(rows, pair)
    assert isinstance(refused, CountersMissing)
    rows.give_counters()
    (waits,) = done(rows, pair)
    assert isinstance(waits, Waiting)


def test_a_hidden_type_is_unknown_to_all_but_the_team() -> None:
    hidden = SEATS._replace(hidden=True)
    rows = event(hidden, total=2)
    for wanted in (hidden.id, None):
        own, unknown = done(
            rows,
            Book(EVENT, ADA, UUID(int=next(ids)), [(wanted, 1)]),
            Book(EVENT, ADA, UUID(int=next(ids)), [(99, 1)]),
        )
        assert isinstance(own, TicketTypeNotFound)
        assert isinstance(unknown, TicketTypeNotFound)
        person = UUID(int=next(ids))
        (made,) = done(rows, Book(EVENT, person, UUID(int=next(ids)), [(wanted, 1)], by_team=True))
        assert isinstance(made, Booked)


FEE = Policy(RefundKind.FLAT_FEE, fee=500)
UNTIL_LATER = Policy(RefundKind.FULL_UNTIL, NOW + timedelta(seconds=1))
UNTIL_NOW = Policy(RefundKind.FULL_UNTIL, NOW)
PRICED = SEATS._replace(amount=1600, currency="EUR", tax_rate=rate_of("7"))


def sold(refunds: Policy | None, quantity: int) -> tuple[Rows, Booking]:
    rows = event(PRICED, BALCONY, total=9, quotas=[9], terms=Terms(refunds=refunds))
    return rows, booked(rows, book(ADA, (PRICED, quantity), by_team=True))


def given_back(rows: Rows, *requests: InventoryRequest) -> list[tuple[int, int]]:
    """What each cancel gives back, and what the organiser keeps of the booking since then."""
    outcomes = done(rows, *requests)
    return [(each.refund, each.booking.kept) for each in outcomes if isinstance(each, Cancelled)]


def test_a_booking_with_a_price_keeps_the_refund_policy_of_its_moment() -> None:
    rows, made = sold(FEE, 2)
    rows.snapshot = rows.snapshot._replace(terms=Terms(refunds=UNTIL_LATER))
    assert made.refunds == rows.read(made.id).refunds == FEE
    assert given_back(rows, Cancel(EVENT, ADA)) == [(2700, 500)]
    assert booked(rows, book(BOB, (PRICED, 1), by_team=True)).refunds == UNTIL_LATER
    assert booked(rows, book(CLEO, (BALCONY, 1))).refunds is None


def test_a_flat_fee_is_kept_once_of_tickets_that_are_cancelled_one_by_one() -> None:
    rows, made = sold(FEE, 3)
    cancels = [CancelBooking(EVENT, ADA, made.id, [each.id]) for each in made.tickets]
    assert given_back(rows, cancels[1]) == [(1100, 500)]
    assert given_back(rows, cancels[0], cancels[2]) == [(1600, 500), (1600, 500)]
    assert rows.read(made.id).kept == 500


@pytest.mark.parametrize(
    ("refunds", "back"), [(None, 0), (UNTIL_NOW, 0), (UNTIL_LATER, 3200), (FEE, 2700)]
)
def test_a_cancelled_booking_gives_back_what_its_policy_says(
    refunds: Policy | None, back: int
) -> None:
    rows, made = sold(refunds, 2)
    assert made.total == 3200
    assert given_back(rows, Cancel(EVENT, ADA)) == [(back, 3200 - back)]
    assert rows.read(made.id).total == 3200 - back


def test_a_cancelled_event_gives_everything_back() -> None:
    rows, made = sold(FEE, 3)
    assert given_back(rows, CancelBooking(EVENT, ADA, made.id, [made.tickets[0].id]))
    over = rows.snapshot.terms._replace(status=EventStatus.CANCELLED)
    rows.snapshot = rows.snapshot._replace(terms=over)
    done(rows, Withdraw(EVENT, ADA))
    assert rows.read(made.id).total == 500


def test_the_tax_is_part_of_the_price_of_each_ticket() -> None:
    _, made = sold(None, 2)
    assert [(each.amount, each.tax) for each in made.tickets] == [(1600, 105)] * 2


def test_nothing_is_kept_of_what_is_not_sold_yet() -> None:
    _, made = sold(None, 2)
    assert kept_of(made, made.tickets, NOW) == 3200
    assert kept_of(made._replace(status=BookingStatus.WAITING), made.tickets, NOW) == 0
