"""The audit trail: an append-only record of who changed what, when and from where."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import asyncpg
from sqlalchemy.ext.asyncio import AsyncEngine

from ticketing.db.pages import Page, page
from ticketing.db.statements import Statement, driver

TRAIL: Final = Statement(
    """
    SELECT seq, seq AS id, at, action, actor AS actor_id, credential AS credential_id,
        subject AS subject_id, details, address, request_id
    FROM audit_records
    WHERE event_id = :event AND seq < coalesce(CAST(:before AS bigint), 9223372036854775807)
    ORDER BY seq DESC LIMIT :limit
    """
)


@dataclass(frozen=True, slots=True)
class TrailRecord:
    """One change, its origin and the person it is about. The fields are the columns of TRAIL."""

    id: int
    at: datetime
    action: str
    actor_id: UUID | None
    credential_id: UUID | None
    subject_id: UUID | None
    details: dict[str, Any]
    address: str | None
    request_id: str | None


class TrailRepository:
    """Reads the records that `db.facts.recorded` adds to each change."""

    def __init__(self, engine: AsyncEngine) -> None:
        """Work on `engine`."""
        self._engine = engine

    async def of_event(self, event_id: int, *, before: int | None, limit: int) -> Page[TrailRecord]:
        """Return the event's changes, newest first, only those with an id below `before`."""
        async with driver(self._engine) as connection:
            rows = await TRAIL.fetch(connection, event=event_id, before=before, limit=limit + 1)
        return page(rows, limit, _record)


def _record(row: asyncpg.Record) -> TrailRecord:
    return TrailRecord(*(row[name] for name in TrailRecord.__slots__))
