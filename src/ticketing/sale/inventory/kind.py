"""What there is to know of a kind of request, beside the request itself."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from ticketing.sale.inventory.decision import State
from ticketing.sale.inventory.model import Outcome

RequestT = TypeVar("RequestT")


@dataclass(frozen=True, slots=True)
class Kind(Generic[RequestT]):
    """A kind of request to the inventory: how it is decided, and what must be read for that."""

    request: type[RequestT]
    decide: Callable[[State, RequestT], Outcome]
    """Changes the state, and returns what became of the request; a refusal changes nothing."""
    needs_active: bool
    """Whether the active booking of its person must be known."""
    frees: int
    """How many places it may free: so many of the head of the line must be known."""
    inserts: bool
    """Whether it may make a booking, of a person who must exist."""
