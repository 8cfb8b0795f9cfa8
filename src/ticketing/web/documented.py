"""How the errors of a route are documented: their statuses, codes, headers and examples."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any, Final

from ticketing.errors import (
    BodyTooLarge,
    Busy,
    DatabaseUnavailable,
    ExpectationFailed,
    HeadersTooLarge,
    HttpVersionNotSupported,
    IdempotencyKeyReused,
    InternalError,
    InvalidCursor,
    InvalidIdempotencyKey,
    MalformedBody,
    MalformedRequest,
    OutcomeUnknown,
    RequestInProgress,
    RequestTimeout,
    TicketingError,
    TooManyRequests,
    TransferCodingNotImplemented,
    UnsupportedMediaType,
    UrlTooLong,
    ValidationFailed,
)
from ticketing.web.problems import MEDIA_TYPE

OF_ANY_ROUTE: Final[tuple[type[TicketingError], ...]] = (
    *(MalformedRequest, RequestTimeout, UrlTooLong, HeadersTooLarge, ExpectationFailed),
    *(HttpVersionNotSupported, TransferCodingNotImplemented),
    *(InternalError, Busy, DatabaseUnavailable),
)
"""Of any route that asks the database: what the server refuses, and what may fail."""


def problems(
    errors: Sequence[type[TicketingError]],
    *,
    body: bool,
    keyed: bool,
    listed: bool,
    counted: bool,
) -> dict[int | str, dict[str, Any]]:
    """Document the errors of a route, with an example each, for FastAPI's `responses`.

    Added are those of any route, with `body` those of any body, with `keyed` those of an
    Idempotency-Key, with `listed` those of a page of a list, and with `counted` those of a limit.
    """
    every: list[type[TicketingError]] = [*errors, *OF_ANY_ROUTE]
    if counted:
        every += [TooManyRequests, ValidationFailed]
    if body:
        every += [MalformedBody, BodyTooLarge, UnsupportedMediaType]
    if keyed:
        every += [InvalidIdempotencyKey, IdempotencyKeyReused, RequestInProgress, OutcomeUnknown]
    if listed:
        every += [InvalidCursor]
    by_status: dict[int | str, list[type[TicketingError]]] = defaultdict(list)
    for error in dict.fromkeys(every):
        by_status[error.status].append(error)
    return {
        status: {
            "description": "\n".join(f"- `{error.code}`: {error.detail}" for error in found),
            "headers": {
                name: _header(value)
                for error in found
                for name, value in (error.headers | error.example_headers).items()
            },
            "content": {
                MEDIA_TYPE: {
                    "schema": {"$ref": "#/components/schemas/Problem"},
                    "examples": {
                        error.code: {"value": error.problem("/api/…", "4f1c…", error.example)}
                        for error in found
                    },
                }
            },
        }
        for status, found in by_status.items()
    }


def _header(example: str) -> dict[str, Any]:
    if example.isdigit():
        return {"schema": {"type": "integer"}, "example": int(example)}
    return {"schema": {"type": "string"}, "example": example}
