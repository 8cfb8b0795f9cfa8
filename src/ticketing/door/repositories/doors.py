"""The rules at the door of an event."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import orjson
from sqlalchemy.ext.asyncio import AsyncEngine

from ticketing.db.facts import Origin, recorded
from ticketing.db.statements import Driver, Row, Statement, driver
from ticketing.door.repositories.tickets import LOCK
from ticketing.door.rules import OPENS_BEFORE, seconds
from ticketing.errors import DoorListNotFound, EventNotFound, TicketTypeNotFound

RULES: Final = Statement(
    """
    SELECT events.id, events.status, events.starts_at, events.ends_at, events.name,
        details.timezone, doors.names_until, doors.lists, clock_timestamp() AS now
    FROM events
    LEFT JOIN LATERAL (
        SELECT timezone FROM event_details WHERE event_details.event_id = events.id LIMIT 1
    ) AS details ON true
    LEFT JOIN LATERAL (
        SELECT * FROM doors WHERE doors.event_id = events.id LIMIT 1
    ) AS doors ON true
    WHERE events.id = :event
    """
)
TYPES: Final = Statement(
    """
    SELECT id, name FROM (
        SELECT id, name FROM ticket_types WHERE ticket_types.event_id = :event OFFSET 0
    ) AS types ORDER BY id
    """
)
PUT: Final = Statement(
    f"""
    WITH put AS (
        INSERT INTO doors (event_id, names_until, lists)
        VALUES (:event, :names_until, CAST(:lists AS jsonb))
        ON CONFLICT (event_id) DO UPDATE
            SET names_until = excluded.names_until, lists = excluded.lists
        RETURNING event_id, lists
    ), {
        recorded(
            "'door.changed'",
            of="put",
            event="event_id",
            details="jsonb_build_object('lists', lists)",
        )
    }
    SELECT event_id FROM put
    """  # noqa: S608 - our own text
)
DEFAULT: Final[Mapping[str, Any]] = {
    "name": "main",
    "ticketTypes": None,
    "reentry": False,
    "opensBefore": OPENS_BEFORE,
    "needsPayment": False,
}
"""The list of an event whose organiser gave none."""


@dataclass(frozen=True, slots=True)
class Rules:
    """The rules at the door of an event at the time `now`."""

    event: Mapping[str, Any]
    """As in `rules.Case`."""
    name: str
    timezone: str | None
    lists: Sequence[Mapping[str, Any]]
    names_until: datetime | None
    now: datetime

    def of_list(self, name: str | None) -> Mapping[str, Any]:
        """Return the rules of a list; without a name, of the first. Raises DoorListNotFound."""
        if name is None:
            return self.lists[0]
        found = next((each for each in self.lists if each["name"] == name), None)
        if found is None:
            raise DoorListNotFound
        return found


async def read(connection: Driver, event_id: int) -> Rules:
    """Return the rules of the event. Raises EventNotFound."""
    rows = await RULES.fetch(connection, event=event_id)
    if not rows:
        raise EventNotFound
    return rules(rows[0])


class DoorRepository:
    """Reads and writes the rules at the door."""

    def __init__(self, engine: AsyncEngine) -> None:
        """Work on `engine`."""
        self._engine = engine

    async def get(self, event_id: int) -> Rules:
        """Return the rules of the event. Raises EventNotFound."""
        async with driver(self._engine) as connection:
            return await read(connection, event_id)

    async def put(
        self,
        event_id: int,
        lists: Sequence[Mapping[str, Any]],
        names_until: datetime | None,
        origin: Origin,
    ) -> Rules:
        """Replace the rules of the event. Raises EventNotFound or TicketTypeNotFound."""
        async with driver(self._engine) as connection, connection.transaction():
            await LOCK.fetch(connection, event=event_id)
            known = {row["id"] for row in await TYPES.fetch(connection, event=event_id)}
            if not known:
                raise EventNotFound
            if any(set(each["ticketTypes"] or ()) - known for each in lists):
                raise TicketTypeNotFound
            await PUT.fetch(
                connection,
                event=event_id,
                names_until=names_until,
                lists=orjson.dumps(lists).decode(),
                **origin._asdict(),
            )
            return await read(connection, event_id)


def rules(row: Row) -> Rules:
    """Return the rules in a row of RULES."""
    event = {
        "id": row["id"],
        "status": row["status"],
        "startsAt": seconds(row["starts_at"]),
        "endsAt": seconds(row["ends_at"]),
    }
    return Rules(
        event,
        row["name"],
        row["timezone"],
        row["lists"] or [DEFAULT],
        row["names_until"],
        row["now"],
    )
