"""A part of the product: what it composes itself to, and what all parts are made with."""

from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeAlias, TypeVar
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

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Shared:
    """What every part is made with."""

    settings: Settings
    secret: str
    """Signs access tokens, and seals what must not be read."""
    previous_secrets: Sequence[str]
    pools: Pools
    clock: DatabaseClock
    limits: Limits | None
    """None: there are no limits."""
    seals: Seals
    streams: Streams


Departed: TypeAlias = Callable[[UUID], Awaitable[None]]
"""Does what has to be done when the account of this id is deleted; harmless if it is done again."""


@dataclass(frozen=True, slots=True)
class Part:
    """A part of the product, as the composition root joins it."""

    provides: object
    """What its routes work with: they find it by its class, with `of`."""
    routes: Sequence[Routes] = ()
    loops: Sequence[Loop] = ()
    samples: Sequence[Sample] = ()
    """The gauges that are set every second."""
    departed: Sequence[Departed] = ()
    """What the part does when an account is deleted."""
    close: Sequence[Callable[[], Awaitable[None]]] = ()
    """Finishes what is under way and refuses what comes, in this order."""


class Departures:
    """Tells every part of an account that was deleted."""

    def __init__(self, departed: Sequence[Departed]) -> None:
        """Tell these."""
        self._departed = departed

    async def tell(self, user_id: UUID) -> None:
        """Tell every part; a part that can't do its work now does it by a loop of its own."""
        for departed in self._departed:
            with suppress(Unavailable):
                await departed(user_id)


def of(request: Request, kind: type[T]) -> T:
    """Return what the part of this class provides, in the application that serves the request."""
    found: T = request.scope[PROVIDED][kind]
    return found
