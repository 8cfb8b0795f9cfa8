"""What holds for a route, said where the route is declared."""

from dataclasses import dataclass
from enum import Enum, auto

from ticketing.limits.limits import Counted


class Overload(Enum):
    """What becomes of a route's requests while a worker has too much to do."""

    SHED = auto()
    """They are refused first, before they are parsed: a sale's own, which come by the thousand."""
    REFUSE = auto()
    """They are refused when they are parsed."""
    SERVE = auto()
    """They are always served: a worker that has much to do is not ill."""


@dataclass(frozen=True, slots=True)
class Policy:
    """What the layers around a route, and authentication, derive their rules from."""

    action: str
    """The operation id: the permissions of the action say who may."""
    counted: Counted | None = Counted.REQUESTS
    """The limits that count it; None: it is not counted."""
    overload: Overload = Overload.REFUSE
    streams: bool = False
    """Whether its response stays open: then it counts as a stream, and not as work under way."""
