"""What is written together: decisions, what became of each booking, and responses to store."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import NamedTuple
from uuid import UUID

from ticketing.db.facts import Origin
from ticketing.db.ids import uuid7
from ticketing.sale.commit.shape import Shape
from ticketing.sale.inventory.decision import Decision
from ticketing.sale.inventory.model import Booking, BookingStatus
from ticketing.web.replay import KeyedRequest, Rendered


class AttributedFact(NamedTuple):
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
    facts: Sequence[AttributedFact]
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
