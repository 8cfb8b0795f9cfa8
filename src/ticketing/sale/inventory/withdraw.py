"""The request to cancel a booking of a cancelled event."""

from typing import NamedTuple
from uuid import UUID

from ticketing.errors import BookingNotFound, Busy, EventState
from ticketing.sale.inventory.kind import Kind
from ticketing.sale.inventory.model import BookingStatus, Cancelled, Outcome
from ticketing.sale.inventory.state import State
from ticketing.sale.inventory.terms import SaleState


class Withdraw(NamedTuple):
    """A request to cancel a person's booking because its event is cancelled."""

    event_id: int
    user_id: UUID


def decide(state: State, request: Withdraw) -> Outcome:
    """Cancel one booking of the person without promoting anybody. All of its price is given back.

    Waiting bookings are cancelled first. While one is left, a booked place returns Busy.
    """
    if state.sale is not SaleState.CANCELLED:
        return EventState(state.sale)
    held = state.active(request.user_id)
    if not held:
        return BookingNotFound()
    waiting = [each for each in held if each.status is BookingStatus.WAITING]
    if not waiting and state.has_line:
        return Busy()
    return Cancelled(state.cancel((waiting or held)[0], in_full=True))


KIND = Kind(Withdraw, decide, needs_active=True, frees=False, inserts=False)
