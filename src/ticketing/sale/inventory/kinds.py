"""The kinds of requests that there are, and the decision about many of them."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final, TypeAlias
from uuid import UUID

from ticketing.sale.inventory import book, cancel
from ticketing.sale.inventory.book import Book
from ticketing.sale.inventory.cancel import Cancel
from ticketing.sale.inventory.decision import Decision, State
from ticketing.sale.inventory.kind import Kind
from ticketing.sale.inventory.model import Booking, Snapshot

InventoryRequest: TypeAlias = Book | Cancel
"""Whatever its kind, it has `event_id`, and `user_id`: whom it is about."""

KINDS: Final[Mapping[type, Kind[Any]]] = {each.request: each for each in (book.KIND, cancel.KIND)}
"""A new kind of request joins here."""


def decide(
    snapshot: Snapshot,
    requests: Sequence[InventoryRequest],
    *,
    active: Mapping[UUID, Booking],
    line: Sequence[Booking],
    at: datetime,
) -> Decision:
    """Decide requests for one event in order of arrival; `at` is when.

    `active` holds the active bookings by user, of everybody whose kind of request needs them at
    least. `line` is the head of the waiting list in order, as long as the places that the requests
    may free unless the list is shorter. Both must be read at `snapshot.version` or later; a later
    one fails the swap, or raises StaleSnapshot if the line has become too short to decide.
    """
    state = State(snapshot, active, line, at)
    outcomes = []
    for state.request, request in enumerate(requests):
        outcomes.append(KINDS[type(request)].decide(state, request))
    return state.decided(outcomes)
