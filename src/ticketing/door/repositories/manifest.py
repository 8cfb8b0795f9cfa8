"""What a device needs to judge without network: all of it, or what changed."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncEngine

from ticketing.db.statements import Driver, Statement, driver
from ticketing.door.repositories import doors, tickets
from ticketing.door.repositories.check_ins import document, standings
from ticketing.door.repositories.doors import Rules
from ticketing.errors import InvalidCursor

RECORDS: Final = 1_000
"""Trail records that one answer about changes covers."""
# Whatever changes a ticket writes a record, and an event's records become visible in the order of
# their numbers. So the last number says what a device knows.
VERSION: Final = Statement(
    """
    SELECT seq FROM audit_records WHERE event_id = :event ORDER BY seq DESC LIMIT 1
    """
)
BOOKINGS: Final = Statement(
    """
    SELECT id, seq FROM bookings
    WHERE event_id = :event AND seq > coalesce(CAST(:after AS bigint), 0)
    ORDER BY seq LIMIT :limit
    """
)
CHANGES: Final = Statement(
    """
    SELECT seq, details ->> 'bookingId' AS booking, details ->> 'ticketId' AS ticket
    FROM audit_records
    WHERE event_id = :event AND seq > :since
    ORDER BY seq LIMIT :limit
    """
)


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a device may judge by, at `version`."""

    rules: Rules
    types: Sequence[tuple[int, str]]
    version: int
    items: Sequence[dict[str, Any]]
    next_after: int | None
    """The next page of a full load begins after this."""
    is_complete: bool
    """Whether nothing has changed since `version`, as far as is known."""


class ManifestRepository:
    """Reads manifests."""

    def __init__(self, engine: AsyncEngine) -> None:
        """Work on `engine`."""
        self._engine = engine

    async def full(self, event_id: int, *, at: tuple[int, int] | None, limit: int) -> Manifest:
        """Return a page of all tickets. `at` is the version and the last key of the page before.

        Every page has the version of the first one, so that changes since then bring all pages up
        to date. Raises EventNotFound.
        """
        async with (
            driver(self._engine) as connection,
            connection.transaction(isolation="repeatable_read", readonly=True),
        ):
            rules = await doors.read(connection, event_id)
            version = at[0] if at else await _version(connection, event_id)
            rows = await BOOKINGS.fetch(
                connection, event=event_id, after=at[1] if at else None, limit=limit + 1
            )
            has_more = len(rows) > limit
            rows = rows[:limit]
            ids = await tickets.of_bookings(connection, [row["id"] for row in rows])
            return Manifest(
                rules,
                await _types(connection, event_id),
                version,
                await _items(connection, rules, ids),
                rows[-1]["seq"] if has_more else None,
                not has_more,
            )

    async def changes(self, event_id: int, since: int) -> Manifest:
        """Return the tickets that changed after the version `since`.

        Raises EventNotFound, or InvalidCursor if the event never had this version.
        """
        async with (
            driver(self._engine) as connection,
            connection.transaction(isolation="repeatable_read", readonly=True),
        ):
            rules = await doors.read(connection, event_id)
            rows = await CHANGES.fetch(connection, event=event_id, since=since, limit=RECORDS + 1)
            if not rows and since > await _version(connection, event_id):
                # The database was restored from a backup, so the device knows what never happened.
                raise InvalidCursor
            has_more = len(rows) > RECORDS
            rows = rows[:RECORDS]
            bookings = {UUID(row["booking"]) for row in rows if row["booking"]}
            ids = {UUID(row["ticket"]) for row in rows if row["ticket"]}
            ids |= set(await tickets.of_bookings(connection, list(bookings)))
            return Manifest(
                rules,
                await _types(connection, event_id),
                rows[-1]["seq"] if rows else since,
                await _items(connection, rules, list(ids)),
                None,
                not has_more,
            )


async def _version(connection: Driver, event_id: int) -> int:
    rows = await VERSION.fetch(connection, event=event_id)
    return int(rows[0]["seq"]) if rows else 0


async def _types(connection: Driver, event_id: int) -> Sequence[tuple[int, str]]:
    rows = await doors.TYPES.fetch(connection, event=event_id)
    return [(row["id"], row["name"]) for row in rows]


async def _items(connection: Driver, rules: Rules, ids: Sequence[UUID]) -> Sequence[dict[str, Any]]:
    found = await tickets.read(connection, ids)
    uses = await standings(connection, rules, [each.id for each in found])
    return [document(each) | {"name": each.name, "uses": uses.get(each.id, {})} for each in found]
