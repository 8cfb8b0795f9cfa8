"""The request to book a place."""

from typing import NamedTuple
from uuid import UUID

from ticketing.errors import AlreadyBooked, AlreadyWaiting
from ticketing.sale.inventory.decision import State
from ticketing.sale.inventory.kind import Kind
from ticketing.sale.inventory.model import Booked, BookingStatus, Outcome, Waiting


class Book(NamedTuple):
    """A request for one place. The id is made beforehand, so that a batch knows its rows."""

    event_id: int
    user_id: UUID
    booking_id: UUID


def decide(state: State, request: Book) -> Outcome:
    """Give the person a place, or put them at the end of the waiting list."""
    if not state.allows.book:
        return state.refusal()
    held = state.active(request.user_id)
    if held is not None:
        return AlreadyBooked() if held.status is BookingStatus.BOOKED else AlreadyWaiting()
    if state.has_place:
        return Booked(state.take(request.booking_id, request.user_id))
    return Waiting(*state.join(request.booking_id, request.user_id))


# A person without a known active booking counts as a newcomer. A constraint refuses the others.
KIND = Kind(Book, decide, needs_active=False, frees=0, inserts=True)
