"""The route classes, and how a DirectRoute finds its endpoint's arguments.

The framework matches route by route, runs a stack of middleware, solves dependencies, enters exit
stacks and reads JSON twice. That costs more than a booking. A DirectRoute is found in a table by
its path, and takes only arguments that need no solving.
"""

import inspect
from collections.abc import Awaitable, Callable, Collection, Coroutine, Sequence
from functools import partial
from typing import Any, get_args

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.params import Depends
from fastapi.routing import APIRoute
from opentelemetry import trace
from pydantic import TypeAdapter, ValidationError
from starlette.datastructures import QueryParams
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from ticketing.errors import InternalError, MethodNotAllowed, UnsupportedMediaType
from ticketing.web.asgi import ASGIApp, ASGIScope, Receive, Send
from ticketing.web.bodies import JsonRequest, has_body, is_plain, read, require_json
from ticketing.web.etags import NOT_MODIFIED, is_known
from ticketing.web.fields import In
from ticketing.web.policy import Policy
from ticketing.web.problems import response_to
from ticketing.web.replay import IdempotencyKey, Rendered
from ticketing.web.streams import Stream
from ticketing.web.table import NoSuchMethod


class PolicyRoute(APIRoute):
    """FastAPI's route, with a policy."""

    def __init__(self, *args: Any, policy: Policy, **kwargs: Any) -> None:  # noqa: ANN401
        """Declare the route as APIRoute does."""
        super().__init__(*args, **kwargs)
        self.policy = policy


class StrictRoute(PolicyRoute):
    """FastAPI's route, but it reads JSON and refuses parameters as a DirectRoute does.

    Unknown parameters are refused, so that typos are noticed.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the function that serves a request."""
        handler = super().get_route_handler()
        known = frozenset(parameter.alias for parameter in self.dependant.query_params)

        async def strict(request: Request) -> Response:
            _require_known(request.scope, known)
            headers = dict(request.scope["headers"])
            if has_body(headers) and not is_plain(headers):
                raise UnsupportedMediaType
            return await handler(JsonRequest(request.scope, request.receive))

        return strict


class Directly:
    """A dependency that needs only the request, so a DirectRoute can use it too."""

    async def __call__(self, request: Request) -> Any:  # noqa: ANN401 - whatever is wanted
        """Return the endpoint's argument."""
        raise NotImplementedError


_Segment = tuple[int, str, str, TypeAdapter[Any]]
"""A parameter's place in the path, what follows it there, its name and its type."""


