"""Changes of the number of places of an event."""

from collections.abc import Sequence
from datetime import datetime

from ticketing.errors import CapacityBelowTaken
from ticketing.sale.inventory.decision import Decision, State
from ticketing.sale.inventory.model import Booking, Snapshot


def grow(snapshot: Snapshot, places: int, *, line: Sequence[Booking], at: datetime) -> Decision:
    """Add places. They go to the head of the waiting list first.

    `line` is that head: one booking for each of the `places`, or the whole list.
    """
    state = State(snapshot, {}, line, at)
    state.grow(places)
    state.promote()
    return state.decided([])


def shrink(snapshot: Snapshot, places: int, *, at: datetime) -> Decision:
    """Remove free places. Raises CapacityBelowTaken."""
    if places > snapshot.available:
        taken = snapshot.total - snapshot.available
        raise CapacityBelowTaken(snapshot.total - places, taken)
    state = State(snapshot, {}, (), at)
    state.shrink(places)
    return state.decided([])
