"""Set a password with a token from the operator."""

from typing import Annotated
from uuid import UUID

from fastapi import Request
from pydantic import Field

from ticketing.errors import AnswerLost, InvalidPasswordToken, PasswordTooCommon
from ticketing.identity.credentials import digest
from ticketing.identity.fields import Password
from ticketing.identity.part import Identity
from ticketing.identity.permissions import Action
from ticketing.identity.routers.authentication import origin, trying_password
from ticketing.web.fields import In, Text
from ticketing.web.part import of
from ticketing.web.replay import IdempotencyKey, Rendered, keyed_request, nothing
from ticketing.web.routes import Routes

routes = Routes("/api/users", "users")


class SetPassword(In):
    """The operator's token, and the new password."""

    token: Annotated[
        Text, Field(max_length=128, examples=["Zk8w2-mJVf0bX9cTnKl4uYdEaGhRsZpMoIiWvCy1xQ8"])
    ]
    new_password: Password


@routes.post(
    "/password",
    Action.SET_PASSWORD,
    "Set a password with a token",
    status=204,
    errors=(InvalidPasswordToken, PasswordTooCommon, AnswerLost),
)
async def set_password(
    body: SetPassword, request: Request, idempotency_key: IdempotencyKey = None
) -> Rendered:
    """Set a first password, or replace a forgotten one.

    The token comes from the operator of the site. It works once and expires after 24 hours, or
    earlier if a newer one is made or the password is changed. All sessions of the person end. API
    keys stay valid.
    """
    have = of(request, Identity)
    hashed = digest(body.token)
    # Using the token deletes it, so the stored response belongs to the token's hash.
    keyed = keyed_request(UUID(bytes=hashed[:16]), idempotency_key, body, nothing, have.seals)
    # The account is not known yet. Each guess is another token, so only its address is limited.
    account = f"password token {hashed.hex()}"
    async with trying_password(request, account):
        try:
            owner = await have.password_tokens.owner(body.token)
        except InvalidPasswordToken:
            # It may have been used by this very request. Looked up before the token, the response
            # would be missed that is stored in between.
            if keyed and (answer := await have.users.recall(keyed)):
                raise answer from None
            raise
        have.passwords.require_uncommon(body.new_password, owner.username)
        new_hash = await have.passwords.hash(body.new_password)
        await have.password_tokens.use(body.token, new_hash, origin(request), keyed)
    return nothing(None)
