"""Logging in, staying logged in, and logging out."""

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
    """Credentials; whether they could exist at all is not said before they are checked."""

    username: Annotated[Text, Field(max_length=128, examples=["ada"])]
    password: Annotated[Text, Field(max_length=128, examples=["correct horse battery"])]


class Refresh(In):
    """The refresh token of the last login or refresh."""

    refresh_token: Annotated[
        Text, Field(max_length=128, examples=["3q2-7wJVf0bX9cTnKl4uYdEaGhRsZpMoIiWvCy1xQ8A"])
    ]


class Logout(In):
    """Which sessions to end; without a body, this one."""

    everywhere: bool = Field(
        default=False, description="All sessions of mine, instead of this one.", examples=[True]
    )


THIS_ONE: Final = Logout()


class TokenOut(Out):
    """An access token, to be sent as `Authorization: Bearer <token>`, and how to get the next."""

    token: str = Field(examples=["eyJhbGciOi….eyJzdWIiOi….KMUFsIDTnF…"])
    token_type: Literal["bearer"] = "bearer"  # noqa: S105 - RFC 6750's word
    expires_in: Long = Field(description="Seconds that the token lives.", examples=[3600])
    refresh_token: str = Field(
        description="Good for one `POST /api/users/refresh`.",
        examples=["3q2-7wJVf0bX9cTnKl4uYdEaGhRsZpMoIiWvCy1xQ8A"],
    )
    refresh_expires_in: Long = Field(
        description="Seconds after which the session ends, unless it is refreshed.",
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
    """Exchange a username and a password for a token that lives an hour, and start a session.

    The answer to a wrong password is the same, and takes as long, as to a name that nobody has.
    Whoever gives wrong ones again and again has to wait between them, 30 seconds at most (429).

    With an Idempotency-Key, the tokens that come again are those of before, with what is left of
    their time: dead, if their session was ended since.
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
    """Log in by form, as the docs page's Authorize button does (RFC 6749, section 4.3)."""
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
    """Exchange the refresh token for the next pair of tokens.

    A refresh token is good for one exchange: keep the new one. If one comes a second time, it is
    in two hands, and the session ends; but not by the same request with the same Idempotency-Key,
    which is answered as before.
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
    "End this session, or all",
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

    Their tokens are refused from now on, everywhere within seconds. API keys stay.
    """
    # The session's: that of another device means another thing by the same words.
    keyed = keyed_request(caller.credential, idempotency_key, body, nothing)
    await of(request, Identity).sessions.end(caller, everywhere=body.everywhere, keyed=keyed)
    return nothing(None)


async def _authenticate(
    request: Request, username: str, password: str, intend: Callable[[UUID], KeyedRequest | None]
) -> Session:
    username = username.strip()  # Keyboards of phones add a blank.
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
        # The hash was changed meanwhile, by another login that upgraded it or for a new password.


def _rendering(have: Identity) -> Callable[[Session], Rendered]:
    # What is kept is what is sent: a token that is issued again would be another one.
    return cache(lambda session: rendered(200, _issued(have, session)))


def _issued(have: Identity, session: Session) -> TokenOut:
    # No access token outlives its session, so that who ends a session finds it.
    lifetime = min(have.tokens.lifetime, session.refresh_expires_in)
    return TokenOut(
        token=have.tokens.issue(session.user_id, session.id, lifetime),
        expires_in=lifetime,
        refresh_token=session.refresh_token,
        refresh_expires_in=session.refresh_expires_in,
        user_id=session.user_id,
    )
