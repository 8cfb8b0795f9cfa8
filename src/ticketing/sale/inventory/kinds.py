"""All kinds of requests, and the decision about a batch of them."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, TypeAlias
from uuid import UUID

from ticketing.errors import TicketingError
from ticketing.sale.inventory import book, cancel, hold, withdraw
from ticketing.sale.inventory.book import Book
from ticketing.sale.inventory.cancel import Cancel, CancelBooking
from ticketing.sale.inventory.decision import Decision
from ticketing.sale.inventory.hold import Confirm, Expire, Extend
from ticketing.sale.inventory.kind import Kind
from ticketing.sale.inventory.model import (
    CountersMissing,
    Outcome,
    Reading,
    SeveralMissing,
    Snapshot,
)
from ticketing.sale.inventory.state import State
from ticketing.sale.inventory.withdraw import Withdraw

InventoryRequest: TypeAlias = Book | Cancel | CancelBooking | Withdraw | Confirm | Extend | Expire
"""Every kind has `event_id` and `user_id`, the person that the request is about."""

KINDS: Final[Mapping[type, Kind[Any]]] = {
    each.request: each
    for each in (book.KIND, cancel.KIND, cancel.KIND_ONE, withdraw.KIND, *hold.KINDS)
}
"""A new kind of request is added here."""


def decide(
    snapshot: Snapshot,
    requests: Sequence[InventoryRequest],
    reading: Reading,
    *,
    at: datetime,
    new_id: Callable[[], UUID],
) -> Decision:
    """Decide requests for one event in order of arrival, at the time `at`.

    `reading` must have the active bookings of each person whose kind of request needs them, and
    the head of the waiting list: one booking for each place that the requests or the time may free,
    or the whole list. It must be read at `snapshot.version` or later. If it is later, the swap
    fails. Raises StaleSnapshot if the line is too short to decide, or a booking is of a ticket type
    that the snapshot lacks.
    """
    state = State(snapshot, reading, at=at, new_id=new_id)
    outcomes: list[Outcome] = []
    for state.request, request in enumerate(requests):
        try:
            outcomes.append(KINDS[type(request)].decide(state, request))
        except (TicketingError, CountersMissing, SeveralMissing) as refusal:
            outcomes.append(refusal)
    return state.decided(outcomes)
