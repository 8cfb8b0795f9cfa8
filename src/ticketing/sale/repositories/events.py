"""Events: making, finding and listing them. Their inventory belongs to the bookings repository."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final, NamedTuple
from uuid import UUID

import asyncpg
from sqlalchemy.ext.asyncio import AsyncEngine

from ticketing.db.combiner import Combiner
from ticketing.db.facts import Origin, recorded
from ticketing.db.pages import Page
from ticketing.db.statements import Held, Statement, driver
from ticketing.errors import EventNotFound, UserNotFound
from ticketing.ops import logs
from ticketing.sale.folding import folded
from ticketing.web.replay import KeyedRequest
from ticketing.web.repositories.stored_responses import once

_COLUMNS: Final = """
    id, name, organiser_id, total_tickets, available_tickets, waiting_list_count, version,
    created_at
"""
MAKE: Final = Statement(
    f"""
    WITH made AS (
        INSERT INTO events (name, name_folded, organiser_id, total_tickets, available_tickets)
        SELECT CAST(:name AS text), CAST(:folded AS text), id, CAST(:total AS bigint),
            CAST(:total AS bigint)
        FROM users
        -- The lock has it wait for the end of the account that is under way.
        WHERE id = CAST(:organiser AS uuid) AND password_hash IS NOT NULL FOR SHARE
        RETURNING {_COLUMNS}
    ), {
        recorded(
            "'event.created'",
            of="made",
            event="id",
            details="jsonb_build_object('name', name, 'totalTickets', total_tickets)",
        )
    }
    SELECT {_COLUMNS} FROM made
    """  # noqa: S608 - our own text
)
# One statement, so that a sale waits for no round trip of ours. The lock is for the old name, which
# another may be changing. Nothing that a decision rests on changes, and so the version stays.
RENAME: Final = Statement(
    f"""
    WITH before AS (
        SELECT id, name FROM events WHERE id = :id FOR NO KEY UPDATE
    ), renamed AS (
        UPDATE events SET name = :name, name_folded = CAST(:folded AS text) FROM before
        WHERE events.id = :id AND before.id = events.id AND before.name <> :name
        RETURNING events.id, before.name AS was, events.name
    ), {
        recorded(
            "'event.renamed'",
            of="renamed",
            event="id",
            details="jsonb_build_object('from', was, 'to', name)",
        )
    }
    SELECT id FROM renamed
    """  # noqa: S608 - our own text
)
READ: Final = Statement(
    f"""
    SELECT {_COLUMNS}
    FROM events WHERE id = ANY(CAST(:ids AS bigint[]))
    """  # noqa: S608 - our own text
)


LIST: Final = Statement(
    f"""
    SELECT {_COLUMNS} FROM events
    WHERE id < coalesce(CAST(:before AS bigint), 9223372036854775807)
    ORDER BY id DESC LIMIT :limit
    """  # noqa: S608 - our own text
)
# What is looked for decides which index is the better one.
SEARCH: Final = Statement(
    f"""
    SELECT {_COLUMNS} FROM events
    WHERE name_folded LIKE CAST(:pattern AS text)
        AND id < coalesce(CAST(:before AS bigint), 9223372036854775807)
    ORDER BY id DESC LIMIT :limit
    """,  # noqa: S608 - our own text
    plan_anew=True,
)


NOT_FOLDED: Final = Statement(
    """
    SELECT id, name FROM events WHERE name_folded IS NULL AND id > :after ORDER BY id LIMIT 1000
    """
)
# In the order of a commit's locks, and without the events that somebody is writing.
FOLD: Final = Statement(
    """
    WITH locked AS (
        SELECT id FROM events WHERE id = ANY(CAST(:ids AS bigint[]))
        ORDER BY id FOR NO KEY UPDATE SKIP LOCKED
    )
    UPDATE events SET name_folded = given.folded
    FROM unnest(CAST(:ids AS bigint[]), CAST(:names AS text[]), CAST(:folded AS text[]))
        AS given(id, name, folded)
    WHERE events.id = ANY(ARRAY(SELECT id FROM locked))
        AND events.id = given.id AND events.name = given.name
    """
)


class Event(NamedTuple):
    """An event as it was when it was read; the fields are those of READ, in its order."""

    id: int
    name: str
    organiser_id: UUID
    total_tickets: int
    available_tickets: int
    waiting_list_count: int
    version: int
    created_at: datetime


def event(row: asyncpg.Record) -> Event:
    """Return the event in a row of `events`."""
    return Event(*row)


class EventRepository:
    """Reads and writes `events`."""

    def __init__(self, engine: AsyncEngine, reading: AsyncEngine | None = None) -> None:
        """Work on `engine`; read single events on `reading`, from which no other query borrows."""
        self._engine = engine
        self._connection = Held(reading or engine)
        self._reads = Combiner[int, Event](self._read, name="events")
        self.sample = self._reads.sample

    async def close(self) -> None:
        """Finish the reads that are queued and refuse what comes."""
        await self._reads.close()
        await self._connection.close()

    async def initialize(
        self,
        organiser_id: UUID,
        name: str,
        total_tickets: int,
        origin: Origin,
        keyed: KeyedRequest | None = None,
    ) -> Event:
        """Make an event with every place free.

        Raises UserNotFound; with `keyed`, the same as `once`.
        """
        made: dict[str, object] = {
            "organiser": organiser_id,
            "name": name,
            "folded": folded(name),
            "total": total_tickets,
        }
        made |= origin._asdict()
        async with once(self._engine, keyed) as (connection, keep):
            rows = await MAKE.fetch(connection, **made)
            if not rows:
                raise UserNotFound
            created = event(rows[0])
            await keep(created)
        logs.log.info("event.created", eventId=created.id, userId=organiser_id)
        return created

    async def rename(self, event_id: int, name: str, origin: Origin) -> Event:
        """Give the event this name and return it. Raises EventNotFound."""
        async with driver(self._engine) as connection:
            rows = await RENAME.fetch(
                connection, id=event_id, name=name, folded=folded(name), **origin._asdict()
            )
        for _ in rows:
            logs.log.info("event.renamed", eventId=event_id)
        return await self.get(event_id)

    async def get(self, event_id: int) -> Event:
        """Return the event as it is now. Raises EventNotFound, or Busy.

        Reads that are asked for while one is under way are answered together by the next: each
        still sees what was committed before it was asked for.
        """
        return await self._reads.submit(event_id)

    async def _read(self, ids: Sequence[int]) -> Sequence[Event | EventNotFound]:
        async with self._connection.lent() as connection:
            rows = await READ.fetch(connection, ids=list(set(ids)))
        found = {row["id"]: event(row) for row in rows}
        return [found.get(event_id) or EventNotFound() for event_id in ids]

    async def search(self, text: str | None, *, before: int | None, limit: int) -> Page[Event]:
        """Return events whose name contains `text`, newest first, from below id `before`.

        Both are folded.
        """
        wanted: dict[str, object] = {"before": before, "limit": limit + 1}
        async with driver(self._engine) as connection:
            if text is None:
                rows = await LIST.fetch(connection, **wanted)
            else:
                rows = await SEARCH.fetch(connection, pattern=_containing(folded(text)), **wanted)
        events = [event(row) for row in rows[:limit]]
        return Page(events, events[-1].id if len(rows) > limit else None)

    async def fold_names(self) -> None:
        """See to the names that no service has folded: those of the version before."""
        after = 0
        async with driver(self._engine) as connection:
            while rows := await NOT_FOLDED.fetch(connection, after=after):
                names = [row["name"] for row in rows]
                await FOLD.fetch(
                    connection,
                    ids=[row["id"] for row in rows],
                    names=names,
                    folded=[folded(name) for name in names],
                )
                after = rows[-1]["id"]


def _containing(text: str) -> str:
    """Return the pattern of LIKE for what contains the text."""
    for special in ("\\", "%", "_"):
        text = text.replace(special, "\\" + special)
    return f"%{text}%"
