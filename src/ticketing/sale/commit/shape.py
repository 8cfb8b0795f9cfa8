"""Which parts a commit's statement has, and in which form."""

from collections.abc import Iterator
from itertools import product
from typing import NamedTuple


class Shape(NamedTuple):
    """What a commit has to do; a part without work would cost more than a booking does."""

    many: bool = False
    """It swaps several events."""
    changes: bool = False
    """It changes bookings that are there."""
    stores: bool = False
    """It stores responses under their keys."""
    lone: bool = False
    """It is about one new booking: it has values where the others have arrays."""
    skip: bool = False
    """It does without the events that somebody else has locked."""

    @property
    def can_occur(self) -> bool:
        """Whether there is such a commit: a lone booking is at one event, and is no change."""
        return not (self.lone and (self.many or self.changes)) and (self.many or not self.skip)


def shapes() -> Iterator[Shape]:
    """Yield every shape that can occur."""
    for flags in product((False, True), repeat=len(Shape._fields)):
        shape = Shape(*flags)
        if shape.can_occur:
            yield shape
