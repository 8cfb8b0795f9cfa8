"""People who were granted the right to create events."""

from typing import Final
from uuid import UUID

import asyncpg
from sqlalchemy.ext.asyncio import AsyncEngine

from ticketing.db.facts import COMMAND_LINE, Origin, recorded
from ticketing.db.statements import Statement, driver
from ticketing.errors import UserNotFound
from ticketing.identity.callers import AccessList
from ticketing.identity.repositories.access import FIND
from ticketing.ops import logs

# The lock makes this and the deletion of the account wait for each other. So a deleted account
# never gets the right.
GRANT: Final = Statement(
    f"""
    WITH asked AS (
        SELECT id FROM users WHERE id = :id AND password_hash IS NOT NULL FOR SHARE
    ), granted AS (
        INSERT INTO organisers (user_id) SELECT id FROM asked
        ON CONFLICT DO NOTHING RETURNING user_id
    ), {recorded("'organiser.granted'", of="granted", subject="user_id")}
    SELECT EXISTS (SELECT FROM granted) AS is_new FROM asked
    """  # noqa: S608 - our own text
)
REVOKE: Final = Statement(
    f"""
    WITH revoked AS (
        DELETE FROM organisers WHERE user_id = :id RETURNING user_id
    ), {recorded("'organiser.revoked'", of="revoked", subject="user_id")}
    SELECT EXISTS (SELECT FROM revoked) AS is_new
    FROM users WHERE id = :id AND password_hash IS NOT NULL
    """  # noqa: S608 - our own text
)


class OrganiserRepository:
    """Writes `organisers`. Every process reads it into its AccessList."""

    def __init__(self, engine: AsyncEngine, access: AccessList) -> None:
        """Work on `engine`, and update `access` at once, so that this process need not wait."""
        self._engine = engine
        self._access = access

    async def grant(self, user_id: UUID, origin: Origin) -> None:
        """Let the user create events. A second call changes nothing. Raises UserNotFound."""
        async with driver(self._engine) as connection:
            self._granted(user_id, await GRANT.fetch(connection, id=user_id, **origin._asdict()))

    async def revoke(self, user_id: UUID, origin: Origin) -> None:
        """Revoke the right. The user keeps their events. Raises UserNotFound."""
        async with driver(self._engine) as connection:
            self._revoked(user_id, await REVOKE.fetch(connection, id=user_id, **origin._asdict()))

    async def grant_by_name(self, username: str) -> None:
        """Do the same as `grant`, from the command line."""
        user_id, rows = await self._change_by_name(GRANT, username)
        self._granted(user_id, rows)

    async def revoke_by_name(self, username: str) -> None:
        """Do the same as `revoke`, from the command line."""
        user_id, rows = await self._change_by_name(REVOKE, username)
        self._revoked(user_id, rows)

    async def _change_by_name(
        self, statement: Statement, username: str
    ) -> tuple[UUID, list[asyncpg.Record]]:
        async with driver(self._engine) as connection, connection.transaction():
            found = await FIND.fetch(connection, name=username)
            if not found:
                raise UserNotFound
            user_id: UUID = found[0]["id"]
            return user_id, await statement.fetch(connection, id=user_id, **COMMAND_LINE._asdict())

    def _granted(self, user_id: UUID, rows: list[asyncpg.Record]) -> None:
        _log("organiser.granted", user_id, rows)
        self._access.organisers |= {user_id}

    def _revoked(self, user_id: UUID, rows: list[asyncpg.Record]) -> None:
        _log("organiser.revoked", user_id, rows)
        self._access.organisers -= {user_id}


def _log(fact: str, user_id: UUID, rows: list[asyncpg.Record]) -> None:
    if not rows:
        raise UserNotFound
    if rows[0]["is_new"]:
        logs.log.info(fact, userId=user_id)
