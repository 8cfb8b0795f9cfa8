"""The results of concurrent calls, and the event's rows and counters after them."""

import asyncio
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from ticketing.sale.repositories.events import EventRepository


async def together(*calls: Coroutine[Any, Any, Any]) -> Sequence[Any]:
    return await asyncio.gather(*calls, return_exceptions=True)


def kinds(outcomes: Sequence[object]) -> list[type]:
    return [type(outcome) for outcome in outcomes]


async def rows(engine: AsyncEngine, event_id: int) -> list[tuple[UUID, str]]:
    """Return the event's bookings in the order in which they were made."""
    query = text("SELECT user_id, status FROM bookings WHERE event_id = :id ORDER BY seq")
    async with engine.connect() as connection:
        found = await connection.execute(query, {"id": event_id})
        return [(row.user_id, row.status) for row in found]


@asynccontextmanager
async def reading(engine: AsyncEngine) -> AsyncIterator[EventRepository]:
    events = EventRepository(engine)
    try:
        yield events
    finally:
        await events.close()


async def counters(engine: AsyncEngine, event_id: int) -> tuple[int, int, int]:
    async with reading(engine) as events:
        shown = await events.get(event_id)
    return shown.available_tickets, shown.waiting_list_count, shown.version
