"""Documents the errors of a route: statuses, codes, headers and examples."""

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from typing import Any, Final
from uuid import UUID

from pydantic import BaseModel, Field
from pydantic.json_schema import SkipJsonSchema

from ticketing.errors import (
    AnswerLost,
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
    NotAuthenticated,
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
from ticketing.web.fields import Long, Short
from ticketing.web.problems import MEDIA_TYPE

OF_THE_SERVER: Final[tuple[type[TicketingError], ...]] = (
    *(MalformedRequest, RequestTimeout, UrlTooLong, HeadersTooLarge, ExpectationFailed),
    *(HttpVersionNotSupported, TransferCodingNotImplemented),
)
"""Errors of every route: the server refuses these before a route has the request."""
OF_THE_DATABASE: Final[tuple[type[TicketingError], ...]] = (
    *(InternalError, Busy, DatabaseUnavailable),
)
"""Errors of every route that uses the database."""
ALONE: Final[tuple[type[TicketingError], ...]] = (
    *(NotAuthenticated, RequestTimeout, AnswerLost, BodyTooLarge, UrlTooLong),
    *(UnsupportedMediaType, ExpectationFailed, TooManyRequests, HeadersTooLarge),
    *(InternalError, TransferCodingNotImplemented, HttpVersionNotSupported),
)
"""Errors that are the only one with their status on most routes. These routes share the
response."""

HEADERS: Final[dict[str, dict[str, Any]]] = {
    "Accept-Encoding": {
        "description": "Encodings that a request body may have.",
        "schema": {"type": "string"},
        "example": "identity",
    },
    "ETag": {
        "description": "The version of what is returned. `If-Match` takes that of an event, and"
        " bookings don't make it stale for that.",
        "schema": {"type": "string"},
        "example": '"1-1-open"',
    },
    "Idempotency-Replayed": {
        "description": "Present only on a stored response: the same request used the key before.",
        "schema": {"type": "string", "enum": ["true"]},
    },
    "Location": {
        "description": "The path of the new resource.",
        "schema": {"type": "string"},
        "example": "/api/events/1",
    },
    "RateLimit": {
        "description": "Requests that are left in the limit, and seconds until there are more.",
        "schema": {"type": "string"},
        "example": TooManyRequests.example_headers["RateLimit"],
    },
    "RateLimit-Policy": {
        "description": "The limit: a number of requests, and in how many seconds.",
        "schema": {"type": "string"},
        "example": TooManyRequests.example_headers["RateLimit-Policy"],
    },
    "Retry-After": {
        "description": "Seconds after which to resend the request.",
        "schema": {"type": "integer", "format": "int32"},
        "example": 1,
    },
    "Vary": {
        "description": "Request headers that the response depends on.",
        "schema": {"type": "string"},
        "example": "Accept",
    },
    "WWW-Authenticate": {
        "description": "The authentication scheme, and what is wrong with the credential.",
        "schema": {"type": "string"},
        "example": 'Bearer error="invalid_token"',
    },
    "X-Request-ID": {
        "description": "The id of the request, as in the log.",
        "required": True,
        "schema": {"type": "string"},
        "example": "4f1c0f6de1a94d5c8d0c2a7be25c9f31",
    },
}
"""Every header that a route may document."""
OF_LIMITS: Final = ("RateLimit", "RateLimit-Policy")
"""Headers of responses to requests that a limit counts."""


class RequestPart(StrEnum):
    """A part of a request."""

    BODY = "body"
    PATH = "path"
    QUERY = "query"


class WrongField(BaseModel):
    """A field that is wrong, and its place."""

    in_: RequestPart = Field(alias="in")
    pointer: str
    type: str
    detail: str


class Problem(BaseModel):
    """A problem document (RFC 9457). The members after `requestId` are present with some codes."""

    type: str
    title: str
    status: Short
    detail: str
    instance: str
    code: str
    requestId: str  # noqa: N815 - the wire name
    errors: list[WrongField] | SkipJsonSchema[None] = None
    scopes: list[str] | SkipJsonSchema[None] = None
    retryAfter: Short | SkipJsonSchema[None] = None  # noqa: N815
    state: str | SkipJsonSchema[None] = None
    opensAt: datetime | SkipJsonSchema[None] = None  # noqa: N815
    startsAt: datetime | SkipJsonSchema[None] = None  # noqa: N815
    endsAt: datetime | SkipJsonSchema[None] = None  # noqa: N815
    requested: Short | SkipJsonSchema[None] = None
    taken: Short | SkipJsonSchema[None] = None
    available: Short | SkipJsonSchema[None] = None
    ticketTypeId: Long | SkipJsonSchema[None] = None  # noqa: N815
    quotaId: Long | None = None  # noqa: N815
    limits: str | SkipJsonSchema[None] = None
    limit: Short | SkipJsonSchema[None] = None
    has: Short | SkipJsonSchema[None] = None
    min: Short | SkipJsonSchema[None] = None
    max: Short | None = None
    capacity: Short | SkipJsonSchema[None] = None
    amount: Long | SkipJsonSchema[None] = None
    paid: Long | SkipJsonSchema[None] = None
    refunded: Long | SkipJsonSchema[None] = None
    currency: str | SkipJsonSchema[None] = None
    name: str | SkipJsonSchema[None] = None
    bookingId: UUID | SkipJsonSchema[None] = None  # noqa: N815
    expiresAt: datetime | SkipJsonSchema[None] = None  # noqa: N815
    reason: str | SkipJsonSchema[None] = None
    bookingIds: list[UUID] | SkipJsonSchema[None] = None  # noqa: N815
    eventIds: list[Long] | SkipJsonSchema[None] = None  # noqa: N815


def problem_of(action: str) -> str:
    """Return the schema name of a route's problems, or of any route's if `action` is empty."""
    return f"{action[:1].upper()}{action[1:]}{Problem.__name__}"


def headers(*names: str) -> dict[str, dict[str, str]]:
    """Document these headers of a response. Raises KeyError if one has no description."""
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names if HEADERS[name]}


