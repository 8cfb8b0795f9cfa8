"""Tokens that set a password without the old one, and passwords set by an operator."""

from datetime import datetime
from typing import Final, NamedTuple
from uuid import UUID

import asyncpg
from sqlalchemy.ext.asyncio import AsyncEngine

from ticketing.db.facts import COMMAND_LINE, Origin, recorded
from ticketing.db.statements import Driver, Statement, driver
from ticketing.errors import InvalidPasswordToken, UserNotFound
from ticketing.identity.callers import AccessList
from ticketing.identity.credentials import digest, new_token
from ticketing.identity.repositories import sessions
from ticketing.identity.repositories.users import DISCARD_TOKEN, User, insert
from ticketing.ops import logs
from ticketing.web.keyed import KeyedRequest
from ticketing.web.repositories.stored_responses import once

LIFETIME: Final = 24 * 3600
"""Seconds until a token expires."""

# Every statement that changes a person's token or password locks the row of `users` first.
_BY_NAME: Final = """
    SELECT id FROM users
    WHERE lower(username) = lower(CAST(:username AS text)) AND password_hash IS NOT NULL
"""
_BY_HASH: Final = """
    SELECT id, username FROM users
    WHERE id = (SELECT user_id FROM password_tokens WHERE hash = :hash AND expires_at > now())
        AND password_hash IS NOT NULL
"""
_CUSTOMER_BY_HASH: Final = """
    SELECT id FROM users
    WHERE id = (SELECT user_id FROM password_tokens WHERE hash = :hash AND expires_at > now())
        AND username IS NULL
"""
LOCK_BY_NAME: Final = Statement(f"{_BY_NAME} FOR NO KEY UPDATE")
FIND_BY_TOKEN: Final = Statement(_BY_HASH)
LOCK_BY_TOKEN: Final = Statement(f"{_BY_HASH} FOR NO KEY UPDATE")
FIND_CUSTOMER: Final = Statement(_CUSTOMER_BY_HASH)
LOCK_CUSTOMER: Final = Statement(f"{_CUSTOMER_BY_HASH} FOR NO KEY UPDATE")

_MADE: Final = f"""
    made AS (
        INSERT INTO password_tokens (user_id, hash, expires_at)
        SELECT id, CAST(:hash AS bytea), now() + make_interval(secs => {LIFETIME}) FROM owner
        ON CONFLICT (user_id) DO UPDATE
            SET hash = excluded.hash, created_at = now(), expires_at = excluded.expires_at
        RETURNING user_id, expires_at
    ), {recorded("'user.password_token_made'", of="made", subject="user_id")}
    SELECT user_id, expires_at FROM made
"""  # noqa: S608 - our own text
MAKE: Final = Statement(f"WITH owner AS ({_BY_NAME} FOR SHARE), {_MADE}")
PUT_TOKEN: Final = Statement(f"WITH owner AS (SELECT CAST(:user AS uuid) AS id), {_MADE}")
"""Makes a token for a person whose row is locked."""
USE: Final = Statement(
    "DELETE FROM password_tokens WHERE user_id = :user AND hash = :hash RETURNING 1"
)
SET_PASSWORD: Final = Statement(
    f"""
    WITH changed AS (
        UPDATE users SET password_hash = :new WHERE id = :user RETURNING id
    ), {recorded("'user.password_changed'", of="changed", subject="id")}
    SELECT id FROM changed
    """  # noqa: S608 - our own text
)
REGISTER: Final = Statement(
    f"""
    WITH registered AS (
        UPDATE users SET username = :username, password_hash = :password_hash WHERE id = :user
        RETURNING id, created_at
    ), {recorded("'user.registered'", of="registered", subject="id")}
    SELECT created_at FROM registered
    """  # noqa: S608 - our own text
)


class PasswordToken(NamedTuple):
    """A token as the person who asked for it gets it. It can't be shown again."""

    token: str
    expires_at: datetime


class Owner(NamedTuple):
    """The person whose password a token sets. The fields are the columns of FIND_BY_TOKEN."""

    id: UUID
    username: str


