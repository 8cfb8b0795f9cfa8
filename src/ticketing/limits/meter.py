"""Counting against one limit.

A count is one number, the theoretical arrival time of GCRA (ITU-T I.371, annex A; ATM Forum TM 4.0,
section 4.4.2): the moment at which everything taken so far has been given back. So a quota comes
back evenly, and nothing has to be reset.
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
    """One limit, named as in the RateLimit headers."""

    def __init__(
        self, name: str, limit: RateLimit, cells: Cells, pending: dict[int, int] | None = None
    ) -> None:
        """Count in `cells`, and in `pending` what others must be told of."""
        self.name = name
        self.cost = math.ceil(limit.window * SECOND / limit.quota)
        self.span = self.cost * limit.quota
        self.policy = f'"{name}";q={limit.quota};w={limit.window}'.encode()
        self._remaining = f'"{name}";r=%d;t=1'.encode()
        self._rest = self.span - self.cost
        # One subject has a key in every limit.
        self._salt = int.from_bytes(blake2b(name.encode(), digest_size=8).digest()) & KEYS
        self._place = cells.place
        self._numbers = cells.numbers
        self._pending = pending

    def left(self, number: int, now: int) -> int:
        """Return how much is left when one more is taken; less than nothing means not yet."""
        return self._rest - (number - now if number > now else 0)

    def take(self, key: int) -> int:
        """Take one for the subject of `key` if there is one, and return what is `left`."""
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
        """Return the RateLimit item: how many remain, and in how many seconds there is another."""
        if self.cost <= SECOND:
            return self._remaining % (left // self.cost if left >= 0 else 0)
        remaining, part = divmod(left, self.cost) if left >= 0 else (0, left + self.cost)
        return f'"{self.name}";r={remaining};t={seconds(self.cost - part)}'.encode()


def seconds(nanoseconds: int) -> int:
    """Return whole seconds that are not too short."""
    return max(1, -(-nanoseconds // SECOND))


Taken = tuple[Meter, int]
"""A limit that a request came under, and what it left."""
TAKEN: Final = "rates"
"""Where in an ASGI scope the list of them is, for the headers of the answer."""
