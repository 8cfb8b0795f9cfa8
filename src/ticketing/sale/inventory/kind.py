"""The description of a kind of request."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from ticketing.sale.inventory.model import Outcome
from ticketing.sale.inventory.state import State

RequestT = TypeVar("RequestT")


@dataclass(frozen=True, slots=True)
class Kind(Generic[RequestT]):
    """A kind of request: how it is decided, and what must be read before."""

    request: type[RequestT]
    decide: Callable[[State, RequestT], Outcome]
    """Changes the state and returns the outcome. A refusal changes nothing."""
    needs_active: bool
    """Whether the person's active booking must be read."""
    frees: bool
    """Whether it may free what the person has. Then the waiting list's head must be read."""
    inserts: bool
    """Whether it may make a booking. Then the person must exist."""
