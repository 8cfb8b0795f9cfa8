"""Currencies, and how many decimal places an amount has in each (ISO 4217). No I/O."""

from collections.abc import Mapping
from typing import Final

from iso4217 import Currency

EXPONENTS: Final[Mapping[str, int]] = {
    each.code: each.exponent for each in Currency if each.exponent is not None
}
"""By code: an amount of 1 is 10 to the power of minus this. JPY has 0, EUR 2, KWD 3.

Gold, units of account and codes for tests have none, so nothing can have a price in them.
"""
