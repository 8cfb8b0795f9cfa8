"""Lists: the parameters of a page, and its body."""

import re
from typing import Annotated, Any, Final, Generic, Self, TypeVar

from fastapi import Query
from pydantic import Field
from pydantic.json_schema import SkipJsonSchema

from ticketing.db.pages import Page
from ticketing.errors import InvalidCursor
from ticketing.web.fields import INT32, Out, Whole

_KEY: Final = "[1-9a-f][0-9a-f]{0,14}"
CURSOR: Final = f"^{_KEY}$"
SORTED_CURSOR: Final = f"^{_KEY}(-{_KEY})?$"

ItemT = TypeVar("ItemT")


class PageOut(Out, Generic[ItemT]):
    """Part of a list."""

    items: list[ItemT]
    # The example is null, so that clients of a mock server reach the last page.
    next_cursor: str | None = Field(
        description="Send it as `cursor` to get the next page; null on the last page.",
        examples=[None],
    )

    @classmethod
    def of(cls, page: Page[Any], key: tuple[int, ...] = ()) -> Self:
        """Return the body of a page. `key` has the sort keys that precede the id."""
        cursor = None
        if page.next_after is not None:
            cursor = "-".join(f"{each:x}" for each in (*key, page.next_after))
        return cls.model_validate({"items": page.items, "next_cursor": cursor})


PageSize = Annotated[
    int, Query(ge=1, le=100, description="Items per page.", json_schema_extra=INT32), Whole
]
Cursor = Annotated[
    # Absent or a string, because a query has no null.
    str | SkipJsonSchema[None],
    Query(
        description="`nextCursor` of the previous page.",
        # Documented but not checked here, because decode_cursor raises its own error.
        json_schema_extra={"pattern": CURSOR},
    ),
]


SortedCursor = Annotated[
    str | SkipJsonSchema[None],
    Query(
        description="`nextCursor` of the previous page, which had the same `sort`.",
        json_schema_extra={"pattern": SORTED_CURSOR},
    ),
]
"""Of a list that has several orders."""


def decode_cursor(cursor: str | None) -> int | None:
    """Return the key of the previous page's last item. Raises InvalidCursor."""
    keys = _keys(cursor, 1)
    return keys[0] if keys else None


def decode_pair(cursor: str | None) -> tuple[int, int] | None:
    """Return both keys of the previous page's last item. Raises InvalidCursor."""
    keys = _keys(cursor, 2)
    return (keys[0], keys[1]) if keys else None


def _keys(cursor: str | None, count: int) -> list[int]:
    if cursor is None:
        return []
    keys = cursor.split("-")
    if not re.fullmatch(SORTED_CURSOR, cursor) or len(keys) != count:
        raise InvalidCursor
    return [int(key, 16) for key in keys]
