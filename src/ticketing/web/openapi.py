"""The API's description (OpenAPI), for programs and for the documentation pages."""

from typing import Any, Final, Literal

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel, Field
from pydantic.json_schema import SkipJsonSchema, models_json_schema

from ticketing.errors import TooManyRequests
from ticketing.web.direct import PolicyRoute

DESCRIPTION: Final = """
People register, log in, book a place at an event, wait when it is full, and cancel; a cancelled
place goes to the next in line. A place is never sold twice.

1. `POST /api/users/register` makes an account. `POST /api/users/login` returns a token: send it
   as `Authorization: Bearer <token>`.
2. `POST /api/events/initialize` makes an event.
3. `POST /api/events/book` takes a place: 201 with a place, 202 on the waiting list.
   Your `userId` is the `id` of `GET /api/users/me`.

Errors are problem documents (RFC 9457) with a stable `code` for programs. Lists go on with
`nextCursor`. Times are UTC (RFC 3339).
"""

TAGS: Final = [
    {"name": "users", "description": "Accounts."},
    {"name": "sessions", "description": "Logging in, staying so, and logging out."},
    {"name": "keys", "description": "API keys for programs."},
    {"name": "events", "description": "What can be booked."},
    {"name": "bookings", "description": "Places, and places in the line."},
    {"name": "team", "description": "Who works on an event, and what was changed about it."},
    {"name": "service", "description": "Health."},
]


SERVERS: Final = [{"url": ".", "description": "This service"}]
"""Where the document is, its paths begin: true under every prefix that a proxy may add."""


class WrongField(BaseModel):
    """What is wrong in a request, and where."""

    in_: Literal["body", "path", "query"] = Field(alias="in")
    pointer: str
    type: str
    detail: str


class Problem(BaseModel):
    """A problem document (RFC 9457). The last three are there with the codes that need them."""

    type: str
    title: str
    status: int
    detail: str
    instance: str
    code: str
    requestId: str  # noqa: N815 - the wire name
    errors: list[WrongField] | SkipJsonSchema[None] = None
    scopes: list[str] | SkipJsonSchema[None] = None
    retryAfter: int | SkipJsonSchema[None] = None  # noqa: N815


def document(app: FastAPI) -> dict[str, Any]:
    """Return the description of the application's routes, made when it is first wanted."""
    if app.openapi_schema is None:
        schema = get_openapi(
            title=app.title,
            version=app.version,
            description=app.description,
            routes=app.routes,
            tags=app.openapi_tags,
            servers=SERVERS,
        )
        components = schema["components"]
        _, problem = models_json_schema(
            [(Problem, "validation")], ref_template="#/components/schemas/{model}"
        )
        components["schemas"] |= problem["$defs"]
        for member in components["schemas"][Problem.__name__]["properties"].values():
            member.pop("default", None)  # It is left out, and never null.
        for component in components["schemas"].values():
            for member in component.get("properties", {}).values():
                member.pop("title", None)  # Its name again.
        # The framework's scheme logs in; this one is for who has a token or an API key.
        components["securitySchemes"]["credential"] = {
            "type": "http",
            "scheme": "bearer",
            "description": "A token that you have, or an API key.",
        }
        counted = {
            route.operation_id
            for route in app.routes
            if isinstance(route, PolicyRoute) and route.policy.counted is not None
        }
        for item in schema["paths"].values():
            for operation in item.values():
                _complete(operation, is_counted=operation["operationId"] in counted)
        app.openapi_schema = schema
    return app.openapi_schema


def _complete(operation: dict[str, Any], *, is_counted: bool) -> None:
    """Add what holds for all operations: who has a credential may call, and what headers come."""
    if "security" in operation:
        operation["security"].append({"credential": []})
    named = {parameter["name"] for parameter in operation.get("parameters", ())}
    for status, answer in operation["responses"].items():
        headers = answer.setdefault("headers", {})
        headers["X-Request-ID"] = {
            "description": "The id of the request, as in the log.",
            "required": True,
            "schema": {"type": "string"},
        }
        if is_counted:
            for name, value in TooManyRequests.example_headers.items():
                if name.startswith("RateLimit"):
                    headers.setdefault(name, {"schema": {"type": "string"}, "example": value})
        if "Idempotency-Key" in named and status < "300":
            headers["Idempotency-Replayed"] = {
                "description": "Only if this was answered before, to the same key.",
                "schema": {"const": "true"},
            }
