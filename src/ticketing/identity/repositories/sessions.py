"""Sessions and their refresh tokens."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

import asyncpg
from sqlalchemy.ext.asyncio import AsyncEngine

from ticketing.db.ids import uuid7
from ticketing.db.pages import Page, page
from ticketing.db.statements import Statement, driver
from ticketing.errors import InvalidRefreshToken, NotAuthenticated, SessionNotFound
from ticketing.identity.callers import AccessList, Caller
from ticketing.identity.credentials import digest, new_token
from ticketing.identity.repositories.access import REVOKED
from ticketing.ops import logs
from ticketing.web.keyed import KeyedRequest
from ticketing.web.repositories.stored_responses import once

# The lock makes this and a change of the password, which ends all sessions, wait for each other. So
# an old password never starts a session.
START: Final = Statement(
    """
    WITH owner AS (
        SELECT id FROM users WHERE id = :user AND password_hash = :password_hash FOR SHARE
    ), started AS (
        INSERT INTO sessions (id, user_id, expires_at)
        SELECT CAST(:id AS uuid), id,
            now() + make_interval(secs => least(CAST(:idle AS float8), CAST(:longest AS float8)))
        FROM owner
        RETURNING id, user_id, expires_at
    ), token AS (
        INSERT INTO refresh_tokens (hash, session_id) SELECT CAST(:hash AS bytea), id FROM started
    )
    SELECT id, user_id, CAST(extract(epoch FROM expires_at - now()) AS integer) AS remaining
    FROM started
    """
)

# One statement. If two requests use the same token, the second waits for the session's lock, then
# finds the token used. The session is locked first, as in the statements that end it. Sub-selects
# find the rows, because a join that was planned on empty tables keeps reading whole tables.
ROTATE: Final = Statement(
    """
    WITH held AS (
        SELECT id FROM sessions
        WHERE id = (SELECT session_id FROM refresh_tokens WHERE hash = :old)
            AND expires_at > now()
        FOR UPDATE
    ), used AS (
        UPDATE refresh_tokens SET used_at = now()
        WHERE hash = :old AND session_id = (SELECT id FROM held) AND used_at IS NULL
        RETURNING session_id
    ), extended AS (
        UPDATE sessions SET expires_at = least(
            now() + make_interval(secs => :idle), created_at + make_interval(secs => :longest)
        )
        WHERE id = (SELECT session_id FROM used)
        RETURNING id, user_id, expires_at
    ), token AS (
        INSERT INTO refresh_tokens (hash, session_id)
        SELECT CAST(:hash AS bytea), session_id FROM used
    )
    SELECT id, user_id, CAST(extract(epoch FROM expires_at - now()) AS integer) AS remaining
    FROM extended
    """
)

# Finds used tokens too: a resent request must find the session of the first one.
FIND: Final = Statement("SELECT session_id FROM refresh_tokens WHERE hash = :hash")

END_REUSED: Final = Statement(
    f"""
    WITH ended AS (
        DELETE FROM sessions WHERE id = (
            SELECT session_id FROM refresh_tokens WHERE hash = :hash AND used_at IS NOT NULL
        )
        RETURNING id, user_id
    ), {REVOKED}
    """  # noqa: S608 - our own text
)
END: Final = Statement(
    f"WITH ended AS (DELETE FROM sessions WHERE id = :id RETURNING id, user_id), {REVOKED}"  # noqa: S608 - our own text
)
END_OF_USER: Final = Statement(
    f"""
    WITH ended AS (
        DELETE FROM sessions WHERE id = :id AND user_id = :user RETURNING id, user_id
    ), {REVOKED}
    """  # noqa: S608 - our own text
)
OF_USER: Final = Statement(
    """
    SELECT id, seq, created_at, expires_at, id = CAST(:current AS uuid) AS is_current,
        (SELECT max(used_at) FROM refresh_tokens WHERE session_id = mine.id) AS refreshed_at
    FROM (
        SELECT *, CAST(extract(epoch FROM created_at) * 1000000 AS bigint) AS seq FROM sessions
        WHERE user_id = :user AND expires_at > now()
    ) AS mine
    WHERE seq < coalesce(CAST(:before AS bigint), 9223372036854775807)
    ORDER BY seq DESC LIMIT :limit
    """
)
"""In the order in which they were started, to the microsecond."""
END_OTHERS: Final = Statement(
    f"""
    WITH ended AS (
        DELETE FROM sessions
        WHERE user_id = :user AND id IS DISTINCT FROM CAST(:keep AS uuid)
        RETURNING id, user_id
    ), {REVOKED}
    """  # noqa: S608 - our own text
)


@dataclass(frozen=True, slots=True)
class Session:
    """A session as a login or a refresh returns it."""

    id: UUID
    user_id: UUID
    refresh_token: str
    refresh_expires_in: int


@dataclass(frozen=True, slots=True)
class OpenSession:
    """A session as the list of sessions shows it."""

    id: UUID
    created_at: datetime
    refreshed_at: datetime | None
    expires_at: datetime
    is_current: bool
    """Whether the request uses this session."""


class SessionRepository:
    """Starts, continues and ends sessions."""

    def __init__(self, engine: AsyncEngine, access: AccessList, *, idle: int, longest: int) -> None:
        """End a session after `idle` seconds without a refresh, and any after `longest` seconds."""
        self._engine = engine
        self._access = access
        self._lifetimes = {"idle": float(idle), "longest": float(longest)}

    async def start(
        self, user_id: UUID, password_hash: str, keyed: KeyedRequest | None = None
    ) -> Session | None:
        """Start a session, or return None if the password was changed since it was verified.

        With `keyed`, raises what `once` raises.
        """
        token = new_token()
        async with once(self._engine, keyed) as (connection, keep):
            rows = await START.fetch(
                connection,
                id=uuid7(),
                user=user_id,
                password_hash=password_hash,
                hash=digest(token),
                **self._lifetimes,
            )
            if not rows:
                return None
            session = _session(rows[0], token)
            await keep(session)
        _log_fact(session, "started")
        return session

    async def of_token(self, token: str) -> UUID:
        """Return the id of the refresh token's session, also if the token was used.

        Raises InvalidRefreshToken if the session has ended.
        """
        async with driver(self._engine) as connection:
            rows = await FIND.fetch(connection, hash=digest(token))
        if not rows:
            raise InvalidRefreshToken
        session_id: UUID = rows[0]["session_id"]
        return session_id

    async def refresh(self, token: str, keyed: KeyedRequest | None = None) -> Session:
        """Exchange a refresh token for the next one. Each token works once.

        A token that is used twice was stolen, so the session ends (RFC 9700, section 4.14.2).
        Raises InvalidRefreshToken. With `keyed`, also raises what `once` raises, so a resent
        request gets its stored response.
        """
        fresh = new_token()
        hashes = {"old": digest(token), "hash": digest(fresh)}
        async with once(self._engine, keyed) as (connection, keep):
            rows = await ROTATE.fetch(connection, **hashes, **self._lifetimes)
            if rows:
                session = _session(rows[0], fresh)
                await keep(session)
        if not rows:
            await self._end_reused(token)
            raise InvalidRefreshToken
        _log_fact(session, "refreshed")
        return session

    async def _end_reused(self, token: str) -> None:
        async with driver(self._engine) as connection:
            rows = await END_REUSED.fetch(connection, hash=digest(token))
        for row in rows:
            logs.log.warning("session.reused", userId=row["user_id"], sessionId=row["id"])
        ended(self._access, rows)

    async def of_caller(
        self, caller: Caller, *, before: int | None, limit: int
    ) -> Page[OpenSession]:
        """Return the caller's active sessions, newest first, only those below key `before`."""
        async with driver(self._engine) as connection:
            rows = await OF_USER.fetch(
                connection,
                user=caller.id,
                current=caller.credential,
                before=before,
                limit=limit + 1,
            )
        return page(rows, limit, _open_session)

    async def end_of_user(self, user_id: UUID, session_id: UUID) -> None:
        """End one of the person's sessions. Raises SessionNotFound."""
        async with driver(self._engine) as connection:
            rows = await END_OF_USER.fetch(connection, id=session_id, user=user_id)
        if not rows:
            raise SessionNotFound
        ended(self._access, rows)

    async def end(
        self, caller: Caller, *, everywhere: bool, keyed: KeyedRequest | None = None
    ) -> None:
        """End the caller's session, or all of the caller's sessions.

        Raises NotAuthenticated if the session has already ended. With `keyed`, also raises what
        `once` raises.
        """
        async with (
            once(self._engine, keyed) as (connection, keep),
            connection.transaction(),
        ):
            if everywhere:
                rows = await END_OTHERS.fetch(connection, user=caller.id, keep=None)
            else:
                rows = await END.fetch(connection, id=caller.credential)
            if caller.credential not in {row["id"] for row in rows}:
                raise NotAuthenticated
            await keep(None)
        ended(self._access, rows)


def ended(access: AccessList, rows: list[asyncpg.Record]) -> None:
    """Refuse the ended sessions in this process, and log them."""
    access.revoke(row["id"] for row in rows)
    for row in rows:
        logs.log.info("session.ended", userId=row["user_id"], sessionId=row["id"])


def _open_session(row: asyncpg.Record) -> OpenSession:
    return OpenSession(
        row["id"], row["created_at"], row["refreshed_at"], row["expires_at"], row["is_current"]
    )


def _log_fact(session: Session, fact: str) -> None:
    logs.log.info(f"session.{fact}", userId=session.user_id, sessionId=session.id)


def _session(row: asyncpg.Record, token: str) -> Session:
    return Session(row["id"], row["user_id"], token, row["remaining"])
