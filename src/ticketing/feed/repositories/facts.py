"""Reading the trail in its order, for programs that follow it."""

import asyncio
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

import asyncpg
from sqlalchemy.ext.asyncio import AsyncEngine

from ticketing.db.statements import Driver, Statement, driver
from ticketing.errors import InvalidCursor
from ticketing.feed.told import FIRST, Fact, FeedEventType

PENDING: Final = 100
"""Numbers whose transactions may be awaited. More would be known no sooner."""
LOOKS: Final = 25
LOOK_AGAIN: Final = 0.02
"""Seconds. A process that has just started looks again so often."""

ALL_TYPES: Final = list(FeedEventType)
_FIRST: Final = "ARRAY[" + ", ".join(f"'{each}'" for each in FIRST) + "]"
_TYPES: Final = "ARRAY[" + ", ".join(f"'{each}'" for each in FeedEventType) + "]"

# The first record of a booking is number 1. All others are in an index.
COLUMNS: Final = f"""
    found.seq, found.at, found.action, found.event_id, found.subject, found.details, found.whole,
    (
        SELECT created_at FROM bookings WHERE id = CAST(found.details ->> 'bookingId' AS uuid)
    ) AS booked_at,
    CASE WHEN found.action = ANY ({_FIRST}) THEN 1
        WHEN found.details ->> 'bookingId' IS NOT NULL THEN 1 + (
            SELECT count(*) FROM audit_records AS earlier
            WHERE earlier.details ->> 'bookingId' = found.details ->> 'bookingId'
                AND earlier.seq <= found.seq AND earlier.action <> ALL ({_FIRST})
                AND earlier.details ->> 'bookingId' IS NOT NULL
        )
    END AS number
"""  # noqa: S608 - our own text

OF_EVENT: Final = Statement(
    f"""
    SELECT {COLUMNS} FROM audit_records AS found
    WHERE event_id = :event AND seq > :after AND action = ANY ({_TYPES})
    ORDER BY seq LIMIT :limit
    """  # noqa: S608 - our own text
)
# Only as many records of each event as may be needed.
OF_EVENTS: Final = Statement(
    f"""
    WITH wanted AS (
        SELECT records.seq
        FROM unnest(CAST(:events AS bigint[])) AS of(event), LATERAL (
            SELECT seq FROM audit_records
            WHERE event_id = of.event AND seq > :after AND seq <= :until
                AND action = ANY (CAST(:types AS text[]))
            ORDER BY seq LIMIT :limit
        ) AS records
        ORDER BY seq LIMIT :limit
    )
    SELECT {COLUMNS} FROM audit_records AS found
    WHERE seq = ANY (ARRAY(SELECT seq FROM wanted)) ORDER BY seq
    """  # noqa: S608 - our own text
)
OF_ALL: Final = Statement(
    f"""
    SELECT {COLUMNS} FROM audit_records AS found
    WHERE seq > :after AND seq <= :until AND event_id IS NOT NULL
        AND action = ANY (CAST(:types AS text[]))
    ORDER BY seq LIMIT :limit
    """  # noqa: S608 - our own text
)
VISIBLE: Final = Statement(
    """
    SELECT id FROM events WHERE organiser_id = :user
    UNION ALL SELECT event_id FROM event_roles WHERE user_id = :user AND role = 'manager'
    """
)
ONE_VISIBLE: Final = Statement(
    """
    SELECT id FROM events
    WHERE id = :event AND (
        organiser_id = :user
        OR EXISTS (SELECT FROM admins WHERE user_id = :user)
        OR EXISTS (
            SELECT FROM event_roles
            WHERE event_id = :event AND user_id = :user AND role = 'manager'
        )
    )
    """
)
# Not in one statement, because a statement's snapshot is older than what it reads of a sequence.
DRAWN: Final = Statement(
    "SELECT coalesce(pg_sequence_last_value("
    "CAST(pg_get_serial_sequence('audit_records', 'seq') AS regclass)), 0) AS seq"
)
# Its own id is above those of all transactions that have begun to write. The upper end of the
# snapshot is not: it is only above those that have ended.
RUNNING: Final = Statement(
    """
    SELECT CAST(CAST(pg_snapshot_xmin(pg_current_snapshot()) AS text) AS bigint) AS horizon,
        CAST(CAST(pg_current_xact_id() AS text) AS bigint) AS next
    """
)
COUNT: Final = Statement(
    """
    SELECT count(*) AS count FROM (
        SELECT 1
        FROM unnest(CAST(:events AS bigint[])) AS of(event), LATERAL (
            SELECT seq FROM audit_records
            WHERE event_id = of.event AND seq > :after AND action = ANY (CAST(:types AS text[]))
            LIMIT :limit
        ) AS records
        LIMIT :limit
    ) AS found
    """
)
CHANGED: Final = Statement(
    """
    SELECT DISTINCT event_id FROM audit_records
    WHERE seq > :after AND seq <= :until AND event_id IS NOT NULL
    """
)


@dataclass(frozen=True, slots=True)
class News:
    """Everything up to `until` is visible. `events` had records since the last look.

    None: it may be any event, because there was no last look, or another server responded.
    """

    until: int
    events: frozenset[int] | None


