"""Amounts: parts that add up to the whole, tax, and what a refund policy gives back. No I/O.

All amounts are integers in the minor unit of one currency, and not negative.
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any, Final, NamedTuple

RATE_UNIT: Final = 10_000
"""A tax rate of one percent."""
HUNDRED_PERCENT: Final = 100 * RATE_UNIT


class RefundKind(StrEnum):
    """How much a cancelled ticket gives back of its price."""

    NONE = "none"
    FULL_UNTIL = "fullUntil"
    PERCENTAGE = "percentage"
    FLAT_FEE = "flatFee"


class Policy(NamedTuple):
    """A refund policy. `none` gives nothing back.

    `fullUntil` gives back everything before `until`, and `percentage` that many `percent`. From
    then on they give nothing back. `flatFee` gives back everything but `fee`, which is taken once
    for each booking.
    """

    kind: RefundKind
    until: datetime | None = None
    percent: int | None = None
    fee: int | None = None

    def document(self) -> dict[str, Any]:
        """Return the fields that it has, for JSON."""
        until = None if self.until is None else self.until.isoformat()
        fields = {"kind": self.kind, "until": until, "percent": self.percent, "fee": self.fee}
        return {name: value for name, value in fields.items() if value is not None}


def policy(document: Mapping[str, Any]) -> Policy:
    """Return the policy from its `document`."""
    until = document.get("until")
    return Policy(
        RefundKind(document["kind"]),
        None if until is None else datetime.fromisoformat(until),
        document.get("percent"),
        document.get("fee"),
    )


def allotted(amount: int, weights: Sequence[int]) -> list[int]:
    """Share the amount by these weights. The shares add up to it.

    Each share is the exact one, rounded down or up: up where the exact one has the largest
    fraction, and among equals first come first (largest remainder method). Without any weight, the
    shares are equal.
    """
    weighed = weights if any(weights) else [1] * len(weights)
    total = sum(weighed)
    shares = [amount * weight // total for weight in weighed]
    by_remainder = sorted(
        range(len(weighed)), key=lambda place: amount * weighed[place] % total, reverse=True
    )
    for place in by_remainder[: amount - sum(shares)]:
        shares[place] += 1
    return shares


def reduced(amount: int, *, percent: int | None, amount_off: int | None) -> int:
    """Return the amount less a discount, in percent or in the minor unit; never below 0.

    Half a minor unit of the discount is rounded up.
    """
    off = amount_off or 0 if percent is None else _rounded(amount * percent, 100)
    return max(0, amount - off)


def tax_in(amount: int, rate: int) -> int:
    """Return the tax that is part of an amount, in units of 1 / RATE_UNIT percent of the net.

    Half a minor unit is rounded up. The net is the rest, so net and tax add up to the amount.
    """
    return _rounded(amount * rate, HUNDRED_PERCENT + rate)


def rate_of(percent: str) -> int:
    """Return the tax rate from a decimal number of percent, such as `19` or `8.875`.

    It has at most four decimal places.
    """
    return int(Decimal(percent) * RATE_UNIT)


def percent_of(rate: int) -> str:
    """Return the tax rate in percent, in its shortest form."""
    # The quotient of two decimals has no zeros that it does not need.
    return f"{Decimal(rate) / RATE_UNIT:f}"


def given_back(
    policy: Policy | None,
    prices: Sequence[int],
    *,
    before: Collection[int],
    now: Collection[int],
    at: datetime,
) -> int:
    """Return what a booking gets back for the tickets that are cancelled now.

    `prices` are those of all tickets that the booking ever had. `before` and `now` are the indexes
    of the tickets that were cancelled before, and that are cancelled at the time `at`. Whatever the
    order in which the tickets are cancelled, together they give back what they would at once.
    """
    gone = sum(prices[place] for place in now)
    if policy is None or (policy.until is not None and at >= policy.until):
        return 0
    if policy.fee is not None:
        already = sum(prices[place] for place in before)
        return gone - (min(policy.fee, already + gone) - min(policy.fee, already))
    if policy.percent is not None:
        shares = allotted(_rounded(sum(prices) * policy.percent, 100), prices)
        return sum(shares[place] for place in now)
    return gone if policy.kind is RefundKind.FULL_UNTIL else 0


def _rounded(numerator: int, denominator: int) -> int:
    """Return the quotient as an integer. A half is rounded up."""
    return (2 * numerator + denominator) // (2 * denominator)