class PasswordTokenRepository:
    """Makes and uses password tokens, and sets passwords for an operator."""

    def __init__(self, engine: AsyncEngine, access: AccessList) -> None:
        """Work on `engine`, and add ended sessions to `access`."""
        self._engine = engine
        self._access = access

    async def add(self, username: str, unknown_hash: str) -> PasswordToken:
        """Add a user, from the command line, and make the token that sets their first password.

        `unknown_hash` is the hash of a password that nobody knows. Raises UsernameTaken.
        """
        async with driver(self._engine) as connection, connection.transaction():
            user = await insert(connection, username, unknown_hash, COMMAND_LINE)
            made = await _make(connection, username)
        logs.log.info("user.registered", userId=user.id)
        logs.log.info("user.password_token_made", userId=user.id)
        return made[1]

    async def make(self, username: str) -> PasswordToken:
        """Make a token, from the command line, and discard the last one. Raises UserNotFound."""
        async with driver(self._engine) as connection:
            user_id, made = await _make(connection, username)
        logs.log.info("user.password_token_made", userId=user_id)
        return made

    async def owner(self, token: str) -> Owner:
        """Return the person whose password the token sets. Raises InvalidPasswordToken."""
        async with driver(self._engine) as connection:
            rows = await FIND_BY_TOKEN.fetch(connection, hash=digest(token))
        if not rows:
            raise InvalidPasswordToken
        return Owner(*rows[0])

    async def use(
        self, token: str, new_hash: str, origin: Origin, keyed: KeyedRequest | None = None
    ) -> None:
        """Set the password of the token's owner and end all their sessions.

        The token works once. The trail record names the owner as the actor. Raises
        InvalidPasswordToken. With `keyed`, also raises what `once` raises.
        """
        async with (
            once(self._engine, keyed) as (connection, keep),
            connection.transaction(),
        ):
            found = await LOCK_BY_TOKEN.fetch(connection, hash=digest(token))
            # A separate statement, because it sees what was committed before the lock was taken.
            if not found or not await USE.fetch(
                connection, user=found[0]["id"], hash=digest(token)
            ):
                raise InvalidPasswordToken
            user_id: UUID = found[0]["id"]
            ended = await _set(connection, user_id, new_hash, origin._replace(actor=user_id))
            await keep(None)
        self._changed(user_id, ended)

    async def require_customer(self, token: str) -> None:
        """Raise InvalidPasswordToken unless a customer without a login can use the token."""
        async with driver(self._engine) as connection:
            if not await FIND_CUSTOMER.fetch(connection, hash=digest(token)):
                raise InvalidPasswordToken

    async def register(
        self,
        token: str,
        username: str,
        password_hash: str,
        origin: Origin,
        keyed: KeyedRequest | None = None,
    ) -> User:
        """Give the customer, whose token this is, a username and a password.

        The token works once. The trail record names the customer as the actor. Raises
        InvalidPasswordToken or UsernameTaken. With `keyed`, also raises what `once` raises.
        """
        async with (
            once(self._engine, keyed) as (connection, keep),
            connection.transaction(),
        ):
            found = await LOCK_CUSTOMER.fetch(connection, hash=digest(token))
            # A separate statement, because it sees what was committed before the lock was taken.
            if not found or not await USE.fetch(
                connection, user=found[0]["id"], hash=digest(token)
            ):
                raise InvalidPasswordToken
            user_id: UUID = found[0]["id"]
            (row,) = await REGISTER.fetch(
                connection,
                user=user_id,
                username=username,
                password_hash=password_hash,
                **origin._replace(actor=user_id)._asdict(),
            )
            user = User(user_id, username, password_hash, row["created_at"])
            await keep(user)
        logs.log.info("user.registered", userId=user_id)
        return user

    async def set(self, username: str, new_hash: str) -> None:
        """Set the user's password, from the command line, and end all their sessions.

        Raises UserNotFound.
        """
        async with driver(self._engine) as connection, connection.transaction():
            found = await LOCK_BY_NAME.fetch(connection, username=username)
            if not found:
                raise UserNotFound
            user_id: UUID = found[0]["id"]
            await DISCARD_TOKEN.fetch(connection, user=user_id)
            ended = await _set(connection, user_id, new_hash, COMMAND_LINE)
        self._changed(user_id, ended)

    def _changed(self, user_id: UUID, ended: list[asyncpg.Record]) -> None:
        logs.log.info("user.password_changed", userId=user_id)
        sessions.ended(self._access, ended)


async def _make(connection: Driver, username: str) -> tuple[UUID, PasswordToken]:
    token = new_token()
    rows = await MAKE.fetch(
        connection, username=username, hash=digest(token), **COMMAND_LINE._asdict()
    )
    if not rows:
        raise UserNotFound
    return rows[0]["user_id"], PasswordToken(token, rows[0]["expires_at"])


async def _set(
    connection: Driver, user_id: UUID, new_hash: str, origin: Origin
) -> list[asyncpg.Record]:
    """Set the password of a user whose row is locked, and return the sessions that ended."""
    await SET_PASSWORD.fetch(connection, user=user_id, new=new_hash, **origin._asdict())
    return await sessions.END_OTHERS.fetch(connection, user=user_id, keep=None)
