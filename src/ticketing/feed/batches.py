"""What is delivered to a webhook, and what became of it. No I/O."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from ticketing.feed.told import Fact, document, encoded


@dataclass(frozen=True, slots=True)
class Hook:
    """A webhook that this process delivers to, as long as it has the lease."""

    id: UUID
    user_id: UUID
    event_id: int | None
    url: str
    types: Sequence[str] | None
    secrets: Sequence[str]
    """Those that sign, the newest first. Empty if they can't be read any more."""
    position: int
    lease: UUID
    tries: int
    failing_since: datetime | None

    @property
    def is_paused(self) -> bool:
        """Whether only one or two events are tried, because everything failed."""
        return self.tries > 0


class Delivery(NamedTuple):
    """An event of the feed that is to be delivered. The body is the same at each try."""

    record: int
    about: str
    """Deliveries about one thing are made in order."""
    type: str
    body: bytes
    tries: int = 0
    """How often it was tried in vain."""
    is_aside: bool = False
    """Whether it has a row of its own."""


class Tried(NamedTuple):
    """A try, and what became of it."""

    delivery: Delivery
    message_id: str
    at: datetime
    status: int | None
    error: str | None
    milliseconds: int
    is_delivered: bool


class Result(NamedTuple):
    """What became of a batch."""

    tried: Sequence[Tried]
    aside: Sequence[tuple[Delivery, float]]
    """What is set aside, and the seconds until it is tried again."""
    position: int
    delivered: bool
    """Whether something was accepted."""
    error: str | None = None
    """The last failure, if there was one."""
    pause: float | None = None
    """The seconds in which nothing is tried, if nothing was accepted."""
    ends: bool = False
    """Whether nothing may be tried any more."""


class Batch(NamedTuple):
    """What to deliver next, in order, and what must wait for something else."""

    due: Sequence[Delivery]
    waiting: Sequence[Delivery]
    """New ones about things of which an earlier one failed."""
    position: int
    """The position after it."""


def delivery(fact: Fact) -> Delivery:
    """Return the delivery of a fact."""
    about = fact.details.get("bookingId") or f"event {fact.event_id}"
    return Delivery(fact.seq, about, fact.action, encoded(document(fact)))
