"""People and their passwords."""

from typing import Final
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from ticketing import telemetry
from ticketing.database import Statement, domain_errors, driver
from ticketing.errors import TicketingError, UserNotFound, WrongPassword
from ticketing.idempotency import Intent, Replayed
from ticketing.origin import Origin
from ticketing.repositories import idempotency, keys, sessions, team
from ticketing.repositories.access import DEMOTE
from ticketing.repositories.audit import recorded
from ticketing.security import AccessList, Caller
from ticketing.tables import User, uuid7

ADD: Final = Statement(
    f"""
    WITH added AS (
        INSERT INTO users (id, username, password_hash) VALUES (:id, :username, :password_hash)
        RETURNING id, created_at
    ), {recorded("user.registered", of="added", subject="id")}
    SELECT created_at FROM added
    """  # noqa: S608 - our own text
)
# For a query of rows with a `user_id`. Who was deleted has no name.
NAME: Final = "(SELECT username FROM users WHERE users.id = user_id AND password_hash IS NOT NULL)"

# By the hash that was verified: what was changed meanwhile is not changed again.
_REPLACE_HASH: Final = """
    UPDATE users SET password_hash = :new WHERE id = :user AND password_hash = :old RETURNING id
"""
UPGRADE_PASSWORD: Final = Statement(_REPLACE_HASH)
CHANGE_PASSWORD: Final = Statement(
    f"""
    WITH changed AS ({_REPLACE_HASH}), {
        recorded("user.password_changed", of="changed", subject="id")
    }
    SELECT id FROM changed
    """  # noqa: S608 - our own text
)
# `~` is in no name that can be registered; the rest of the id's digits are those of a date.
DELETE: Final = Statement(
    f"""
    WITH deleted AS (
        UPDATE users
        SET username = '~' || substr(replace(CAST(id AS text), '-', ''), 4), password_hash = NULL
        WHERE id = :user AND password_hash = :old RETURNING id
    ), {recorded("user.deleted", of="deleted", subject="id")}
    SELECT id FROM deleted
    """  # noqa: S608 - our own text
)


class UserRepository:
    """Reads and writes `users`."""

    def __init__(self, engine: AsyncEngine, access: AccessList) -> None:
        """Work on `engine`; tell `access` what was revoked."""
        self._engine = engine
        self._access = access

    async def recall(self, intent: Intent) -> Replayed | TicketingError | None:
        """Return how to answer the intention, if it was carried out before."""
        return await idempotency.recall(self._engine, intent)

    async def add(
        self, username: str, password_hash: str, origin: Origin, intent: Intent | None = None
    ) -> User:
        """Add a user, who is also whom the record names.

        Raises UsernameTaken, in any case; with an `intent`, the same as `idempotency.once`.
        """
        user = User(id=uuid7(), username=username, password_hash=password_hash)
        async with idempotency.once(self._engine, intent) as (connection, keep):
            (row,) = await ADD.fetch(
                connection,
                id=user.id,
                username=username,
                password_hash=password_hash,
                **origin._replace(actor=user.id)._asdict(),
            )
            user.created_at = row["created_at"]
            await keep(user)
        telemetry.log.info("user.registered", userId=user.id)
        return user

    async def get(self, user_id: UUID) -> User:
        """Return the user. Raises UserNotFound, also if the account was deleted."""
        async with domain_errors(), AsyncSession(self._engine) as session:
            user = await session.get(User, user_id)
        if user is None or user.password_hash is None:
            raise UserNotFound
        return user

    async def find_by_name(self, username: str) -> User | None:
        """Return the user of this name, whatever the case of the letters."""
        query = select(User).where(func.lower(User.username) == username.lower())
        async with domain_errors(), AsyncSession(self._engine) as session:
            return await session.scalar(query)

    async def upgrade_password(self, user_id: UUID, old_hash: str, new_hash: str) -> None:
        """Keep a better hash of the same password, unless it was changed meanwhile."""
        async with driver(self._engine) as connection:
            rows = await UPGRADE_PASSWORD.fetch(
                connection, user=user_id, old=old_hash, new=new_hash
            )
        if rows:
            telemetry.log.info("user.password_upgraded", userId=user_id)

    async def change_password(
        self,
        caller: Caller,
        old_hash: str,
        new_hash: str,
        origin: Origin,
        intent: Intent | None = None,
    ) -> None:
        """Change the caller's password and end all their sessions but this.

        Raises WrongPassword if it was changed since `old_hash` was verified; with an `intent`, the
        same as `idempotency.once`.
        """
        once = idempotency.once(self._engine, intent)
        async with once as (connection, keep), connection.transaction():
            changed = {"user": caller.id, "old": old_hash, "new": new_hash}
            if not await CHANGE_PASSWORD.fetch(connection, **changed, **origin._asdict()):
                raise WrongPassword
            # A statement of its own: it sees the sessions that were started until the first one
            # had its lock.
            rows = await sessions.END_OTHERS.fetch(
                connection, user=caller.id, keep=caller.credential
            )
            await keep(None)
        telemetry.log.info("user.password_changed", userId=caller.id)
        sessions.ended(self._access, rows)

    async def delete(self, user_id: UUID, password_hash: str, origin: Origin) -> None:
        """Forget who the person is, and end all their sessions, keys and roles. Bookings stay.

        Raises WrongPassword if it was changed since `password_hash` was verified.
        """
        async with driver(self._engine) as connection, connection.transaction():
            by = origin._asdict()
            if not await DELETE.fetch(connection, user=user_id, old=password_hash, **by):
                raise WrongPassword
            ended = await sessions.END_OTHERS.fetch(connection, user=user_id, keep=None)
            revoked = await keys.REVOKE_ALL.fetch(connection, user=user_id, **by)
            roles = await team.REVOKE_ALL.fetch(connection, user=user_id, **by)
            await DEMOTE.fetch(connection, id=user_id, **by)
        telemetry.log.info("user.deleted", userId=user_id)
        sessions.ended(self._access, ended)
        keys.revoked(self._access, revoked)
        team.revoked(roles)
