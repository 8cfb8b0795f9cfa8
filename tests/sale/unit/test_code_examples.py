"""Decisions about codes, by example."""

from typing import Final
from uuid import UUID

import pytest

from tests.sale.unit import examples
from tests.sale.unit.examples import ADA, BOB, CLEO, EVENT, MINUTE, done, ids
from tests.sale.unit.rows import Rows
from ticketing.errors import (
    CodeNotApplicable,
    CodeQuantityNotAllowed,
    CodeUsedUp,
    HoldExpired,
    TicketTypeNotFound,
)
from ticketing.sale.inventory.book import Book
from ticketing.sale.inventory.cancel import Cancel, CancelBooking
from ticketing.sale.inventory.codes import Code, CodeKind, DiscountPer, prices
from ticketing.sale.inventory.hold import Confirm, Expire
from ticketing.sale.inventory.model import Booked, Booking, Kept
from ticketing.sale.inventory.offer import TicketType
from ticketing.sale.inventory.terms import Terms

FREE: Final = TicketType(10, 0)
SEAT: Final = TicketType(11, 1, amount=1000, currency="EUR")
CLUB: Final = TicketType(12, 2, hidden=True)


def event(*codes: Code) -> Rows:
    return examples.event(FREE, SEAT, CLUB, total=9, terms=Terms(max_tickets=9), codes=codes)


def hold(person: UUID, code: str, *lines: tuple[int, int]) -> Book:
    return Book(EVENT, person, UUID(int=next(ids)), lines, holds=True, code=code)


def kept(rows: Rows, request: Book) -> Booking:
    (outcome,) = done(rows, request)
    assert isinstance(outcome, Kept)
    return outcome.booking


def counted(rows: Rows) -> tuple[int, int]:
    (code,) = rows.codes.values()
    return code.uses, code.tickets


def test_an_access_code_opens_its_hidden_types_and_counts_their_places_alone() -> None:
    rows = event(Code(1, "club", CodeKind.ACCESS, type_ids=(12,)))
    (unknown,) = done(rows, hold(ADA, "club", (12, 2), (10, 1))._replace(code=None))
    assert isinstance(unknown, TicketTypeNotFound)
    booking = kept(rows, hold(ADA, "club", (12, 2), (10, 1)))
    assert (booking.code_id, booking.code_tickets, booking.quantity) == (1, 2, 3)
    assert counted(rows) == (1, 2)
    (refused,) = done(rows, hold(BOB, "club", (10, 1)))
    assert isinstance(refused, CodeNotApplicable)


def test_an_access_code_changes_no_price_and_a_discount_opens_no_type() -> None:
    rows = event(Code(1, "club", CodeKind.ACCESS), Code(2, "half", CodeKind.DISCOUNT, percent=50))
    assert kept(rows, hold(ADA, "club", (11, 1), (12, 1))).amount == 1000
    (unknown,) = done(rows, hold(BOB, "half", (11, 1), (12, 1)))
    assert isinstance(unknown, TicketTypeNotFound)
    # What is free already is not one of its tickets.
    booking = kept(rows, hold(BOB, "half", (11, 3), (10, 1)))
    assert (booking.amount, booking.code_tickets) == (1500, 3)


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (Code(1, "c", CodeKind.DISCOUNT, amount=300), [700, 700, 0]),
        (Code(1, "c", CodeKind.DISCOUNT, amount=1300), [0, 0, 0]),
        (Code(1, "c", CodeKind.DISCOUNT, amount=301, per=DiscountPer.BOOKING), [850, 849, 0]),
        (Code(1, "c", CodeKind.DISCOUNT, percent=10, type_ids=(12,)), [1000, 1000, 0]),
    ],
)
def test_a_discount_is_taken_from_each_ticket_or_once_from_all(
    code: Code, expected: list[int]
) -> None:
    assert prices([(SEAT, 2), (FREE, 1)], code) == expected


def test_a_discount_counts_places_of_its_types_however_cheap_they_are() -> None:
    code = Code(1, "half", CodeKind.DISCOUNT, percent=50, type_ids=(11,))
    assert code.counts(SEAT._replace(amount=1))
    assert not code.counts(SEAT._replace(id=13))


def test_what_a_discount_makes_free_has_no_currency_and_waits_for_no_payment() -> None:
    rows = event(Code(1, "gift", CodeKind.DISCOUNT, percent=100))
    ada = kept(rows, hold(ADA, "gift", (11, 2)))
    assert (ada.amount, ada.currency) == (0, None)
    (booked,) = done(rows, Confirm(EVENT, ADA, ada.id))
    assert isinstance(booked, Booked)


