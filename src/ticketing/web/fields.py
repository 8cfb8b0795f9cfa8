"""Types of fields, and the base classes of bodies."""

import re
from datetime import datetime
from typing import Annotated, Any, Final
from uuid import UUID

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    JsonValue,
    StringConstraints,
)
from pydantic.alias_generators import to_camel
from pydantic_core import CoreSchema, PydanticKnownError, core_schema

MAX_SAFE_INTEGER: Final = 2**53 - 1
"""The largest number that every JSON client reads exactly (RFC 8259, section 6)."""
DIGITS: Final = re.compile(r"-?(0|[1-9][0-9]*)")

# PostgreSQL allows no NUL in text. Matching a pattern also refuses lone surrogates, because a
# string must have a UTF-8 form to be matched.
Text = Annotated[str, StringConstraints(pattern=r"^[^\u0000]*$")]


def _whole(value: object) -> object:
    # JSON Schema Validation, section 6.1.1: an integer is any number without a fraction, 200.0 too.
    if isinstance(value, float) and value.is_integer():
        return int(value)
    # In a path: Pydantic would accept 1_0, +1, 1.0 and spaces, so one event would have many paths.
    if isinstance(value, str) and not DIGITS.fullmatch(value):
        raise PydanticKnownError("int_parsing")
    return value


Whole: Final = BeforeValidator(_whole)
INT32: Final[dict[str, JsonValue]] = {"format": "int32"}
INT64: Final[dict[str, JsonValue]] = {"format": "int64"}
"""Clients in many languages read a number without a format as one of 32 bits."""
Short = Annotated[int, Field(json_schema_extra=INT32)]
Long = Annotated[int, Field(json_schema_extra=INT64)]
EventId = Annotated[
    int, Field(ge=1, le=MAX_SAFE_INTEGER, examples=[1], json_schema_extra=INT64), Whole
]
UserId = Annotated[UUID, Field(strict=False, examples=["019938a5-3c6b-7f0e-b7a2-53f0c9d1e6aa"])]
"""Not strict, because JSON has no UUID: it arrives as a string."""
BookingId = Annotated[UUID, Field(examples=["019938a5-9d21-7c44-8e0b-1f6a2b7c3d90"])]
TicketId = Annotated[UUID, Field(examples=["019938a5-9d21-7f01-a3b4-5c6d7e8f9a0b"])]
TicketTypeId = Annotated[
    int, Field(ge=1, le=MAX_SAFE_INTEGER, examples=[1], json_schema_extra=INT64), Whole
]
Time = Annotated[datetime, Field(examples=["2026-11-02T19:30:00.123456Z"])]


class DocumentedAs:
    """Documents a field of a strict body as a model that the route itself checks."""

    def __init__(self, model: type[BaseModel]) -> None:
        """Document as `model`."""
        self._model = model

    def __get_pydantic_core_schema__(
        self,
        source: Any,  # noqa: ANN401 - any type
        handler: GetCoreSchemaHandler,
    ) -> CoreSchema:
        """Return a schema that is documented as the model, and validated as the annotated type."""
        return core_schema.lax_or_strict_schema(
            lax_schema=handler.generate_schema(self._model), strict_schema=handler(source)
        )


class In(BaseModel):
    """A request body: exact types, and no unknown fields."""

    model_config = ConfigDict(
        alias_generator=to_camel, extra="forbid", strict=True, frozen=True, validate_by_name=False
    )


class Out(BaseModel):
    """A response body."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        validate_by_name=True,
        from_attributes=True,
        frozen=True,
        json_schema_serialization_defaults_required=True,
    )
