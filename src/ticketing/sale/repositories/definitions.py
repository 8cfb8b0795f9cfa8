"""The rows of ticket types and quotas. Every writer holds the lock of the event's row."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final, Generic, TypeVar

import asyncpg
import orjson

from ticketing.db.statements import Driver, Statement
from ticketing.sale.definitions import DefinedType, Definitions
from ticketing.sale.inventory.model import Counters
from ticketing.sale.rows import definitions
from ticketing.sale.times import RULES

MAX_TYPES_KNOWN: Final = 10_000
"""How many ticket types a worker remembers, with their events and the JSON: some 20 MB."""

KnownT = TypeVar("KnownT")

# One statement, so that types and quotas are those of the revision.
DEFINED: Final = Statement(
    """
    SELECT events.id AS event_id, events.revision, events.quota_capacity, held.*, types.*
    FROM events CROSS JOIN LATERAL (
        SELECT array_agg(slot ORDER BY slot) AS quota_slots, array_agg(id ORDER BY slot) AS
            quota_ids, array_agg(name ORDER BY slot) AS quota_names,
            array_agg(ticket_type_id ORDER BY slot) AS quota_types
        FROM quotas WHERE quotas.event_id = events.id
    ) AS held CROSS JOIN LATERAL (
        SELECT id, slot, quotas, name, description, amount, currency, min_per_booking,
            max_per_booking, sales_open_at, sales_close_at, sales_open_local, sales_close_local,
            position, hidden, closed, tax_rate
        FROM ticket_types WHERE ticket_types.event_id = events.id OFFSET 0
    ) AS types
    WHERE events.id = ANY(CAST(:ids AS bigint[]))
    """
)
SET_TYPES: Final = Statement(
    """
    INSERT INTO ticket_types
        (event_id, slot, quotas, name, description, amount, currency, min_per_booking,
        max_per_booking, sales_open_at, sales_close_at, sales_open_local, sales_close_local,
        position, hidden, closed, tax_rate)
    SELECT CAST(:event AS bigint), given.*
    FROM jsonb_to_recordset(CAST(:types AS jsonb)) AS given(
        slot smallint, quotas smallint[], name text, description text, amount bigint,
        currency text, min_per_booking integer, max_per_booking integer,
        sales_open_at timestamptz, sales_close_at timestamptz, sales_open_local timestamp,
        sales_close_local timestamp, position integer, hidden boolean, closed boolean,
        tax_rate integer
    )
    -- Ids grow in this order, and the first id is the type of a booking that names none.
    ORDER BY given.slot
    ON CONFLICT (event_id, slot) DO UPDATE SET
        quotas = excluded.quotas, name = excluded.name, description = excluded.description,
        amount = excluded.amount, currency = excluded.currency,
        min_per_booking = excluded.min_per_booking, max_per_booking = excluded.max_per_booking,
        sales_open_at = excluded.sales_open_at, sales_close_at = excluded.sales_close_at,
        sales_open_local = excluded.sales_open_local,
        sales_close_local = excluded.sales_close_local, position = excluded.position,
        hidden = excluded.hidden, closed = excluded.closed, tax_rate = excluded.tax_rate
    """
)
SET_QUOTAS: Final = Statement(
    """
    INSERT INTO quotas (event_id, slot, name, ticket_type_id)
    SELECT CAST(:event AS bigint), given.slot, given.name, types.id
    FROM jsonb_to_recordset(CAST(:quotas AS jsonb)) AS given(
        slot smallint, name text, type_slot smallint
    )
    LEFT JOIN LATERAL (
        SELECT id FROM ticket_types
        WHERE ticket_types.event_id = CAST(:event AS bigint)
            AND ticket_types.slot = given.type_slot
        LIMIT 1
    ) AS types ON true
    ORDER BY given.slot
    ON CONFLICT (event_id, slot) DO UPDATE SET name = excluded.name
    """
)
# The event is due when the rules of its time zone change: see `local_times`.
READ_BY: Final = Statement(
    """
    UPDATE event_details SET zone_rules = least(zone_rules, CAST(:rules AS text))
    WHERE event_id = :event
    """
)
REMOVE_QUOTAS: Final = Statement("DELETE FROM quotas WHERE id = ANY(CAST(:ids AS bigint[]))")
REMOVE_TYPES: Final = Statement("DELETE FROM ticket_types WHERE id = ANY(CAST(:ids AS bigint[]))")
EXPECT_SEVERAL: Final = Statement(
    """
    UPDATE events SET had_several_bookings = true, revision = revision + 1
    WHERE id = :event AND NOT had_several_bookings
    """
)

GIVE_COUNTERS: Final = Statement(
    """
    WITH given AS (
        UPDATE events SET revision = revision + 1,
            quota_capacity = '{}', quota_available = '{}',
            type_taken = ARRAY[total_tickets - available_tickets],
            type_waiting = ARRAY[waiting_list_count]
        WHERE id = :event AND quota_available IS NULL
        RETURNING id
    )
    UPDATE bookings SET ticket_type_id = (SELECT id FROM ticket_types WHERE event_id = :event)
    FROM given
    WHERE bookings.event_id = :event AND bookings.status = 'waiting' AND ticket_type_id IS NULL
    """
)
"""From then on, all bookings that wait name their type."""
COUNT: Final = Statement(
    """
    UPDATE events SET
        quota_capacity = :capacity, quota_available = :available, type_taken = :taken,
        type_waiting = :waiting, total_tickets = :total,
        available_tickets = CAST(:total AS bigint) - CAST(:sold AS bigint)
    WHERE id = :event
    """
)


class Known(Generic[KnownT]):
    """Remembers what is committed of events. Each object belongs to one revision of its event."""

    def __init__(self) -> None:
        """Remember none yet."""
        self._known: dict[int, tuple[int, KnownT, int]] = {}
        self._types = 0

    def at(self, event_id: int, revision: int) -> KnownT | None:
        """Return the object of the event at this revision, if it is known."""
        known = self._known.get(event_id)
        return known[1] if known is not None and known[0] == revision else None

    def remember(self, event_id: int, revision: int, found: KnownT, types: int) -> None:
        """Remember an object with so many `types` that was read outside a transaction."""
        if self._types > MAX_TYPES_KNOWN:
            self.forget()
        if (before := self._known.get(event_id)) is not None:
            self._types -= before[2]
        self._types += types
        self._known[event_id] = revision, found, types

    def forget(self) -> None:
        """Forget all."""
        self._known.clear()
        self._types = 0


async def load(connection: Driver, ids: Sequence[int]) -> Mapping[int, tuple[int, Definitions]]:
    """Return the revision of each of these events, and its definitions."""
    if not ids:
        return {}
    by_event: dict[int, list[asyncpg.Record]] = {}
    for row in await DEFINED.fetch(connection, ids=ids):
        by_event.setdefault(row["event_id"], []).append(row)
    return {
        event_id: (rows[0]["revision"], definitions(rows)) for event_id, rows in by_event.items()
    }


async def define(
    connection: Driver, event_id: int, before: Definitions, after: Definitions
) -> None:
    """Write the rows that differ. The caller also counts, and increases the event's revision."""
    gone = [each.id for slot, each in before.quotas.items() if slot not in after.quotas]
    if gone:
        await REMOVE_QUOTAS.fetch(connection, ids=gone)
    gone = [each.id for slot, each in before.types.items() if slot not in after.types]
    if gone:
        await REMOVE_TYPES.fetch(connection, ids=gone)
    types = [each for slot, each in after.types.items() if each != before.types.get(slot)]
    if types:
        rows = orjson.dumps([_columns(each) for each in types], default=str).decode()
        await SET_TYPES.fetch(connection, event=event_id, types=rows)
        if after.have_local_times():
            await READ_BY.fetch(connection, event=event_id, rules=RULES)
    named = [
        {"slot": slot, "name": each.name, "type_slot": each.type_slot}
        for slot, each in after.quotas.items()
        if slot not in before.quotas or each.name != before.quotas[slot].name
    ]
    if named:
        rows = orjson.dumps(named).decode()
        await SET_QUOTAS.fetch(connection, event=event_id, quotas=rows)


async def give_counters(connection: Driver, event_id: int) -> None:
    """Give a plain event its counters per type.

    The transaction must have locked the event in an earlier statement: this one would not see a
    booking that was committed while it waited for the lock.
    """
    await GIVE_COUNTERS.fetch(connection, event=event_id)


async def expect_several(connection: Driver, event_id: int) -> None:
    """Have every decision read the bookings of a person, because some have several."""
    await EXPECT_SEVERAL.fetch(connection, event=event_id)


async def count(connection: Driver, event_id: int, total: int, counters: Counters) -> None:
    """Write all numbers of the event, which from now on has counters."""
    await COUNT.fetch(
        connection,
        event=event_id,
        total=total,
        sold=sum(counters.taken),
        **counters._asdict(),
    )


def _columns(each: DefinedType) -> dict[str, Any]:
    named = each._asdict()
    for name in ("sales_open", "sales_close"):
        at, local = named.pop(name) or (None, None)
        named[f"{name}_at"], named[f"{name}_local"] = _written(at), _written(local)
    return named | {"quotas": sorted(each.quotas)}


def _written(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat()
