"""What the routes share: field types, who calls, pages, and how errors are documented."""

import re
from collections import defaultdict
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Final, Generic, Self, TypeVar
from uuid import UUID

from fastapi import Depends, Header, Query, Request
from fastapi.security import OAuth2PasswordBearer
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints
from pydantic.alias_generators import to_camel
from pydantic.json_schema import SkipJsonSchema
from pydantic_core import PydanticKnownError

from ticketing import telemetry
from ticketing.errors import (
    BodyTooLarge,
    Busy,
    DatabaseUnavailable,
    Forbidden,
    HeadersTooLarge,
    IdempotencyKeyReused,
    InsufficientScope,
    InternalError,
    InvalidCursor,
    InvalidIdempotencyKey,
    MalformedBody,
    MalformedRequest,
    NoCredential,
    OutcomeUnknown,
    RequestInProgress,
    RequestTimeout,
    TicketingError,
    TooManyRequests,
    UnsupportedMediaType,
    UrlTooLong,
    ValidationFailed,
)
from ticketing.idempotency import KEY, Answer, Intent
from ticketing.origin import Origin
from ticketing.permissions import RULES, Action, Role
from ticketing.rates import TAKEN, Rates
from ticketing.repositories import Page
from ticketing.repositories.audit import AuditRepository
from ticketing.repositories.bookings import BookingRepository
from ticketing.repositories.events import EventRepository
from ticketing.repositories.keys import KeyRepository
from ticketing.repositories.listings import ListingRepository
from ticketing.repositories.sessions import SessionRepository
from ticketing.repositories.team import TeamRepository
from ticketing.repositories.users import UserRepository
from ticketing.security import KEY_PREFIX, AccessList, Caller, Passwords, Seals, Tokens
from ticketing.telemetry import client_address

MAX_BODY: Final = 64 * 1024
"""Bytes."""

MAX_SAFE_INTEGER: Final = 2**53 - 1
"""The largest number that every JSON client reads exactly (RFC 8259, section 6)."""

CURSOR: Final = "^[1-9a-f][0-9a-f]{0,14}$"

ItemT = TypeVar("ItemT")


# PostgreSQL has no NUL in text. To match a pattern at all, a string must have a UTF-8 form, and so
# no lone surrogate.
Text = Annotated[str, StringConstraints(pattern=r"^[^\u0000]*$")]


DIGITS: Final = re.compile(r"-?(0|[1-9][0-9]*)")


def _whole(value: object) -> object:
    # JSON Schema Validation, section 6.1.1: an integer is any number without a fraction, 200.0 too.
    if isinstance(value, float) and value.is_integer():
        return int(value)
    # In an address: Pydantic would take 1_0, +1, 1.0 and blanks, and give one thing many addresses.
    if isinstance(value, str) and not DIGITS.fullmatch(value):
        raise PydanticKnownError("int_parsing")
    return value


Whole: Final = BeforeValidator(_whole)
EventId = Annotated[int, Field(ge=1, le=MAX_SAFE_INTEGER, examples=[1]), Whole]
UserId = Annotated[UUID, Field(strict=False, examples=["019938a5-3c6b-7f0e-b7a2-53f0c9d1e6aa"])]
"""Not strict: JSON has no UUID, so it comes as a string."""
BookingId = Annotated[UUID, Field(examples=["019938a5-9d21-7c44-8e0b-1f6a2b7c3d90"])]
Time = Annotated[datetime, Field(examples=["2026-11-02T19:30:00.123456Z"])]


class In(BaseModel):
    """A body that is read: exact types, and no field that is not known."""

    model_config = ConfigDict(
        alias_generator=to_camel, extra="forbid", strict=True, frozen=True, validate_by_name=False
    )


