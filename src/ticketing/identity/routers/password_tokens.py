"""Setting a password by a token that the operator gave out."""

from typing import Annotated
from uuid import UUID

from fastapi import Request
from pydantic import Field

from ticketing.errors import AnswerLost, InvalidPasswordToken, PasswordTooCommon
from ticketing.identity.credentials import digest
from ticketing.identity.fields import Password
from ticketing.identity.part import Identity
from ticketing.identity.permissions import Action
from ticketing.identity.routers.authentication import origin, recall, trying_password
from ticketing.web.fields import In, Text
from ticketing.web.part import of
from ticketing.web.replay import IdempotencyKey, Rendered, keyed_request, nothing
from ticketing.web.routes import Routes

routes = Routes("/api/users", "users")


class SetPassword(In):
    """The token, and the password that shall open the account."""

    token: Annotated[
        Text, Field(max_length=128, examples=["Zk8w2-mJVf0bX9cTnKl4uYdEaGhRsZpMoIiWvCy1xQ8"])
    ]
    new_password: Password


@routes.post(
    "/password",
    Action.SET_PASSWORD,
    "Set a password by a token",
    status=204,
    errors=(InvalidPasswordToken, PasswordTooCommon, AnswerLost),
)
async def set_password(
    body: SetPassword, request: Request, idempotency_key: IdempotencyKey = None
) -> Rendered:
    """Set a first password, or replace one that is lost.

    The token comes from the operator of the site. It works once, within 24 hours, until a newer one
    is made or the password is changed. All sessions of the person end. API keys stay.
    """
    have = of(request, Identity)
    hashed = digest(body.token)
    # The token is deleted by its use, so the row of the key belongs to the token itself.
    keyed = keyed_request(UUID(bytes=hashed[:16]), idempotency_key, body, nothing, have.seals)
    # The account is not known yet. Guesses differ, so they are counted by their address.
    account = f"password token {hashed.hex()}"
    await recall(request, keyed, account)
    async with trying_password(request, account):
        owner = await have.password_tokens.owner(body.token)
        have.passwords.require_uncommon(body.new_password, owner.username)
        new_hash = await have.passwords.hash(body.new_password)
        await have.password_tokens.use(body.token, new_hash, origin(request), keyed)
    return nothing(None)
