"""Counting against one limit.

A count is one number, the theoretical arrival time of GCRA (ITU-T I.371, annex A; ATM Forum TM 4.0,
section 4.4.2): the time at which everything taken so far has been given back. Therefore a quota
comes back evenly, and nothing has to be reset.
"""

import math
import time
from hashlib import blake2b
from typing import Final

from ticketing.limits.cells import BUCKETS, KEYS, WAYS, Cells
from ticketing.settings import RateLimit

SECOND: Final = 1_000_000_000
"""Nanoseconds."""


class Meter:
    """One limit, with its name in the RateLimit headers."""

    def __init__(
        self, name: str, limit: RateLimit, cells: Cells, pending: dict[int, int] | None = None
    ) -> None:
        """Count in `cells`, and in `pending` if other machines must learn of the count."""
        self.name = name
        self.cost = math.ceil(limit.window * SECOND / limit.quota)
        self.span = self.cost * limit.quota
        self.policy = f'"{name}";q={limit.quota};w={limit.window}'.encode()
        self._remaining = f'"{name}";r=%d;t=1'.encode()
        self._rest = self.span - self.cost
        # A subject has a different key in each limit.
        self._salt = int.from_bytes(blake2b(name.encode(), digest_size=8).digest()) & KEYS
        self._place = cells.place
        self._numbers = cells.numbers
        self._pending = pending

    def left(self, number: int, now: int) -> int:
        """Return the nanoseconds that are left if one more is taken; negative: the time to wait."""
        return self._rest - (number - now if number > now else 0)

    def take(self, key: int) -> int:
        """Take one for the subject `key` if one is left, and return what is `left`."""
        key ^= self._salt
        numbers = self._numbers
        first = key % BUCKETS * (WAYS * 2)
        place = first + 1 if numbers[first] == key else self._place(key)
        now = time.monotonic_ns()
        number = numbers[place]
        left = self._rest - (number - now if number > now else 0)
        if left >= 0:
            numbers[place] = now + self.span - left
            if self._pending is not None:
                self._pending[key] = self._pending.get(key, 0) + self.cost
        return left

    def state(self, left: int) -> bytes:
        """Return the RateLimit item: how many are left, and seconds until there is one more."""
        if self.cost <= SECOND:
            return self._remaining % (left // self.cost if left >= 0 else 0)
        remaining, part = divmod(left, self.cost) if left >= 0 else (0, left + self.cost)
        return f'"{self.name}";r={remaining};t={seconds(self.cost - part)}'.encode()


def seconds(nanoseconds: int) -> int:
    """Return whole seconds, rounded up, at least 1."""
    return max(1, -(-nanoseconds // SECOND))


Taken = tuple[Meter, int]
"""A limit that counted a request, and what is left of it."""
TAKEN: Final = "rates"
"""Key of a scope: the list of these, for the headers of the response."""
