"""Times in requests."""

import re
from datetime import UTC, datetime
from typing import Annotated, Final

from pydantic import AfterValidator, AwareDatetime, BeforeValidator, Field, WithJsonSchema
from pydantic_core import PydanticCustomError

from ticketing.sale.times import EARLIEST, LATEST

WRITTEN: Final = re.compile(
    r"\d{4}-\d\d-\d\dT\d\d:\d\d(:\d\d(\.\d{1,6})?)?(Z|[+-]\d\d:\d\d)?", re.ASCII
)
"""A time of RFC 3339, or a local time: the same without an offset (RFC 5545, section 3.3.5)."""


def _written(value: object) -> object:
    if not isinstance(value, str) or not WRITTEN.fullmatch(value):
        raise PydanticCustomError(
            "time_format", "Write a time as 2026-11-02T19:30:00Z, with an offset or without"
        )
    return value


Moment = Annotated[
    datetime,
    Field(strict=False),
    BeforeValidator(_written),
    WithJsonSchema(
        {
            "type": "string",
            "pattern": f"^{WRITTEN.pattern}$",
            "description": "With an offset it is an instant. Without one it is a local time in the"
            " event's `timezone`.",
            "examples": ["2026-11-02T19:30:00+01:00"],
        }
    ),
]


def _in_utc(value: datetime) -> datetime:
    if not EARLIEST <= value.year <= LATEST:
        raise PydanticCustomError("time_out_of_range", f"Use a year from {EARLIEST} to {LATEST}")
    return value.astimezone(UTC)


SentInstant = Annotated[
    AwareDatetime,
    BeforeValidator(_written),
    AfterValidator(_in_utc),
    Field(strict=False, examples=["2026-11-02T19:30:00Z"]),
]
"""A time with an offset, in UTC. Its year is in a range, because the first and the last instants
that `datetime` has are infinite for the driver, and have no other offset."""
