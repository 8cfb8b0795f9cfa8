"""Lists: the parameters of a page, and its body."""

import re
from typing import Annotated, Any, Final, Generic, Self, TypeVar

from fastapi import Query
from pydantic import Field
from pydantic.json_schema import SkipJsonSchema

from ticketing.db.pages import Page
from ticketing.errors import InvalidCursor
from ticketing.web.fields import INT32, Out, Whole

CURSOR: Final = "^[1-9a-f][0-9a-f]{0,14}$"

ItemT = TypeVar("ItemT")


class PageOut(Out, Generic[ItemT]):
    """Part of a list."""

    items: list[ItemT]
    # The example is null, so that a client of a mock server finds a last page.
    next_cursor: str | None = Field(
        description="Send it as `cursor` to get the next page; null on the last page.",
        examples=[None],
    )

    @classmethod
    def of(cls, page: Page[Any]) -> Self:
        """Return the body of a page."""
        cursor = None if page.next_after is None else f"{page.next_after:x}"
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


def decode_cursor(cursor: str | None) -> int | None:
    """Return the key of the page's last item. Raises InvalidCursor."""
    if cursor is None:
        return None
    if not re.fullmatch(CURSOR, cursor):
        raise InvalidCursor
    return int(cursor, 16)
