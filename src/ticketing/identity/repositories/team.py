"""The team of an event: its owner, managers and staff."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, NamedTuple
from uuid import UUID

import asyncpg
from sqlalchemy.ext.asyncio import AsyncEngine

from ticketing.db.combiner import Combiner
from ticketing.db.facts import Origin, recorded
from ticketing.db.pages import Page, page
from ticketing.db.statements import Statement, driver
from ticketing.errors import AlreadyOwner, EventNotFound, MemberNotFound, UserNotFound
from ticketing.identity.permissions import Role
from ticketing.ops import logs

ROLES: Final = Statement(
    """
    SELECT events.id AS event_id, asked.user_id, organiser_id,
        CASE WHEN events.organiser_id = asked.user_id THEN 'owner'
            ELSE coalesce(given.role, 'anybody') END AS role
    FROM unnest(CAST(:events AS bigint[]), CAST(:users AS uuid[])) AS asked(event_id, user_id)
    CROSS JOIN LATERAL (SELECT id, organiser_id FROM events WHERE id = asked.event_id LIMIT 1)
        AS events
    LEFT JOIN LATERAL (
        SELECT role FROM event_roles
        WHERE event_roles.event_id = asked.event_id AND event_roles.user_id = asked.user_id
        LIMIT 1
    ) AS given ON true
    """
)
# OFFSET keeps each a look-up, whatever was planned on.
MANAGES: Final = Statement(
    """
    SELECT FROM (
        SELECT event_id, role FROM event_roles WHERE user_id = :user OFFSET 0
    ) AS mine
    WHERE role = 'manager' AND EXISTS (
        SELECT FROM events
        WHERE events.id = mine.event_id AND organiser_id = CAST(:organiser AS uuid) OFFSET 0
    )
    LIMIT 1
    """
)
MEMBERS: Final = Statement(
    """
    SELECT seq, user_id, (SELECT username FROM users WHERE users.id = user_id) AS username,
        role, created_at
    FROM event_roles
    WHERE event_id = :event AND seq > coalesce(CAST(:after AS bigint), 0)
    ORDER BY seq LIMIT :limit
    """
)
# The lock makes this and the deletion of the account wait for each other. So a deleted account
# never gets a role.
GRANT: Final = Statement(
    f"""
    WITH asked AS (
        SELECT users.id, events.organiser_id = users.id AS owns
        FROM users, events
        WHERE users.id = :user AND password_hash IS NOT NULL AND events.id = :event
        FOR SHARE OF users
    ), held AS (
        -- The account is locked first, as when it is deleted, so that the two can't deadlock.
        SELECT events.id FROM events, asked
        WHERE events.id = :event AND NOT owns FOR NO KEY UPDATE OF events
    ), granted AS (
        INSERT INTO event_roles (event_id, user_id, role)
        SELECT held.id, asked.id, :role FROM asked, held
        ON CONFLICT (event_id, user_id) DO UPDATE SET role = excluded.role
            WHERE event_roles.role <> excluded.role
        RETURNING event_id, user_id, role
    ), {
        recorded(
            "'role.granted'",
            of="granted",
            event="event_id",
            subject="user_id",
            details="jsonb_build_object('role', role)",
        )
    }
    SELECT owns, EXISTS (SELECT FROM granted) AS is_new FROM asked
    """  # noqa: S608 - our own text
)
_REVOKED: Final = recorded(
    "'role.revoked'",
    of="revoked",
    event="event_id",
    subject="user_id",
    details="jsonb_build_object('role', role)",
)
REVOKE: Final = Statement(
    f"""
    WITH held AS (
        SELECT id FROM events WHERE id = :event FOR NO KEY UPDATE
    ), revoked AS (
        DELETE FROM event_roles WHERE event_id = (SELECT id FROM held) AND user_id = :user
        RETURNING event_id, user_id, role
    ), {_REVOKED}
    SELECT event_id, user_id, role FROM revoked
    """  # noqa: S608 - our own text
)
# Locks events in the same order as a commit of bookings, so that the two can't deadlock.
REVOKE_ALL: Final = Statement(
    f"""
    WITH held AS (
        SELECT id FROM events
        WHERE id = ANY(ARRAY(SELECT event_id FROM event_roles WHERE user_id = :user))
        ORDER BY id FOR NO KEY UPDATE
    ), revoked AS (
        DELETE FROM event_roles
        WHERE user_id = :user AND event_id = ANY(ARRAY(SELECT id FROM held))
        RETURNING event_id, user_id, role
    ), {_REVOKED}
    SELECT event_id, user_id, role FROM revoked
    """  # noqa: S608 - our own text
)


class Standing(NamedTuple):
    """A person's role at an event, and the event's owner."""

    role: Role
    organiser_id: UUID


@dataclass(frozen=True, slots=True)
class Member:
    """A person with a role at an event. The fields are the columns of MEMBERS without `seq`."""

    user_id: UUID
    username: str
    role: Role
    created_at: datetime


class TeamRepository:
    """Reads and writes `event_roles`."""

    def __init__(self, engine: AsyncEngine) -> None:
        """Work on `engine`."""
        self._engine = engine
        self._roles = Combiner[tuple[int, UUID], Standing](self._read, name="roles")
        self.sample = self._roles.sample

    async def close(self) -> None:
        """Finish the queued reads and refuse new ones."""
        await self._roles.close()

    async def standing(self, event_id: int, user_id: UUID) -> Standing:
        """Return the user's role at the event, OWNER, MANAGER, STAFF or ANYBODY, and the owner.

        Calls that arrive during a read share the next read, because a box office needs its role for
        each booking. Raises EventNotFound or Busy.
        """
        return await self._roles.submit((event_id, user_id))

    async def _read(self, asked: Sequence[tuple[int, UUID]]) -> Sequence[Standing | EventNotFound]:
        events, users = zip(*set(asked), strict=True)
        async with driver(self._engine) as connection:
            rows = await ROLES.fetch(connection, events=events, users=users)
        found = {
            (row["event_id"], row["user_id"]): Standing(Role(row["role"]), row["organiser_id"])
            for row in rows
        }
        return [found.get(each) or EventNotFound() for each in asked]

    async def manages_for(self, organiser_id: UUID, user_id: UUID) -> bool:
        """Whether the user is a manager of one of the organiser's events."""
        async with driver(self._engine) as connection:
            return bool(await MANAGES.fetch(connection, organiser=organiser_id, user=user_id))

    async def members(self, event_id: int, *, after: int | None, limit: int) -> Page[Member]:
        """Return the members in the order of joining, only those with a `seq` above `after`."""
        async with driver(self._engine) as connection:
            rows = await MEMBERS.fetch(connection, event=event_id, after=after, limit=limit + 1)
        return page(rows, limit, _member)

    async def grant(self, event_id: int, user_id: UUID, role: Role, origin: Origin) -> None:
        """Grant the role, which replaces another one. A second call changes nothing.

        Raises UserNotFound or AlreadyOwner.
        """
        async with driver(self._engine) as connection:
            rows = await GRANT.fetch(
                connection, event=event_id, user=user_id, role=role, **origin._asdict()
            )
        if not rows:
            raise UserNotFound
        if rows[0]["owns"]:
            raise AlreadyOwner
        if rows[0]["is_new"]:
            logs.log.info("role.granted", eventId=event_id, userId=user_id, role=role)

    async def revoke(self, event_id: int, user_id: UUID, origin: Origin) -> None:
        """Revoke the user's role. Raises MemberNotFound."""
        async with driver(self._engine) as connection:
            rows = await REVOKE.fetch(connection, event=event_id, user=user_id, **origin._asdict())
        if not rows:
            raise MemberNotFound
        revoked(rows)


def _member(row: asyncpg.Record) -> Member:
    return Member(row["user_id"], row["username"], Role(row["role"]), row["created_at"])


def revoked(rows: list[asyncpg.Record]) -> None:
    """Log the revoked roles."""
    for row in rows:
        logs.log.info(
            "role.revoked", eventId=row["event_id"], userId=row["user_id"], role=row["role"]
        )
