"""What is booked or held, before it is."""

from collections.abc import Sequence
from typing import NamedTuple

from ticketing.sale.inventory.codes import Code, Redeemed, prices, redeemed
from ticketing.sale.inventory.model import Line, Place


class Order(NamedTuple):
    """The lines of a request, each place with its price, and what they take of a code."""

    lines: Sequence[Line]
    places: Sequence[Place]
    amount: int
    currency: str | None
    """None if the places are free."""
    redeemed: Redeemed | None = None


def order(lines: Sequence[Line], code: Code | None = None) -> Order:
    """Return the order of these lines. Raises the errors of `redeemed`."""
    kinds = [line.type for line in lines for _ in range(line.quantity)]
    places = tuple(
        Place(kind.id, price) for kind, price in zip(kinds, prices(lines, code), strict=True)
    )
    amount = sum(place.amount for place in places)
    # All types of an event have the same currency.
    currency = next((kind.currency for kind in kinds if kind.amount), None) if amount else None
    taken = None if code is None else redeemed(code, lines)
    return Order(lines, places, amount, currency, taken)
