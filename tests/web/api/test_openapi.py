"""The OpenAPI document describes every route. All tests here check each response against it."""

import asyncio
import re
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
from fastapi import FastAPI

from tests.contract import OF_NO_ROUTE, PROBLEM_JSON, operations
from ticketing.errors import TicketingError
from ticketing.identity.permissions import RULES, Role
from ticketing.web.documented import OF_THE_SERVER
from ticketing.web.service import Service

ERRORS = Path(__file__).parents[3] / "docs/reference/errors.md"
"""The model of a 204."""


def leaves(error: type[TicketingError]) -> Iterator[type[TicketingError]]:
    """The errors that routes return. Their base classes are not returned."""
    below = error.__subclasses__()
    if not below:
        yield error
    for each in below:
        yield from leaves(each)


def without_example(schema: dict[str, Any], schemas: dict[str, Any], at: str) -> Iterator[str]:
    """Return the places below a schema that have no example."""
    if "$ref" in schema:
        schema = schemas[schema["$ref"].rpartition("/")[2]]
    if {"examples", "example", "default", "const", "enum"} & schema.keys():
        return
    if "items" in schema:
        yield from without_example(schema["items"], schemas, f"{at}[]")
    elif "properties" in schema:
        for name, inner in schema["properties"].items():
            yield from without_example(inner, schemas, f"{at}.{name}")
    else:
        yield at


async def test_the_document_is_served(client: httpx.AsyncClient, app: FastAPI) -> None:
    served = await client.get("/openapi.json")
    assert served.status_code == 200
    assert served.json() == app.openapi()
    assert served.json()["openapi"].startswith("3.1")


async def test_the_document_is_generated_once_for_all_clients(
    client: httpx.AsyncClient, app: FastAPI
) -> None:
    # Requests for it are not limited.
    written: list[dict[str, Any]] = []
    begun, goes_on = threading.Event(), threading.Event()

    def describe() -> dict[str, Any]:
        begun.set()
        assert goes_on.wait(20)
        written.append(app.openapi())
        return written[-1]

    app.state.provided[Service].describe = describe
    usual = sys.getswitchinterval()
    asked = [asyncio.create_task(client.get("/openapi.json")) for _ in range(5)]
    # Other requests are served while it is made.
    assert await asyncio.to_thread(begun.wait, 20)
    assert (await client.get("/livez")).status_code == 200
    assert sys.getswitchinterval() < usual
    goes_on.set()
    for served in [*await asyncio.gather(*asked), await client.get("/openapi.json")]:
        assert served.json() == app.openapi()
    assert len(written) == 1
    assert sys.getswitchinterval() == usual


async def test_the_pages_are_served(client: httpx.AsyncClient) -> None:
    for path in ("/docs", "/redoc"):
        page = await client.get(path)
        assert page.status_code == 200
        assert page.headers["content-type"] == "text/html; charset=utf-8"
        assert "default-src 'self'" in page.headers["content-security-policy"]
    welcome = (await client.get("/")).json()
    for path in ("docs", "reference", "openapi", "events"):
        assert (await client.get(welcome[path])).status_code == 200


async def test_the_health_checks_respond(client: httpx.AsyncClient) -> None:
    assert (await client.get("/livez")).json() == {"status": "alive"}
    assert (await client.get("/readyz")).json() == {"status": "ready"}


async def test_every_route_has_a_description(app: FastAPI) -> None:
    tags = {tag["name"] for tag in app.openapi()["tags"]}
    documented = operations(app)
    for operation in documented:
        assert operation.document["summary"], operation.path
        assert operation.document["description"].strip(), operation.path
        assert set(operation.document["tags"]) <= tags, operation.path
        assert len(operation.document["tags"]) == 1, operation.path
    calls = [item["post"] for item in app.openapi()["webhooks"].values()]
    assert {tag for call in calls for tag in call["tags"]} <= tags
    assert all(call["tags"] and call["summary"] for call in calls)
    identifiers = [operation.id for operation in documented]
    assert len(identifiers) == len(set(identifiers)) == len(RULES)


async def test_every_success_has_an_example(app: FastAPI) -> None:
    schemas = app.openapi()["components"]["schemas"]
    missing = [
        place
        for operation in operations(app)
        for status, answer in operation.responses.items()
        if status < "300"
        for media, content in answer.get("content", {}).items()
        if media != "text/html"
        for place in without_example(content["schema"], schemas, f"{operation.id} {status} ")
    ]
    assert missing == []


