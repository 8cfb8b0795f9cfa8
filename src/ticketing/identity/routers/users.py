"""Accounts: register, read, change the password and delete."""

from typing import Annotated

from fastapi import Request
from pydantic import Field

from ticketing.errors import (
    AnswerLost,
    InsufficientScope,
    InvalidPasswordToken,
    NotAuthenticated,
    OwnsEvents,
    PasswordTooCommon,
    RegistrationClosed,
    UsernameTaken,
    UserNotFound,
    WrongPassword,
)
from ticketing.identity.callers import Caller
from ticketing.identity.credentials import digest
from ticketing.identity.fields import CurrentPassword, Password, Username
from ticketing.identity.part import Identity
from ticketing.identity.permissions import Action
from ticketing.identity.repositories.users import User
from ticketing.identity.routers.authentication import (
    Authenticated,
    origin,
    recall,
    trying_password,
)
from ticketing.web.asgi import client_address
from ticketing.web.fields import In, Out, Text, Time, UserId
from ticketing.web.part import Departures, of
from ticketing.web.replay import (
    IdempotencyKey,
    KeyedRequest,
    Rendered,
    keyed_request,
    nothing,
    owner_of,
    rendered,
)
from ticketing.web.routes import Routes

routes = Routes("/api/users", "users")


class Register(In):
    """A new account."""

    username: Username
    password: Password
    token: Annotated[Text, Field(max_length=128)] | None = Field(
        default=None,
        description="Given to a customer by their organiser. The account has the customer's"
        " bookings.",
        examples=[None],
    )


class ChangePassword(In):
    """The current password and the new one."""

    current_password: CurrentPassword
    new_password: Password


class DeleteAccount(In):
    """The password, so that a stolen token is not enough."""

    password: CurrentPassword


class UserOut(Out):
    """An account."""

    id: UserId
    username: Username
    created_at: Time


class MeOut(UserOut):
    """The caller's account."""

    is_admin: bool = Field(
        description="Whether the caller may do what the owner of any event may.", examples=[False]
    )
    is_organiser: bool = Field(description="Whether the caller may create events.", examples=[True])


@routes.post(
    "/register",
    Action.REGISTER,
    "Make an account",
    status=201,
    model=UserOut,
    errors=(
        *(RegistrationClosed, InvalidPasswordToken, UsernameTaken),
        *(PasswordTooCommon, AnswerLost),
    ),
)
async def register(
    body: Register, request: Request, idempotency_key: IdempotencyKey = None
) -> Rendered:
    """Make an account. Usernames that differ only in case are the same.

    The most common passwords are refused, and passwords that are little more than the username or
    the name of the service. If registration is closed, only the operator makes accounts, and
    customers to whom an organiser gave a `token`. A token works once and expires after 24 hours.
    """
    have = of(request, Identity)
    if not have.registration_is_open and body.token is None:
        raise RegistrationClosed
    have.passwords.require_uncommon(body.password, body.username)
    owner = owner_of(body.username)
    keyed = keyed_request(owner, idempotency_key, body, _registered, have.seals)
    await recall(request, keyed, body.username)
    if body.token is not None:
        # The hash of a password is expensive, so the token is looked at first.
        async with trying_password(request, f"password token {digest(body.token).hex()}"):
            await have.password_tokens.require_customer(body.token)
    if have.limits is not None:
        await have.limits.guard.register(client_address(request.scope) or "")
    new_hash, by = await have.passwords.hash(body.password), origin(request)
    if body.token is None:
        return _registered(await have.users.add(body.username, new_hash, by, keyed))
    return _registered(
        await have.password_tokens.register(body.token, body.username, new_hash, by, keyed)
    )


def _registered(user: User) -> Rendered:
    return rendered(201, UserOut.model_validate(user))


@routes.get(
    "/me",
    Action.GET_ME,
    "Get my account",
    errors=(NotAuthenticated, UserNotFound),
)
async def me(caller: Authenticated, request: Request) -> MeOut:
    """Return the caller's account and rights."""
    have = of(request, Identity)
    user = await have.users.get(caller.id)
    return MeOut(
        id=user.id,
        username=user.username,
        created_at=user.created_at,
        is_admin=caller.id in have.access.admins,
        is_organiser=have.may_create_events(caller.id),
    )


@routes.post(
    "/me/delete",  # Not a DELETE: many clients can't send a body with that.
    Action.DELETE_ME,
    "Delete my account",
    status=204,
    errors=(NotAuthenticated, InsufficientScope, WrongPassword, UserNotFound, OwnsEvents),
)
async def delete(body: DeleteAccount, caller: Authenticated, request: Request) -> None:
    """Delete the caller's name, password, sessions and API keys. The name can be registered again.

    Booked places stay booked. First cancel the bookings that you will not use, so that the waiting
    list gets the places. The caller leaves every waiting list. First give an event with bookings to
    come to another owner, or cancel it; other events stay, with their managers.
    """
    have = of(request, Identity)
    user, password_hash = await confirmed(request, caller, body.password)
    await have.users.delete(user, password_hash, origin(request, caller))
    await of(request, Departures).tell(user.id)


@routes.post(
    "/me/password",
    Action.CHANGE_PASSWORD,
    "Change my password",
    status=204,
    errors=(
        NotAuthenticated,
        InsufficientScope,
        WrongPassword,
        UserNotFound,
        PasswordTooCommon,
        AnswerLost,
    ),
)
async def change_password(
    body: ChangePassword,
    caller: Authenticated,
    request: Request,
    idempotency_key: IdempotencyKey = None,
) -> Rendered:
    """Change the password, and end all other sessions of the caller. API keys stay valid."""
    have = of(request, Identity)
    keyed = keyed_request(caller.id, idempotency_key, body, nothing, have.seals)
    user, password_hash = await confirmed(request, caller, body.current_password, keyed)
    have.passwords.require_uncommon(body.new_password, user.username)
    new_hash = await have.passwords.hash(body.new_password)
    await have.users.change_password(
        caller, password_hash, new_hash, origin(request, caller), keyed
    )
    return nothing(None)


async def confirmed(
    request: Request, caller: Caller, password: str, keyed: KeyedRequest | None = None
) -> tuple[User, str]:
    """Verify the caller's password, and return the caller and the stored hash.

    Raises WrongPassword, or the stored response of `keyed`: if the request is resent, it has
    already changed the password, and the one that it sends is wrong by now.
    """
    have = of(request, Identity)
    user = await have.users.get(caller.id)
    await recall(request, keyed, user.username)
    async with trying_password(request, user.username):
        fits, _ = await have.passwords.verify(password, user.password_hash)
        if user.password_hash is None or not fits:
            raise WrongPassword
    return user, user.password_hash