def test_uses_and_tickets_of_a_code_are_limited_together() -> None:
    rows = event(Code(1, "club", CodeKind.ACCESS, max_uses=2, max_tickets=5))
    (large,) = done(rows, hold(ADA, "club", (12, 6)))
    assert isinstance(large, CodeQuantityNotAllowed)
    assert large.members == {"requested": 6, "limit": 5}
    ada = kept(rows, hold(ADA, "club", (12, 3)))
    # Of two in one batch, the first has the rest.
    some, none = done(rows, hold(BOB, "club", (12, 2)), hold(CLEO, "club", (12, 1)))
    assert isinstance(some, Kept)
    assert isinstance(none, CodeUsedUp)
    assert none.members == {"limits": "uses", "limit": 2, "has": 2, "requested": 1}
    done(rows, Cancel(EVENT, BOB))
    (many,) = done(rows, hold(CLEO, "club", (12, 3)))
    assert isinstance(many, CodeUsedUp)
    assert many.members == {"limits": "tickets", "limit": 5, "has": 3, "requested": 3}
    # What one gives back, the next of the same batch may have.
    _, again = done(rows, Cancel(EVENT, ADA), hold(CLEO, "club", (12, 5)))
    assert isinstance(again, Kept)
    assert counted(rows) == (1, 5)
    assert rows.bookings[ada.id].code_id == 1


def test_a_hold_that_ended_gives_its_use_back_and_may_take_it_again_while_there_is_one() -> None:
    rows = event(Code(1, "club", CodeKind.ACCESS, max_uses=1))
    ada = kept(rows, hold(ADA, "club", (12, 2)))
    rows.at += 60 * MINUTE
    done(rows, Expire(EVENT))
    assert counted(rows) == (0, 0)
    (late,) = done(rows, Confirm(EVENT, ADA, ada.id))
    assert isinstance(late, Booked)
    assert counted(rows) == (1, 2)
    done(rows, CancelBooking(EVENT, ADA, ada.id))
    bob = kept(rows, hold(BOB, "club", (12, 1)))
    rows.at += 60 * MINUTE
    # The use went to the next before this one was confirmed.
    cleo, too_late = done(rows, hold(CLEO, "club", (12, 1)), Confirm(EVENT, BOB, bob.id))
    assert isinstance(cleo, Kept)
    assert isinstance(too_late, HoldExpired)
    assert too_late.members == {"reason": "code"}
    assert counted(rows) == (1, 1)


def test_an_expired_hold_is_not_confirmed_without_tickets_of_its_code() -> None:
    rows = event(Code(1, "club", CodeKind.ACCESS, max_tickets=3))
    ada = kept(rows, hold(ADA, "club", (12, 2)))
    rows.at += 60 * MINUTE
    kept(rows, hold(BOB, "club", (12, 2)))
    (late,) = done(rows, Confirm(EVENT, ADA, ada.id))
    assert isinstance(late, HoldExpired)
    assert late.members == {"reason": "code"}


def test_an_expired_hold_whose_code_is_gone_is_not_confirmed() -> None:
    rows = event(Code(1, "club", CodeKind.ACCESS))
    ada = kept(rows, hold(ADA, "club", (12, 2)))
    rows.at += 60 * MINUTE
    done(rows, Expire(EVENT))
    del rows.codes[1]
    (late,) = done(rows, Confirm(EVENT, ADA, ada.id))
    assert isinstance(late, HoldExpired)
    assert late.members == {"reason": "code"}


def test_a_partial_cancel_keeps_the_use_and_a_full_one_gives_it_back() -> None:
    rows = event(Code(1, "club", CodeKind.ACCESS))
    ada = kept(rows, hold(ADA, "club", (12, 3)))
    (booked,) = done(rows, Confirm(EVENT, ADA, ada.id))
    assert isinstance(booked, Booked)
    first, *rest = [each.id for each in booked.booking.tickets]
    done(rows, CancelBooking(EVENT, ADA, ada.id, [first]))
    assert counted(rows) == (1, 3)
    done(rows, CancelBooking(EVENT, ADA, ada.id, rest))
    assert counted(rows) == (0, 0)


def test_a_decision_that_uses_a_code_rests_on_its_counters_as_they_were_read() -> None:
    rows = event(Code(1, "club", CodeKind.ACCESS, max_uses=1))
    ada = hold(ADA, "club", (12, 1))
    decision = rows.decide([ada])
    assert decision.redeemed[1].read == rows.codes[1]
    assert decision.needs is None
    rows.write(decision)
    # A use that is only given back rests on nothing.
    assert rows.decide([Cancel(EVENT, ADA)]).redeemed[1].read is None
