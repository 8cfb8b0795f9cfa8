"""The offer of an event: its ticket types, and the quotas that they draw from."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import NamedTuple


class TicketType(NamedTuple):
    """A ticket type, as far as a decision needs it. Times are in UTC."""

    id: int
    slot: int = 0
    """Its index in the counters of the event."""
    draws: Sequence[int] = (0,)
    """The capacities that it draws from: 0 is the event's own, then come the quotas by slot."""
    amount: int = 0
    """The price of a place in the minor unit of the currency."""
    currency: str | None = None
    min_per_booking: int = 1
    max_per_booking: int | None = None
    opens_at: datetime | None = None
    closes_at: datetime | None = None
    hidden: bool = False
    """Only the event's team may book it, and others do not see it."""
    closed: bool = False
    """Its sale is over. Tickets that were sold stay valid."""
    tax_rate: int = 0
    """As in `pricing.tax_in`."""


class Offer(NamedTuple):
    """The ticket types of an event by id, and the ids of its shared quotas by slot.

    A plain offer is one free type without limits of its own. The event then has no counters per
    type.
    """

    types: Mapping[int, TicketType]
    quotas: Mapping[int, int]
    is_plain: bool = True

    @property
    def first(self) -> TicketType:
        """The type of a booking that names none: the oldest."""
        return self.types[min(self.types)]


def left(draws: Sequence[int], available: Sequence[int]) -> int:
    """Return how many places of a type are left: as many as the capacities all have."""
    return min(available[index] for index in draws)
