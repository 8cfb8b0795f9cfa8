"""The waiting list of an event, as far as a decision knows it."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from heapq import heapify, heappop
from typing import TypeAlias
from uuid import UUID

from ticketing.sale.inventory.model import Booking, Line, StaleSnapshot, type_of
from ticketing.sale.inventory.offer import Offer, left

Head: TypeAlias = tuple[int, int, Booking]
"""A booking that waits: its order among all that are known, the slot of its type, and itself."""


class WaitingList:
    """The bookings that wait, by type. Of each type the first ones are known, in order.

    Raises StaleSnapshot if a decision needs to know more.
    """

    __slots__ = (
        *("_at", "_available", "_known", "_last", "_offer", "_patience"),
        *("count", "counts"),
    )

    def __init__(  # noqa: PLR0913 - what it is, and what it looks at
        self,
        count: int,
        counts: list[int],
        known: Iterable[Booking],
        *,
        offer: Offer,
        available: Sequence[int],
        patience: int | None,
        at: datetime,
    ) -> None:
        """Start from how many wait, in all and of each type by slot, and from those that are known.

        `available` has what is left of each capacity at any time. Groups have `patience` in
        minutes, or no end of it.
        """
        self.count = count
        self.counts = counts
        self._offer = offer
        self._available = available
        self._patience = patience
        self._at = at
        self._known: dict[int, dict[UUID, tuple[int, Booking]]] = {}
        self._last = 0
        for booking in known:
            self._append(booking)

    def join(self, booking: Booking, slot: int) -> int:
        """Put a booking at the end of its type, and return its position."""
        if self.counts[slot] == len(self._known.get(slot, ())):
            # The whole list was read, so this decision may promote its new tail too.
            self._append(booking)
        self.counts[slot] += 1
        self.count += 1
        return self.counts[slot]

    def leave(self, booking: Booking, slot: int) -> None:
        """Take a booking out, whether it is known or not."""
        self.count -= 1
        self.counts[slot] -= 1
        self._known.get(slot, {}).pop(booking.id, None)

    def replace(self, booking: Booking, slot: int) -> None:
        """Put a known booking in the place that it has, as it is now."""
        order, _ = self._known[slot][booking.id]
        self._known[slot][booking.id] = order, booking

    def knows_some(self, slot: int) -> bool:
        """Whether any booking of this type is known."""
        return bool(self._known[slot])

    def heads(self) -> list[Head]:
        """Return a heap of the first booking of each type, without types that are closed."""
        heads = [
            self._head(each.slot)
            for each in self._offer.types.values()
            if self.counts[each.slot] and not each.closed
        ]
        heapify(heads)
        return heads

    def behind(self, slot: int, order: int) -> list[Head]:
        """Return the next booking of the type that is behind this place in the list, if any."""
        known = self._known[slot]
        for place, booking in known.values():
            if place > order:
                return [(place, slot, booking)]
        # Of the groups whose patience is over, those that are too large may not have been read.
        passes = any(self.is_impatient(booking) for _, booking in known.values())
        if not passes:
            raise StaleSnapshot
        return []

    def closed(self) -> set[int]:
        """Return the capacities that are closed to newcomers, because somebody waits for them.

        While the event has no place, nobody needs to know.
        """
        closed: set[int] = set()
        if self.count and self._available[0]:
            heads = self.heads()
            while heads:
                order, slot, booking = heappop(heads)
                line = Line(type_of(self._offer, booking.type_id), booking.quantity)
                lacking = self.lacking(line, closed)
                if lacking and self.is_impatient(booking):
                    heads += self.behind(slot, order)
                    heapify(heads)
                else:
                    closed.update(lacking or line.type.draws)
        return closed

    def lacking(self, line: Line, closed: set[int]) -> list[int]:
        """Return the capacities that lack room for a booking that waits, or are closed to it."""
        return [
            index
            for index in line.type.draws
            if index in closed or self._available[index] < line.quantity
        ]

    def is_impatient(self, booking: Booking) -> bool:
        """Whether places have gathered for this group for as long as they may."""
        has_patience = self._patience is not None
        return has_patience and booking.expires_at is not None and booking.expires_at <= self._at

    def gathers(self, line: Line, closed: set[int]) -> bool:
        """Whether free places gather for a group, for which they are too few, with an end."""
        draws = line.type.draws
        has_patience = self._patience is not None
        return has_patience and closed.isdisjoint(draws) and left(draws, self._available) > 0

    def _head(self, slot: int) -> Head:
        known = self._known.get(slot)
        if not known:
            raise StaleSnapshot
        order, booking = next(iter(known.values()))
        return order, slot, booking

    def _append(self, booking: Booking) -> None:
        slot = type_of(self._offer, booking.type_id).slot
        self._last += 1
        self._known.setdefault(slot, {})[booking.id] = self._last, booking
