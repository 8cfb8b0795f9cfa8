"""Lists: the parameters of a page, and the page as it is sent."""

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
    # In the example it is null, so that whoever reads the pages of a mock server comes to an end.
    next_cursor: str | None = Field(
        description="Pass it as `cursor` to get the next page; null at the end.", examples=[None]
    )

    @classmethod
    def of(cls, page: Page[Any]) -> Self:
        """Return the page as it goes over the wire."""
        cursor = None if page.next_after is None else f"{page.next_after:x}"
        return cls.model_validate({"items": page.items, "next_cursor": cursor})


PageSize = Annotated[
    int, Query(ge=1, le=100, description="Items per page.", json_schema_extra=INT32), Whole
]
Cursor = Annotated[
    # Left out or a string: an address has no null.
    str | SkipJsonSchema[None],
    Query(
        description="`nextCursor` of the page before.",
        # Documented, not checked: decode_cursor has an error of its own for it.
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
