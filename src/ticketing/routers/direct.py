"""The route classes; that of a sale, and of what is done once by key, is not the framework's.

Matching route by route, a stack of middleware, solving dependencies, exit stacks and reading JSON
twice cost more than a booking does. A DirectRoute is found in a table by its path, and takes only
what is found without solving: a body, the caller, one parameter of the path and the request.
"""

import inspect
from collections.abc import Callable, Collection, Coroutine, Iterable, Mapping
from functools import partial
from typing import Any, Final, get_args

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from opentelemetry import trace
from pydantic import TypeAdapter, ValidationError
from pydantic_core import from_json
from starlette.datastructures import QueryParams
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from ticketing.errors import BodyTooLarge, InternalError, UnsupportedMediaType
from ticketing.idempotency import Answer, Replayed
from ticketing.routers.dependencies import MAX_BODY, Bearer, IdempotencyKey, In
from ticketing.security import Caller

JSON: Final = b"application/json"


class _JsonRequest(Request):
    async def json(self) -> Any:  # noqa: ANN401 - JSON
        # Not the standard library's, which takes UTF-16 and recurses as deep as it is told to.
        return from_json(await self.body())


class StrictRoute(APIRoute):
    """FastAPI's route, as strict as a DirectRoute.

    It reads the same JSON, that is UTF-8 and at most 200 deep, and no parameter that it does not
    know: it would be a misspelt one.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return what serves a request."""
        handler = super().get_route_handler()
        known = frozenset(parameter.alias for parameter in self.dependant.query_params)

        async def strict(request: Request) -> Response:
            _require_known(request.scope, known)
            return await handler(_JsonRequest(request.scope, request.receive))

        return strict


