"""All kinds of requests, and the decision about a batch of them."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final, TypeAlias
from uuid import UUID

from ticketing.sale.inventory import book, cancel, withdraw
from ticketing.sale.inventory.book import Book
from ticketing.sale.inventory.cancel import Cancel
from ticketing.sale.inventory.decision import Decision, State
from ticketing.sale.inventory.kind import Kind
from ticketing.sale.inventory.model import Booking, Snapshot
from ticketing.sale.inventory.withdraw import Withdraw

InventoryRequest: TypeAlias = Book | Cancel | Withdraw
"""Every kind has `event_id` and `user_id`, the person that the request is about."""

KINDS: Final[Mapping[type, Kind[Any]]] = {
    each.request: each for each in (book.KIND, cancel.KIND, withdraw.KIND)
}
"""A new kind of request is added here."""


def decide(
    snapshot: Snapshot,
    requests: Sequence[InventoryRequest],
    *,
    active: Mapping[UUID, Booking],
    line: Sequence[Booking],
    at: datetime,
) -> Decision:
    """Decide requests for one event in order of arrival, at the time `at`.

    `active` maps users to their active bookings. It must have those of each person whose kind of
    request needs them. `line` is the head of the waiting list in order: one booking for each place
    that the requests may free, or the whole list. Both must be read at `snapshot.version` or later.
    If they are later, the swap fails. Raises StaleSnapshot if `line` is too short to decide.
    """
    state = State(snapshot, active, line, at)
    outcomes = []
    for state.request, request in enumerate(requests):
        outcomes.append(KINDS[type(request)].decide(state, request))
    return state.decided(outcomes)
