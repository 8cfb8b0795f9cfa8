"""Events: create, read, search and list them. The bookings repository writes their places."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Final, NamedTuple
from uuid import UUID

import asyncpg
from sqlalchemy.ext.asyncio import AsyncEngine

from ticketing.db.combiner import Combiner
from ticketing.db.facts import Origin, recorded
from ticketing.db.pages import Page
from ticketing.db.statements import Driver, Held, Statement, driver
from ticketing.errors import EventNotFound, UserNotFound
from ticketing.ops import logs
from ticketing.sale.definitions import Definitions
from ticketing.sale.details import TIMES, Details
from ticketing.sale.folding import folded
from ticketing.sale.inventory.terms import EventStatus, WaitingMode
from ticketing.sale.repositories.definitions import Known, count, define, give_counters, load
from ticketing.sale.rows import Event, event, recounted, stored_policy
from ticketing.sale.said import as_json, fields
from ticketing.sale.times import RULES
from ticketing.web.keyed import KeyedRequest
from ticketing.web.repositories.stored_responses import once

COLUMNS: Final = """
    events.id, name, organiser_id, total_tickets, available_tickets, waiting_list_count, version,
    created_at, revision, max_bookings_per_person, max_tickets_per_person, had_several_bookings,
    status, visibility, sales_paused, starts_at, ends_at, sales_open_at, sales_close_at,
    description, venue_name, venue_address, latitude, longitude, url, timezone,
    starts_local, ends_local, sales_open_local, sales_close_local, refund_policy,
    refund_until_local, quota_capacity, quota_available, type_taken, type_waiting, next_expiry,
    hold_minutes, waiting_list_mode, offer_minutes, group_patience_minutes,
    clock_timestamp() AS read_at
"""
WITH_DETAILS: Final = """
    LEFT JOIN LATERAL (
        SELECT * FROM event_details WHERE event_details.event_id = events.id LIMIT 1
    ) AS details ON true
