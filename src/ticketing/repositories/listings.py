"""The lists of bookings: a person's, and an event's."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

import asyncpg
from sqlalchemy.ext.asyncio import AsyncEngine

from ticketing.database import Statement, driver
from ticketing.inventory import BookingStatus
from ticketing.repositories import Page, page

OF_USER: Final = Statement(
    """
    SELECT id, seq, event_id, user_id, status, created_at,
        CASE WHEN status = 'waiting' THEN (
            SELECT count(*) FROM bookings AS ahead
            WHERE ahead.event_id = bookings.event_id AND ahead.status = 'waiting'
                AND ahead.seq <= bookings.seq
        ) END AS position
    FROM bookings
    WHERE user_id = :user AND seq < coalesce(CAST(:before AS bigint), 9223372036854775807)
    ORDER BY seq DESC LIMIT :limit
    """
)

# The line ahead of the page is counted once; within the page, positions follow each other.
OF_EVENT: Final = Statement(
    """
    WITH page AS (
        SELECT id, seq, event_id, user_id, status, created_at FROM bookings
        WHERE event_id = :event AND seq > coalesce(CAST(:after AS bigint), 0)
            AND (CAST(:status AS text) IS NULL OR status = CAST(:status AS text))
        ORDER BY seq LIMIT :limit
    )
    SELECT page.*,
        CASE WHEN status = 'waiting' THEN row_number() OVER (PARTITION BY status ORDER BY seq) + (
            SELECT count(*) FROM bookings AS ahead
            WHERE ahead.event_id = :event AND ahead.status = 'waiting'
                AND ahead.seq < (SELECT min(seq) FROM page WHERE status = 'waiting')
        ) END AS position
    FROM page ORDER BY seq
    """
)


@dataclass(frozen=True, slots=True)
class Standing:
    """A booking in a list, with its place in the line if it waits; the fields are the queries'."""

    id: UUID
    event_id: int
    user_id: UUID
    status: str
    created_at: datetime
    position: int | None


class ListingRepository:
    """Lists bookings, with the place in the line of those that wait."""

    def __init__(self, engine: AsyncEngine) -> None:
        """Work on `engine`."""
        self._engine = engine

    async def of_user(self, user_id: UUID, *, before: int | None, limit: int) -> Page[Standing]:
        """Return the person's bookings, newest first, from below key `before`."""
        return await self._page(OF_USER, limit, user=user_id, before=before)

    async def of_event(
        self, event_id: int, *, status: BookingStatus | None, after: int | None, limit: int
    ) -> Page[Standing]:
        """Return the event's bookings in the order they were made, from above key `after`."""
        return await self._page(OF_EVENT, limit, event=event_id, status=status, after=after)

    async def _page(self, query: Statement, limit: int, **parameters: object) -> Page[Standing]:
        async with driver(self._engine) as connection:
            rows = await query.fetch(connection, limit=limit + 1, **parameters)
        return page(rows, limit, _standing)


def _standing(row: asyncpg.Record) -> Standing:
    return Standing(*(row[name] for name in Standing.__slots__))