class DirectRoute(PolicyRoute):
    """A route whose endpoint takes only arguments that need no solving.

    It returns a Rendered or a Stream.

    These are a JSON body (a model that is an `In`; optional if it has a default), the result of a
    `Directly`, the `Request`, the Idempotency-Key, and segments of the path by name. Any other
    argument raises TypeError when the route is made.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - passed on as they are
        """Declare the route as APIRoute does."""
        super().__init__(*args, **kwargs)
        segments = self.path.split("/")
        self._body: tuple[str, type[In], bool] | None = None
        self._segments: list[_Segment] = []
        self._found: list[tuple[str, Directly]] = []
        self._request_name = self._key_name = ""
        for name, parameter in inspect.signature(self.endpoint).parameters.items():
            wanted = parameter.annotation
            if inspect.isclass(wanted) and issubclass(wanted, In) and self._body is None:
                self._body = name, wanted, parameter.default is inspect.Parameter.empty
            elif wanted is Request:
                self._request_name = name
            elif wanted == IdempotencyKey:
                self._key_name = name
            elif (found := _place(segments, name)) is not None:
                self._segments.append((*found, name, TypeAdapter(wanted)))
            elif (dependency := _directly(wanted)) is not None:
                self._found.append((name, dependency))
            else:
                raise TypeError(f"{self.path}: a DirectRoute can't find `{name}`")

    async def respond(self, scope: ASGIScope, receive: Receive) -> Rendered | Stream:
        """Serve one request. Raises the error that refuses it."""
        headers: dict[bytes, bytes] = dict(scope["headers"])
        request = Request(scope)
        given: dict[str, Any] = {}
        if self._request_name:
            given[self._request_name] = request
        for name, dependency in self._found:
            given[name] = await dependency(request)
        _require_known(scope)
        if self._key_name and (key := headers.get(b"idempotency-key")) is not None:
            given[self._key_name] = key.decode("latin-1")
        if self._segments:
            segments = scope["path"].split("/")
            for place, ending, name, adapter in self._segments:
                text = segments[place].removesuffix(ending)
                validate = partial(adapter.validate_python, text)
                given[name] = _valid(validate, "path", name)
        if self._body is not None:
            name, model, is_needed = self._body
            if is_needed or has_body(headers):
                require_json(headers)
                body = await read(receive)
                given |= _parsed(name, model, body, is_needed=is_needed)
        response: Rendered | Stream = await self.endpoint(**given)
        if isinstance(response, Stream):
            return response
        if response.etag is not None and is_known(headers, scope["method"], response.etag):
            return Rendered(NOT_MODIFIED, b"", etag=response.etag)
        return response


def _place(segments: Sequence[str], name: str) -> tuple[int, str] | None:
    """Return the place of a parameter in the path, and what follows it in its segment."""
    for place, segment in enumerate(segments):
        if segment.startswith(f"{{{name}}}"):
            return place, segment.partition("}")[2]
    return None


def _directly(wanted: object) -> Directly | None:
    for each in get_args(wanted)[1:]:
        if isinstance(each, Depends) and isinstance(each.dependency, Directly):
            return each.dependency
    return None


class DirectRoutes:
    """The ASGI layer before the framework: serves direct routes, and passes on all other requests.

    An unexpected exception is raised again after the response, so that it is logged.
    """

    def __init__(self, app: FastAPI, framework: ASGIApp) -> None:
        """Serve the direct routes of `app`; other requests go to `framework`."""
        self._app = app
        self._framework = framework

    def __call__(self, scope: ASGIScope, receive: Receive, send: Send) -> Awaitable[None]:
        """Serve one request."""
        # Not a second coroutine around the first, which would take as long as finding the route.
        route = scope.get("route")
        if isinstance(route, DirectRoute):
            return self._serve(route, scope, receive, send)
        if isinstance(route, NoSuchMethod):
            return response_to(MethodNotAllowed(route.allowed), scope)(scope, receive, send)
        return self._framework(scope, receive, send)

    async def _serve(
        self, route: DirectRoute, scope: ASGIScope, receive: Receive, send: Send
    ) -> None:
        scope["app"] = self._app
        if "fastapi.telemetry" in scope:  # It is absent if tracing is off.
            span = trace.get_current_span()
            span.update_name(f"{scope['method']} {route.path}")
            span.set_attribute("http.route", route.path)
        try:
            answer = await route.respond(scope, receive)
        except ClientDisconnect:
            raise
        except Exception as error:
            response = response_to(error, scope)
            await response(scope, receive, send)
            if response.status_code == InternalError.status:
                raise
            return
        if isinstance(answer, Stream):
            await answer(scope, receive, send)
            return
        headers: list[tuple[bytes, bytes]] = []
        if answer.location is not None:
            headers.append((b"location", answer.location.encode()))
        if answer.etag is not None:
            headers.append((b"etag", answer.etag.encode()))
        if answer.body:
            length = str(len(answer.body)).encode()
            headers += [(b"content-type", answer.media), (b"content-length", length)]
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        await send({"type": "http.response.body", "body": answer.body})


def _require_known(scope: ASGIScope, known: Collection[str] = ()) -> None:
    """Raise RequestValidationError if the query has parameters that are not in `known`."""
    if scope["query_string"]:
        given = QueryParams(scope["query_string"])
        unknown = [
            {"type": "extra_forbidden", "loc": ("query", name), "msg": "There is no such parameter"}
            for name in given
            if name not in known
        ]
        if unknown:
            raise RequestValidationError(unknown)


def _parsed(name: str, model: type[In], body: bytes, *, is_needed: bool) -> dict[str, In]:
    """Return the body by the name of its argument, or nothing for one that may be left out."""
    # Clients of openapi-generator send null for a body that the program leaves out.
    if not is_needed and body.strip() == b"null":
        return {}
    return {name: _valid(partial(model.model_validate_json, body), "body")}


def _valid(validate: Callable[[], Any], *where: str) -> Any:  # noqa: ANN401 - whatever it validates
    try:
        return validate()
    except ValidationError as error:
        failures = error.errors(include_url=False, include_input=False, include_context=False)
        raise RequestValidationError(
            [{**failure, "loc": (*where, *failure["loc"])} for failure in failures]
        ) from None
