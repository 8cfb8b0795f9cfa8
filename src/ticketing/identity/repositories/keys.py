"""API keys, which people make for their programs."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

import asyncpg
from sqlalchemy.ext.asyncio import AsyncEngine

from ticketing.db.combiner import Combiner
from ticketing.db.facts import Origin, recorded
from ticketing.db.ids import uuid7
from ticketing.db.pages import Page, page
from ticketing.db.statements import Statement, driver
from ticketing.errors import KeyNotFound, NotAuthenticated, TooManyKeys, UserNotFound
from ticketing.identity.callers import AccessList, Caller
from ticketing.identity.credentials import KEY_REMEMBERED, digest, is_api_key, new_api_key
from ticketing.identity.permissions import Scope
from ticketing.identity.repositories.access import REVOKED
from ticketing.ops import logs
from ticketing.web.keyed import KeyedRequest
from ticketing.web.repositories.stored_responses import once

MAX_KEYS: Final = 50

# The lock has two requests counted one after the other, and lets no account be deleted meanwhile.
# Bookings lock only the row's key, so they do not wait. The next statement counts, because this one
# does not see what was committed while it waited.
OWNER: Final = Statement(
    """
    SELECT id FROM users WHERE id = :user AND password_hash IS NOT NULL FOR NO KEY UPDATE
    """
)
ADD: Final = Statement(
    f"""
    WITH made AS (
        INSERT INTO api_keys (id, user_id, name, hash, scopes, expires_at)
        SELECT CAST(:id AS uuid), :user, CAST(:name AS text), CAST(:hash AS bytea),
            CAST(:scopes AS text[]), CAST(:expires_at AS timestamptz)
        WHERE (SELECT count(*) FROM api_keys WHERE user_id = CAST(:user AS uuid)) < {MAX_KEYS}
        RETURNING id, user_id, name, scopes, created_at, expires_at, last_used_at
    ), {
        recorded(
            "'key.made'",
            of="made",
            subject="user_id",
            details="jsonb_build_object('keyId', id, 'scopes', scopes)",
        )
    }
    SELECT id, name, scopes, created_at, expires_at, last_used_at FROM made
    """  # noqa: S608 - our own text
)
OF_USER: Final = Statement(
    """
    SELECT id, seq, name, scopes, created_at, expires_at, last_used_at FROM api_keys
    WHERE user_id = :user AND seq < coalesce(CAST(:before AS bigint), 9223372036854775807)
    ORDER BY seq DESC LIMIT :limit
    """
)
_RECORDED: Final = recorded(
    "'key.revoked'", of="ended", subject="user_id", details="jsonb_build_object('keyId', id)"
)
REVOKE: Final = Statement(
    f"""
    WITH ended AS (
        DELETE FROM api_keys WHERE id = :id AND user_id = :user RETURNING id, user_id
    ), {_RECORDED}, {REVOKED}
    """  # noqa: S608 - our own text
)
REVOKE_ALL: Final = Statement(
    f"""
    WITH ended AS (
        DELETE FROM api_keys WHERE user_id = :user RETURNING id, user_id
    ), {_RECORDED}, {REVOKED}
    """  # noqa: S608 - our own text
)
VERIFY: Final = Statement(
    """
    WITH found AS (
        SELECT hash, id, user_id, scopes, expires_at, last_used_at FROM api_keys
        WHERE hash = ANY(CAST(:hashes AS bytea[]))
            AND (expires_at IS NULL OR expires_at > now())
    ), stale AS (
        SELECT id FROM api_keys WHERE id = ANY(ARRAY(
            SELECT id FROM found
            WHERE last_used_at IS NULL OR last_used_at < now() - interval '1 minute'
        ))
        -- If another worker is writing the time now, that is enough.
        FOR NO KEY UPDATE SKIP LOCKED
    ), touched AS (
        UPDATE api_keys SET last_used_at = now() WHERE id = ANY(ARRAY(SELECT id FROM stale))
    )
    SELECT hash, id, user_id, scopes,
        CAST(extract(epoch FROM coalesce(expires_at, 'infinity')) AS float8) AS expires_at
    FROM found
    """
)


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key as its owner sees it. The fields are the columns of OF_USER without `seq`."""

    id: UUID
    name: str
    scopes: Sequence[Scope]
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None


