"""What a person asks for next, by what they know of their bookings."""

import random
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from chaos import offers
from chaos.history import EPOCH, Operation, Verb
from chaos.offers import Offer

ODD: Final = 0.1
"""Probability of booking with a booking, or cancelling without one."""
SOME: Final = 0.5
"""Probability that somebody cancels only some tickets of a booking."""
HOLDING: Final = 0.6
"""Probability of a request about holds, at an event that has them."""
BY_TEAM: Final = 0.6
"""Probability that the event's team chooses the end of a hold."""
SHORT: Final = (0.5, 3.0, 0.5)
"""Seconds that such a hold lasts: least, most, and most likely."""
REMEMBERED: Final = 20
"""How many holds of an event people know of: few, so that they meet, and some that are over."""


NOTHING: Final = {"sold_out", "group_too_large", "booking_not_found", "validation_failed"}
"""Refusals after which a person has no booking, as far as they know."""


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
    method: str = "POST"
    by_team: bool = False
    """Whether the organiser sends it."""

    @property
    def is_stored(self) -> bool:
        """Whether its response is stored under its key."""
        answer = self.operation.answer or {}
        return self.is_sure and self.keeps in {None, answer.get("quantity")}


class Holds:
    """The holds and offers, also the past ones, of all people: each may be about any of them."""

    def __init__(self) -> None:
        """Start without holds."""
        self._of_event: dict[int, list[tuple[str, str]]] = defaultdict(list)

    def add(self, event: int, booking: str, user: str) -> None:
        """Remember a hold or a waiting booking, and forget one."""
        known = self._of_event[event]
        known.append((booking, user))
        del known[:-REMEMBERED]

    def of(self, event: int) -> Sequence[tuple[str, str]]:
        """Return the ids of an event's holds, each with that of its person."""
        return self._of_event[event]


class Wishes:
    """The wishes of one person, who remembers what they have."""

    def __init__(
        self, user: str, on_sale: Sequence[Offer], chance: random.Random, holds: Holds
    ) -> None:
        """Choose among the events on sale."""
        self._user = user
        self._holds = holds
        self._on_sale = on_sale
        self._chance = chance
        self._has: dict[int, bool | None] = {}
        """By event: whether the person has a booking; None if that is unknown."""
        self._held: dict[int, set[str]] = defaultdict(set)
        """The ids of bookings, as far as they are known."""

    def next(self) -> Wish:
        """Book, or cancel a whole booking, or do something about a hold."""
        offer, chance = self._chance.choice(self._on_sale), self._chance
        if offer.has_holds and chance.random() < HOLDING:
            return self._hold_or_settle(offer)
        event, held = offer.event, sorted(self._held[offer.event])
        wants_to_cancel = bool(self._has.get(event))
        if held and len(held) < offer.most:
            wants_to_cancel = chance.random() < 0.5  # noqa: PLR2004 - even odds
        if wants_to_cancel != (chance.random() < ODD):
            return self._cancel(offer, held)
        operation = self._operation("book", event)
        sent = self._places(operation, offer)
        return Wish(operation, "/api/events/book", sent)

    def _cancel(self, offer: Offer, held: Sequence[str]) -> Wish:
        operation, has = self._operation("cancel", offer.event), bool(self._has.get(offer.event))
        if held and not offer.is_plain and self._chance.random() < 0.8:  # noqa: PLR2004 - mostly
            operation.booking = self._chance.choice(held)
            return Wish(operation, f"/api/bookings/{operation.booking}/cancel", {}, is_sure=has)
        sent = {"eventId": offer.event, "userId": self._user}
        return Wish(operation, "/api/events/cancel", sent, is_sure=has)

    def _hold_or_settle(self, offer: Offer) -> Wish:
        """Make a hold, or confirm, extend or release one, which may be another person's."""
        known, chance = self._holds.of(offer.event), self._chance
        if not known or chance.random() < 0.4:  # noqa: PLR2004 - most are about earlier ones
            operation = self._operation("hold", offer.event)
            sent = self._places(operation, offer)
            return self._with_end(operation, "/api/holds", sent)
        own = [each for each in known if each[1] == self._user]
        is_for_own = chance.random() < 0.5  # noqa: PLR2004 - even odds
        booking, user = chance.choice(own if own and is_for_own else known)
        verb: Verb = chance.choice(("confirm", "confirm", "extend", "release"))
        operation = self._operation(verb, offer.event)
        operation.booking, operation.user = booking, user
        path = f"/api/holds/{booking}"
        by_team = user != self._user
        if verb == "extend":
            return self._with_end(operation, f"{path}/extend", {}, by_team=by_team)
        if verb == "release":
            return Wish(operation, path, {}, is_sure=False, method="DELETE", by_team=by_team)
        return Wish(operation, f"{path}/confirm", {}, is_sure=False, by_team=by_team)

    def _places(self, operation: Operation, offer: Offer) -> dict[str, Any]:
        """Choose places to book or hold, and return what is sent."""
        operation.lines = self._chance.choice(offer.asked)
        sent = offers.body(offer, operation.lines)
        operation.has_code = "code" in sent
        return {"eventId": offer.event, "userId": self._user, **sent}

    def _with_end(
        self, operation: Operation, path: str, body: dict[str, Any], *, by_team: bool = False
    ) -> Wish:
        """Have the event's team choose an end that is near, or leave it to the event."""
        if self._chance.random() >= BY_TEAM:
            return Wish(operation, path, body, by_team=by_team)
        end = datetime.fromtimestamp(time.time() + self._chance.triangular(*SHORT), UTC)
        operation.until = end.timestamp() - EPOCH
        return Wish(operation, path, {**body, "expiresAt": end.isoformat()}, by_team=True)

    def wants_some(self, wish: Wish) -> bool:
        """Whether the person would rather cancel only some tickets, if there are several."""
        is_of_one = wish.operation.verb == "cancel" and bool(wish.operation.booking)
        return is_of_one and self._chance.random() < SOME

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
        if answer is not None and answer.get("became") in {"held", "waiting"}:
            self._holds.add(event, answer["id"], operation.user)
        if operation.user != self._user:
            return
        held = self._held[event]
        if answer is None:
            self._has[event] = None
            return
        if "code" in answer:
            if operation.verb not in {"book", "hold", "cancel"}:
                return
            if answer["code"] == "booking_not_found":
                held.clear()
            is_active = answer["code"] not in NOTHING
            self._has[event] = is_active or bool(held)
            return
        if answer["became"] in {"cancelled", "expired"}:
            held.discard(answer["id"])
        else:
            held.add(answer["id"])
        self._has[event] = bool(held)

    def _operation(self, verb: Verb, event: int) -> Operation:
        return Operation(verb, event, self._user, 0.0)
