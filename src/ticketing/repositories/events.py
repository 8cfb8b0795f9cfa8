"""Events: making, finding and listing them. Their inventory belongs to the bookings repository."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from sqlalchemy import insert, select
from sqlalchemy.ext.asyncio import AsyncEngine

from ticketing import metrics, tables
from ticketing.combiner import Combiner
from ticketing.database import Statement, domain_errors, driver
from ticketing.errors import EventNotFound, Forbidden
from ticketing.repositories import Page

MAX_BATCH: Final = 512
MAX_QUEUE: Final = 10_000
MAX_WAIT: Final = 5.0

READ: Final = Statement(
    """
    SELECT id, name, organiser_id, total_tickets, available_tickets, waiting_list_count,
        version, created_at
    FROM events WHERE id = ANY(CAST(:ids AS bigint[]))
    """
)


@dataclass(frozen=True, slots=True)
class Event:
    """An event as it was when it was read; the fields are those of READ, in its order."""

    id: int
    name: str
    organiser_id: UUID
    total_tickets: int
    available_tickets: int
    waiting_list_count: int
    version: int
    created_at: datetime


COLUMNS: Final = [getattr(tables.Event, name) for name in Event.__slots__]


class EventRepository:
    """Reads and writes `events`."""

    def __init__(self, engine: AsyncEngine, counts: metrics.Counts | None = None) -> None:
        """Work on `engine`."""
        self._engine = engine
        self._reads = Combiner[int, Event](
            self._read,
            max_batch=MAX_BATCH,
            max_queue=MAX_QUEUE,
            max_wait=MAX_WAIT,
            observe=counts.histogram(metrics.BATCH, "events").observe if counts else None,
        )
        if counts is not None:
            counts.gauge(metrics.QUEUE, "events", read=lambda: self._reads.waiting)

    async def close(self) -> None:
        """Finish the reads that are queued and refuse what comes."""
        await self._reads.close()

    async def initialize(self, organiser_id: UUID, name: str, total_tickets: int) -> Event:
        """Make an event with every place free. Raises UserNotFound."""
        making = insert(tables.Event).values(
            name=name,
            organiser_id=organiser_id,
            total_tickets=total_tickets,
            available_tickets=total_tickets,
        )
        async with domain_errors(), self._engine.begin() as connection:
            made = (await connection.execute(making.returning(*COLUMNS))).one()
        return Event(*made)

    async def get(self, event_id: int) -> Event:
        """Return the event as it is now. Raises EventNotFound, or Busy.

        Reads that are asked for while one is under way are answered together by the next: each
        still sees what was committed before it was asked for.
        """
        return await self._reads.submit(event_id)

    async def _read(self, ids: Sequence[int]) -> Sequence[Event | EventNotFound]:
        async with driver(self._engine) as connection:
            rows = await READ.fetch(connection, ids=list(set(ids)))
        found = {row["id"]: Event(*row) for row in rows}
        return [found.get(event_id) or EventNotFound() for event_id in ids]

    async def search(self, text: str | None, *, before: int | None, limit: int) -> Page[Event]:
        """Return events whose name contains `text`, newest first, from below id `before`."""
        query = select(*COLUMNS).order_by(tables.Event.id.desc()).limit(limit + 1)
        if text is not None:
            query = query.where(tables.Event.name.icontains(text, autoescape=True))
        if before is not None:
            query = query.where(tables.Event.id < before)
        async with domain_errors(), self._engine.connect() as connection:
            rows = (await connection.execute(query)).all()
        events = [Event(*row) for row in rows[:limit]]
        return Page(events, events[-1].id if len(rows) > limit else None)

    async def require_organiser(self, event_id: int, user_id: UUID) -> None:
        """Raise Forbidden unless the user organises the event. Raises EventNotFound."""
        event = await self.get(event_id)
        if event.organiser_id != user_id:
            raise Forbidden
