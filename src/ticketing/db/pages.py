"""Pages of lists, as repositories return them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import asyncpg

ItemT = TypeVar("ItemT")


@dataclass(frozen=True, slots=True)
class Page(Generic[ItemT]):
    """Part of a list, and the key to go on after; None at the end."""

    items: Sequence[ItemT]
    next_after: int | None


def page(
    rows: Sequence[asyncpg.Record], limit: int, item: Callable[[asyncpg.Record], ItemT]
) -> Page[ItemT]:
    """Return the page that rows make, of which one more than `limit` was asked for, by `seq`."""
    after = rows[limit - 1]["seq"] if len(rows) > limit else None
    return Page([item(row) for row in rows[:limit]], after)
