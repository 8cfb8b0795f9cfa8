"""Changes of the number of places of an event."""

from collections.abc import Callable, Sequence
from datetime import datetime
from uuid import UUID

from ticketing.errors import CapacityBelowTaken
from ticketing.sale.inventory.decision import Decision
from ticketing.sale.inventory.model import Booking, Reading, Snapshot
from ticketing.sale.inventory.state import State


def grow(
    snapshot: Snapshot,
    places: int,
    *,
    line: Sequence[Booking],
    at: datetime,
    new_id: Callable[[], UUID],
) -> Decision:
    """Add places to a plain event. They go to the head of the waiting list first.

    `line` is that head: one booking for each of the `places`, or the whole list.
    """
    state = State(snapshot, Reading(line=line, due=None), at=at, new_id=new_id)
    state.grow(places)
    state.promote()
    return state.decided([])


def shrink(
    snapshot: Snapshot, places: int, *, at: datetime, new_id: Callable[[], UUID]
) -> Decision:
    """Remove free places. Raises CapacityBelowTaken."""
    if places > snapshot.available:
        taken = snapshot.total - snapshot.available
        raise CapacityBelowTaken(snapshot.total - places, taken)
    state = State(snapshot, Reading(due=None), at=at, new_id=new_id)
    state.shrink(places)
    return state.decided([])


def serve(
    snapshot: Snapshot,
    limit: int,
    *,
    line: Sequence[Booking],
    at: datetime,
    new_id: Callable[[], UUID],
) -> Decision:
    """Give free places to the waiting list, because a capacity or a type has changed.

    `line` has at least the first booking of each type. At most `limit` bookings are promoted.
    """
    state = State(snapshot, Reading(line=line, due=None), at=at, new_id=new_id)
    state.rest_on_version()
    state.promote(limit)
    return state.decided([])