def shared() -> dict[str, dict[str, Any]]:
    """Return the responses that routes share, by name."""
    found = {error.__name__: _response([error], Problem.__name__) for error in ALONE}
    for error in ALONE:
        limits = () if error in OF_THE_SERVER else OF_LIMITS
        found[error.__name__]["headers"] |= headers("X-Request-ID", *limits)
    return found


def problems(  # noqa: PLR0913 - they describe the kind of route
    action: str,
    errors: Sequence[type[TicketingError]] | None,
    *,
    body: bool,
    keyed: bool,
    listed: bool,
    counted: bool,
) -> dict[int | str, dict[str, Any]]:
    """Document the errors of a route, with an example each, for FastAPI's `responses`.

    Errors of the server are always added, and those of the database unless `errors` is None. `body`
    adds the errors of a body, `keyed` those of an Idempotency-Key, `listed` those of a page of a
    list, and `counted` those of a rate limit.
    """
    every = [*OF_THE_SERVER] if errors is None else [*errors, *OF_THE_SERVER, *OF_THE_DATABASE]
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
        status: {"$ref": f"#/components/responses/{found[0].__name__}"}
        if len(found) == 1 and found[0] in ALONE
        else _response(found, problem_of(action))
        for status, found in sorted(by_status.items())
    }


def _response(errors: Sequence[type[TicketingError]], schema: str) -> dict[str, Any]:
    told = {name: None for each in errors for name in (*each.headers, *each.example_headers)}
    return {
        "description": "\n".join(f"- `{error.code}`: {error.detail}" for error in errors),
        "headers": headers(*told),
        "content": {
            MEDIA_TYPE: {
                "schema": {"$ref": f"#/components/schemas/{schema}"},
                "examples": {
                    error.code: {"value": error.problem("/api/…", "4f1c…", error.example)}
                    for error in errors
                },
            }
        },
    }
