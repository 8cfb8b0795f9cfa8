"""Lists of the bookings of a person, and of an event."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

import asyncpg
from sqlalchemy.ext.asyncio import AsyncEngine

from ticketing.db.pages import Page, page
from ticketing.db.statements import Statement, driver
from ticketing.identity.repositories.users import NAME
from ticketing.sale.inventory.model import BookingStatus
from ticketing.sale.rows import booking


def _place(event: str, seq: str) -> str:
    """Return an SQL expression for the position of booking `seq` in the event's waiting list.

    It counts from the end of the list to which `seq` is closer. From the far end, it subtracts from
    the event's `waiting_list_count`.
    """
    line = f"FROM bookings AS line WHERE line.event_id = {event} AND line.status = 'waiting'"
    return f"""
    (
        SELECT CASE
            WHEN 2 * {seq} < (SELECT min(seq) {line}) + (SELECT max(seq) {line})
            THEN (SELECT count(*) {line} AND line.seq <= {seq})
            ELSE waiting_list_count - (SELECT count(*) {line} AND line.seq > {seq})
        END
        FROM events WHERE events.id = {event}
    )
    """  # noqa: S608 - our own text


OF_USER: Final = Statement(
    f"""
    SELECT id, seq, event_id, user_id, status, created_at,
        CASE WHEN status = 'waiting' THEN {_place("bookings.event_id", "bookings.seq")} END
            AS position
    FROM bookings
    WHERE user_id = :user AND seq < coalesce(CAST(:before AS bigint), 9223372036854775807)
    ORDER BY seq DESC LIMIT :limit
    """  # noqa: S608 - our own text
)

# The bookings ahead of the page are counted once. Within the page, positions are consecutive.
OF_EVENT: Final = Statement(
    f"""
    WITH page AS (
        SELECT id, seq, event_id, user_id, status, created_at FROM bookings
        WHERE event_id = :event AND seq > coalesce(CAST(:after AS bigint), 0)
            AND (CAST(:status AS text) IS NULL OR status = CAST(:status AS text))
        ORDER BY seq LIMIT :limit
    ), first AS (
        SELECT min(seq) AS seq FROM page WHERE status = 'waiting'
    )
    SELECT page.*, {NAME} AS username,
        CASE WHEN status = 'waiting' THEN row_number() OVER (PARTITION BY status ORDER BY seq) - 1
            + (SELECT {_place(":event", "first.seq")} FROM first)
        END AS position
    FROM page ORDER BY seq
    """  # noqa: S608 - our own text
)


@dataclass(frozen=True, slots=True)
class Standing:
    """A booking in a list, with its position in the waiting list if it waits."""

    id: UUID
    event_id: int
    user_id: UUID
    status: BookingStatus
    created_at: datetime
    position: int | None


@dataclass(frozen=True, slots=True)
class Attendance(Standing):
    """A booking in an event's list. `username` is None if the account was deleted."""

    username: str | None


class ListingRepository:
    """Lists bookings, with positions in the waiting list."""

    def __init__(self, engine: AsyncEngine) -> None:
        """Work on `engine`."""
        self._engine = engine

    async def of_user(self, user_id: UUID, *, before: int | None, limit: int) -> Page[Standing]:
        """Return the person's bookings with keys below `before`, newest first."""
        wanted = {"user": user_id, "before": before, "limit": limit + 1}
        async with driver(self._engine) as connection:
            rows = await OF_USER.fetch(connection, **wanted)
        return page(rows, limit, _standing)

    async def of_event(
        self, event_id: int, *, status: BookingStatus | None, after: int | None, limit: int
    ) -> Page[Attendance]:
        """Return the event's bookings with keys above `after`, oldest first."""
        wanted = {"event": event_id, "status": status, "after": after, "limit": limit + 1}
        async with driver(self._engine) as connection:
            rows = await OF_EVENT.fetch(connection, **wanted)
        return page(rows, limit, _attendance)


def _standing(row: asyncpg.Record) -> Standing:
    return Standing(*booking(row), row["position"])


def _attendance(row: asyncpg.Record) -> Attendance:
    return Attendance(*booking(row), row["position"], row["username"])
