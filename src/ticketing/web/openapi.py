"""The API's description (OpenAPI), for programs and for the documentation pages."""

from collections.abc import Iterable
from copy import deepcopy
from typing import Any, Final

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic.alias_generators import to_snake
from pydantic.json_schema import models_json_schema

from ticketing.limits.limits import Counted
from ticketing.web import schemas
from ticketing.web.direct import PolicyRoute
from ticketing.web.documented import (
    HEADERS,
    OF_LIMITS,
    Problem,
    headers,
    problem_of,
    shared,
)
from ticketing.web.problems import MEDIA_TYPE

DESCRIPTION: Final = """
People book a place at an event, wait if it is full, and cancel. A cancelled
place goes to the first person on the waiting list. A place is never sold twice.

1. ACCOUNT `POST /api/users/login` returns a token. Send it as `Authorization: Bearer <token>`.
2. `POST /api/events/initialize` creates an event.
3. `POST /api/events/book` books a place. It returns 201 with a place, or 202 on the waiting list.
   Your `userId` is the `id` in the response of `GET /api/users/me`.

A shop holds places while its customer pays (`POST /api/holds`, then `confirm`) and shows the
tickets with their codes (`GET /api/tickets/{ticketId}`). It follows what happens by
`GET /api/feed` or by webhooks. At the door, `POST /api/events/{eventId}/check-ins` lets people in.

Errors are problem documents (RFC 9457) with a stable `code` for programs. If a list has
another page, `nextCursor` leads to it. Times are UTC (RFC 3339).
"""

ACCOUNT: Final = {
    True: "`POST /api/users/register` creates an account.",
    False: "The operator of this site creates accounts.",
}
"""The first step, by whether registration is open."""

LICENSE: Final = {"name": "MIT", "identifier": "MIT"}
SERVERS: Final = [{"url": ".", "description": "This service"}]
"""Relative to the document, so that it is right below every prefix that a proxy may add."""

TAGS: Final = [
    {"name": "users", "description": "Accounts."},
    {"name": "sessions", "description": "Log in, refresh a session, log out."},
    {"name": "keys", "description": "API keys for programs."},
    {"name": "events", "description": "Events that can be booked."},
    {"name": "bookings", "description": "Places, and positions on the waiting list."},
    {"name": "codes", "description": "Codes that open ticket types or reduce prices."},
    {
        "name": "payments",
        "description": "Payments and refunds of bookings, and amounts that are owed.",
    },
    {"name": "tickets", "description": "The right of one person to enter, and its code."},
    {"name": "door", "description": "Scans of tickets at the door, with and without network."},
    {"name": "holds", "description": "Places that are kept for a while, and offers of places."},
    {
        "name": "ticket types",
        "description": "Ticket types of an event, and the quotas that they share.",
    },
    {"name": "customers", "description": "People whom an organiser's own system knows."},
    {"name": "team", "description": "People who work on an event, and its audit trail."},
    {"name": "feed", "description": "All that happened at events, in order, for other programs."},
    {"name": "webhooks", "description": "Calls of your program when something happens."},
    {"name": "deliveries", "description": "The requests of webhooks, which your program serves."},
    {"name": "service", "description": "Health."},
]

REFERENCE: Final = "#/components/schemas/{model}"


def description(*, registration_is_open: bool) -> str:
    """Return the introduction of the document."""
    return DESCRIPTION.replace("ACCOUNT", ACCOUNT[registration_is_open])


def document(app: FastAPI) -> dict[str, Any]:
    """Return the OpenAPI document of the application, which is made at the first call."""
    if app.openapi_schema is None:
        described = get_openapi(
            title=app.title,
            version=app.version,
            description=app.description,
            license_info=LICENSE,
            servers=SERVERS,
            routes=app.routes,
            tags=app.openapi_tags,
        )
        described["webhooks"] = deepcopy(app.state.webhooks)
        components = described["components"]
        components["headers"] = deepcopy(HEADERS)
        components["responses"] = shared()
        counted = {
            route.operation_id: route.policy.counted
            for route in app.routes
            if isinstance(route, PolicyRoute)
        }
        operations = [each for item in described["paths"].values() for each in item.values()]
        for operation in operations:
            _complete(operation, counted[operation["operationId"]])
            _complete_examples(operation, components["schemas"])
        components["schemas"] |= _problems(operations, components["responses"])
        schemas.tidy(described)
        app.openapi_schema = described
    return app.openapi_schema


def _complete(operation: dict[str, Any], counted: Counted | None) -> None:
    """Add what all operations have: security, plain bodies, and headers of responses."""
    operation.setdefault("security", [])  # Explicit: no credential is needed.
    for content in operation.get("requestBody", {}).get("content", {}).values():
        content["schema"].pop("default", None)  # It is that of Python.
    keyed = "Idempotency-Key" in {each["name"] for each in operation.get("parameters", ())}
    limits = OF_LIMITS if counted is not None else ()
    for status, answer in operation["responses"].items():
        if "$ref" in answer:
            del answer["description"]  # Added by the framework; the shared response has its own.
            continue
        replayed = ("Idempotency-Replayed",) if keyed and status < "300" else ()
        more = headers("X-Request-ID", *limits, *replayed)
        answer["headers"] = answer.get("headers", {}) | more


def _complete_examples(operation: dict[str, Any], of: dict[str, dict[str, Any]]) -> None:
    """Add members that are null to the examples, because the framework drops them."""
    for answer in operation["responses"].values():
        for content in answer.get("content", {}).values():
            if "example" in content:
                members = of[content["schema"]["$ref"].rpartition("/")[2]]["properties"]
                content["example"] = {name: content["example"].get(name) for name in members}


def _problems(
    operations: Iterable[dict[str, Any]], responses: dict[str, dict[str, Any]]
) -> dict[str, dict[str, Any]]:
    """Return the schemas of problem documents: one for any route, one with the codes of each."""
    _, made = models_json_schema([(Problem, "validation")], ref_template=REFERENCE)
    found: dict[str, dict[str, Any]] = made["$defs"]
    problem = found[Problem.__name__]
    for member in problem["properties"].values():
        member.pop("default", None)  # It is absent, and never null.
    codes = {"": [code for each in responses.values() for code in _codes(each)]}
    for operation in operations:
        answers = [
            responses[answer["$ref"].rpartition("/")[2]] if "$ref" in answer else answer
            for answer in operation["responses"].values()
        ]
        codes[operation["operationId"]] = [code for each in answers for code in _codes(each)]
    for action, of in codes.items():
        name = problem_of(action)
        code = {"$ref": REFERENCE.format(model=f"{name}Code")}
        found[f"{name}Code"] = {
            "type": "string",
            "enum": of,
            # In Go, the members of all enumerations share one scope.
            "x-enum-varnames": [to_snake(f"{action}_{code}").strip("_").upper() for code in of],
            "description": "The kind of error, for programs. It never changes, unlike the words.",
        }
        found[name] = problem | {"properties": problem["properties"] | {"code": code}}
    return found


def _codes(answer: dict[str, Any]) -> Iterable[str]:
    codes: dict[str, Any] = answer.get("content", {}).get(MEDIA_TYPE, {}).get("examples", {})
    return codes
