"""Logging in, staying logged in, and logging out."""

from collections.abc import Callable
from functools import cache
from typing import Annotated, Final, Literal
from uuid import UUID

from fastapi import APIRouter, Form, Request, Response
from pydantic import Field

from ticketing import telemetry
from ticketing.errors import (
    AnswerLost,
    InsufficientScope,
    InvalidCredentials,
    InvalidRefreshToken,
    NotAuthenticated,
)
from ticketing.idempotency import Answer, Intent, done
from ticketing.idempotency import intent as intention
from ticketing.permissions import Action
from ticketing.repositories.sessions import Session
from ticketing.routers.dependencies import (
    IdempotencyKey,
    In,
    Out,
    Parts,
    Text,
    UserId,
    parts,
    problems,
    trying_password,
    who_may,
    written,
)
from ticketing.routers.direct import DirectRoute, StrictRoute
from ticketing.security import Caller

router = APIRouter(prefix="/api/users", tags=["sessions"], route_class=StrictRoute)
keyed = APIRouter(prefix="/api/users", tags=["sessions"], route_class=DirectRoute)


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
    expires_in: int = Field(description="Seconds that the token lives.", examples=[3600])
    refresh_token: str = Field(
        description="Good for one `POST /api/users/refresh`.",
        examples=["3q2-7wJVf0bX9cTnKl4uYdEaGhRsZpMoIiWvCy1xQ8A"],
    )
    refresh_expires_in: int = Field(
        description="Seconds after which the session ends, unless it is refreshed.",
        examples=[1_209_600],
    )
    user_id: UserId


@keyed.post(
    "/login",
    operation_id="login",
    summary="Get an access token",
    response_model=TokenOut,
    responses=problems(InvalidCredentials, AnswerLost, body=True, keyed=True),
)
async def login(body: Login, request: Request, idempotency_key: IdempotencyKey = None) -> Answer:
    """Exchange a username and a password for a token that lives an hour, and start a session.

    The answer to a wrong password is the same, and takes as long, as to a name that nobody has.
    Whoever gives wrong ones again and again has to wait between them, 30 seconds at most (429).

    With an Idempotency-Key, the tokens that come again are those of before, with what is left of
    their time: dead, if their session was ended since.
    """
    have = parts(request)
    write = _written(have)

    def intend(user_id: UUID) -> Intent | None:
        return intention(user_id, idempotency_key, body, write, have.seals)

    return write(await _authenticate(request, body.username, body.password, intend))


@router.post("/token", include_in_schema=False)
async def token(
    request: Request,
    username: Annotated[Text, Form(max_length=128)],
    password: Annotated[Text, Form(max_length=128)],
) -> dict[str, str | int]:
    """Log in by form, as the docs page's Authorize button does (RFC 6749, section 4.3)."""
    session = await _authenticate(request, username, password, lambda _: None)
    issued = _issued(parts(request), session)
    return {
        "access_token": issued.token,
        "token_type": issued.token_type,
        "expires_in": issued.expires_in,
    }


@keyed.post(
    "/refresh",
    operation_id="refresh",
    summary="Get the next access token",
    response_model=TokenOut,
    responses=problems(InvalidRefreshToken, AnswerLost, body=True, keyed=True),
)
async def refresh(
    body: Refresh, request: Request, idempotency_key: IdempotencyKey = None
) -> Answer:
    """Exchange the refresh token for the next pair of tokens.

    A refresh token is good for one exchange: keep the new one. If one comes a second time, it is
    in two hands, and the session ends; but not by the same request with the same Idempotency-Key,
    which is answered as before.
    """
    have = parts(request)
    write, intent = _written(have), None
    if idempotency_key is not None:
        session_id = await have.sessions.of_token(body.refresh_token)
        intent = intention(session_id, idempotency_key, body, write, have.seals)
    return write(await have.sessions.refresh(body.refresh_token, intent))


@keyed.post(
    "/logout",
    operation_id="logout",
    summary="End this session, or all",
    status_code=204,
    response_model=None,
    response_class=Response,
    responses=problems(NotAuthenticated, InsufficientScope, body=True, keyed=True),
)
async def logout(
    caller: Annotated[Caller, who_may(Action.LOGOUT)],
    request: Request,
    body: Logout = THIS_ONE,
    idempotency_key: IdempotencyKey = None,
) -> Answer:
    """End the session that the token belongs to, or all sessions of the caller.

    Their tokens are refused from now on, everywhere within seconds. API keys stay.
    """
    # The session's: that of another device means another thing by the same words.
    intent = intention(caller.credential, idempotency_key, body, done)
    await parts(request).sessions.end(caller, everywhere=body.everywhere, intent=intent)
    return done(None)


async def _authenticate(
    request: Request, username: str, password: str, intend: Callable[[UUID], Intent | None]
) -> Session:
    parts(request).passwords.require_room()
    async with trying_password(request, username):
        return await _open(parts(request), username, password, intend)


async def _open(
    have: Parts, username: str, password: str, intend: Callable[[UUID], Intent | None]
) -> Session:
    while True:
        user = await have.users.find_by_name(username)
        hashed = user.password_hash if user else None
        fits, better = await have.passwords.verify(password, hashed)
        if user is None or hashed is None or not fits:
            telemetry.log.info("session.refused", userId=user.id if user else None)
            raise InvalidCredentials
        if better is not None:
            await have.users.upgrade_password(user.id, hashed, better)
        session = await have.sessions.start(user.id, better or hashed, intend(user.id))
        if session is not None:
            return session
        # The hash was changed meanwhile, by another login that upgraded it or for a new password.


def _written(have: Parts) -> Callable[[Session], Answer]:
    # What is kept is what is sent: a token that is issued again would be another one.
    return cache(lambda session: written(200, _issued(have, session)))


def _issued(have: Parts, session: Session) -> TokenOut:
    # No access token outlives its session, so that who ends a session finds it.
    lifetime = min(have.tokens.lifetime, session.refresh_expires_in)
    return TokenOut(
        token=have.tokens.issue(session.user_id, session.id, lifetime),
        expires_in=lifetime,
        refresh_token=session.refresh_token,
        refresh_expires_in=session.refresh_expires_in,
        user_id=session.user_id,
    )
