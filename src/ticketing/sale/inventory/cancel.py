"""The requests to cancel a booking, or some tickets of one."""

from collections.abc import Sequence
from typing import NamedTuple
from uuid import UUID

from ticketing.errors import BookingAmbiguous, BookingNotFound, NotHeld, TicketNotFound
from ticketing.sale.inventory.kind import Kind
from ticketing.sale.inventory.model import Booking, BookingStatus, Cancelled, Outcome, Ticket
from ticketing.sale.inventory.state import State


class Cancel(NamedTuple):
    """A request to give up the person's only booking, or to leave the waiting list."""

    event_id: int
    user_id: UUID


class CancelBooking(NamedTuple):
    """A request to give up this booking of the person, or only some tickets of it."""

    event_id: int
    user_id: UUID
    booking_id: UUID
    ticket_ids: Sequence[UUID] | None = None
    only_kept: bool = False
    """Whether it may be a hold or an offer only, because a confirmation may have come first."""


def decide(state: State, request: Cancel) -> Outcome:
    """Cancel the booking and give its places to the waiting list."""
    if not state.allows.cancel:
        return state.refusal()
    held = state.active(request.user_id)
    if not held:
        return BookingNotFound()
    if len(held) > 1:
        return BookingAmbiguous([booking.id for booking in held])
    return _cancelled(state, held[0], state.cancel(held[0]))


def decide_one(state: State, request: CancelBooking) -> Outcome:
    """Cancel the booking or its tickets, and give the places to the waiting list.

    Raises BookingNotFound if all of the tickets are cancelled already: nothing is left to write.
    """
    if not state.allows.cancel:
        return state.refusal()
    held = _held(state, request)
    if request.only_kept and not held.status.keeps:
        raise NotHeld(held.status)
    tickets = _wanted(held, request)
    if tickets is None or len(tickets) == held.quantity:
        return _cancelled(state, held, state.cancel(held))
    if not tickets:
        raise BookingNotFound
    return _cancelled(state, held, state.reduce(held, tickets))


def _cancelled(state: State, was: Booking, now: Booking) -> Cancelled:
    refund = was.total - now.total if was.status is BookingStatus.BOOKED else 0
    return Cancelled(now, state.promote(), refund)


def _wanted(held: Booking, request: CancelBooking) -> Sequence[Ticket] | None:
    """Return the valid tickets to cancel, or None for all. Raises TicketNotFound."""
    if request.ticket_ids is None:
        return None
    wanted = set(request.ticket_ids)
    if not held.has_tickets and wanted == {held.id}:
        return None
    if not wanted <= {ticket.id for ticket in held.tickets}:
        raise TicketNotFound
    return [ticket for ticket in held.tickets if ticket.is_valid and ticket.id in wanted]


def _held(state: State, request: CancelBooking) -> Booking:
    for booking in state.active(request.user_id):
        if booking.id == request.booking_id:
            return booking
    raise BookingNotFound


KIND = Kind(Cancel, decide, needs_active=True, frees=True, inserts=False)
KIND_ONE = Kind(CancelBooking, decide_one, needs_active=True, frees=True, inserts=False)
