"""Pages of lists, as repositories return them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import asyncpg

ItemT = TypeVar("ItemT")


@dataclass(frozen=True, slots=True)
class Page(Generic[ItemT]):
    """Part of a list. `next_after` is the key of its last item, or None at the end of the list."""

    items: Sequence[ItemT]
    next_after: int | None


def page(
    rows: Sequence[asyncpg.Record], limit: int, item: Callable[[asyncpg.Record], ItemT]
) -> Page[ItemT]:
    """Return a page of `limit` rows with a `seq`. One more row means that another page follows."""
    after = rows[limit - 1]["seq"] if len(rows) > limit else None
    return Page([item(row) for row in rows[:limit]], after)