class KeyRepository:
    """Makes, lists, verifies and revokes API keys."""

    def __init__(self, engine: AsyncEngine, access: AccessList) -> None:
        """Work on `engine`, and add revoked keys to `access`."""
        self._engine = engine
        self._access = access
        self._verifications = Combiner[bytes, Caller](self._verify, name="keys")
        self.sample = self._verifications.sample

    async def close(self) -> None:
        """Finish the queued verifications and refuse new ones."""
        await self._verifications.close()

    async def make(  # noqa: PLR0913 - a key has three properties besides its owner
        self,
        user_id: UUID,
        name: str,
        scopes: Sequence[Scope],
        expires_at: datetime | None,
        *,
        origin: Origin,
        keyed: KeyedRequest | None = None,
    ) -> tuple[ApiKey, str]:
        """Make a key and return it with its secret, which only a replayed response shows again.

        Raises TooManyKeys, or UserNotFound if the account was deleted. With `keyed`, also raises
        what `once` raises.
        """
        secret = new_api_key()
        async with (
            once(self._engine, keyed) as (connection, keep),
            connection.transaction(),
        ):
            if not await OWNER.fetch(connection, user=user_id):
                raise UserNotFound
            rows = await ADD.fetch(
                connection,
                id=uuid7(),
                user=user_id,
                name=name,
                hash=digest(secret),
                scopes=list(scopes),
                expires_at=expires_at,
                **origin._asdict(),
            )
            if not rows:
                raise TooManyKeys
            key = _key(rows[0])
            await keep((key, secret))
        logs.log.info("key.made", userId=user_id, keyId=key.id, scopes=key.scopes)
        return key, secret

    async def of_user(self, user_id: UUID, *, before: int | None, limit: int) -> Page[ApiKey]:
        """Return the person's keys, newest first, only those with a `seq` below `before`."""
        async with driver(self._engine) as connection:
            rows = await OF_USER.fetch(connection, user=user_id, before=before, limit=limit + 1)
        return page(rows, limit, _key)

    async def revoke(self, user_id: UUID, key_id: UUID, origin: Origin) -> None:
        """Revoke one of the person's keys. Raises KeyNotFound."""
        async with driver(self._engine) as connection:
            rows = await REVOKE.fetch(connection, id=key_id, user=user_id, **origin._asdict())
        if not rows:
            raise KeyNotFound
        revoked(self._access, rows)

    async def verify(self, key: str) -> Caller:
        """Return the key's owner, valid for a minute, and record that the key was used.

        Keys that arrive during a look-up are looked up together by the next one. Raises
        NotAuthenticated.
        """
        if not is_api_key(key):
            raise NotAuthenticated
        return await self._verifications.submit(digest(key))

    async def _verify(self, hashes: Sequence[bytes]) -> Sequence[Caller | NotAuthenticated]:
        async with driver(self._engine) as connection:
            rows = await VERIFY.fetch(connection, hashes=list(set(hashes)))
        until = time.time() + KEY_REMEMBERED
        found = {
            row["hash"]: Caller(
                row["user_id"],
                row["id"],
                min(until, row["expires_at"]),
                frozenset(map(Scope, row["scopes"])),
            )
            for row in rows
        }
        return [found.get(each) or NotAuthenticated() for each in hashes]


def revoked(access: AccessList, rows: list[asyncpg.Record]) -> None:
    """Refuse the keys in this process, and log them."""
    access.revoke(row["id"] for row in rows)
    for row in rows:
        logs.log.info("key.revoked", userId=row["user_id"], keyId=row["id"])


def _key(row: asyncpg.Record) -> ApiKey:
    return ApiKey(
        row["id"],
        row["name"],
        [Scope(scope) for scope in row["scopes"]],
        row["created_at"],
        row["expires_at"],
        row["last_used_at"],
    )
