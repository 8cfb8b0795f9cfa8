"""People and their passwords."""

from datetime import datetime
from typing import Final, NamedTuple
from uuid import UUID

import asyncpg
from sqlalchemy.ext.asyncio import AsyncEngine

from ticketing.db.facts import COMMAND_LINE, Origin, recorded
from ticketing.db.ids import uuid7
from ticketing.db.statements import Driver, Statement, driver
from ticketing.errors import OwnsEvents, TicketingError, UserNotFound, WrongPassword
from ticketing.identity.callers import AccessList, Caller
from ticketing.identity.repositories import keys, organisers, sessions, team
from ticketing.identity.repositories.access import DEMOTE
from ticketing.ops import logs
from ticketing.web.keyed import KeyedRequest, Replayed, owner_of
from ticketing.web.repositories import stored_responses
from ticketing.web.repositories.stored_responses import once

ADD: Final = Statement(
    f"""
    WITH added AS (
        INSERT INTO users (id, username, password_hash) VALUES (:id, :username, :password_hash)
        RETURNING id, created_at
    ), {recorded("'user.registered'", of="added", subject="id")}
    SELECT created_at FROM added
    """  # noqa: S608 - our own text
)
GET: Final = Statement("SELECT id, username, password_hash, created_at FROM users WHERE id = :user")
FIND: Final = Statement(
    "SELECT id, username, password_hash, created_at FROM users"
    " WHERE lower(username) = lower(CAST(:username AS text))"
)
# For a query of rows with a `user_id`. Null for a deleted account and for a customer.
NAME: Final = "(SELECT username FROM users WHERE users.id = user_id AND password_hash IS NOT NULL)"

# Finds the row by the verified hash, so that a password that was changed meanwhile is kept.
_REPLACE_HASH: Final = """
    UPDATE users SET password_hash = :new WHERE id = :user AND password_hash = :old RETURNING id
"""
UPGRADE_PASSWORD: Final = Statement(_REPLACE_HASH)
CHANGE_PASSWORD: Final = Statement(
    f"""
    WITH changed AS ({_REPLACE_HASH}), {
        recorded("'user.password_changed'", of="changed", subject="id")
    }
    SELECT id FROM changed
    """  # noqa: S608 - our own text
)
DISCARD_TOKEN: Final = Statement("DELETE FROM password_tokens WHERE user_id = :user")
# What organisers know of the person as their customer.
FORGET_CUSTOMER: Final = Statement("DELETE FROM customers WHERE user_id = :user")
# No name that can be registered has a `~`. The digits of the id that are left out encode a date.
DELETE: Final = Statement(
    f"""
    WITH deleted AS (
        UPDATE users
        SET username = '~' || substr(replace(CAST(id AS text), '-', ''), 4), password_hash = NULL
        WHERE id = :user AND password_hash = :old RETURNING id
    ), departed AS (
        INSERT INTO departures (user_id, waiting)
        SELECT id, ARRAY(
            -- OFFSET makes every plan look up the rows by user.
            SELECT id FROM (
                SELECT id, status FROM bookings WHERE user_id = CAST(:user AS uuid) OFFSET 0
            ) AS mine WHERE status IN ('waiting', 'held', 'offered')
        )
        FROM deleted
    ), {recorded("'user.deleted'", of="deleted", subject="id")}
    SELECT id FROM deleted
    """  # noqa: S608 - our own text
)
# Where somebody still expects to be let in.
OWNED: Final = Statement(
    """
    SELECT id FROM (
        -- OFFSET keeps it a look-up by the person, whatever was planned on.
        SELECT * FROM events WHERE organiser_id = CAST(:user AS uuid) OFFSET 0
    ) AS owned
    WHERE status <> 'cancelled' AND (available_tickets < total_tickets OR waiting_list_count > 0)
        AND coalesce(coalesce(ends_at, starts_at + interval '1 day') > now(), true)
    ORDER BY id LIMIT 10
    """
)


# Stored responses of the account, its name and its sessions. Another person can register the name
# later, and must not get them.
FORGET: Final = Statement("DELETE FROM idempotency_keys WHERE owner = ANY(CAST(:owners AS uuid[]))")


class User(NamedTuple):
    """A person. `password_hash` is None if the account was deleted."""

    id: UUID
    username: str
    password_hash: str | None
    created_at: datetime


