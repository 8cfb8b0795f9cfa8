"""Problem documents (RFC 9457): the only place where errors become responses."""

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
"""Characters that a path may have besides letters, digits and -._~ (RFC 3986, section 3.3)."""
MAX_FAILURES: Final = 20
"""Wrong fields that one response lists at most."""
WORDS: Final = {
    "Extra inputs are not permitted": "There is no such field. Check how it is written",
    "Field required": "This field is required",
}
"""Words for those of Pydantic that do not say what to do."""
SHED: Final = Counter(
    "ticketing_shed_total",
    "Requests that got 503: `overload` before they were parsed, `connections` if too many were"
    " open, else by problem code.",
    ["reason"],
)

STATUS_ERRORS: Final[dict[int, type[TicketingError]]] = {
    400: MalformedBody,
    404: RouteNotFound,
    405: MethodNotAllowed,
    413: BodyTooLarge,
}
"""Errors for the statuses that the framework itself returns."""


def document(error: TicketingError, path: str, request_id: str) -> bytes:
    """Return the problem document of an error in the response to a request for `path`."""
    # Not the URL, because it contains the Host header, which the client chooses.
    instance = quote(path, PATH_CHARACTERS, errors="replace")
    return orjson.dumps(error.problem(instance, request_id, error.members))


def response_to(error: Exception, scope: ASGIScope) -> Response:
    """Return the response to any exception, including the framework's and a replay.

    A replay is not an error, but it ends a request in the same way.
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
    """Return the response to an exception. The framework calls this."""
    return response_to(error, request.scope)


def _problem(scope: ASGIScope, error: TicketingError) -> Response:
    if isinstance(error, Unavailable):
        SHED.labels(error.code).inc()
    path = scope.get(PREFIX, "") + scope["path"]
    body = document(error, path, logs.request_id.get())
    return Response(body, error.status, error.header_fields(), MEDIA_TYPE)


def _invalid_request(scope: ASGIScope, error: RequestValidationError) -> Response:
    if isinstance(error.body, bytes):
        # FastAPI passes the body on as bytes if it is not declared as JSON.
        return _problem(scope, UnsupportedMediaType())
    failures = error.errors()
    if any(failure["type"] == "json_invalid" for failure in failures):
        return _problem(scope, MalformedBody())
    # Optional parameters may be None in Python, but a query can't contain None.
    wrong = [each for each in failures if each["type"] != "none_required"]
    named = [_failure(each) for each in wrong[:MAX_FAILURES]]
    return _problem(scope, ValidationFailed(errors=named))


def _failure(failure: dict[str, Any]) -> dict[str, str]:
    """Name a wrong field by JSON pointer (RFC 6901), without its value."""
    where, *path = failure["loc"]
    if where == "query":
        del path[1:]  # The rest are names of types, because a parameter has no members.
    steps = (str(step).replace("~", "~0").replace("/", "~1") for step in path)
    return {
        "in": str(where),
        "pointer": "#" + "".join("/" + step for step in steps),
        "type": str(failure["type"]),
        "detail": WORDS.get(failure["msg"], str(failure["msg"])),
    }
