"""What a person asks for next, by what they know of their bookings."""

import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from chaos import offers
from chaos.history import Operation, Verb
from chaos.offers import Offer

ODD: Final = 0.1
"""Probability of booking with a booking, or cancelling without one."""
SOME: Final = 0.5
"""Probability that somebody cancels only some tickets of a booking."""


@dataclass(frozen=True, slots=True)
class Wish:
    """A request. Its operation has no times yet."""

    operation: Operation
    path: str
    body: dict[str, Any]
    keeps: int | None = None
    """The places that its booking has afterwards; None if that says nothing about a change."""
    is_sure: bool = True
    """Whether it changes something if it is not refused. Only then its response is stored."""

    @property
    def is_stored(self) -> bool:
        """Whether its response is stored under its key."""
        answer = self.operation.answer or {}
        return self.is_sure and self.keeps in {None, answer.get("quantity")}


class Wishes:
    """The wishes of one person, who remembers what they have."""

    def __init__(self, user: str, on_sale: Sequence[Offer], chance: random.Random) -> None:
        """Choose among the events on sale."""
        self._user = user
        self._on_sale = on_sale
        self._chance = chance
        self._has: dict[int, bool | None] = {}
        """By event: whether the person has a booking; None if that is unknown."""
        self._held: dict[int, set[str]] = defaultdict(set)
        """The ids of bookings, as far as they are known."""

    def next(self) -> Wish:
        """Book, or cancel a whole booking."""
        offer, chance = self._chance.choice(self._on_sale), self._chance
        event, held = offer.event, sorted(self._held[offer.event])
        wants_to_cancel = bool(self._has.get(event))
        if held and len(held) < offer.most:
            wants_to_cancel = chance.random() < 0.5  # noqa: PLR2004 - even odds
        if wants_to_cancel != (chance.random() < ODD):
            return self._cancel(offer, held)
        lines = chance.choice(offer.asked)
        operation = self._operation("book", event)
        operation.lines = lines
        sent = {"eventId": event, "userId": self._user, **offers.body(offer, lines)}
        return Wish(operation, "/api/events/book", sent)

    def _cancel(self, offer: Offer, held: Sequence[str]) -> Wish:
        operation, has = self._operation("cancel", offer.event), bool(self._has.get(offer.event))
        if held and not offer.is_plain and self._chance.random() < 0.8:  # noqa: PLR2004 - mostly
            operation.booking = self._chance.choice(held)
            return Wish(operation, f"/api/bookings/{operation.booking}/cancel", {}, is_sure=has)
        sent = {"eventId": offer.event, "userId": self._user}
        return Wish(operation, "/api/events/cancel", sent, is_sure=has)

    def wants_some(self, wish: Wish) -> bool:
        """Whether the person would rather cancel only some tickets, if there are several."""
        return bool(wish.operation.booking) and self._chance.random() < SOME

    def some(self, wish: Wish, tickets: Sequence[str]) -> Wish:
        """Cancel only some of these valid tickets instead."""
        if len(tickets) < 2:  # noqa: PLR2004 - a part of one is nothing
            return wish
        chosen = self._chance.sample(tickets, self._chance.randint(1, len(tickets) - 1))
        operation = self._operation("cancel", wish.operation.event)
        operation.booking, operation.tickets = wish.operation.booking, tuple(chosen)
        keeps = len(tickets) - len(chosen)
        return Wish(operation, wish.path, {"ticketIds": chosen}, keeps, wish.is_sure)

    def learn(self, operation: Operation) -> None:
        """Remember what the response says about the person's bookings."""
        event, answer = operation.event, operation.answer
        held = self._held[event]
        if answer is None:
            self._has[event] = None
            return
        if "code" in answer:
            if answer["code"] == "booking_not_found":
                held.clear()
            is_active = answer["code"] not in {"sold_out", "group_too_large", "booking_not_found"}
            self._has[event] = is_active or bool(held)
            return
        if answer["became"] == "cancelled":
            held.discard(answer["id"])
        else:
            held.add(answer["id"])
        self._has[event] = bool(held)

    def _operation(self, verb: Verb, event: int) -> Operation:
        return Operation(verb, event, self._user, 0.0)
