"""Events that an operator imports: all of them or none."""

from collections.abc import Sequence
from typing import Final, NamedTuple
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncEngine

from ticketing.db.facts import COMMAND_LINE
from ticketing.db.statements import Statement, driver, whole
from ticketing.ops import logs
from ticketing.ops.progress import Tell
from ticketing.sale.definitions import Definitions
from ticketing.sale.details import Details
from ticketing.sale.inventory.terms import EventStatus
from ticketing.sale.repositories.events import make

# The lock makes two imports for one organiser wait for each other.
LOCK: Final = Statement("SELECT id FROM users WHERE id = :organiser FOR NO KEY UPDATE")
KNOWN: Final = Statement(
    """
    SELECT name, starts_at FROM events
    WHERE organiser_id = :organiser AND status <> 'cancelled' AND name = ANY(CAST(:names AS text[]))
    """
)


class NewEvent(NamedTuple):
    """An event to make."""

    details: Details
    capacity: int
    status: EventStatus
    definitions: Definitions | None

    @property
    def key(self) -> tuple[str, object]:
        """The name and the start, by which an event is known that was imported before."""
        return self.details.name, self.details.starts and self.details.starts.at


class EventImportRepository:
    """Imports events."""

    def __init__(self, engine: AsyncEngine) -> None:
        """Work on `engine`."""
        self._engine = engine

    async def import_all(
        self, organiser_id: UUID, new: Sequence[NewEvent], tell: Tell, *, keep: bool
    ) -> int:
        """Make these events, all of them or none, and return how many were made.

        An event that the organiser has already, with the same name and start, is left as it is,
        unless it is cancelled. Without `keep` nothing stays. Raises UserNotFound.
        """
        made = []
        async with driver(self._engine) as connection, whole(connection, keep=keep):
            await LOCK.fetch(connection, organiser=organiser_id)
            names = [each.details.name for each in new]
            rows = await KNOWN.fetch(connection, organiser=organiser_id, names=names)
            known = {(row["name"], row["starts_at"]) for row in rows}
            for number, each in enumerate(new):
                tell(f"{number:,} of {len(new):,}")
                if each.key not in known:
                    event = await make(
                        connection,
                        organiser_id,
                        each.details,
                        each.capacity,
                        each.status,
                        COMMAND_LINE,
                        each.definitions,
                    )
                    made.append(event.id)
        if keep:
            for event_id in made:
                logs.log.info("event.created", eventId=event_id, userId=organiser_id)
        return len(made)