class FactRepository:
    """Reads the records of events in the order of their numbers.

    Records of one event become visible in that order: see `db.facts.recorded`. Those of different
    events do not, so they are read up to a number below which no transaction still writes.
    """

    def __init__(self, engine: AsyncEngine) -> None:
        """Work on `engine`."""
        self._engine = engine
        self._settled = 0
        self._drawn: list[tuple[int, int]] = []
        """Numbers that were drawn, each with a transaction that began after the last of them."""
        self._epoch = 0

    async def of_event(self, event_id: int, *, after: int, limit: int) -> Sequence[Fact]:
        """Return the event's facts after a number, oldest first."""
        async with driver(self._engine) as connection:
            rows = await OF_EVENT.fetch(connection, event=event_id, after=after, limit=limit)
        return [_fact(row) for row in rows]

    async def of_events(
        self,
        events: Collection[int] | None,
        *,
        after: int,
        limit: int,
        types: Sequence[str] | None = None,
    ) -> tuple[Sequence[Fact], int]:
        """Return the facts of these events after a number, oldest first. None: of all events.

        Only those of these `types`; None: of all types. Also return the number after which to read
        on.
        """
        until = await self._until()
        return await self._between(events, after, until, limit, types)

    async def of_person(
        self,
        user_id: UUID,
        event_id: int | None = None,
        *,
        after: int,
        limit: int,
        types: Sequence[str] | None = None,
    ) -> tuple[Sequence[Fact], int]:
        """Return those facts of `visible` events that `of_events` would.

        Nothing of an event is left out that the person makes or gets meanwhile.
        """
        until = await self._until()
        if until <= after:
            return [], after
        # After the number is known: an event that is not among these yet has only later records.
        events = await self.visible(user_id, event_id)
        return await self._between(events, after, until, limit, types)

    async def _until(self) -> int:
        """Return the number up to which everything is visible."""
        async with driver(self._engine) as connection:
            until = await self._settle(connection)
            for _ in range(LOOKS):
                # The first look of this process. It knows more once older transactions have ended.
                if until:
                    break
                await asyncio.sleep(LOOK_AGAIN)
                until = await self._settle(connection)
        return until

    async def _between(
        self,
        events: Collection[int] | None,
        after: int,
        until: int,
        limit: int,
        types: Sequence[str] | None,
    ) -> tuple[Sequence[Fact], int]:
        if until <= after:
            return [], after
        bounds: dict[str, object] = {"after": after, "until": until, "limit": limit}
        bounds["types"] = ALL_TYPES if types is None else list(types)
        async with driver(self._engine) as connection:
            if events is None:
                rows = await OF_ALL.fetch(connection, **bounds)
            else:
                rows = await OF_EVENTS.fetch(connection, events=list(events), **bounds)
        return [_fact(row) for row in rows], rows[-1]["seq"] if len(rows) == limit else until

    async def visible_to(self, user_id: UUID) -> frozenset[int]:
        """Return the events whose facts the person may see as their owner or manager."""
        async with driver(self._engine) as connection:
            rows = await VISIBLE.fetch(connection, user=user_id)
        return frozenset(row["id"] for row in rows)

    async def visible(self, user_id: UUID, event_id: int | None) -> frozenset[int]:
        """Return the event if the person may see its facts. None: as `visible_to`."""
        if event_id is None:
            return await self.visible_to(user_id)
        async with driver(self._engine) as connection:
            rows = await ONE_VISIBLE.fetch(connection, event=event_id, user=user_id)
        return frozenset(row["id"] for row in rows)

    async def count(
        self, events: Collection[int], *, after: int, limit: int, types: Sequence[str] | None
    ) -> int:
        """Return how many facts of these events and types there are after a number.

        At most `limit` are counted.
        """
        async with driver(self._engine) as connection:
            (row,) = await COUNT.fetch(
                connection,
                events=list(events),
                after=after,
                limit=limit,
                types=ALL_TYPES if types is None else list(types),
            )
        return int(row["count"])

    async def last(self) -> int:
        """Return a number after which everything is new.

        It is less than the last one if a transaction goes on to write for half a second.
        """
        async with driver(self._engine) as connection:
            (drawn,) = await DRAWN.fetch(connection)
            found = await self._settle(connection)
            for _ in range(LOOKS):
                if found >= drawn["seq"]:
                    break
                await asyncio.sleep(LOOK_AGAIN)
                found = await self._settle(connection)
        return found or int(drawn["seq"])

    async def require_drawn(self, after: int) -> None:
        """Raise InvalidCursor if no record has had this number.

        Then the cursor is of another database, or of one that lost its last records: it was
        restored from a backup.
        """
        async with driver(self._engine) as connection:
            (drawn,) = await DRAWN.fetch(connection)
        if after > drawn["seq"]:
            raise InvalidCursor

    async def news(self, after: int) -> News:
        """Return what became visible after this number. 0: there was no last look."""
        async with driver(self._engine) as connection:
            until = await self._settle(connection)
            if not after or until < after:
                return News(until, None)
            rows = []
            if until > after:
                rows = await CHANGED.fetch(connection, after=after, until=until)
        return News(until, frozenset(row["event_id"] for row in rows))

    async def _settle(self, connection: Driver) -> int:
        """Return a number up to which all records are visible.

        A number is drawn by a transaction that already has its id. So all transactions that drew
        one of the numbers have ended once every id of that time is below the horizon.
        """
        (drawn,) = await DRAWN.fetch(connection)
        (running,) = await RUNNING.fetch(connection)
        if connection.epoch != self._epoch or any(
            running["next"] < begun for _, begun in self._drawn
        ):
            # This may be another server, with other numbers of transactions.
            self._epoch, self._settled = connection.epoch, 0
            self._drawn.clear()
        if len(self._drawn) < PENDING:
            self._drawn.append((drawn["seq"], running["next"]))
        ended = [seq for seq, begun in self._drawn if begun <= running["horizon"]]
        self._drawn = [each for each in self._drawn if each[1] > running["horizon"]]
        self._settled = max(self._settled, 0, *ended)
        return self._settled


def _fact(row: asyncpg.Record) -> Fact:
    return Fact(*(row[name] for name in Fact._fields))
