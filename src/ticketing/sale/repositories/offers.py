"""The offers of events: their ticket types and quotas, as decisions need them."""

from collections import defaultdict
from collections.abc import Mapping
from typing import Final

import asyncpg

from ticketing.db.statements import Driver, Statement
from ticketing.sale.inventory.offer import Offer, TicketType

MAX_OFFERS: Final = 10_000

# One statement, so that the types are those of the revision.
OFFERS: Final = Statement(
    """
    SELECT events.revision, events.quota_available IS NULL AS is_plain, types.*,
        ARRAY(SELECT slot FROM quotas WHERE event_id = events.id ORDER BY slot) AS quota_slots,
        ARRAY(SELECT id FROM quotas WHERE event_id = events.id ORDER BY slot) AS quota_ids
    FROM events CROSS JOIN LATERAL (
        SELECT id, event_id, slot, quotas, amount, currency, min_per_booking, max_per_booking,
            sales_open_at, sales_close_at, hidden, closed
        FROM ticket_types WHERE ticket_types.event_id = events.id ORDER BY slot OFFSET 0
    ) AS types
    WHERE events.id = ANY(CAST(:ids AS bigint[]))
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


async def give_counters(connection: Driver, event_id: int) -> None:
    """Give a plain event its counters per type. The transaction keeps the event locked."""
    await GIVE_COUNTERS.fetch(connection, event=event_id)


class Offers:
    """Remembers offers. Each belongs to one revision of its event."""

    def __init__(self) -> None:
        """Remember none yet."""
        self._known: dict[int, tuple[int, Offer]] = {}

    async def load(
        self, connection: Driver, revisions: Mapping[int, int]
    ) -> Mapping[int, Offer | None]:
        """Return the offer of each of these events at its revision.

        None means that the event is at another revision by now.
        """
        asked = [event for event, at in revisions.items() if self._at(event, at) is None]
        if asked:
            if len(self._known) > MAX_OFFERS:
                self._known.clear()
            by_event = defaultdict(list)
            for row in await OFFERS.fetch(connection, ids=asked):
                by_event[row["event_id"]].append(row)
            for event, rows in by_event.items():
                self._known[event] = rows[0]["revision"], _offer(rows)
        return {event: self._at(event, at) for event, at in revisions.items()}

    def _at(self, event: int, revision: int) -> Offer | None:
        known = self._known.get(event)
        return known[1] if known is not None and known[0] == revision else None


def _offer(rows: list[asyncpg.Record]) -> Offer:
    first = rows[0]
    quotas = dict(zip(first["quota_slots"], first["quota_ids"], strict=True))
    return Offer({row["id"]: _type(row) for row in rows}, quotas, first["is_plain"])


def _type(row: asyncpg.Record) -> TicketType:
    return TicketType(
        row["id"],
        row["slot"],
        (0, *(slot + 1 for slot in row["quotas"])),
        row["amount"],
        row["currency"],
        row["min_per_booking"],
        row["max_per_booking"],
        row["sales_open_at"],
        row["sales_close_at"],
        row["hidden"],
        row["closed"],
    )
