"""Writing a commit: one statement, which is one transaction and one round trip."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache, cached_property
from typing import Final, NamedTuple
from uuid import UUID

import asyncpg
from sqlalchemy.ext.asyncio import AsyncEngine

from ticketing.db.clock import DatabaseClock
from ticketing.db.facts import Origin
from ticketing.db.ids import uuid7
from ticketing.db.statements import Driver, Statement
from ticketing.sale.commit.parts import PARTS
from ticketing.sale.commit.settle import settle
from ticketing.sale.commit.shape import Shape
from ticketing.sale.inventory.decision import Decision
from ticketing.sale.inventory.model import Booking, BookingStatus, Snapshot
from ticketing.sale.rows import snapshot
from ticketing.web.replay import KeyedRequest, Rendered

UNCERTAIN: Final = (
    OSError,  # TimeoutError is one
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,
    asyncpg.InternalServerError,
)
"""After these a statement may have been committed, or still be."""


@cache
def statement(shape: Shape) -> Statement:
    """Return the statement of this shape.

    It returns the inventory of each event whose swap was won, and the database's time.
    """
    parts = ", ".join(part.sql(shape) for part in PARTS if part.is_in(shape))
    return Statement(f"WITH {parts} SELECT swapped.*, clock_timestamp() AS now FROM swapped")  # noqa: S608


class Fact(NamedTuple):
    """What became of a booking: its status, or `promoted`; and whose doing it was.

    `inserted_as` is the status with which it is inserted, if it was not there before.
    """

    name: str
    booking: Booking
    origin: Origin
    inserted_as: BookingStatus | None


class Stored(NamedTuple):
    """The response to a keyed request, to be stored if the event's swap is won."""

    event_id: int
    keyed: KeyedRequest
    response: Rendered


@dataclass(frozen=True)
class Commit:
    """What is written together, each decision if it is still good."""

    decisions: Sequence[Decision]
    facts: Sequence[Fact]
    stored: Sequence[Stored]
    at: datetime

    @cached_property
    def id(self) -> UUID:
        """Its id, which is in order of the database's time."""
        return uuid7(self.at)

    @property
    def shape(self) -> Shape:
        """What there is to do."""
        changes = any(each.changes for each in self.decisions)
        return Shape(
            many=len(self.decisions) > 1,
            changes=changes,
            stores=bool(self.stored),
            lone=len(self.facts) == 1 and not changes,
        )

    async def write(
        self, connection: Driver, engine: AsyncEngine, clock: DatabaseClock
    ) -> Mapping[int, Snapshot | None]:
        """Write it, and return the events whose decision was good, with their inventories.

        None stands for one that is not known, because the connection was lost; then `engine` was
        asked what had become of the commit. Raises OutcomeUnknown if it did not say.
        """
        shape = self.shape
        parameters: dict[str, object] = {}
        for part in PARTS:
            if part.is_in(shape):
                parameters |= part.parameters(self, shape)
        try:
            try:
                rows = await statement(shape).fetch(connection, **parameters)
            except asyncpg.LockNotAvailableError:
                # Somebody holds one of the events for long: the others need not wait.
                if not shape.many:
                    return {}
                rows = await statement(shape._replace(skip=True)).fetch(connection, **parameters)
        except UNCERTAIN:
            connection.terminate()
            return dict.fromkeys(await settle(engine, self.id))
        if rows:
            clock.learn(rows[0]["now"])
        return {row["id"]: snapshot(row) for row in rows}
