"""Bookings that somebody follows: their status, and their position on the waiting list."""

import time
from collections import defaultdict
from collections.abc import Mapping
from datetime import datetime
from typing import Final, NamedTuple, Self
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncEngine

from ticketing.db.statements import Statement, driver
from ticketing.sale.inventory.model import Booking, BookingStatus
from ticketing.sale.rows import STATUS

VERSIONS: Final = Statement(
    "SELECT id, version, waiting_list_count FROM events WHERE id = ANY(CAST(:ids AS bigint[]))"
)
FOLLOWED: Final = Statement(
    f"""
    SELECT id, event_id, {STATUS} AS status, quantity,
        CASE WHEN status <> 'waiting' THEN expires_at END AS expires_at
    FROM bookings WHERE id = ANY(CAST(:ids AS uuid[]))
    """  # noqa: S608 - our own text
)
# One read of the waiting list for all who follow it, however many they are.
POSITIONS: Final = Statement(
    """
    SELECT id, position FROM (
        SELECT id, row_number() OVER (PARTITION BY ticket_type_id ORDER BY seq) AS position
        FROM bookings WHERE event_id = :event AND status = 'waiting'
    ) AS line
    WHERE id = ANY(CAST(:ids AS uuid[]))
    """
)
PER_SECOND: Final = 20_000
"""Waiting bookings that are counted in a second at most."""


class Followed(NamedTuple):
    """A booking as a listener sees it, and the version of the event when it was read."""

    version: int
    status: BookingStatus
    quantity: int
    expires_at: datetime | None
    position: int | None

    @classmethod
    def of(cls, booking: Booking, position: int | None) -> Self:
        """Return a booking that was read alone, so that the next look reads it again."""
        return cls(-1, booking.status, booking.quantity, booking.ends_at, position)


Key = tuple[int, UUID]
"""The ids of an event and of a booking there."""


class FollowedRepository:
    """Reads bookings again when their event has changed."""

    def __init__(self, engine: AsyncEngine) -> None:
        """Work on `engine`."""
        self._engine = engine
        self._rests_until: dict[int, float] = {}
        """Events with long waiting lists, and when they are read again."""

    async def changed(self, known: Mapping[Key, Followed]) -> Mapping[Key, Followed | None]:
        """Return the bookings whose event has another version than in `known`. None: it is gone."""
        now = time.monotonic()
        self._rests_until = {key: at for key, at in self._rests_until.items() if at > now}
        followed: dict[int, list[Key]] = defaultdict(list)
        for key in known:
            if key[0] not in self._rests_until:
                followed[key[0]].append(key)
        if not followed:
            return {}
        async with driver(self._engine) as connection:
            rows = await VERSIONS.fetch(connection, ids=list(followed))
            changed = {
                row["id"]: row["version"]
                for row in rows
                if any(known[key].version != row["version"] for key in followed[row["id"]])
            }
            gone = followed.keys() - {row["id"] for row in rows}
            keys = [key for event_id in changed for key in followed[event_id]]
            found = await FOLLOWED.fetch(connection, ids=[key[1] for key in keys]) if keys else []
            positions: dict[UUID, int] = {}
            for row in rows:
                waiting = [
                    each["id"]
                    for each in found
                    if each["event_id"] == row["id"] and each["status"] == "waiting"
                ]
                if waiting:
                    ranked = await POSITIONS.fetch(connection, event=row["id"], ids=waiting)
                    positions |= {each["id"]: each["position"] for each in ranked}
                    self._rests_until[row["id"]] = now + row["waiting_list_count"] / PER_SECOND
        states: dict[Key, Followed | None] = {key: None for of in gone for key in followed[of]}
        states |= dict.fromkeys(keys)
        for row in found:
            states[row["event_id"], row["id"]] = Followed(
                changed[row["event_id"]],
                BookingStatus(row["status"]),
                row["quantity"],
                row["expires_at"],
                positions.get(row["id"]),
            )
        return states
