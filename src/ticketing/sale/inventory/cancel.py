"""The request to cancel a booking."""

from typing import NamedTuple
from uuid import UUID

from ticketing.errors import BookingNotFound
from ticketing.sale.inventory.decision import State
from ticketing.sale.inventory.kind import Kind
from ticketing.sale.inventory.model import Cancelled, Outcome


class Cancel(NamedTuple):
    """A request to give up a place, or to leave the waiting list."""

    event_id: int
    user_id: UUID


def decide(state: State, request: Cancel) -> Outcome:
    """Cancel the booking and give its place to the head of the waiting list."""
    if not state.allows.cancel:
        return state.refusal()
    held = state.active(request.user_id)
    if held is None:
        return BookingNotFound()
    cancelled = state.cancel(held)
    return Cancelled(cancelled, state.promote())


KIND = Kind(Cancel, decide, needs_active=True, frees=1, inserts=False)
