"""Checks of every response: the OpenAPI document, and the form of a problem."""

import re
from dataclasses import dataclass
from functools import cache
from typing import Any, Final
from urllib.parse import unquote

import httpx
from fastapi import FastAPI

from ticketing.errors import MethodNotAllowed, OriginRefused, RouteNotFound
from ticketing.identity.permissions import Action

PROBLEM_JSON: Final = "application/problem+json"
MEMBERS: Final = {"type", "title", "status", "detail", "instance", "code", "requestId"}

REPLAYED: Final = "idempotency-replayed"
MAY_BE_ABSENT: Final = {REPLAYED, "ratelimit", "ratelimit-policy"}

# They are returned for addresses that the document does not list.
OF_NO_ROUTE: Final = {RouteNotFound.code, MethodNotAllowed.code, OriginRefused.code}


@dataclass(frozen=True)
class Operation:
    """The document of one route."""

    method: str
    path: str
    document: dict[str, Any]
    components: dict[str, dict[str, Any]]

    @property
    def id(self) -> str:
        return str(self.document["operationId"])

    @property
    def action(self) -> Action:
        return Action(self.id)

    @property
    def responses(self) -> dict[str, dict[str, Any]]:
        """The responses by status, with the shared ones resolved."""
        return {
            status: self.components["responses"][answer["$ref"].rpartition("/")[2]]
            if "$ref" in answer
            else answer
            for status, answer in self.document["responses"].items()
        }

    @property
    def codes(self) -> dict[str, int]:
        """Every error that the route may return, with its status."""
        return {
            code: int(status)
            for status, answer in self.responses.items()
            for code in answer.get("content", {}).get(PROBLEM_JSON, {}).get("examples", {})
        }


_operations: list[Operation] = []


def operations(app: FastAPI) -> list[Operation]:
    """Every documented route. All applications have the same ones, whatever their settings."""
    if not _operations:
        _operations.extend(
            Operation(method.upper(), path, document, app.openapi()["components"])
            for path, item in app.openapi()["paths"].items()
            for method, document in item.items()
        )
    return _operations


@cache
def _addresses(path: str) -> re.Pattern[str]:
    """Return the pattern of all addresses of a route."""
    return re.compile(re.sub(r"\{\w+\}", "[^/]+", path))


def _literals(path: str) -> int:
    return len(re.sub(r"\{\w+\}", "", path))


def operation_of(app: FastAPI, request: httpx.Request) -> Operation | None:
    """Return the documented route of the request, or None."""
    path = request.url.path  # Once, because it is decoded at each look.
    depth = path.count("/")
    at_path = [
        operation
        for operation in operations(app)
        if operation.path.count("/") == depth and _addresses(operation.path).fullmatch(path)
    ]
    # What is literal in one path does not match the parameter of another.
    literal = max((_literals(each.path) for each in at_path), default=0)
    return next(
        (
            each
            for each in at_path
            if each.method == request.method and _literals(each.path) == literal
        ),
        None,
    )


def assert_problem(response: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """Check a problem against RFC 9457 and return the members that only this code has."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == PROBLEM_JSON
    document: dict[str, Any] = response.json()
    assert document.keys() >= MEMBERS
    assert document["code"] == code
    assert document["type"] == f"urn:ticketing:problem:{code}"
    assert document["status"] == status
    assert document["title"]
    assert document["detail"]
    assert document["instance"].isascii()
    assert unquote(document["instance"]) == response.request.url.path
    assert document["requestId"] == response.headers["x-request-id"]
    return {key: value for key, value in document.items() if key not in MEMBERS}


def assert_documented(app: FastAPI, response: httpx.Response) -> None:
    """Check a response against the document of its route."""
    operation = operation_of(app, response.request)
    kind = response.headers.get("content-type", "").partition(";")[0]
    if response.is_error and response.request.method != "HEAD":
        code = response.json()["code"]
        assert_problem(response, response.status_code, code)
        if operation is None:
            return
        assert operation.codes.get(code) == response.status_code, f"{operation.id}: {code}"
    elif operation is not None:
        documented = operation.responses[str(response.status_code)]
        assert kind in documented.get("content", {"": None}), f"{operation.id}: {kind}"
        told = {name.lower() for name in documented["headers"]}
        if REPLAYED in response.headers:
            assert REPLAYED in told, operation.id
        assert told - MAY_BE_ABSENT <= response.headers.keys()
