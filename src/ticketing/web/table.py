"""The table of routes. A request's route is found before any layer needs it."""

from collections.abc import Awaitable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from ticketing.web.asgi import ASGIApp, ASGIScope, Receive, Send
from ticketing.web.policy import Overload, Policy

PROVIDED: Final = "ticketing.provided"


class Route(Protocol):
    """The attributes of a route that the table uses."""

    path: str
    methods: set[str] | None
    policy: Policy


@dataclass(frozen=True, slots=True)
class NoSuchMethod:
    """The path has routes, but none with the requested method."""

    path: str
    allowed: Sequence[str]
    policy: Policy


@dataclass(slots=True)
class _Node:
    """A segment of paths: the segments that may follow, and the routes that end here."""

    following: dict[str, "_Node"] = field(default_factory=dict)
    parameter: "_Node | None" = None
    endings: dict[str, "_Node"] = field(default_factory=dict)
    """Parameters with an ending, such as `.ics`."""
    routes: dict[str, Route] = field(default_factory=dict)
    other: NoSuchMethod | None = None


class RouteTable:
    """Finds routes by path, segment by segment.

    A literal segment wins over a parameter, and a parameter with an ending over one without.
    """

    def __init__(self, routes: Iterable[Route]) -> None:
        """Add every route."""
        self._root = _Node()
        self._written_out: dict[str, _Node] = {}
        """By whole paths, because one lookup is enough for most requests of a sale."""
        self.routes = list(routes)
        for route in self.routes:
            self._add(route)

    def _add(self, route: Route) -> None:
        node = self._root
        for segment in route.path.split("/"):
            if segment.startswith("{") and not segment.endswith("}"):
                node = node.endings.setdefault(segment.partition("}")[2], _Node())
            elif segment.startswith("{"):
                node.parameter = node.parameter or _Node()
                node = node.parameter
            else:
                node = node.following.setdefault(segment, _Node())
        for method in route.methods or ():
            if method in node.routes:
                raise ValueError(f"{method} {route.path} is declared twice")
            node.routes[method] = route
        if "{" not in route.path:
            self._written_out[route.path] = node
        allowed = {*node.routes, *(["HEAD"] if "GET" in node.routes else [])}
        node.other = NoSuchMethod(route.path, sorted(allowed), Policy("", route.policy.counted))

    def find(self, method: str, path: str) -> Route | NoSuchMethod | None:
        """Return the route, or None if no route has this path."""
        node = self._written_out.get(path) or _walk(self._root, path.split("/"), 0)
        return None if node is None else node.routes.get(method) or node.other

    def under(self, overload: Overload) -> list[str]:
        """Return the paths of the routes with this policy under overload."""
        return sorted({each.path for each in self.routes if each.policy.overload is overload})


def _walk(node: _Node, segments: Sequence[str], place: int) -> _Node | None:
    """Return the node at which the segments from `place` on end, if it has routes."""
    if place == len(segments):
        return node if node.routes else None
    segment = segments[place]
    following = node.following.get(segment)
    if following is not None and (found := _walk(following, segments, place + 1)) is not None:
        return found
    if node.endings and "." in segment:
        name, dot, ending = segment.rpartition(".")
        following = node.endings.get(dot + ending)
        if name and following is not None:
            return _walk(following, segments, place + 1)
    if segment and node.parameter is not None:
        return _walk(node.parameter, segments, place + 1)
    return None


class Dispatch:
    """The ASGI layer that finds the route and puts it into `scope["route"]`.

    It also puts the objects that routes work with, by class, into `scope[PROVIDED]`.
    """

    def __init__(self, app: ASGIApp, table: RouteTable, provided: Mapping[type, object]) -> None:
        """Wrap `app`."""
        self._app = app
        self._find = table.find
        self._provided = provided

    def __call__(self, scope: ASGIScope, receive: Receive, send: Send) -> Awaitable[None]:
        """Serve one request."""
        # Not a second coroutine around the first, which would take as long as finding the route.
        if scope["type"] == "http":
            scope[PROVIDED] = self._provided
            route = self._find(scope["method"], scope["path"])
            if route is not None:
                scope["route"] = route
        return self._app(scope, receive, send)
