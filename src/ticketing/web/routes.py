"""Declares routes: path, action, policy and errors."""

import inspect
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final, TypedDict, TypeVar, Unpack, cast

from fastapi import APIRouter, Response
from fastapi.routing import APIRoute

from ticketing.errors import TicketingError
from ticketing.limits.limits import Counted
from ticketing.web.direct import DirectRoute, PolicyRoute, StrictRoute
from ticketing.web.documented import problems
from ticketing.web.fields import In
from ticketing.web.lists import Cursor, SortedCursor
from ticketing.web.policy import Overload, Policy
from ticketing.web.replay import IdempotencyKey, Rendered
from ticketing.web.streams import Stream

OK: Final = 200
NO_CONTENT: Final = 204
DONE: Final = {OK: "The result.", 201: "The new resource.", NO_CONTENT: "Done; no body."}
"""Descriptions of successful responses, if the route does not have its own."""

EndpointT = TypeVar("EndpointT", bound=Callable[..., Any])


class Declared(TypedDict, total=False):
    """Options of a route."""

    errors: Sequence[type[TicketingError]] | None
    """Its own errors; errors that follow from its arguments are added. None: it has no errors of
    its own, and does not use the database."""
    status: int
    """Status of a successful response. Default: 200."""
    model: Any
    """Body of that response, if the endpoint's annotation does not name it."""
    responses: dict[int | str, dict[str, Any]]
    """More responses, in the form of OpenAPI."""
    counted: Counted | None
    overload: Overload
    streams: bool
    media: str
    """The media type of a successful response that is not JSON."""


class Routes:
    """The routes of one subject.

    An endpoint that returns a Rendered or a Stream is served directly (DirectRoute), any other by
    the framework. A route that no limit counts, such as a page, accepts any query. A route without
    a `summary` is not documented.
    """

    def __init__(self, prefix: str, tag: str) -> None:
        """Declare routes below `prefix`, documented under `tag`."""
        self.prefix: Final = prefix
        self._router = APIRouter(prefix=prefix, tags=[tag])

    @property
    def declared(self) -> list[PolicyRoute]:
        """The declared routes."""
        return [route for route in self._router.routes if isinstance(route, PolicyRoute)]

    def get(
        self, path: str, action: str, summary: str = "", **more: Unpack[Declared]
    ) -> Callable[[EndpointT], EndpointT]:
        """Declare a GET."""
        return self._declare("GET", path, action, summary, more)

    def post(
        self, path: str, action: str, summary: str = "", **more: Unpack[Declared]
    ) -> Callable[[EndpointT], EndpointT]:
        """Declare a POST."""
        return self._declare("POST", path, action, summary, more)

    def put(
        self, path: str, action: str, summary: str = "", **more: Unpack[Declared]
    ) -> Callable[[EndpointT], EndpointT]:
        """Declare a PUT."""
        return self._declare("PUT", path, action, summary, more)

    def patch(
        self, path: str, action: str, summary: str = "", **more: Unpack[Declared]
    ) -> Callable[[EndpointT], EndpointT]:
        """Declare a PATCH."""
        return self._declare("PATCH", path, action, summary, more)

    def delete(
        self, path: str, action: str, summary: str = "", **more: Unpack[Declared]
    ) -> Callable[[EndpointT], EndpointT]:
        """Declare a DELETE."""
        return self._declare("DELETE", path, action, summary, more)

    def _declare(
        self, method: str, path: str, action: str, summary: str, more: Declared
    ) -> Callable[[EndpointT], EndpointT]:
        policy = Policy(
            str(action),  # A plain string, because hashing an enumeration takes ten times as long.
            counted=more.get("counted", Counted.REQUESTS),
            overload=more.get("overload", Overload.REFUSE),
            streams=more.get("streams", False),
        )

        def declare(endpoint: EndpointT) -> EndpointT:
            self._router.add_api_route(
                path,
                endpoint,
                methods=[method],
                operation_id=action,
                summary=summary,
                include_in_schema=bool(summary),
                route_class_override=_route_class(endpoint, policy),
                **_responses(endpoint, action, policy, more),
            )
            return endpoint

        return declare


def _route_class(endpoint: Callable[..., Any], policy: Policy) -> type[APIRoute]:
    kind: type[PolicyRoute] = StrictRoute if policy.counted is not None else PolicyRoute
    if inspect.signature(endpoint).return_annotation in {Rendered, Stream}:
        kind = DirectRoute
    return cast("type[APIRoute]", partial(kind, policy=policy))


def _responses(
    endpoint: Callable[..., Any], action: str, policy: Policy, more: Declared
) -> dict[str, Any]:
    """Return the framework's arguments about responses."""
    wanted = [each.annotation for each in inspect.signature(endpoint).parameters.values()]
    status = more.get("status", OK)
    said: dict[str, Any] = {
        "status_code": status,
        "response_description": DONE.get(status, "Done."),
    }
    said["responses"] = more.get("responses", {}) | problems(
        action,
        more.get("errors", ()),
        body=any(inspect.isclass(each) and issubclass(each, In) for each in wanted),
        keyed=IdempotencyKey in wanted,
        listed=Cursor in wanted or SortedCursor in wanted,
        counted=policy.counted is not None,
    )
    if "model" in more or status == NO_CONTENT:
        said["response_model"] = more.get("model")
    if status == NO_CONTENT:
        said["response_class"] = Response
    if "media" in more:
        said["response_class"] = type("Sent", (Response,), {"media_type": more["media"]})
    return said
