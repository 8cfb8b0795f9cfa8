"""The request to book places."""

from collections.abc import Sequence
from typing import NamedTuple
from uuid import UUID

from ticketing.errors import (
    AlreadyBooked,
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
)
from ticketing.sale.inventory.decision import Shortage, State
from ticketing.sale.inventory.kind import Kind
from ticketing.sale.inventory.model import (
    Booked,
    Booking,
    BookingStatus,
    Line,
    Outcome,
    Waiting,
    total,
)
from ticketing.sale.inventory.offer import TicketType
from ticketing.sale.inventory.terms import SaleState


class Book(NamedTuple):
    """A request for places. The id is made beforehand, so that a batch knows its rows."""

    event_id: int
    user_id: UUID
    booking_id: UUID
    lines: Sequence[tuple[int | None, int]] = ((None, 1),)
    """The id of a ticket type, or None for the only one, and a quantity. Each type once."""
    by_team: bool = False
    """Whether a manager books: they may take hidden types, and they have taken the money."""


def decide(state: State, request: Book) -> Outcome:
    """Give the person the places, or put them at the end of the waiting list.

    All places or none. Only places of one free type can be waited for.
    """
    if not state.allows.book:
        return state.refusal()
    held = state.active(request.user_id)
    slot = _free_slot(state, held) if held else 0
    lines = [Line(_type(state, asked, request), quantity) for asked, quantity in request.lines]
    for line in lines:
        _check_sale(state, line)
    places, amount, currency = total(lines)
    if currency is not None and not request.by_team:
        raise PaymentRequired(amount, currency)
    _check_limit(state, held, places)
    lacking = state.lacking(lines)
    if lacking is None:
        return Booked(state.take(request.booking_id, request.user_id, slot, lines))
    line = lacking.line
    if len(lines) > 1 or line.type.amount:
        raise _sold_out(state, lacking)
    largest = state.largest(line.type)
    if line.quantity > largest:
        raise GroupTooLarge(line.quantity, largest)
    return Waiting(*state.join(request.booking_id, request.user_id, slot, line))


def _free_slot(state: State, held: Sequence[Booking]) -> int:
    """Return the number of a further booking of the person. Raises if they may not have another."""
    allowed = state.terms.max_bookings
    if len(held) < allowed:
        # The bookings of the person may change until this is written.
        state.rest_on_version()
        used = {booking.slot for booking in held}
        return next(slot for slot in range(allowed) if slot not in used)
    if allowed > 1:
        raise LimitReached("bookings", allowed, len(held), 1)
    raise AlreadyBooked if held[0].status is BookingStatus.BOOKED else AlreadyWaiting


def _type(state: State, asked: int | None, request: Book) -> TicketType:
    types = state.offer.types
    if asked is not None:
        found = types.get(asked)
        if found is None or (found.hidden and not request.by_team):
            raise TicketTypeNotFound
        return found
    if len(types) == 1:
        (found,) = types.values()
        if found.hidden and not request.by_team:
            raise TicketTypeNotFound
        return found
    visible = [each for each in types.values() if not (each.hidden or each.closed)]
    if len(visible) != 1:
        raise TicketTypeRequired
    return visible[0]


def _check_sale(state: State, line: Line) -> None:
    """Raise if the type is not sold now, or not in this quantity."""
    kind, quantity = line
    if kind.closed or (kind.closes_at is not None and state.at >= kind.closes_at):
        raise SaleClosed(SaleState.CLOSED, kind.id)
    if kind.opens_at is not None and state.at < kind.opens_at:
        raise SaleNotOpen(SaleState.SCHEDULED, kind.opens_at, state.at, kind.id)
    most = kind.max_per_booking
    if quantity < kind.min_per_booking or (most is not None and quantity > most):
        raise QuantityNotAllowed(kind.id, kind.min_per_booking, most)


def _check_limit(state: State, held: Sequence[Booking], places: int) -> None:
    has = sum([booking.quantity for booking in held])
    if has + places > state.terms.max_tickets:
        raise LimitReached("tickets", state.terms.max_tickets, has, places)


def _sold_out(state: State, lacking: Shortage) -> SoldOut:
    line, index, left = lacking
    quota = state.offer.quotas.get(index - 1)
    return SoldOut(line.quantity, left, line.type.id, quota)


# A person without a known active booking counts as a newcomer. A constraint refuses the others.
KIND = Kind(Book, decide, needs_active=False, frees=False, inserts=True)
