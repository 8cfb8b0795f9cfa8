"""Registration, login, and what a person sees of themself."""

from typing import Annotated, Literal

from fastapi import APIRouter, Form, Request
from pydantic import Field

from ticketing.errors import (
    InvalidCredentials,
    InvalidCursor,
    NotAuthenticated,
    UsernameTaken,
    UserNotFound,
    ValidationFailed,
)
from ticketing.routers.bookings import ListedOut, listed
from ticketing.routers.dependencies import (
    Authenticated,
    Cursor,
    In,
    Limit,
    Out,
    PageOut,
    Parts,
    Text,
    Time,
    UserId,
    decode_cursor,
    parts,
    problems,
)
from ticketing.routers.direct import StrictRoute

router = APIRouter(prefix="/api/users", tags=["users"], route_class=StrictRoute)

Username = Annotated[
    str, Field(min_length=3, max_length=30, pattern=r"^[A-Za-z0-9._-]+$", examples=["ada"])
]
Password = Annotated[Text, Field(min_length=8, max_length=128, examples=["correct horse battery"])]


class Register(In):
    """A new account."""

    username: Username
    password: Password


class Login(In):
    """Credentials; whether they could exist at all is not said before they are checked."""

    username: Annotated[Text, Field(max_length=128, examples=["ada"])]
    password: Annotated[Text, Field(max_length=128, examples=["correct horse battery"])]


class UserOut(Out):
    """A person, as they see themself."""

    id: UserId
    username: Username
    created_at: Time


class TokenOut(Out):
    """An access token: send it as `Authorization: Bearer <token>`."""

    token: str = Field(examples=["eyJhbGciOi….eyJzdWIiOi….KMUFsIDTnF…"])
    token_type: Literal["bearer"] = "bearer"  # noqa: S105 - RFC 6750's word
    expires_in: int = Field(description="Seconds that the token lives.", examples=[3600])
    user_id: UserId


@router.post(
    "/register",
    operation_id="register",
    summary="Make an account",
    status_code=201,
    responses=problems(UsernameTaken, body=True),
)
async def register(body: Register, request: Request) -> UserOut:
    """Make an account. Names that differ only in case are the same name."""
    have = parts(request)
    user = await have.users.add(body.username, await have.passwords.hash(body.password))
    return UserOut.model_validate(user)


@router.post(
    "/login",
    operation_id="login",
    summary="Get an access token",
    responses=problems(InvalidCredentials, body=True),
)
async def login(body: Login, request: Request) -> TokenOut:
    """Exchange a username and a password for a token that lives an hour.

    The answer to a wrong password is the same, and takes as long, as to a name that nobody has.
    """
    return await _authenticate(parts(request), body.username, body.password)


@router.post("/token", include_in_schema=False)
async def token(
    request: Request,
    username: Annotated[Text, Form(max_length=128)],
    password: Annotated[Text, Form(max_length=128)],
) -> dict[str, str | int]:
    """Log in by form, as the docs page's Authorize button does (RFC 6749, section 4.3)."""
    issued = await _authenticate(parts(request), username, password)
    return {
        "access_token": issued.token,
        "token_type": issued.token_type,
        "expires_in": issued.expires_in,
    }


async def _authenticate(have: Parts, username: str, password: str) -> TokenOut:
    user = await have.users.find_by_name(username)
    if not await have.passwords.verify(password, user.password_hash if user else None) or not user:
        raise InvalidCredentials
    return TokenOut(
        token=have.tokens.issue(user.id), expires_in=have.tokens.lifetime, user_id=user.id
    )


@router.get(
    "/me",
    operation_id="getMe",
    summary="Who am I",
    responses=problems(NotAuthenticated, UserNotFound),
)
async def me(caller: Authenticated, request: Request) -> UserOut:
    """Return the caller."""
    return UserOut.model_validate(await parts(request).users.get(caller.id))


@router.get(
    "/me/bookings",
    operation_id="listMyBookings",
    summary="My bookings, newest first",
    responses=problems(NotAuthenticated, InvalidCursor, ValidationFailed),
)
async def my_bookings(
    caller: Authenticated, request: Request, limit: Limit = 20, cursor: Cursor = None
) -> PageOut[ListedOut]:
    """List the caller's bookings of every status, newest first."""
    page = await parts(request).bookings.of_user(
        caller.id, before=decode_cursor(cursor), limit=limit
    )
    return listed(page)
