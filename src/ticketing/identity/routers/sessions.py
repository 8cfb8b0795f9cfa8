"""Log in, refresh tokens and log out."""

from collections.abc import Callable
from functools import cache
from typing import Annotated, Final, Literal
from uuid import UUID

from fastapi import Form, Request
from pydantic import Field

from ticketing.errors import (
    AnswerLost,
    InsufficientScope,
    InvalidCredentials,
    InvalidRefreshToken,
    NotAuthenticated,
)
from ticketing.identity.part import Identity
from ticketing.identity.permissions import Action
from ticketing.identity.repositories.sessions import Session
from ticketing.identity.routers.authentication import Authenticated, trying_password
from ticketing.ops import logs
from ticketing.web.fields import In, Long, Out, Text, UserId
from ticketing.web.part import of
from ticketing.web.replay import (
    IdempotencyKey,
    KeyedRequest,
    Rendered,
    keyed_request,
    nothing,
    rendered,
)
from ticketing.web.routes import Routes

routes = Routes("/api/users", "sessions")


class Login(In):
    """Credentials. One that nobody can have gets the same response as a wrong one."""

    username: Annotated[Text, Field(max_length=128, examples=["ada"])]
    password: Annotated[Text, Field(max_length=128, examples=["correct horse battery"])]


class Refresh(In):
    """The refresh token from the last login or refresh."""

    refresh_token: Annotated[
        Text, Field(max_length=128, examples=["3q2-7wJVf0bX9cTnKl4uYdEaGhRsZpMoIiWvCy1xQ8A"])
    ]


class Logout(In):
    """The sessions to end. Without a body, only this one ends."""

    everywhere: bool = Field(
        default=False, description="End all my sessions instead of this one.", examples=[True]
    )


THIS_ONE: Final = Logout()


class TokenOut(Out):
    """An access token, and a refresh token to get the next.

    Send the access token as `Authorization: Bearer <token>`.
    """

    token: str = Field(examples=["eyJhbGciOi….eyJzdWIiOi….KMUFsIDTnF…"])
    token_type: Literal["bearer"] = "bearer"  # noqa: S105 - RFC 6750's word
    expires_in: Long = Field(description="Seconds until the token expires.", examples=[3600])
    refresh_token: str = Field(
        description="Works once, in `POST /api/users/refresh`.",
        examples=["3q2-7wJVf0bX9cTnKl4uYdEaGhRsZpMoIiWvCy1xQ8A"],
    )
    refresh_expires_in: Long = Field(
        description="Seconds until the session ends, unless it is refreshed.",
        examples=[1_209_600],
    )
    user_id: UserId


@routes.post(
    "/login",
    Action.LOGIN,
    "Get an access token",
    model=TokenOut,
    errors=(InvalidCredentials, AnswerLost),
)
async def login(body: Login, request: Request, idempotency_key: IdempotencyKey = None) -> Rendered:
    """Start a session, and return a token that is valid for an hour.

    A wrong password and an unknown username get the same response, in the same time. After several
    wrong passwords the client has to wait between tries, up to 30 seconds (429).

    A replayed response (Idempotency-Key) has the tokens of the first one. They expire at the same
    time as before, and are refused if their session has ended.
    """
    have = of(request, Identity)
    render = _rendering(have)

    def intend(user_id: UUID) -> KeyedRequest | None:
        return keyed_request(user_id, idempotency_key, body, render, have.seals)

    return render(await _authenticate(request, body.username, body.password, intend))


@routes.post("/token", "loginByForm")
async def token(
    request: Request,
    username: Annotated[Text, Form(max_length=128)],
    password: Annotated[Text, Form(max_length=128)],
) -> dict[str, str | int]:
    """Log in with a form, for the Authorize button of the docs page (RFC 6749, section 4.3)."""
    session = await _authenticate(request, username, password, lambda _: None)
    issued = _issued(of(request, Identity), session)
    return {
        "access_token": issued.token,
        "token_type": issued.token_type,
        "expires_in": issued.expires_in,
    }


@routes.post(
    "/refresh",
    Action.REFRESH,
    "Get the next access token",
    model=TokenOut,
    errors=(InvalidRefreshToken, AnswerLost),
)
async def refresh(
    body: Refresh, request: Request, idempotency_key: IdempotencyKey = None
) -> Rendered:
    """Exchange the refresh token for a new access token and a new refresh token.

    A refresh token works once: keep the new one. If it is used a second time, it was probably
    stolen, and the session ends. A resent request with the same Idempotency-Key is safe: it gets
    the stored response.
    """
    have = of(request, Identity)
    render, keyed = _rendering(have), None
    if idempotency_key is not None:
        session_id = await have.sessions.of_token(body.refresh_token)
        keyed = keyed_request(session_id, idempotency_key, body, render, have.seals)
    return render(await have.sessions.refresh(body.refresh_token, keyed))


@routes.post(
    "/logout",
    Action.LOGOUT,
    "End this session, or all my sessions",
    status=204,
    errors=(NotAuthenticated, InsufficientScope),
)
async def logout(
    caller: Authenticated,
    request: Request,
    body: Logout = THIS_ONE,
    idempotency_key: IdempotencyKey = None,
) -> Rendered:
    """End the session that the token belongs to, or all sessions of the caller.

    All workers refuse their tokens within seconds. API keys stay valid.
    """
    # The key belongs to the session, because on another device the request ends another session.
    keyed = keyed_request(caller.credential, idempotency_key, body, nothing)
    await of(request, Identity).sessions.end(caller, everywhere=body.everywhere, keyed=keyed)
    return nothing(None)


async def _authenticate(
    request: Request, username: str, password: str, intend: Callable[[UUID], KeyedRequest | None]
) -> Session:
    username = username.strip()  # Keyboards of phones add a space.
    of(request, Identity).passwords.require_room()
    async with trying_password(request, username):
        return await _open(of(request, Identity), username, password, intend)


async def _open(
    have: Identity, username: str, password: str, intend: Callable[[UUID], KeyedRequest | None]
) -> Session:
    while True:
        user = await have.users.find_by_name(username)
        hashed = user.password_hash if user else None
        fits, better = await have.passwords.verify(password, hashed)
        if user is None or hashed is None or not fits:
            logs.log.info("session.refused", userId=user.id if user else None)
            raise InvalidCredentials
        if better is not None:
            await have.users.upgrade_password(user.id, hashed, better)
        session = await have.sessions.start(user.id, better or hashed, intend(user.id))
        if session is not None:
            return session
        # The hash was changed meanwhile: another login upgraded it, or the password is a new one.


def _rendering(have: Identity) -> Callable[[Session], Rendered]:
    # Cached, because the stored response must be the one that is sent. A new token would differ.
    return cache(lambda session: rendered(200, _issued(have, session)))


def _issued(have: Identity, session: Session) -> TokenOut:
    # No access token outlives its session, so that ending the session also ends the token.
    lifetime = min(have.tokens.lifetime, session.refresh_expires_in)
    return TokenOut(
        token=have.tokens.issue(session.user_id, session.id, lifetime),
        expires_in=lifetime,
        refresh_token=session.refresh_token,
        refresh_expires_in=session.refresh_expires_in,
        user_id=session.user_id,
    )
