"""Problem documents (RFC 9457): the one place where an error becomes a response."""

from typing import Any, Final
from urllib.parse import quote

import orjson
from fastapi.exceptions import RequestValidationError
from prometheus_client import Counter
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from ticketing.errors import (
    BodyTooLarge,
    InternalError,
    MalformedBody,
    MethodNotAllowed,
    RouteNotFound,
    TicketingError,
    Unavailable,
    UnsupportedMediaType,
    ValidationFailed,
)
from ticketing.ops import logs
from ticketing.web.asgi import PREFIX, ASGIScope
from ticketing.web.replay import Replayed, as_response

MEDIA_TYPE: Final = "application/problem+json"
PATH_CHARACTERS: Final = "/:@!$&'()*+,;="
"""What a path may hold beside letters, digits and -._~ (RFC 3986, section 3.3)."""
MAX_FAILURES: Final = 20
"""Failing fields that one response names."""
SHED: Final = Counter(
    "ticketing_shed_total",
    "Requests answered 503: `overload` before they were parsed, `connections` for one too many,"
    " or else by problem code.",
    ["reason"],
)

STATUS_ERRORS: Final[dict[int, type[TicketingError]]] = {
    400: MalformedBody,
    404: RouteNotFound,
    405: MethodNotAllowed,
    413: BodyTooLarge,
}
"""What the framework itself refuses."""


def document(error: TicketingError, path: str, request_id: str) -> bytes:
    """Return the problem document of an error that answers a request for `path`."""
    # Not the URL: that is made with the Host header, which may be anything.
    instance = quote(path, PATH_CHARACTERS, errors="replace")
    return orjson.dumps(error.problem(instance, request_id, error.members))


def response_to(error: Exception, scope: ASGIScope) -> Response:
    """Return the response to an exception: an error of ours, the framework's, a replay, any.

    A replay is no error, but it ends a request as one does, on whatever route.
    """
    if isinstance(error, Replayed):
        return as_response(error.response, {"Idempotency-Replayed": "true"})
    if isinstance(error, TicketingError):
        return _problem(scope, error)
    if isinstance(error, RequestValidationError):
        return _invalid_request(scope, error)
    if isinstance(error, HTTPException):
        response = _problem(scope, STATUS_ERRORS.get(error.status_code, InternalError)())
        response.headers.update(error.headers or {})
        return response
    return _problem(scope, InternalError())


async def handle(request: Request, error: Exception) -> Response:
    """Return the response to an exception, for the framework."""
    return response_to(error, request.scope)


def _problem(scope: ASGIScope, error: TicketingError) -> Response:
    if isinstance(error, Unavailable):
        SHED.labels(error.code).inc()
    path = scope.get(PREFIX, "") + scope["path"]
    body = document(error, path, logs.request_id.get())
    return Response(body, error.status, error.header_fields(), MEDIA_TYPE)


def _invalid_request(scope: ASGIScope, error: RequestValidationError) -> Response:
    if isinstance(error.body, bytes):
        # FastAPI hands on the bytes of a body that it was not told is JSON.
        return _problem(scope, UnsupportedMediaType())
    failures = error.errors()
    if any(failure["type"] == "json_invalid" for failure in failures):
        return _problem(scope, MalformedBody())
    # What may be left out may be None too, but nobody can send that in a query.
    wrong = [each for each in failures if each["type"] != "none_required"]
    named = [_failure(each) for each in wrong[:MAX_FAILURES]]
    return _problem(scope, ValidationFailed(errors=named))


def _failure(failure: dict[str, Any]) -> dict[str, str]:
    """Say which field is wrong, by JSON pointer (RFC 6901), and never what was in it."""
    where, *path = failure["loc"]
    if where == "query":
        del path[1:]  # Names of types: a parameter has no parts.
    steps = (str(step).replace("~", "~0").replace("/", "~1") for step in path)
    return {
        "in": str(where),
        "pointer": "#" + "".join("/" + step for step in steps),
        "type": str(failure["type"]),
        "detail": str(failure["msg"]),
    }
