"""Codes: they open hidden ticket types, or reduce prices. No I/O."""

from collections.abc import Collection, Sequence
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple

from ticketing.errors import (
    CodeExpired,
    CodeNotApplicable,
    CodeNotStarted,
    CodeQuantityNotAllowed,
    CodeUnknown,
    CodeUsedUp,
)
from ticketing.sale.inventory.offer import TicketType
from ticketing.sale.pricing import allotted, reduced


class CodeKind(StrEnum):
    """The effect of a code."""

    ACCESS = "access"
    """It opens its ticket types, which are hidden otherwise."""
    DISCOUNT = "discount"
    """It reduces prices."""


class DiscountPer(StrEnum):
    """Says whether a discount is taken from each ticket, or once from the booking."""

    TICKET = "ticket"
    BOOKING = "booking"


class Code(NamedTuple):
    """A code of an event, with its limits and what is used of them. Times are in UTC."""

    id: int
    folded: str
    """The form in which codes are compared: see `folding`."""
    kind: CodeKind
    percent: int | None = None
    """The discount in percent, or in the minor unit of the currency as `amount`."""
    amount: int | None = None
    per: DiscountPer = DiscountPer.TICKET
    type_ids: Collection[int] | None = None
    """Its ticket types; None for all."""
    starts_at: datetime | None = None
    ends_at: datetime | None = None
    max_uses: int | None = None
    """How many bookings may use it at a time."""
    max_tickets: int | None = None
    """How many tickets these may have together."""
    uses: int = 0
    tickets: int = 0
    active: bool = True

    def opens(self, kind: TicketType) -> bool:
        """Whether the holder may book this type although it is hidden."""
        return self.kind is CodeKind.ACCESS and self._has(kind.id)

    def counts(self, kind: TicketType) -> bool:
        """Whether a place of this type is one of the code's tickets."""
        if self.kind is CodeKind.ACCESS:
            return self._has(kind.id)
        return kind.amount > 0 and self._has(kind.id)

    def prices(self, amounts: Sequence[int]) -> Sequence[int]:
        """Return the prices of places for which the code counts. They are never below 0.

        A discount of the whole booking is shared by `allotted`, so that the prices add up.
        """
        if self.kind is CodeKind.ACCESS:
            return amounts
        if self.per is DiscountPer.BOOKING:
            return allotted(self._reduced(sum(amounts)), amounts)
        return [self._reduced(amount) for amount in amounts]

    def _reduced(self, amount: int) -> int:
        return reduced(amount, percent=self.percent, amount_off=self.amount)

    def _has(self, type_id: int) -> bool:
        return self.type_ids is None or type_id in self.type_ids


class Redeemed(NamedTuple):
    """What a booking takes of a code."""

    code_id: int
    tickets: int


class Redemption(NamedTuple):
    """By how much the counters of a code grow, or shrink if negative."""

    uses: int = 0
    tickets: int = 0
    read: Code | None = None
    """The code as it was read, if the decision rests on that."""


def usable(code: Code | None, at: datetime) -> Code:
    """Return the code if it may be used at this time.

    Raises CodeUnknown, CodeNotStarted, CodeExpired.
    """
    if code is None or not code.active:
        raise CodeUnknown
    if code.starts_at is not None and at < code.starts_at:
        raise CodeNotStarted(code.starts_at, at)
    if code.ends_at is not None and at >= code.ends_at:
        raise CodeExpired(code.ends_at)
    return code


def redeemed(code: Code, lines: Sequence[tuple[TicketType, int]]) -> Redeemed:
    """Return what these places take of the code.

    Raises CodeNotApplicable, CodeQuantityNotAllowed, CodeUsedUp.
    """
    tickets = sum(quantity for kind, quantity in lines if code.counts(kind))
    if not tickets:
        raise CodeNotApplicable
    check_limits(code, tickets)
    return Redeemed(code.id, tickets)


def check_limits(code: Code, tickets: int) -> None:
    """Raise CodeQuantityNotAllowed or CodeUsedUp unless so many tickets may be one more use."""
    if code.max_tickets is not None and tickets > code.max_tickets:
        raise CodeQuantityNotAllowed(tickets, code.max_tickets)
    if code.max_uses is not None and code.uses >= code.max_uses:
        raise CodeUsedUp("uses", code.max_uses, code.uses, 1)
    if code.max_tickets is not None and code.tickets + tickets > code.max_tickets:
        raise CodeUsedUp("tickets", code.max_tickets, code.tickets, tickets)


def prices(lines: Sequence[tuple[TicketType, int]], code: Code | None = None) -> Sequence[int]:
    """Return the price of each place of these lines, which the code may reduce."""
    kinds = [kind for kind, quantity in lines for _ in range(quantity)]
    if code is None:
        return [kind.amount for kind in kinds]
    less = iter(code.prices([kind.amount for kind in kinds if code.counts(kind)]))
    return [next(less) if code.counts(kind) else kind.amount for kind in kinds]
