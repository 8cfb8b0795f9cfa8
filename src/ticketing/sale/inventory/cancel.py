"""Cancelling a booking."""

from typing import NamedTuple
from uuid import UUID

from ticketing.errors import BookingNotFound
from ticketing.sale.inventory.decision import State
from ticketing.sale.inventory.kind import Kind
from ticketing.sale.inventory.model import Cancelled, Outcome


class Cancel(NamedTuple):
    """A request to give up a place, or a place in the line."""

    event_id: int
    user_id: UUID


def decide(state: State, request: Cancel) -> Outcome:
    """Take the booking back, and give its place to the head of the line."""
    held = state.active(request.user_id)
    if held is None:
        return BookingNotFound()
    cancelled = state.cancel(held)
    return Cancelled(cancelled, state.promote())


KIND = Kind(Cancel, decide, needs_active=True, frees=1, inserts=False)