async def test_every_field_of_a_response_has_an_example(app: FastAPI) -> None:
    schemas = app.openapi()["components"]["schemas"]
    missing = [
        place
        for operation in operations(app)
        if "requestBody" in operation.document
        for place in without_example(
            operation.document["requestBody"]["content"]["application/json"]["schema"],
            schemas,
            operation.id,
        )
    ]
    assert missing == []


async def test_every_error_has_a_valid_example(app: FastAPI) -> None:
    by_code = {error.code: error for error in leaves(TicketingError)}
    for operation in operations(app):
        for status, answer in operation.responses.items():
            if status < "400":
                continue
            assert list(answer["content"]) == [PROBLEM_JSON]
            schema = answer["content"][PROBLEM_JSON]["schema"]["$ref"].rpartition("/")[2]
            members = app.openapi()["components"]["schemas"][schema]["properties"]
            for code, example in answer["content"][PROBLEM_JSON]["examples"].items():
                error = by_code[code]
                assert example["value"]["code"] == code
                assert example["value"]["status"] == error.status == int(status)
                assert example["value"]["detail"] == error.detail
                assert example["value"].keys() <= members.keys()
                assert error.headers.keys() <= answer["headers"].keys()


async def test_sentences_of_the_document_name_who_does_something(app: FastAPI) -> None:
    # Schemas named after code, such as "What the code does.", are hard to read.
    begin = re.compile(r"(?:^|[.:] |\n\n)(?:What|Who|Whom|Whose|Whoever|Of|That of|Those)\b")
    found = {
        text
        for node in nodes(app.openapi())
        for text in (node.get("summary"), node.get("description"))
        if isinstance(text, str) and begin.search(text)
    }
    assert found == set()


def nodes(document: object) -> Iterator[dict[str, Any]]:
    """Yield every object in a document."""
    if isinstance(document, dict):
        yield document
        document = list(document.values())
    if isinstance(document, list):
        for each in document:
            yield from nodes(each)


async def test_a_field_that_may_be_left_out_is_not_null(app: FastAPI) -> None:
    assert [each for each in nodes(app.openapi()) if each.get("default", "") is None] == []


async def test_a_shared_response_has_the_headers_of_limits_if_a_route_sends_them(
    app: FastAPI,
) -> None:
    for name, answer in app.openapi()["components"]["responses"].items():
        told = {"RateLimit", "RateLimit-Policy"} <= answer["headers"].keys()
        assert told == (name not in {error.__name__ for error in OF_THE_SERVER}), name


async def test_every_response_of_the_api_documents_the_headers_of_limits(app: FastAPI) -> None:
    for operation in operations(app):
        for status, answer in operation.responses.items():
            if "$ref" in operation.document["responses"][status]:
                continue  # The same on every route, although some have no limit.
            told = {"RateLimit", "RateLimit-Policy"} <= answer["headers"].keys()
            assert told == operation.path.startswith("/api/"), f"{operation.id}: {status}"


async def test_every_error_is_a_response_of_some_route(app: FastAPI) -> None:
    documented = {code for operation in operations(app) for code in operation.codes}
    assert documented | OF_NO_ROUTE == {error.code for error in leaves(TicketingError)}
    assert not documented & OF_NO_ROUTE


def test_every_error_is_in_the_documentation() -> None:
    told = {
        (int(status), code)
        for status, codes in re.findall(r"^\| (\d+) \| (.+?) \|", ERRORS.read_text(), re.MULTILINE)
        for code in re.findall(r"`(\w+)`", codes)
    }
    assert told == {(error.status, error.code) for error in leaves(TicketingError)}


def test_no_error_shares_its_code() -> None:
    codes = [error.code for error in leaves(TicketingError)]
    assert len(codes) == len(set(codes))


async def test_every_route_that_needs_a_token_says_so(app: FastAPI) -> None:
    needing = {operation.id for operation in operations(app) if operation.document.get("security")}
    refusing = {op.id for op in operations(app) if "not_authenticated" in op.codes}
    assert needing == refusing
    assert needing == {action for action, rule in RULES.items() if Role.NOBODY not in rule.roles}
