"""Management of people by an operator, from outside the service."""

import secrets

from sqlalchemy.ext.asyncio import AsyncEngine

from ticketing.db.facts import COMMAND_LINE
from ticketing.identity.callers import AccessList
from ticketing.identity.passwords import Passwords
from ticketing.identity.repositories.access import AccessRepository
from ticketing.identity.repositories.organisers import OrganiserRepository
from ticketing.identity.repositories.password_tokens import PasswordToken, PasswordTokenRepository
from ticketing.identity.repositories.users import UserRepository


class Operator:
    """Manages people in one database. Running services notice changes within about a second."""

    def __init__(self, engine: AsyncEngine, bcrypt_rounds: int) -> None:
        """Work on `engine`. Hash passwords at a cost of 2 to the power of `bcrypt_rounds`."""
        nobody = AccessList()
        self.access = AccessRepository(engine, nobody)
        self.organisers = OrganiserRepository(engine, nobody)
        self._users = UserRepository(engine, nobody)
        self._tokens = PasswordTokenRepository(engine, nobody)
        self._rounds = bcrypt_rounds

    async def add(self, username: str) -> PasswordToken:
        """Add a user and make the token that sets their password. Raises UsernameTaken."""
        # Until then the password is random, because a user without one is a deleted account.
        return await self._tokens.add(username, await self._hash(secrets.token_urlsafe(), username))

    async def add_with_password(self, username: str, password: str) -> None:
        """Add a user. Raises UsernameTaken or PasswordTooCommon."""
        await self._users.add(username, await self._hash(password, username), COMMAND_LINE)

    async def make_token(self, username: str) -> PasswordToken:
        """Make a token that sets the user's password. Raises UserNotFound."""
        return await self._tokens.make(username)

    async def set_password(self, username: str, password: str) -> None:
        """Set the user's password and end all their sessions.

        Raises UserNotFound or PasswordTooCommon.
        """
        await self._tokens.set(username, await self._hash(password, username))

    async def _hash(self, password: str, username: str) -> str:
        passwords = Passwords(self._rounds)
        try:
            passwords.require_uncommon(password, username)
            return await passwords.hash(password)
        finally:
            await passwords.close()
