"""The shape of a commit: which parts its statement has, and in which form."""

from collections.abc import Iterator
from itertools import product
from typing import NamedTuple


class Shape(NamedTuple):
    """The work of a commit. Unused parts are left out: each would cost more than a booking."""

    many: bool = False
    """It swaps several events."""
    changes: bool = False
    """It changes existing bookings."""
    stores: bool = False
    """It stores responses under their keys."""
    lone: bool = False
    """It is about one new booking. Its parameters are single values, not arrays."""
    skip: bool = False
    """It leaves out events that another transaction has locked."""
    full: bool = False
    """Some bookings have a type, several places, tickets, or are not the person's only one."""
    counted: bool = False
    """Some events have counters per quota and type."""
    holds: bool = False
    """It makes, ends or looks at holds or offers."""
    codes: bool = False
    """It takes or gives back uses of codes."""

    @property
    def can_occur(self) -> bool:
        """Whether such a commit exists.

        A lone booking is at one event and changes no other. Bookings at an event with
        counters have types. Holds and codes need the columns of the full
        shape.
        """
        return (
            not (self.lone and (self.many or self.changes))
            and (self.many or not self.skip)
            and (self.full or not (self.counted or self.holds or self.codes))
        )


def shapes() -> Iterator[Shape]:
    """Yield every shape that can occur."""
    for flags in product((False, True), repeat=len(Shape._fields)):
        shape = Shape(*flags)
        if shape.can_occur:
            yield shape
