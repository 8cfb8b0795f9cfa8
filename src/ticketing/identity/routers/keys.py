"""API keys, which people make for their programs."""

from datetime import UTC, datetime, timedelta
from typing import Annotated, Final
from uuid import UUID

from fastapi import Request
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
from ticketing.identity.part import Identity
from ticketing.identity.permissions import Action, Scope
from ticketing.identity.repositories.keys import ApiKey
from ticketing.identity.routers.authentication import Authenticated, origin
from ticketing.web.fields import In, Out, Time
from ticketing.web.labels import Label
from ticketing.web.lists import Cursor, PageOut, PageSize, decode_cursor
from ticketing.web.part import of
from ticketing.web.replay import IdempotencyKey, Rendered, keyed_request, rendered
from ticketing.web.routes import Routes

LONGEST: Final = timedelta(days=3660)

routes = Routes("/api/users/me/keys", "keys")


def _text(value: object) -> object:
    # Pydantic would accept a number as seconds since the epoch.
    if not isinstance(value, str):
        raise PydanticCustomError("value_error", "must be a time in the form of RFC 3339")
    return value


def _in_the_future(value: datetime) -> datetime:
    if not timedelta(0) < value - datetime.now(UTC) < LONGEST:
        raise PydanticCustomError("value_error", "must be in the next ten years")
    return value


KeyId = Annotated[UUID, Field(examples=["019938a5-b04e-7d19-9f5c-6a2b8c1d7e43"])]
KeyName = Annotated[str, Label(1, 100, "Box office till 2")]
Expiry = Annotated[
    AwareDatetime,
    Field(strict=False, examples=["2030-01-01T00:00:00Z"]),
    BeforeValidator(_text),
    AfterValidator(_in_the_future),
]


class MakeKey(In):
    """A new key: its name, its scopes and when it expires."""

    name: KeyName
    scopes: Annotated[
        list[Annotated[Scope, Field(strict=False)]],
        Field(min_length=1, max_length=len(Scope), examples=[["bookings:write", "bookings:read"]]),
    ]
    expires_at: Expiry | None = Field(
        default=None,
        description="At most ten years from now. Without it, the key does not expire.",
        examples=["2030-01-01T00:00:00Z"],
    )


class ApiKeyOut(Out):
    """A key without its secret."""

    id: KeyId
    name: str = Field(examples=["Box office till 2"])
    scopes: list[Scope] = Field(examples=[["bookings:read", "bookings:write"]])
    created_at: Time
    expires_at: Time | None = Field(examples=[None])
    last_used_at: Time | None = Field(
        description="Accurate to a minute.", examples=["2026-11-02T19:30:00.123456Z"]
    )


class IssuedApiKeyOut(ApiKeyOut):
    """A new key with its secret."""

    key: str = Field(
        description="Send it as `Authorization: Bearer <key>`. It can't be shown again.",
        examples=["tkt_" + "5e" * 32 + "_9c1b2a7d"],
    )


@routes.post(
    "",
    Action.MAKE_KEY,
    "Make an API key",
    status=201,
    model=IssuedApiKeyOut,
    errors=(NotAuthenticated, InsufficientScope, UserNotFound, TooManyKeys, AnswerLost),
)
async def make(
    body: MakeKey,
    caller: Authenticated,
    request: Request,
    idempotency_key: IdempotencyKey = None,
) -> Rendered:
    """Make a key for a program that acts as the caller, within the scopes.

    `events:write` creates and changes events, `bookings:write` books and cancels, `bookings:read`
    lists bookings, audit trails and feeds, `customers:read` and `customers:write` are about
    customers, `webhooks:write` is about webhooks, which tell about bookings. `door`
    is for scanners. The key is shown only in this response. A person can have 50.
    """
    have = of(request, Identity)
    keyed = keyed_request(caller.id, idempotency_key, body, _made, have.seals)
    made = await have.keys.make(
        caller.id,
        body.name,
        sorted(set(body.scopes)),
        body.expires_at,
        origin=origin(request, caller),
        keyed=keyed,
    )
    return _made(made)


def _made(made: tuple[ApiKey, str]) -> Rendered:
    key, secret = made
    return rendered(201, IssuedApiKeyOut(**ApiKeyOut.model_validate(key).model_dump(), key=secret))


@routes.get(
    "",
    Action.LIST_KEYS,
    "List my API keys, newest first",
    errors=(NotAuthenticated, InsufficientScope),
)
async def mine(
    caller: Authenticated,
    request: Request,
    limit: PageSize = 20,
    cursor: Cursor = None,
) -> PageOut[ApiKeyOut]:
    """List the caller's keys, also expired ones, newest first."""
    page = await of(request, Identity).keys.of_user(
        caller.id, before=decode_cursor(cursor), limit=limit
    )
    return PageOut[ApiKeyOut].of(page)


@routes.delete(
    "/{keyId}",
    Action.REVOKE_KEY,
    "Revoke an API key",
    status=204,
    errors=(NotAuthenticated, InsufficientScope, KeyNotFound),
)
async def revoke(
    keyId: KeyId,  # noqa: N803 - the API's name
    caller: Authenticated,
    request: Request,
) -> None:
    """Revoke one of the caller's keys. All workers refuse it within seconds."""
    await of(request, Identity).keys.revoke(caller.id, keyId, origin(request, caller))
