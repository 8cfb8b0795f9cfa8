"""All kinds of requests, and the decision about a batch of them."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, TypeAlias
from uuid import UUID

from ticketing.errors import TicketingError
from ticketing.sale.inventory import book, cancel, withdraw
from ticketing.sale.inventory.book import Book
from ticketing.sale.inventory.cancel import Cancel, CancelBooking
from ticketing.sale.inventory.decision import Decision, State
from ticketing.sale.inventory.kind import Kind
from ticketing.sale.inventory.model import Booking, CountersMissing, Outcome, Snapshot
from ticketing.sale.inventory.withdraw import Withdraw

InventoryRequest: TypeAlias = Book | Cancel | CancelBooking | Withdraw
"""Every kind has `event_id` and `user_id`, the person that the request is about."""

KINDS: Final[Mapping[type, Kind[Any]]] = {
    each.request: each for each in (book.KIND, cancel.KIND, cancel.KIND_ONE, withdraw.KIND)
}
"""A new kind of request is added here."""


def decide(  # noqa: PLR0913 - all that was read
    snapshot: Snapshot,
    requests: Sequence[InventoryRequest],
    *,
    active: Mapping[UUID, Sequence[Booking]],
    line: Sequence[Booking],
    at: datetime,
    new_id: Callable[[], UUID],
) -> Decision:
    """Decide requests for one event in order of arrival, at the time `at`.

    `active` maps users to their active bookings. It must have those of each person whose kind of
    request needs them. `line` is the head of the waiting list in order: one booking for each place
    that the requests may free, or the whole list. Both must be read at `snapshot.version` or later.
    If they are later, the swap fails. Raises StaleSnapshot if `line` is too short to decide, or a
    booking is of a ticket type that the snapshot lacks.
    """
    state = State(snapshot, active, line, at=at, new_id=new_id)
    outcomes: list[Outcome] = []
    for state.request, request in enumerate(requests):
        try:
            outcomes.append(KINDS[type(request)].decide(state, request))
        except (TicketingError, CountersMissing) as refusal:
            outcomes.append(refusal)
    return state.decided(outcomes)