"""
"""Adds the details to a FROM with `events`: one look-up per event, whatever the statistics are."""
MAKE: Final = Statement(
    f"""
    WITH made AS (
        INSERT INTO events
            (name, name_folded, organiser_id, total_tickets, available_tickets, status, visibility,
            starts_at, ends_at, sales_open_at, sales_close_at, max_bookings_per_person,
            max_tickets_per_person, had_several_bookings, hold_minutes, waiting_list_mode,
            offer_minutes, group_patience_minutes, refund_policy)
        SELECT CAST(:name AS text), CAST(:folded AS text), id, CAST(:total AS bigint),
            CAST(:total AS bigint), CAST(:status AS text), CAST(:visibility AS text),
            CAST(:starts_at AS timestamptz), CAST(:ends_at AS timestamptz),
            CAST(:sales_open_at AS timestamptz), CAST(:sales_close_at AS timestamptz),
            CAST(:max_bookings_per_person AS integer), CAST(:max_tickets_per_person AS integer),
            CAST(:max_bookings_per_person AS integer) > 1, CAST(:hold_minutes AS integer),
            CAST(:waiting_list_mode AS text), CAST(:offer_minutes AS integer),
            CAST(:group_patience_minutes AS integer), CAST(:refund_policy AS jsonb)
        FROM users
        -- The lock waits for a deletion of the account that is under way.
        WHERE id = CAST(:organiser AS uuid) AND password_hash IS NOT NULL FOR SHARE
        RETURNING id, name, total_tickets, status, organiser_id
    ), {
        recorded(
            "'event.created'",
            of="made",
            event="id",
            details="jsonb_build_object('name', name, 'totalTickets', total_tickets,"
            " 'status', status)",
            whole="jsonb_build_object('id', id, 'organiserId', organiser_id)"
            " || CAST(:whole AS jsonb)",
        )
    }
    SELECT id FROM made
    """  # noqa: S608 - our own text
)
SAY: Final = Statement(
    """
    INSERT INTO event_details
        (event_id, description, venue_name, venue_address, latitude, longitude, url, timezone,
        starts_local, ends_local, sales_open_local, sales_close_local, refund_until_local,
        zone_rules)
    VALUES (:event, :description, :venue_name, :venue_address, :latitude, :longitude, :url,
        :timezone, :starts_local, :ends_local, :sales_open_local, :sales_close_local,
        :refund_until_local, :zone_rules)
    ON CONFLICT (event_id) DO UPDATE SET
        description = excluded.description, venue_name = excluded.venue_name,
        venue_address = excluded.venue_address, latitude = excluded.latitude,
        longitude = excluded.longitude, url = excluded.url, timezone = excluded.timezone,
        starts_local = excluded.starts_local, ends_local = excluded.ends_local,
        sales_open_local = excluded.sales_open_local,
        sales_close_local = excluded.sales_close_local,
        refund_until_local = excluded.refund_until_local,
        -- Times that were not changed are still by the earlier rules. Nulls are ignored.
        zone_rules = least(event_details.zone_rules, excluded.zone_rules)
    """
)
READ: Final = Statement(
    f"""
    SELECT {COLUMNS} FROM events {WITH_DETAILS} WHERE events.id = ANY(CAST(:ids AS bigint[]))
    """  # noqa: S608 - our own text
)
# The numbers that bookings change. Everything else belongs to the revision.
NUMBERS: Final = Statement(
    """
    SELECT id, revision, total_tickets, available_tickets, waiting_list_count, version,
        quota_capacity, quota_available, type_taken, type_waiting, clock_timestamp() AS read_at
    FROM events WHERE id = ANY(CAST(:ids AS bigint[]))
    """
)
LOCK: Final = Statement(
    f"""
    SELECT {COLUMNS} FROM events {WITH_DETAILS}
    WHERE events.id = :event FOR UPDATE OF events
    """  # noqa: S608 - our own text
)

PUBLIC: Final = "status <> 'draft' AND visibility = 'public'"
LIST: Final = Statement(
    f"""
    SELECT {COLUMNS} FROM events {WITH_DETAILS}
    WHERE events.id < coalesce(CAST(:before AS bigint), 9223372036854775807) AND {PUBLIC}
    ORDER BY events.id DESC LIMIT :limit
    """  # noqa: S608 - our own text
)
_WANTED: Final = f"""
    {PUBLIC}
    AND (CAST(:pattern AS text) IS NULL OR name_folded LIKE CAST(:pattern AS text))
    AND (CAST(:organiser AS uuid) IS NULL OR organiser_id = CAST(:organiser AS uuid))
    AND (CAST(:since AS timestamptz) IS NULL OR starts_at >= CAST(:since AS timestamptz))
    AND (CAST(:until AS timestamptz) IS NULL OR starts_at < CAST(:until AS timestamptz))
    AND (CAST(:on_sale AS boolean) IS NULL OR CAST(:on_sale AS boolean) = (
        status = 'published' AND NOT sales_paused AND available_tickets > 0
        AND (quota_available IS NULL OR EXISTS (
            SELECT FROM ticket_types AS types
            WHERE types.event_id = events.id AND NOT types.hidden AND NOT types.closed
                AND coalesce(types.sales_open_at <= now(), true)
                AND coalesce(types.sales_close_at > now(), true)
                AND 0 < ALL (
                    SELECT quota_available[slot + 1] FROM unnest(types.quotas) AS drawn(slot)
                )
        ))
        AND coalesce(sales_open_at <= now(), true) AND coalesce(sales_close_at > now(), true)
        AND coalesce(ends_at > now(), true)
    ))
