"""API keys: credentials of a person's programs."""

from datetime import UTC, datetime, timedelta
from typing import Annotated, Final
from uuid import UUID

from fastapi import APIRouter, Request, Response
from pydantic import AfterValidator, AwareDatetime, BeforeValidator, Field
from pydantic_core import PydanticCustomError

from ticketing.errors import (
    AnswerLost,
    InsufficientScope,
    KeyNotFound,
    NotAuthenticated,
    TooManyKeys,
    UserNotFound,
)
from ticketing.idempotency import Answer
from ticketing.idempotency import intent as intention
from ticketing.permissions import Action
from ticketing.repositories.keys import ApiKey
from ticketing.routers.dependencies import (
    Cursor,
    IdempotencyKey,
    In,
    Limit,
    Out,
    PageOut,
    Text,
    Time,
    decode_cursor,
    origin,
    parts,
    problems,
    who_may,
    written,
)
from ticketing.routers.direct import DirectRoute, StrictRoute
from ticketing.security import Caller, Scope

LONGEST: Final = timedelta(days=3660)

router = APIRouter(prefix="/api/users/me/keys", tags=["keys"], route_class=StrictRoute)
keyed = APIRouter(prefix=router.prefix, tags=["keys"], route_class=DirectRoute)


def _text(value: object) -> object:
    # Pydantic would take a number for seconds since the epoch.
    if not isinstance(value, str):
        raise PydanticCustomError("value_error", "must be a time as in RFC 3339")
    return value


def _in_the_future(value: datetime) -> datetime:
    if not timedelta(0) < value - datetime.now(UTC) < LONGEST:
        raise PydanticCustomError("value_error", "must be in the future, by ten years at most")
    return value


KeyId = Annotated[UUID, Field(examples=["019938a5-b04e-7d19-9f5c-6a2b8c1d7e43"])]
KeyName = Annotated[Text, Field(min_length=1, max_length=100, examples=["Box office till 2"])]
Expiry = Annotated[
    AwareDatetime,
    Field(strict=False, examples=["2030-01-01T00:00:00Z"]),
    BeforeValidator(_text),
    AfterValidator(_in_the_future),
]


class MakeKey(In):
    """A new key: what for, and for how long."""

    name: KeyName
    scopes: Annotated[
        list[Annotated[Scope, Field(strict=False)]],
        Field(min_length=1, max_length=len(Scope), examples=[["bookings:write", "bookings:read"]]),
    ]
    expires_at: Expiry | None = Field(
        default=None,
        description="At most ten years from now; without it, the key does not end.",
        examples=["2030-01-01T00:00:00Z"],
    )


class KeyOut(Out):
    """A key, without what is secret of it."""

    id: KeyId
    name: KeyName
    scopes: list[Scope] = Field(examples=[["bookings:read", "bookings:write"]])
    created_at: Time
    expires_at: Time | None = Field(examples=[None])
    last_used_at: Time | None = Field(
        description="To the minute.", examples=["2026-11-02T19:30:00.123456Z"]
    )


class MadeKeyOut(KeyOut):
    """A key as it is shown to who made it."""

    key: str = Field(
        description="Send it as `Authorization: Bearer <key>`. It can not be shown again.",
        examples=["tkt_" + "5e" * 32 + "_9c1b2a7d"],
    )


@keyed.post(
    "",
    operation_id="makeKey",
    summary="Make an API key",
    status_code=201,
    response_model=MadeKeyOut,
    responses=problems(
        NotAuthenticated,
        InsufficientScope,
        UserNotFound,
        TooManyKeys,
        AnswerLost,
        body=True,
        keyed=True,
    ),
)
async def make(
    body: MakeKey,
    caller: Annotated[Caller, who_may(Action.MAKE_KEY)],
    request: Request,
    idempotency_key: IdempotencyKey = None,
) -> Answer:
    """Make a key for a program that acts for the caller, within the scopes alone.

    `events:write` makes and renames events, `bookings:write` books and cancels, `bookings:read`
    lists bookings and trails. The key itself is in this answer only. A person has up to 50.
    """
    have = parts(request)
    intent = intention(caller.id, idempotency_key, body, _made, have.seals)
    made = await have.keys.make(
        caller.id,
        body.name,
        sorted(set(body.scopes)),
        body.expires_at,
        origin=origin(request, caller),
        intent=intent,
    )
    return _made(made)


def _made(made: tuple[ApiKey, str]) -> Answer:
    key, secret = made
    return written(201, MadeKeyOut(**KeyOut.model_validate(key).model_dump(), key=secret))


@router.get(
    "",
    operation_id="listKeys",
    summary="My API keys, newest first",
    responses=problems(NotAuthenticated, InsufficientScope, listed=True),
)
async def mine(
    caller: Annotated[Caller, who_may(Action.LIST_KEYS)],
    request: Request,
    limit: Limit = 20,
    cursor: Cursor = None,
) -> PageOut[KeyOut]:
    """List the caller's keys, also those that have expired, newest first."""
    page = await parts(request).keys.of_user(caller.id, before=decode_cursor(cursor), limit=limit)
    return PageOut[KeyOut].of(page)


@router.delete(
    "/{keyId}",
    operation_id="revokeKey",
    summary="Revoke an API key",
    status_code=204,
    response_class=Response,
    responses=problems(NotAuthenticated, InsufficientScope, KeyNotFound),
)
async def revoke(
    keyId: KeyId,  # noqa: N803 - the API's name
    caller: Annotated[Caller, who_may(Action.REVOKE_KEY)],
    request: Request,
) -> None:
    """Revoke a key of the caller's: it is refused from now on, everywhere within seconds."""
    await parts(request).keys.revoke(caller.id, keyId, origin(request, caller))
