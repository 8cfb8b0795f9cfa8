"""The policy of a route, which is given where the route is declared."""

from dataclasses import dataclass
from enum import Enum, auto

from ticketing.limits.limits import Counted


class Overload(Enum):
    """How a worker treats a route's requests while it is overloaded."""

    SHED = auto()
    """They are refused before they are parsed. For requests that come by the thousand."""
    REFUSE = auto()
    """They are refused after they are parsed."""
    SERVE = auto()
    """They are always served, so that a busy worker does not look unhealthy."""


@dataclass(frozen=True, slots=True)
class Policy:
    """Rules of a route, for the layers around it and for authentication."""

    action: str
    """The operation id. The permissions of this action apply."""
    counted: Counted | None = Counted.REQUESTS
    """The limits that count its requests; None: not counted."""
    overload: Overload = Overload.REFUSE
    streams: bool = False
    """Whether its response stays open. It then counts as a stream, not as work under way."""