"""  # noqa: S608 - our own text
# Planned anew each time, because the best index depends on the parameters.
SEARCH: Final = Statement(
    f"""
    SELECT {COLUMNS} FROM events {WITH_DETAILS}
    WHERE events.id < coalesce(CAST(:before AS bigint), 9223372036854775807) AND {_WANTED}
    ORDER BY events.id DESC LIMIT :limit
    """,  # noqa: S608 - our own text
    plan_anew=True,
)
BY_START: Final = Statement(
    f"""
    SELECT {COLUMNS} FROM events {WITH_DETAILS}
    WHERE starts_at IS NOT NULL AND {_WANTED}
        AND (CAST(:after AS bigint) IS NULL OR (starts_at, events.id) > (
            timestamptz 'epoch' + CAST(:after AS bigint) * interval '1 microsecond',
            CAST(:after_id AS bigint)
        ))
    ORDER BY starts_at, events.id LIMIT :limit
    """,  # noqa: S608 - our own text
    plan_anew=True,
)
OF_PERSON: Final = Statement(
    f"""
    SELECT {COLUMNS}
    FROM (
        SELECT id AS mine FROM events WHERE organiser_id = CAST(:user AS uuid)
        UNION SELECT event_id FROM event_roles WHERE user_id = CAST(:user AS uuid)
    ) AS mine
    CROSS JOIN LATERAL (SELECT * FROM events WHERE events.id = mine.mine LIMIT 1) AS events
    {WITH_DETAILS}
    WHERE mine < coalesce(CAST(:before AS bigint), 9223372036854775807)
    ORDER BY mine DESC LIMIT :limit
    """,  # noqa: S608 - our own text
)
# The bookings of a cancelled event are cancelled with it.
BOOKED_BY: Final = Statement(
    f"""
    SELECT {COLUMNS}
    FROM (
        SELECT event_id AS mine, bool_or(status = 'booked') AS is_booked
        FROM (SELECT * FROM bookings WHERE user_id = CAST(:user AS uuid) OFFSET 0) AS bookings
        WHERE status = 'booked' OR (status = 'cancelled' AND expires_at IS NULL)
        GROUP BY event_id
    ) AS mine
    CROSS JOIN LATERAL (SELECT * FROM events WHERE events.id = mine.mine LIMIT 1) AS events
    {WITH_DETAILS}
    WHERE starts_at IS NOT NULL AND (is_booked OR status = 'cancelled')
    ORDER BY starts_at DESC, mine LIMIT :limit
    """,  # noqa: S608 - our own text
)
NOT_FOLDED: Final = Statement(
    """
    SELECT id, name FROM events WHERE name_folded IS NULL AND id > :after ORDER BY id LIMIT 1000
    """
)
# Locks in the same order as a commit, and leaves out locked events.
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


class Wanted(NamedTuple):
    """The filters of a list of events. None means no filter."""

    text: str | None = None
    """Text that the name contains."""
    organiser_id: UUID | None = None
    since: datetime | None = None
    until: datetime | None = None
    """The start is at or after `since`, and before `until`."""
    on_sale: bool | None = None
    """Whether places are on sale now."""


class EventRepository:
    """Creates, reads and lists events."""

    def __init__(self, engine: AsyncEngine, reading: AsyncEngine | None = None) -> None:
        """Work on `engine`. Read single events on `reading`, which no other query may use."""
        self._engine = engine
        self._connection = Held(reading or engine)
        self._known = Known[Event]()
        self._known_by: Driver | None = None
        """The connection on which the events were read."""
        self._reads = Combiner[int, Event](self._read, name="events")
        self.sample = self._reads.sample

    async def close(self) -> None:
        """Finish the queued reads and refuse new ones."""
        await self._reads.close()
        await self._connection.close()

    async def make(  # noqa: PLR0913 - an event has many properties
        self,
        organiser_id: UUID,
        details: Details,
        capacity: int,
        origin: Origin,
        keyed: KeyedRequest | None = None,
        *,
        status: EventStatus = EventStatus.PUBLISHED,
        definitions: Definitions | None = None,
    ) -> Event:
        """Create an event with all places free.

        Without `definitions` it has one ticket type, which is free. Raises UserNotFound. With
        `keyed`, also raises the errors of `once`.
        """
        async with once(self._engine, keyed) as (connection, keep), connection.transaction():
            created = await make(
                connection, organiser_id, details, capacity, status, origin, definitions
            )
            await keep(created)
        logs.log.info("event.created", eventId=created.id, userId=organiser_id)
        return created

    async def get(self, event_id: int) -> Event:
        """Return the event as it is now. Raises EventNotFound, or Busy.

        Requests that arrive during a read share the next read. So each sees everything that was
        committed before it arrived.
        """
        return await self._reads.submit(event_id)

    async def _read(self, ids: Sequence[int]) -> Sequence[Event | EventNotFound]:
        async with self._connection.lent() as connection:
            if connection is not self._known_by:
                # Another server may have lost commits, and use their revisions again.
                self._known.forget()
                self._known_by = connection
            found = {}
            unknown = []
            for row in await NUMBERS.fetch(connection, ids=list(set(ids))):
                known = self._known.at(row["id"], row["revision"])
                if known is None:
                    unknown.append(row["id"])
                else:
                    found[known.id] = recounted(known, row)
            if unknown:
                read = await complete(connection, await READ.fetch(connection, ids=unknown))
                for each in read.values():
                    types = len(each.definitions.types)
                    self._known.remember(each.id, each.terms.revision, each, types)
                found |= read
        return [found.get(event_id) or EventNotFound() for event_id in ids]

    async def newest(self, wanted: Wanted, *, before: int | None, limit: int) -> Page[Event]:
        """Return the wanted public events with ids below `before`, newest first."""
        page: dict[str, object] = {"before": before, "limit": limit + 1}
        if wanted == Wanted():
            return await self._page(LIST, limit, **page)
        return await self._page(SEARCH, limit, **_parameters(wanted), **page)

    async def by_start(
        self, wanted: Wanted, *, after: tuple[int, int] | None, limit: int
    ) -> Page[Event]:
        """Return the wanted public events that have a start, sorted by start, then by id.

        `after` is the start, in microseconds since the epoch, and the id of the event before these.
        """
        start, event_id = after or (None, None)
        page = {"after": start, "after_id": event_id, "limit": limit + 1}
        return await self._page(BY_START, limit, **_parameters(wanted), **page)

    async def of_person(self, user_id: UUID, *, before: int | None, limit: int) -> Page[Event]:
        """Return the events that the person owns or has a role at, in any state, newest first."""
        return await self._page(OF_PERSON, limit, user=user_id, before=before, limit=limit + 1)

    async def booked_by(self, user_id: UUID, *, limit: int) -> Sequence[Event]:
        """Return the events with a start that the person has places at, latest start first.

        Also returns those where the person had a booking, if the event was cancelled.
        """
        return (await self._page(BOOKED_BY, limit, user=user_id, limit=limit)).items

    async def _page(self, statement: Statement, size: int, /, **parameters: object) -> Page[Event]:
        async with driver(self._engine) as connection:
            while True:
                rows = await statement.fetch(connection, **parameters)
                shown = rows[:size]
                found = await load(connection, [row["id"] for row in shown]) if shown else {}
                # If an event was changed between both reads, its place in the list may be another.
                if all(
                    row["id"] in found and found[row["id"]][0] == row["revision"] for row in shown
                ):
                    break
        events = [event(row, found[row["id"]][1]) for row in shown]
        return Page(events, events[-1].id if len(rows) > size else None)

    async def fold_names(self) -> None:
        """Fold names that are not folded yet, because a previous version wrote them."""
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


async def make(  # noqa: PLR0913, PLR0917 - an event has many properties
    connection: Driver,
    organiser_id: UUID,
    details: Details,
    capacity: int,
    status: EventStatus,
    origin: Origin,
    definitions: Definitions | None = None,
) -> Event:
    """Create an event in this connection's transaction and return it. Raises UserNotFound."""
    made: dict[str, object] = {
        "organiser": organiser_id,
        "folded": folded(details.name),
        "total": capacity,
        "status": status,
        "whole": as_json(fields(details, capacity, status, paused=False)),
        **columns(details),
        **origin._asdict(),
    }
    rows = await MAKE.fetch(connection, **made)
    if not rows:
        raise UserNotFound
    event_id = rows[0]["id"]
    if details != Details(details.name):
        await SAY.fetch(connection, event=event_id, **columns(details))
    if definitions is not None:
        (given,) = (await load(connection, [event_id])).values()
        await define(connection, event_id, given[1], definitions)
        if not definitions.are_plain:
            await count(connection, event_id, capacity, definitions.counted(capacity, [], []))
    if details.waiting_list_mode == WaitingMode.OFFER:
        await give_counters(connection, event_id)
    return await read(connection, event_id)


