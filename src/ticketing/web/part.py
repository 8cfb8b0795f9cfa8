"""A part of the product: what it composes itself to, and what all parts are made with."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from starlette.requests import Request

from ticketing.db.clock import DatabaseClock
from ticketing.db.pools import Pools
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


@dataclass(frozen=True, slots=True)
class Part:
    """A part of the product, as the composition root joins it."""

    provides: object
    """What its routes work with: they find it by its class, with `of`."""
    routes: Sequence[Routes] = ()
    loops: Sequence[Loop] = ()
    samples: Sequence[Sample] = ()
    """The gauges that are set every second."""
    close: Sequence[Callable[[], Awaitable[None]]] = ()
    """Finishes what is under way and refuses what comes, in this order."""


def of(request: Request, kind: type[T]) -> T:
    """Return what the part of this class provides, in the application that serves the request."""
    found: T = request.scope[PROVIDED][kind]
    return found
