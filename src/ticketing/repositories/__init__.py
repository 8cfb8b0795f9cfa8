"""One file per aggregate; the only place with SQL. A public method is one transaction."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

ItemT = TypeVar("ItemT")


@dataclass(frozen=True, slots=True)
class Page(Generic[ItemT]):
    """Part of a list, and the key to go on after; None at the end."""

    items: Sequence[ItemT]
    next_after: int | None
