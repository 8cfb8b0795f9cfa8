"""A part of the product, and what all parts share."""

from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, TypeAlias, TypeVar
from uuid import UUID

from starlette.requests import Request

from ticketing.db.clock import DatabaseClock
from ticketing.db.pools import Pools
from ticketing.errors import Unavailable
from ticketing.limits.limits import Limits
from ticketing.ops.loops import Loop
from ticketing.ops.metrics import Sample
from ticketing.settings import Settings
from ticketing.web.routes import Routes
from ticketing.web.seals import Seals
from ticketing.web.streams import Streams
from ticketing.web.table import PROVIDED
from ticketing.web.throttle import CountedApart

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Shared:
    """The objects that all parts share."""

    settings: Settings
    secret: str
    """Signs access tokens, and seals stored secrets."""
    previous_secrets: Sequence[str]
    pools: Pools
    clock: DatabaseClock
    limits: Limits | None
    """None: rate limits are off."""
    seals: Seals
    streams: Streams


Entered: TypeAlias = Callable[[int], Awaitable[Mapping[int, int]]]
"""Returns with how many tickets somebody came in to the event, by the id of the ticket type."""
Departed: TypeAlias = Callable[[UUID], Awaitable[None]]
"""Cleans up after the account with this id was deleted. It may be called again without harm."""


@dataclass(frozen=True, slots=True)
class Part:
    """A part of the product, for the composition root."""

    provides: object
    """The object that its routes work with. They find it by its class, with `of`."""
    routes: Sequence[Routes] = ()
    webhooks: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Requests that the service sends, as OpenAPI describes them."""
    loops: Sequence[Loop] = ()
    samples: Sequence[Sample] = ()
    """The gauges that are set every second."""
    departed: Sequence[Departed] = ()
    """Called when an account is deleted."""
    entered: Sequence[Entered] = ()
    """Counts who came in, for the statistics."""
    counted_apart: Sequence[CountedApart] = ()
    close: Sequence[Callable[[], Awaitable[None]]] = ()
    """Called in this order at the end: each finishes work under way and refuses new work."""


class Entries:
    """Counts who came in to events, by the parts that let people in."""

    def __init__(self, entered: Sequence[Entered]) -> None:
        """Ask `entered`."""
        self._entered = entered

    async def of_event(self, event_id: int) -> Mapping[int, int]:
        """Return with how many tickets somebody came in, by the id of the ticket type."""
        counted: Counter[int] = Counter()
        for entered in self._entered:
            counted.update(await entered(event_id))
        return counted


class Departures:
    """Notifies every part when an account is deleted."""

    def __init__(self, departed: Sequence[Departed]) -> None:
        """Notify `departed`."""
        self._departed = departed

    async def tell(self, user_id: UUID) -> None:
        """Notify every part. A part that is unavailable catches up in its own loop."""
        for departed in self._departed:
            with suppress(Unavailable):
                await departed(user_id)


def of(request: Request, kind: type[T]) -> T:
    """Return the object of this class that a part of the request's application provides."""
    found: T = request.scope[PROVIDED][kind]
    return found