class UserRepository:
    """Reads and writes `users`."""

    def __init__(self, engine: AsyncEngine, access: AccessList) -> None:
        """Work on `engine`, and add revoked credentials to `access`."""
        self._engine = engine
        self._access = access

    async def recall(self, keyed: KeyedRequest) -> Replayed | TicketingError | None:
        """Return the stored response or error of the request, or None if it was not made before."""
        return await stored_responses.recall(self._engine, keyed)

    async def add(
        self, username: str, password_hash: str, origin: Origin, keyed: KeyedRequest | None = None
    ) -> User:
        """Add a user. The trail record names them as the actor, unless the command line adds them.

        Raises UsernameTaken. With `keyed`, also raises what `once` raises.
        """
        async with once(self._engine, keyed) as (connection, keep):
            user = await insert(connection, username, password_hash, origin)
            await keep(user)
        logs.log.info("user.registered", userId=user.id)
        return user

    async def get(self, user_id: UUID) -> User:
        """Return the user. Raises UserNotFound, also if the account was deleted."""
        async with driver(self._engine) as connection:
            rows = await GET.fetch(connection, user=user_id)
        if not rows or rows[0]["password_hash"] is None:
            raise UserNotFound
        return _user(rows[0])

    async def find_by_name(self, username: str) -> User | None:
        """Return the user with this name, ignoring case."""
        if not username.isascii():
            # The database has a lower case for more letters (U+0130 becomes i, U+212A becomes k).
            # Wrong passwords for such a spelling would be counted apart from those for the name.
            return None
        async with driver(self._engine) as connection:
            rows = await FIND.fetch(connection, username=username)
        return _user(rows[0]) if rows else None

    async def upgrade_password(self, user_id: UUID, old_hash: str, new_hash: str) -> None:
        """Store a stronger hash of the same password, unless the password was changed meanwhile."""
        async with driver(self._engine) as connection:
            rows = await UPGRADE_PASSWORD.fetch(
                connection, user=user_id, old=old_hash, new=new_hash
            )
        if rows:
            logs.log.info("user.password_upgraded", userId=user_id)

    async def change_password(
        self,
        caller: Caller,
        old_hash: str,
        new_hash: str,
        origin: Origin,
        keyed: KeyedRequest | None = None,
    ) -> None:
        """Change the caller's password and end all their sessions except this one.

        Raises WrongPassword if the password was changed since `old_hash` was verified, and
        UserNotFound if the account was deleted since. With `keyed`, also raises what `once` raises.
        """
        async with (
            once(self._engine, keyed) as (connection, keep),
            connection.transaction(),
        ):
            changed = {"user": caller.id, "old": old_hash, "new": new_hash}
            if not await CHANGE_PASSWORD.fetch(connection, **changed, **origin._asdict()):
                raise await _not_as_verified(connection, caller.id)
            # A separate statement, because it sees the sessions that were started before the first
            # statement took its lock.
            rows = await sessions.END_OTHERS.fetch(
                connection, user=caller.id, keep=caller.credential
            )
            await DISCARD_TOKEN.fetch(connection, user=caller.id)
            await keep(None)
        logs.log.info("user.password_changed", userId=caller.id)
        sessions.ended(self._access, rows)

    async def delete(self, user: User, password_hash: str, origin: Origin) -> None:
        """Delete the account with its name, password, sessions, keys, roles and rights.

        Bookings stay. Stored responses of the person's requests are deleted.

        Raises WrongPassword if the password was changed since `password_hash` was verified,
        UserNotFound if the account was deleted since, and OwnsEvents.
        """
        async with driver(self._engine) as connection, connection.transaction():
            by = origin._asdict()
            if not await DELETE.fetch(connection, user=user.id, old=password_hash, **by):
                raise await _not_as_verified(connection, user.id)
            # The account is locked: nobody makes or gives it an event meanwhile.
            if owned := await OWNED.fetch(connection, user=user.id):
                raise OwnsEvents([row["id"] for row in owned])
            ended = await sessions.END_OTHERS.fetch(connection, user=user.id, keep=None)
            revoked = await keys.REVOKE_ALL.fetch(connection, user=user.id, **by)
            roles = await team.REVOKE_ALL.fetch(connection, user=user.id, **by)
            await DEMOTE.fetch(connection, id=user.id, **by)
            await organisers.REVOKE.fetch(connection, id=user.id, **by)
            await DISCARD_TOKEN.fetch(connection, user=user.id)
            await FORGET_CUSTOMER.fetch(connection, user=user.id)
            owners = [user.id, owner_of(user.username), *(row["id"] for row in ended)]
            await FORGET.fetch(connection, owners=owners)
        logs.log.info("user.deleted", userId=user.id)
        sessions.ended(self._access, ended)
        keys.revoked(self._access, revoked)
        team.revoked(roles)


async def insert(connection: Driver, username: str, password_hash: str, origin: Origin) -> User:
    """Insert a user as `UserRepository.add` does. Raises UsernameTaken."""
    user_id = uuid7()
    by = origin if origin is COMMAND_LINE else origin._replace(actor=user_id)
    (row,) = await ADD.fetch(
        connection, id=user_id, username=username, password_hash=password_hash, **by._asdict()
    )
    return User(user_id, username, password_hash, row["created_at"])


async def _not_as_verified(connection: Driver, user_id: UUID) -> WrongPassword | UserNotFound:
    """Return what has become of a password that was right a moment ago."""
    rows = await GET.fetch(connection, user=user_id)
    is_gone = not rows or rows[0]["password_hash"] is None
    return UserNotFound() if is_gone else WrongPassword()


def _user(row: asyncpg.Record) -> User:
    return User(row["id"], row["username"], row["password_hash"], row["created_at"])
