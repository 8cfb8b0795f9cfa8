"""Access data: revoked sessions and API keys, and the site's admins and organisers."""

from typing import Final
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncEngine

from ticketing.db.facts import COMMAND_LINE, recorded
from ticketing.db.statements import Statement, driver
from ticketing.errors import UserNotFound
from ticketing.identity.callers import REVOKED_FOR, AccessList
from ticketing.ops import logs

# Continues a statement that begins with `WITH ended AS (DELETE ... RETURNING id, ...)`.
REVOKED: Final = f"""
    revoked AS (
        INSERT INTO revocations (id, xact, ends_at)
        SELECT id, CAST(CAST(pg_current_xact_id() AS text) AS bigint),
            now() + make_interval(secs => {REVOKED_FOR})
        FROM ended
    )
    SELECT * FROM ended
"""  # noqa: S608 - a number of ours

# Every transaction below the horizon has ended, and its rows are visible. One that still runs is at
# or above it, and is read again. So no row is missed, in whatever order transactions commit.
CHANGES: Final = Statement(
    """
    SELECT
        CAST(CAST(pg_snapshot_xmin(pg_current_snapshot()) AS text) AS bigint) AS horizon,
        ARRAY(SELECT id FROM revocations WHERE xact >= :since AND ends_at > now()) AS revoked,
        ARRAY(SELECT user_id FROM admins) AS admins,
        ARRAY(SELECT user_id FROM organisers) AS organisers
    """,
    reads_tables="all admins and organisers are read, and there are few",
)

CLEAN_REVOCATIONS: Final = Statement("DELETE FROM revocations WHERE ends_at < now()")
CLEAN_PASSWORD_TOKENS: Final = Statement("DELETE FROM password_tokens WHERE expires_at < now()")
CLEAN_SESSIONS: Final = Statement(
    """
    DELETE FROM sessions WHERE id = ANY(ARRAY(
        SELECT id FROM sessions WHERE expires_at < now() - interval '1 minute'
        LIMIT 1000 FOR UPDATE SKIP LOCKED
    ))
    """
)

FIND: Final = Statement(
    "SELECT id FROM users WHERE lower(username) = lower(:name) AND password_hash IS NOT NULL"
)
# The lock makes this wait for a deletion of the account that is under way, and such a deletion wait
# for this: no deleted account becomes an admin.
LOCK: Final = Statement(
    "SELECT id FROM users WHERE lower(username) = lower(:name) AND password_hash IS NOT NULL"
    " FOR SHARE"
)
PROMOTE: Final = Statement(
    f"""
    WITH promoted AS (
        INSERT INTO admins (user_id) VALUES (:id) ON CONFLICT DO NOTHING RETURNING user_id
    ), {recorded("'user.promoted'", of="promoted", subject="user_id")}
    SELECT user_id FROM promoted
    """  # noqa: S608 - our own text
)
DEMOTE: Final = Statement(
    f"""
    WITH demoted AS (
        DELETE FROM admins WHERE user_id = :id RETURNING user_id
    ), {recorded("'user.demoted'", of="demoted", subject="user_id")}
    SELECT user_id FROM demoted
    """  # noqa: S608 - our own text
)
END_ALL: Final = Statement(
    f"WITH ended AS (DELETE FROM sessions WHERE user_id = :id RETURNING id, user_id), {REVOKED}"  # noqa: S608 - our own text
)


class AccessRepository:
    """Keeps the process's AccessList up to date, and makes admins."""

    def __init__(self, engine: AsyncEngine, access: AccessList) -> None:
        """Work on `engine` and update `access`."""
        self._engine = engine
        self._access = access
        self._since = 0
        self._epoch = 0

    async def refresh(self) -> None:
        """Read what other processes have changed since the last call."""
        async with driver(self._engine) as connection:
            # After a lost connection this may be another server, with other transaction numbers.
            since = self._since if connection.epoch == self._epoch else 0
            (row,) = await CHANGES.fetch(connection, since=since)
            self._epoch = connection.epoch
        self._access.revoke(row["revoked"])
        self._access.admins = frozenset(row["admins"])
        self._access.organisers = frozenset(row["organisers"])
        # The horizon decreases only if the database was replaced by a copy. Then read all again.
        self._since = row["horizon"] if row["horizon"] >= since else 0

    async def clean(self) -> None:
        """Remove expired revocations, password tokens and sessions."""
        async with driver(self._engine) as connection:
            await CLEAN_REVOCATIONS.fetch(connection)
            await CLEAN_PASSWORD_TOKENS.fetch(connection)
            await CLEAN_SESSIONS.fetch(connection)

    async def promote(self, username: str) -> UUID:
        """Make the user an admin and return their id. Raises UserNotFound."""
        return await self._change(PROMOTE, username, "user.promoted")

    async def demote(self, username: str) -> UUID:
        """Revoke the user's admin rights and return their id. Raises UserNotFound."""
        return await self._change(DEMOTE, username, "user.demoted")

    async def log_out(self, username: str) -> None:
        """End all sessions of the user. Raises UserNotFound."""
        async with driver(self._engine) as connection, connection.transaction():
            rows = await FIND.fetch(connection, name=username)
            if not rows:
                raise UserNotFound
            ended = await END_ALL.fetch(connection, id=rows[0]["id"])
        self._access.revoke(row["id"] for row in ended)
        for row in ended:
            logs.log.info("session.ended", userId=row["user_id"], sessionId=row["id"])

    async def _change(self, statement: Statement, username: str, fact: str) -> UUID:
        async with driver(self._engine) as connection, connection.transaction():
            rows = await LOCK.fetch(connection, name=username)
            if not rows:
                raise UserNotFound
            user_id: UUID = rows[0]["id"]
            # Only the command line does this.
            changed = await statement.fetch(connection, id=user_id, **COMMAND_LINE._asdict())
        if changed:
            logs.log.info(fact, userId=user_id)
        return user_id