async def read(connection: Driver, event_id: int) -> Event:
    """Read the event on this connection. Raises EventNotFound."""
    found = await complete(connection, await READ.fetch(connection, ids=[event_id]))
    if not found:
        raise EventNotFound
    return found[event_id]


@asynccontextmanager
async def locked(engine: AsyncEngine, event_id: int) -> AsyncIterator[tuple[Driver, Event]]:
    """Lend a connection in a transaction, with the event locked. Raises EventNotFound."""
    async with driver(engine) as connection, connection.transaction():
        yield connection, await lock(connection, event_id)


async def lock(connection: Driver, event_id: int) -> Event:
    """Lock the event in this connection's transaction and return it. Raises EventNotFound."""
    rows = await LOCK.fetch(connection, event=event_id)
    if not rows:
        raise EventNotFound
    return (await complete(connection, rows))[event_id]


async def complete(connection: Driver, rows: Sequence[asyncpg.Record]) -> dict[int, Event]:
    """Return the events of these rows by id, each with the definitions of its revision.

    An event that was changed since its row was read is read again.
    """
    found: dict[int, Event] = {}
    while rows:
        loaded = await load(connection, [row["id"] for row in rows])
        changed = []
        for row in rows:
            revision, its = loaded.get(row["id"], (None, None))
            if its is None or revision != row["revision"]:
                changed.append(row["id"])
            else:
                found[row["id"]] = event(row, its)
        rows = await READ.fetch(connection, ids=changed) if changed else []
    return found


def columns(details: Details) -> dict[str, object]:
    """Return the details by column."""
    named = details._asdict()
    named["refund_policy"] = stored_policy(details.refunds)
    for name in TIMES:
        named[f"{name}_at"], named[f"{name}_local"] = named.pop(name) or (None, None)
    has_local = any(named[f"{name}_local"] is not None for name in TIMES)
    return {**named, "zone_rules": RULES if has_local else None}


def _parameters(wanted: Wanted) -> dict[str, object]:
    return {
        "pattern": None if wanted.text is None else _containing(folded(wanted.text)),
        "organiser": wanted.organiser_id,
        "since": wanted.since,
        "until": wanted.until,
        "on_sale": wanted.on_sale,
    }


def _containing(text: str) -> str:
    """Return the LIKE pattern for names that contain the text."""
    for special in ("\\", "%", "_"):
        text = text.replace(special, "\\" + special)
    return f"%{text}%"
