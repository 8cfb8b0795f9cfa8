"""The requests to confirm, extend and end holds and offers."""

from collections import Counter
from datetime import datetime, timedelta
from typing import Final, NamedTuple
from uuid import UUID

from ticketing.errors import (
    BookingNotFound,
    HoldExpired,
    HoldLimitReached,
    NotHeld,
    PaymentRequired,
    TicketingError,
)
from ticketing.sale.inventory.book import check_limit, end_passed, free_slot
from ticketing.sale.inventory.kind import Kind
from ticketing.sale.inventory.model import (
    Booked,
    Booking,
    BookingStatus,
    Expired,
    Kept,
    Line,
    Outcome,
)
from ticketing.sale.inventory.state import State

LONGEST: Final = 3
"""How many times the usual length a person's hold may last, with all its extensions."""


class Confirm(NamedTuple):
    """A request to make a hold or an offer a booking."""

    event_id: int
    user_id: UUID
    booking_id: UUID
    by_team: bool = False
    """Whether a manager confirms, who has taken the money."""


class Extend(NamedTuple):
    """A request to keep the places for longer."""

    event_id: int
    user_id: UUID
    booking_id: UUID
    until: datetime | None = None
    """The end that a manager chose. None for the usual time from now on, within the limit."""


class Expire(NamedTuple):
    """A request to end the holds and offers whose time is over."""

    event_id: int
    user_id: UUID = UUID(int=0)


def confirm(state: State, request: Confirm) -> Outcome:
    """Make the hold a booking. An expired one may be confirmed while the waiting list is empty.

    A hold that is a booking already stays as it is.
    """
    held = state.named(request.user_id, request.booking_id)
    if held is None:
        raise BookingNotFound
    if held.status is BookingStatus.BOOKED:
        return Booked(held)
    if held.status is BookingStatus.WAITING:
        raise NotHeld(held.status)
    if held.status is BookingStatus.CANCELLED:
        raise HoldExpired("released")
    if held.currency is not None and not request.by_team:
        raise PaymentRequired(held.amount, held.currency)
    if held.status.keeps:
        return Booked(state.confirm(held)) if state.allows.cancel else state.refusal()
    return Booked(state.retake(held, _slot_again(state, held)))


def _slot_again(state: State, expired: Booking) -> int:
    """Return a free slot of the person. Raises HoldExpired if the places can't be had again."""
    # The places of others, and the line, may change until the refusal is sent.
    state.rest_on_version()
    if not state.allows.book:
        raise HoldExpired("sale")
    if state.has_line:
        raise HoldExpired("waiting_list")
    kinds = Counter(place.type_id for place in expired.kept_places)
    lines = [Line(state.type(kind), quantity) for kind, quantity in kinds.items()]
    if any(line.type.closed for line in lines):
        raise HoldExpired("sale")
    if state.lacking(lines) is not None:
        raise HoldExpired("sold_out")
    if not state.has_uses(expired):
        raise HoldExpired("code")
    others = state.active(expired.user_id)
    if not others:
        return 0
    try:
        check_limit(state, others, expired.quantity)
        return free_slot(state, others)
    except TicketingError:
        raise HoldExpired("limit") from None


def extend(state: State, request: Extend) -> Outcome:
    """Give the hold a later end. A manager may choose any end to come."""
    held = state.named(request.user_id, request.booking_id)
    if held is None:
        raise BookingNotFound
    if not held.status.is_active:
        raise HoldExpired("released" if held.status is BookingStatus.CANCELLED else "over")
    if held.expires_at is None or not held.status.keeps:
        raise NotHeld(held.status)
    if not state.allows.cancel:
        return state.refusal()
    if request.until is not None:
        if request.until <= state.at:
            raise end_passed()
        return Kept(state.extend(held, request.until), state.at)
    usual = timedelta(minutes=state.terms.hold_minutes)
    latest = held.created_at + LONGEST * usual
    until = min(state.at + usual, latest)
    if held.status is BookingStatus.OFFERED or until <= held.expires_at:
        raise HoldLimitReached(held.expires_at)
    return Kept(state.extend(held, until), state.at)


def expire(state: State, request: Expire) -> Outcome:
    """Do nothing more: the state has already ended what is due."""
    del state, request
    return Expired()


KINDS: Final = (
    Kind(Confirm, confirm, needs_active=True, frees=False, inserts=False),
    Kind(Extend, extend, needs_active=True, frees=False, inserts=False),
    Kind(Expire, expire, needs_active=False, frees=False, inserts=False),
)