class DirectRoute(APIRoute):
    """A route whose endpoint takes only what is found without solving, and returns an Answer.

    That is a body of JSON (a model that is an `In`; with a default, it may be left out), the caller
    (by a `Bearer`), the `Request`, the Idempotency-Key, and the last segment of the path. Raises
    TypeError, when the route is made, for any other.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - passed on as they are
        """Declare the route as APIRoute does."""
        super().__init__(*args, **kwargs)
        self._model: type[In] | None = None
        self._segment: tuple[str, TypeAdapter[Any]] | None = None
        self._bearer: Bearer | None = None
        self._wants_request = self._wants_key = self._needs_body = False
        for name, parameter in inspect.signature(self.endpoint).parameters.items():
            wanted = parameter.annotation
            if inspect.isclass(wanted) and issubclass(wanted, In):
                self._model = wanted
                self._needs_body = parameter.default is inspect.Parameter.empty
            elif get_args(wanted)[:1] == (Caller,):
                self._bearer = get_args(wanted)[1].dependency
            elif wanted is Request:
                self._wants_request = True
            elif wanted == IdempotencyKey:
                self._wants_key = True
            elif self.path.endswith(f"/{{{name}}}"):
                self._segment = name, TypeAdapter(wanted)
            else:
                raise TypeError(f"{self.path}: a DirectRoute can't find `{name}`")

    @property
    def key(self) -> str:
        """Its path, with `{}` for the segment that is a parameter."""
        return self.path if self._segment is None else self.path.rpartition("/")[0] + "/{}"

    async def answer(self, scope: Scope, receive: Receive) -> Answer:
        """Serve one request. Raises what refuses it."""
        headers: dict[bytes, bytes] = dict(scope["headers"])
        request = Request(scope)
        given: dict[str, Any] = {}
        if self._wants_request:
            given["request"] = request
        if self._bearer is not None:
            authorization = headers.get(b"authorization", b"").decode("latin-1")
            given["caller"] = await self._bearer.caller(request, authorization)
        if self.include_in_schema:  # The others say that there is no such method.
            _require_known(scope)
        if self._wants_key and (key := headers.get(b"idempotency-key")) is not None:
            given["idempotency_key"] = key.decode("latin-1")
        if self._segment is not None:
            name, adapter = self._segment
            text = scope["path"].rpartition("/")[2]
            given[name] = _valid(partial(adapter.validate_python, text), "path", name)
        if self._model is not None and (self._needs_body or _has_body(headers)):
            if not _is_json(headers.get(b"content-type", b"")):
                raise UnsupportedMediaType
            body = await _read(receive)
            given["body"] = _valid(partial(self._model.model_validate_json, body), "body")
        answer: Answer = await self.endpoint(**given)
        return answer


class DirectRoutes:
    """The ASGI layer before the framework: serves the direct routes, and hands on all else.

    `refuse` makes the answer to an exception. What it was not made for is raised again, after the
    answer, for the log.
    """

    def __init__(
        self,
        app: FastAPI,
        framework: ASGIApp,
        routes: Iterable[object],
        refuse: Callable[[Request, Exception], Response],
    ) -> None:
        """Find the DirectRoutes among `routes`; what is left goes to `framework`."""
        self._app = app
        self._framework = framework
        self._refuse = refuse
        self._routes = {
            (method, route.key): route
            for route in routes
            if isinstance(route, DirectRoute)
            for method in route.methods or ()
        }

    def _find(self, method: str, path: str) -> DirectRoute | None:
        if (route := self._routes.get((method, path))) is not None:
            return route
        parent, _, segment = path.rpartition("/")
        return self._routes.get((method, parent + "/{}")) if segment else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        route = self._find(scope["method"], scope["path"]) if scope["type"] == "http" else None
        if route is None:
            await self._framework(scope, receive, send)
            return
        scope["app"] = self._app
        scope["route"] = route
        if "fastapi.telemetry" in scope:  # Or else nobody listens.
            span = trace.get_current_span()
            span.update_name(f"{scope['method']} {route.path}")
            span.set_attribute("http.route", route.path)
        headers: list[tuple[bytes, bytes]] = []
        try:
            answer = await route.answer(scope, receive)
        except Replayed as before:
            answer = before.answer
            headers.append((b"idempotency-replayed", b"true"))
        except ClientDisconnect:
            raise
        except Exception as error:
            response = self._refuse(Request(scope), error)
            await response(scope, receive, send)
            if response.status_code == InternalError.status:
                raise
            return
        if answer.location is not None:
            headers.append((b"location", answer.location.encode()))
        if answer.body:
            length = str(len(answer.body)).encode()
            headers += [(b"content-type", JSON), (b"content-length", length)]
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        await send({"type": "http.response.body", "body": answer.body})


def _require_known(scope: Scope, known: Collection[str] = ()) -> None:
    """Raise RequestValidationError if the query has other parameters than those `known`."""
    if scope["query_string"]:
        given = QueryParams(scope["query_string"])
        unknown = [
            {"type": "extra_forbidden", "loc": ("query", name), "msg": "There is no such parameter"}
            for name in given
            if name not in known
        ]
        if unknown:
            raise RequestValidationError(unknown)


async def _read(receive: Receive) -> bytes:
    body = b""
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        chunk: bytes = message.get("body", b"")
        body += chunk
        if len(body) > MAX_BODY:
            raise BodyTooLarge
        if not message.get("more_body", False):
            return body


def _has_body(headers: Mapping[bytes, bytes]) -> bool:
    # RFC 9112, section 6.3.
    return b"transfer-encoding" in headers or headers.get(b"content-length", b"0") != b"0"


def _is_json(content_type: bytes) -> bool:
    kind = content_type.partition(b";")[0].strip().lower()
    return kind == JSON or (kind.startswith(b"application/") and kind.endswith(b"+json"))


def _valid(validate: Callable[[], Any], *where: str) -> Any:  # noqa: ANN401 - whatever it validates
    try:
        return validate()
    except ValidationError as error:
        failures = error.errors(include_url=False, include_input=False, include_context=False)
        raise RequestValidationError(
            [{**failure, "loc": (*where, *failure["loc"])} for failure in failures]
        ) from None
