"""The append-only record of who changed what, when and from where."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import asyncpg
from sqlalchemy.ext.asyncio import AsyncEngine

from ticketing.database import Statement, driver
from ticketing.repositories import Page, page

TRAIL: Final = Statement(
    """
    SELECT seq, at, action, actor AS actor_id, credential AS credential_id, subject AS subject_id,
        details, address, request_id
    FROM audit_records
    WHERE event_id = :event AND seq < coalesce(CAST(:before AS bigint), 9223372036854775807)
    ORDER BY seq DESC LIMIT :limit
    """
)


def recorded(
    action: str, *, of: str, event: str = "NULL", subject: str = "NULL", details: str = "'{}'"
) -> str:
    """Return the part of a statement that records each row of `of`, a part that changes something.

    So a change and its record are one statement, and no change is without one. The rest are
    expressions over the columns of `of`; nothing secret may be in them. The statement
    takes the fields of an Origin as parameters too.
    """
    return f"""
    recorded AS (
        INSERT INTO audit_records
            (action, event_id, subject, details, actor, credential, address, request_id)
        SELECT '{action}', CAST({event} AS bigint), CAST({subject} AS uuid),
            CAST({details} AS jsonb), CAST(:actor AS uuid), CAST(:credential AS uuid),
            CAST(:address AS text), CAST(:request_id AS text)
        FROM {of}
    )
    """  # noqa: S608 - our own text


@dataclass(frozen=True, slots=True)
class Record:
    """One change: its origin, and the person whom it is about; the fields are those of TRAIL."""

    at: datetime
    action: str
    actor_id: UUID | None
    credential_id: UUID | None
    subject_id: UUID | None
    details: dict[str, Any]
    address: str | None
    request_id: str | None


class AuditRepository:
    """Reads `audit_records`; who changes something writes its record by `recorded`."""

    def __init__(self, engine: AsyncEngine) -> None:
        """Work on `engine`."""
        self._engine = engine

    async def of_event(self, event_id: int, *, before: int | None, limit: int) -> Page[Record]:
        """Return what was changed about the event, newest first, from below record `before`."""
        async with driver(self._engine) as connection:
            rows = await TRAIL.fetch(connection, event=event_id, before=before, limit=limit + 1)
        return page(rows, limit, _record)


def _record(row: asyncpg.Record) -> Record:
    return Record(*(row[name] for name in Record.__slots__))
