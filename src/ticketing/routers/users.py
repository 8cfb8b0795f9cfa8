"""Accounts: registration, what a person sees and changes of themself, and the end of it."""

from typing import Annotated

from fastapi import APIRouter, Request, Response
from pydantic import AfterValidator, Field
from pydantic_core import PydanticKnownError

from ticketing.errors import (
    AnswerLost,
    InsufficientScope,
    NotAuthenticated,
    PasswordTooCommon,
    UsernameTaken,
    UserNotFound,
    WrongPassword,
)
from ticketing.idempotency import Answer, Intent, done, owner_of
from ticketing.idempotency import intent as intention
from ticketing.permissions import Action
from ticketing.routers.bookings import ListedOut
from ticketing.routers.dependencies import (
    Cursor,
    IdempotencyKey,
    In,
    Limit,
    Out,
    PageOut,
    Text,
    Time,
    UserId,
    decode_cursor,
    origin,
    parts,
    problems,
    recall,
    trying_password,
    who_may,
    written,
)
from ticketing.routers.direct import DirectRoute, StrictRoute
from ticketing.security import MIN_PASSWORD, Caller, normal
from ticketing.tables import User
from ticketing.telemetry import client_address

router = APIRouter(prefix="/api/users", tags=["users"], route_class=StrictRoute)
keyed = APIRouter(prefix="/api/users", tags=["users"], route_class=DirectRoute)


def _long_enough(password: str) -> str:
    # Letters that were sent as two characters are one in what is hashed, and has to be guessed.
    if len(normal(password)) < MIN_PASSWORD:
        raise PydanticKnownError("string_too_short", {"min_length": MIN_PASSWORD})
    return password


Username = Annotated[
    str, Field(min_length=3, max_length=30, pattern=r"^[A-Za-z0-9._-]+$", examples=["ada"])
]
Password = Annotated[
    Text,
    Field(min_length=MIN_PASSWORD, max_length=128, examples=["correct horse battery"]),
    AfterValidator(_long_enough),
]
CurrentPassword = Annotated[Text, Field(max_length=128, examples=["correct horse battery"])]


class Register(In):
    """A new account."""

    username: Username
    password: Password


class ChangePassword(In):
    """The password as it is, and as it shall be."""

    current_password: CurrentPassword
    new_password: Password


class DeleteAccount(In):
    """The password, so that a borrowed token is not enough."""

    password: CurrentPassword


class UserOut(Out):
    """A person, as they see themself."""

    id: UserId
    username: Username
    created_at: Time


class MeOut(UserOut):
    """The caller."""

    is_admin: bool = Field(
        description="Whether they may do what the owner of any event may.", examples=[False]
    )


@keyed.post(
    "/register",
    operation_id="register",
    summary="Make an account",
    status_code=201,
    response_model=UserOut,
    responses=problems(UsernameTaken, PasswordTooCommon, AnswerLost, body=True, keyed=True),
)
async def register(
    body: Register, request: Request, idempotency_key: IdempotencyKey = None
) -> Answer:
    """Make an account. Names that differ only in case are the same name.

    The commonest passwords are refused, and those that are little more than the username or the
    name of the service.
    """
    have = parts(request)
    have.passwords.require_uncommon(body.password, body.username)
    owner = owner_of(body.username)
    intent = intention(owner, idempotency_key, body, _registered, have.seals)
    await recall(request, intent, body.username)
    if have.rates is not None:
        await have.rates.guard.register(client_address(request.scope) or "")
    user = await have.users.add(
        body.username, await have.passwords.hash(body.password), origin(request), intent
    )
    return _registered(user)


def _registered(user: User) -> Answer:
    return written(201, UserOut.model_validate(user))


@router.get(
    "/me",
    operation_id="getMe",
    summary="Who am I",
    responses=problems(NotAuthenticated, UserNotFound),
)
async def me(caller: Annotated[Caller, who_may(Action.GET_ME)], request: Request) -> MeOut:
    """Return the caller."""
    have = parts(request)
    user = await have.users.get(caller.id)
    return MeOut(
        id=user.id,
        username=user.username,
        created_at=user.created_at,
        is_admin=caller.id in have.access.admins,
    )


@router.delete(
    "/me",
    operation_id="deleteMe",
    summary="Delete my account",
    status_code=204,
    response_class=Response,
    responses=problems(NotAuthenticated, InsufficientScope, WrongPassword, UserNotFound, body=True),
)
async def delete(
    body: DeleteAccount, caller: Annotated[Caller, who_may(Action.DELETE_ME)], request: Request
) -> None:
    """Forget who the caller is: the name, which is free again, the password, sessions and keys.

    Bookings and events stay as they are, of nobody in particular: cancel first what you will not
    use, so that the next in line gets the place.
    """
    have = parts(request)
    user, password_hash = await confirmed(request, caller, body.password)
    await have.users.delete(user.id, password_hash, origin(request, caller))


@keyed.post(
    "/me/password",
    operation_id="changePassword",
    summary="Change my password",
    status_code=204,
    response_model=None,
    response_class=Response,
    responses=problems(
        NotAuthenticated,
        InsufficientScope,
        WrongPassword,
        UserNotFound,
        PasswordTooCommon,
        AnswerLost,
        body=True,
        keyed=True,
    ),
)
async def change_password(
    body: ChangePassword,
    caller: Annotated[Caller, who_may(Action.CHANGE_PASSWORD)],
    request: Request,
    idempotency_key: IdempotencyKey = None,
) -> Answer:
    """Change the password, and end all other sessions of the caller. API keys stay."""
    have = parts(request)
    intent = intention(caller.id, idempotency_key, body, done, have.seals)
    user, password_hash = await confirmed(request, caller, body.current_password, intent)
    have.passwords.require_uncommon(body.new_password, user.username)
    new_hash = await have.passwords.hash(body.new_password)
    await have.users.change_password(
        caller, password_hash, new_hash, origin(request, caller), intent
    )
    return done(None)


async def confirmed(
    request: Request, caller: Caller, password: str, intent: Intent | None = None
) -> tuple[User, str]:
    """Return the caller and the hash that the password fits.

    Raises WrongPassword, or what answers the intention: the password may be wrong by now because
    it was changed by the very request that comes again.
    """
    have = parts(request)
    user = await have.users.get(caller.id)
    await recall(request, intent, user.username)
    async with trying_password(request, user.username):
        fits, _ = await have.passwords.verify(password, user.password_hash)
        if user.password_hash is None or not fits:
            raise WrongPassword
    return user, user.password_hash


@router.get(
    "/me/bookings",
    operation_id="listMyBookings",
    summary="My bookings, newest first",
    responses=problems(NotAuthenticated, InsufficientScope, listed=True),
)
async def my_bookings(
    caller: Annotated[Caller, who_may(Action.LIST_MY_BOOKINGS)],
    request: Request,
    limit: Limit = 20,
    cursor: Cursor = None,
) -> PageOut[ListedOut]:
    """List the caller's bookings of every status, newest first."""
    page = await parts(request).listings.of_user(
        caller.id, before=decode_cursor(cursor), limit=limit
    )
    return PageOut[ListedOut].of(page)
