"""The request to book places."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final, NamedTuple
from uuid import UUID

from ticketing.errors import (
    AlreadyBooked,
    AlreadyHeld,
    AlreadyWaiting,
    GroupTooLarge,
    LimitReached,
    PaymentRequired,
    QuantityNotAllowed,
    SaleClosed,
    SaleNotOpen,
    SoldOut,
    TicketTypeNotFound,
    TicketTypeRequired,
    ValidationFailed,
)
from ticketing.sale.inventory.codes import Code
from ticketing.sale.inventory.kind import Kind
from ticketing.sale.inventory.model import (
    Booked,
    Booking,
    BookingStatus,
    Kept,
    Line,
    Outcome,
    SeveralMissing,
    Waiting,
)
from ticketing.sale.inventory.offer import TicketType
from ticketing.sale.inventory.order import order
from ticketing.sale.inventory.state import Shortage, State
from ticketing.sale.inventory.terms import SaleState, WaitingMode

MOST_HOLDS: Final = 10_000
"""How many active bookings a person may have at an event with those that the team made."""


class Book(NamedTuple):
    """A request for places. The id is made beforehand, so that a batch knows its rows."""

    event_id: int
    user_id: UUID
    booking_id: UUID
    lines: Sequence[tuple[int | None, int]] = ((None, 1),)
    """The id of a ticket type, or None for the only one, and a quantity. Each type once."""
    by_team: bool = False
    """Whether a manager books: they may take hidden types, and they have taken the money."""
    holds: bool = False
    """Whether the places are only kept, until the hold is confirmed."""
    until: datetime | None = None
    """The end that a manager gives to a hold. The limits of people do not apply to such a hold."""
    code: str | None = None
    """A code of the event, folded."""
    imported: bool = False
    """Whether an operator imports it. Then the sale need not be open, and it never waits."""


def decide(state: State, request: Book) -> Outcome:
    """Give the person the places or keep them, or put the person at the end of the waiting list.

    All places or none. Only places of one type can be waited for. If the waiting list books them by
    itself, they must be free. A request with a code never waits.
    """
    if request.until is not None:
        return _hold_for_team(state, request, request.until)
    if not (state.allows.book or (request.imported and state.allows.cancel)):
        return state.refusal()
    held = state.active(request.user_id)
    slot = free_slot(state, held) if held else 0
    code = None if request.code is None else state.code(request.code)
    lines = _lines(state, request, code)
    for line in lines:
        _check_sale(state, line, by_time=not request.imported)
    wanted = order(lines, code)
    amount, currency = wanted.amount, wanted.currency
    check_limit(state, held, len(wanted.places))
    lacking = state.lacking(lines)
    if lacking is None:
        if request.holds:
            until = state.at + timedelta(minutes=state.terms.hold_minutes)
            held_now = state.hold(request.booking_id, request.user_id, slot, wanted, until)
            return Kept(held_now, state.at)
        _check_price(amount, currency, request)
        return Booked(state.take(request.booking_id, request.user_id, slot, wanted))
    line, mode = lacking.line, state.terms.waiting
    if code is not None or request.imported:
        raise _sold_out(state, lacking)
    if len(lines) > 1 or (amount and mode is not WaitingMode.OFFER):
        _check_price(amount, currency, request)
        raise _sold_out(state, lacking)
    if mode is WaitingMode.CLOSED:
        raise _sold_out(state, lacking)
    largest = state.largest(line.type)
    if line.quantity > largest:
        raise GroupTooLarge(line.quantity, largest)
    return Waiting(*state.join(request.booking_id, request.user_id, slot, line))


def _hold_for_team(state: State, request: Book, until: datetime) -> Outcome:
    """Keep places until an end that the team has chosen, also while the sale is not open.

    Raises SeveralMissing if the person has a booking, and the event does not know of such.
    """
    if not state.allows.cancel:
        return state.refusal()
    if until <= state.at:
        raise end_passed()
    held = state.active(request.user_id)
    if held:
        if not state.terms.had_several:
            raise SeveralMissing
        state.rest_on_version()
    used = {booking.slot for booking in held}
    slot = next(slot for slot in range(len(held) + 1) if slot not in used)
    if slot == MOST_HOLDS:
        raise LimitReached("bookings", MOST_HOLDS, len(held), 1)
    code = None if request.code is None else state.code(request.code)
    lines = _lines(state, request, code)
    for line in lines:
        if line.type.closed:
            raise SaleClosed(SaleState.CLOSED, line.type.id)
    lacking = state.lacking(lines)
    if lacking is not None:
        raise _sold_out(state, lacking)
    wanted = order(lines, code)
    return Kept(state.hold(request.booking_id, request.user_id, slot, wanted, until), state.at)


def end_passed() -> ValidationFailed:
    """Return the error for the end of a hold that is not to come."""
    message = "Choose a time to come"
    error = {"in": "body", "pointer": "#/expiresAt", "type": "time_passed", "detail": message}
    return ValidationFailed(errors=[error])


def free_slot(state: State, held: Sequence[Booking]) -> int:
    """Return the number of a further booking of the person. Raises if they may not have another."""
    allowed = state.terms.max_bookings
    if len(held) < allowed:
        # The bookings of the person may change until this is written.
        state.rest_on_version()
        used = {booking.slot for booking in held}
        return next(slot for slot in range(allowed) if slot not in used)
    if allowed > 1:
        raise LimitReached("bookings", allowed, len(held), 1)
    (has,) = held[:1]
    if has.ends_at is not None:
        raise AlreadyHeld(has.id, has.ends_at)
    raise AlreadyBooked if has.status is BookingStatus.BOOKED else AlreadyWaiting


def _lines(state: State, request: Book, code: Code | None) -> Sequence[Line]:
    return [Line(_type(state, asked, request, code), quantity) for asked, quantity in request.lines]


def _type(state: State, asked: int | None, request: Book, code: Code | None) -> TicketType:
    types = state.offer.types
    if asked is not None or len(types) == 1:
        found = next(iter(types.values())) if asked is None else types.get(asked)
        if found is None or not _is_open(found, request, code):
            raise TicketTypeNotFound
        return found
    visible = [each for each in types.values() if not (each.hidden or each.closed)]
    if len(visible) != 1:
        raise TicketTypeRequired
    return visible[0]


def _is_open(kind: TicketType, request: Book, code: Code | None) -> bool:
    """Whether the type is not hidden from who books it."""
    return not kind.hidden or request.by_team or (code is not None and code.opens(kind))


def _check_sale(state: State, line: Line, *, by_time: bool) -> None:
    """Raise if the type is not sold, or not in this quantity, or with `by_time` not now."""
    kind, quantity = line
    is_over = by_time and kind.closes_at is not None and state.at >= kind.closes_at
    if kind.closed or is_over:
        raise SaleClosed(SaleState.CLOSED, kind.id)
    if by_time and kind.opens_at is not None and state.at < kind.opens_at:
        raise SaleNotOpen(SaleState.SCHEDULED, kind.opens_at, state.at, kind.id)
    most = kind.max_per_booking
    if quantity < kind.min_per_booking or (most is not None and quantity > most):
        raise QuantityNotAllowed(kind.id, kind.min_per_booking, most)


def _check_price(amount: int, currency: str | None, request: Book) -> None:
    """Raise PaymentRequired if there is a price, unless the team has taken the money."""
    if currency is not None and not (request.by_team or request.holds):
        raise PaymentRequired(amount, currency)


def check_limit(state: State, held: Sequence[Booking], places: int) -> None:
    """Raise LimitReached if the person may not have so many places more."""
    has = sum([booking.quantity for booking in held])
    if has + places > state.terms.max_tickets:
        raise LimitReached("tickets", state.terms.max_tickets, has, places)


def _sold_out(state: State, lacking: Shortage) -> SoldOut:
    line, index, left = lacking
    quota = state.offer.quotas.get(index - 1)
    return SoldOut(line.quantity, left, line.type.id, quota)


# A person without a known active booking counts as a newcomer. A constraint refuses the others.
KIND = Kind(Book, decide, needs_active=False, frees=False, inserts=True)