class Out(BaseModel):
    """A body that is written."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        validate_by_name=True,
        from_attributes=True,
        frozen=True,
        json_schema_serialization_defaults_required=True,
    )


def written(status: int, body: Out, location: str | None = None) -> Answer:
    """Return the answer that has this body."""
    return Answer(status, body.model_dump_json(by_alias=True).encode(), location)


class PageOut(Out, Generic[ItemT]):
    """Part of a list. Pass `nextCursor` as `cursor` to go on; it is null at the end."""

    items: list[ItemT]
    next_cursor: str | None = Field(examples=["2a"])

    @classmethod
    def of(cls, page: Page[Any]) -> Self:
        """Return the page as it goes over the wire."""
        cursor = None if page.next_after is None else f"{page.next_after:x}"
        return cls.model_validate({"items": page.items, "next_cursor": cursor})


@dataclass(frozen=True, slots=True)
class Parts:
    """What the routes work with; made once by the composition root."""

    users: UserRepository
    sessions: SessionRepository
    keys: KeyRepository
    events: EventRepository
    bookings: BookingRepository
    listings: ListingRepository
    team: TeamRepository
    audit: AuditRepository
    passwords: Passwords
    tokens: Tokens
    seals: Seals
    access: AccessList
    is_ready: Callable[[], Awaitable[bool]]
    rates: Rates | None
    """None: there are no limits."""


def parts(request: Request) -> Parts:
    """Return the parts of the application that serves the request."""
    found: Parts = request.app.state.parts
    return found


def trying_password(request: Request, account: str) -> AbstractAsyncContextManager[None]:
    """Return in what to verify a password, so that nobody can guess it: see `rates.Guard`."""
    rates = parts(request).rates
    if rates is None:
        return nullcontext()
    return rates.guard.password(account, client_address(request.scope) or "")


async def recall(request: Request, intent: Intent | None, account: str) -> None:
    """Raise what answers the intention, if it was carried out before, without its password.

    The answer tells whether the password is that of before: it can be had no oftener than by
    trying passwords.
    """
    answer = await parts(request).users.recall(intent) if intent else None
    if answer is not None:
        async with trying_password(request, account):
            raise answer


class Bearer(OAuth2PasswordBearer):
    """One dependency instead of two: finds the credential and verifies it.

    A session may do whatever its person may, an API key what its scopes say.
    """

    def __init__(self, action: Action) -> None:
        """Let in sessions, and API keys made for this."""
        super().__init__(
            tokenUrl="/api/users/token",
            scheme_name="bearer",
            description="The token of `POST /api/users/login`, or an API key.",
        )
        self._accepts = RULES[action].scopes
        self._books = action in {Action.BOOK_TICKET, Action.CANCEL_TICKET}
        self._ends = action is Action.LOGOUT

    async def __call__(self, request: Request) -> Caller:  # type: ignore[override]
        """Find and verify the credential, for FastAPI."""
        return await self.caller(request, request.headers.get("authorization", ""))

    async def caller(self, request: Request, authorization: str) -> Caller:
        """Return whom the header's credential speaks for; one that is remembered without waiting.

        Raises NotAuthenticated, InsufficientScope, or TooManyRequests where one books or cancels.
        """
        have = parts(request)
        scheme, _, credential = authorization.partition(" ")
        credential = credential.strip()
        if scheme.lower() != "bearer":
            raise NoCredential
        caller = have.tokens.known(credential)
        if caller is None and credential.startswith(KEY_PREFIX):
            caller = have.tokens.remember(credential, await have.keys.verify(credential))
        elif caller is None and self._ends and "idempotency-key" in request.headers:
            # Its session may have been ended by the very request that comes again.
            caller = have.tokens.named(credential)
        elif caller is None:
            caller = have.tokens.verify(credential)
        request.scope["user_id"] = caller.id
        if caller.scopes is not None and self._accepts.isdisjoint(caller.scopes):
            raise InsufficientScope(scopes=sorted(self._accepts))
        if have.rates is not None and self._books:
            have.rates.book(caller.id, request.scope[TAKEN])
        return caller


def who_may(action: Action) -> Any:  # noqa: ANN401 - what FastAPI's Depends is typed as
    """Return the dependency that finds who calls, by a credential that is good for the action."""
    return Depends(Bearer(action))


async def require(have: Parts, caller: Caller, action: Action, event_id: int) -> None:
    """Raise Forbidden unless the caller may do this with the event. Raises EventNotFound."""
    role = await have.team.role(event_id, caller.id)
    if caller.id in have.access.admins:
        role = Role.ADMIN
    if role not in RULES[action].roles:
        raise Forbidden


def origin(request: Request, caller: Caller | None = None) -> Origin:
    """Return where a change comes from, for its record."""
    return Origin(
        actor=caller.id if caller else None,
        credential=caller.credential if caller else None,
        address=telemetry.client_address(request.scope),
        request_id=telemetry.request_id.get(),
    )


IdempotencyKey = Annotated[
    str | SkipJsonSchema[None],
    Header(
        alias="Idempotency-Key",
        description="Names the intention: sent again with the same key and body, the request has "
        "no second effect, and the first answer comes again.",
        # Documented, not checked: `intent` has an error of its own for it.
        json_schema_extra={"pattern": f"^({KEY.pattern})$", "examples": ["8e03978e-40d5-43dd"]},
    ),
]

Limit = Annotated[int, Query(ge=1, le=100, description="Items per page."), Whole]
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


PROBLEM_JSON: Final = "application/problem+json"

OF_ANY_ROUTE: Final[tuple[type[TicketingError], ...]] = (
    *(MalformedRequest, RequestTimeout, UrlTooLong, HeadersTooLarge),
    *(InternalError, Busy, DatabaseUnavailable),
)
"""Of any route that asks the database: what the server refuses, and what may fail."""


def problems(
    *errors: type[TicketingError],
    body: bool = False,
    keyed: bool = False,
    listed: bool = False,
    of_api: bool = True,
) -> dict[int | str, dict[str, Any]]:
    """Document the errors of a route, with an example each, for FastAPI's `responses`.

    Those of any route are added, with `body` those of any body, with `keyed` those of an
    Idempotency-Key, with `listed` those of a page of a list, and with `of_api` those of the API's.
    """
    every: list[type[TicketingError]] = [*errors, *OF_ANY_ROUTE]
    if of_api:
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
                name: _header(value) for error in found for name, value in error.headers.items()
            },
            "content": {
                PROBLEM_JSON: {
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
