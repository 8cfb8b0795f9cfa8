"""The OpenAPI document is fit to generate clients from it.

`make clients` generates some, compiles them, and lets them book.
"""

import json
from collections import Counter
from collections.abc import Iterator
from typing import Any, Final

import pytest
from fastapi import FastAPI
from pydantic.alias_generators import to_snake

from tests.contract import PROBLEM_JSON, Operation, operations
from ticketing.identity.permissions import RULES, Role
from ticketing.web import schemas

BOOKING: Final = {"$ref": "#/components/schemas/Booking"}
SCHEMAS: Final = "#/components/schemas/"
INT32: Final = 2**31 - 1


@pytest.fixture
def app(shared_app: FastAPI) -> FastAPI:
    return shared_app


def nodes(document: object) -> Iterator[dict[str, Any]]:
    """Yield every object in a document."""
    if isinstance(document, dict):
        yield document
        document = list(document.values())
    if isinstance(document, list):
        for each in document:
            yield from nodes(each)


def bodies(operation: Operation) -> dict[str, Any]:
    """Return the schema of each successful response, by its status."""
    return {
        status: content["schema"]
        for status, answer in operation.responses.items()
        if status < "300"
        for content in answer.get("content", {}).values()
    }


async def test_all_outcomes_of_a_booking_share_one_schema(app: FastAPI) -> None:
    by_id = {operation.id: bodies(operation) for operation in operations(app)}
    assert by_id["bookTicket"] == {"201": BOOKING, "202": BOOKING}
    assert by_id["cancelTicket"] == {"200": BOOKING}
    pages = app.openapi()["components"]["schemas"]
    assert by_id["listMyBookings"] == {"200": {"$ref": SCHEMAS + "BookingPage"}}
    assert pages["BookingPage"]["properties"]["items"]["items"] == BOOKING
    booking = pages["Booking"]
    assert set(booking["required"]) == booking["properties"].keys()
    for name in ("position", "promoted"):
        assert booking["properties"][name]["type"] == ["integer", "null"]


async def test_no_route_has_two_schemas_of_success(app: FastAPI) -> None:
    # Generators use the first.
    for operation in operations(app):
        assert len({json.dumps(each) for each in bodies(operation).values()}) <= 1, operation.id


async def test_every_whole_number_has_its_bounds(app: FastAPI) -> None:
    found = [each for each in nodes(app.openapi()) if "integer" in each.get("type", ())]
    assert len(found) > 10
    for each in found:
        assert each.get("format") in {"int32", "int64"}, each
        assert each["format"] == "int64" or each.get("maximum", 0) <= INT32, each
        assert {type(each[bound]) for bound in ("minimum", "maximum") if bound in each} <= {int}


@pytest.mark.parametrize(
    ("schema", "name"),
    [
        *(("Event", "id"), ("Event", "version"), ("Event", "waitingListCount")),
        *(("Booking", "eventId"), ("Booking", "position")),
        *(("BookTicket", "eventId"), ("CancelTicket", "eventId")),
    ],
)
async def test_numbers_above_32_bits_say_so(app: FastAPI, schema: str, name: str) -> None:
    member = app.openapi()["components"]["schemas"][schema]["properties"][name]
    assert member["format"] == "int64"


async def test_every_route_names_its_codes(app: FastAPI) -> None:
    components = app.openapi()["components"]
    for operation in operations(app):
        name = f"{operation.id[0].upper()}{operation.id[1:]}Problem"
        members = components["schemas"][name]["properties"]
        assert members["code"] == {"$ref": f"{SCHEMAS}{name}Code"}
        assert components["schemas"][f"{name}Code"]["enum"] == list(operation.codes)
        for status, answer in operation.document["responses"].items():
            if status >= "400" and "$ref" not in answer:
                schema = answer["content"][PROBLEM_JSON]["schema"]
                assert schema == {"$ref": SCHEMAS + name}


async def test_the_problem_of_any_route_names_the_codes_of_any_route(app: FastAPI) -> None:
    components = app.openapi()["components"]
    shared = [
        code
        for answer in components["responses"].values()
        for code in answer["content"][PROBLEM_JSON]["examples"]
    ]
    assert components["schemas"]["ProblemCode"]["enum"] == shared
    for answer in components["responses"].values():
        assert answer["content"][PROBLEM_JSON]["schema"] == {"$ref": SCHEMAS + "Problem"}


async def test_every_component_is_used_and_exists(app: FastAPI) -> None:
    document = app.openapi()
    there = {
        f"#/components/{kind}/{name}"
        for kind, of in document["components"].items()
        for name in of
        if kind != "securitySchemes"
    }
    used = {each["$ref"] for each in nodes(document) if "$ref" in each}
    assert used == there


async def test_nothing_that_several_routes_share_is_written_twice(app: FastAPI) -> None:
    document = app.openapi()
    listed = [each for operation in operations(app) for each in _inline(operation)]
    assert [each for each, times in Counter(listed).items() if times > 1] == []
    assert {"eventId", "limit", "cursor", "Idempotency-Key"} <= (
        document["components"]["parameters"].keys()
    )
    for answer in nodes(document):
        for header in answer.get("headers", {}).values():
            assert "$ref" in header or header in document["components"]["headers"].values()


def _inline(operation: Operation) -> Iterator[str]:
    """Return the parameters that a route has inline."""
    for parameter in operation.document.get("parameters", ()):
        if "$ref" not in parameter:
            yield json.dumps(parameter)


async def test_no_schema_without_a_name_occurs_twice(app: FastAPI) -> None:
    # Generators would make a class for each place.
    objects = [
        json.dumps(each)
        for schema in app.openapi()["components"]["schemas"].values()
        for each in nodes(schema)
        if each is not schema and ("properties" in each or "enum" in each)
    ]
    assert [each for each, times in Counter(objects).items() if times > 1] == []


async def test_schemas_have_names_that_a_programmer_would_give(app: FastAPI) -> None:
    names = set(app.openapi()["components"]["schemas"])
    assert {"Booking", "Event", "EventPage", "AttendancePage", "ApiKey", "Token"} <= names
    assert [name for name in names if "_" in name or name.endswith("Out")] == []


def test_two_schemas_can_not_have_one_name() -> None:
    components: dict[str, Any] = {"schemas": {"Event": {}, "EventOut": {}}}
    with pytest.raises(ValueError, match="the same name"):
        schemas.tidy({"components": components, "paths": {}})


def test_two_parameters_that_are_shared_can_not_have_one_name() -> None:
    paths = {
        f"/{kind}/{number}": {
            "get": {"parameters": [{"name": "limit", "in": kind, "schema": {"type": "integer"}}]}
        }
        for kind in ("query", "header")
        for number in range(2)
    }
    with pytest.raises(ValueError, match="the name limit"):
        schemas.tidy({"components": {"schemas": {}}, "paths": paths})


async def test_one_scheme_is_all_that_a_client_needs_to_know(app: FastAPI) -> None:
    scheme = app.openapi()["components"]["securitySchemes"]
    assert list(scheme) == ["bearer"]
    assert (scheme["bearer"]["type"], scheme["bearer"]["scheme"]) == ("http", "bearer")
    for operation in operations(app):
        is_public = Role.NOBODY in RULES[operation.action].roles
        assert operation.document["security"] == ([] if is_public else [{"bearer": []}])


async def test_only_methods_with_which_every_client_can_send_a_body_have_one(
    app: FastAPI,
) -> None:
    with_body = {each.method for each in operations(app) if "requestBody" in each.document}
    assert with_body == {"POST", "PUT", "PATCH"}


async def test_the_pages_of_an_example_come_to_an_end(app: FastAPI) -> None:
    pages = {
        name: schema
        for name, schema in app.openapi()["components"]["schemas"].items()
        if name.endswith("Page")
    }
    assert len(pages) > 5
    for schema in pages.values():
        assert schema["properties"]["nextCursor"]["examples"] == [None]


async def test_the_document_says_under_what_licence_the_service_is(app: FastAPI) -> None:
    assert app.openapi()["info"]["license"] == {"name": "MIT", "identifier": "MIT"}


async def test_no_two_generated_things_have_one_name(app: FastAPI) -> None:
    found = app.openapi()["components"]["schemas"]
    # In Go, the constructor of ApiKey is called NewApiKey.
    assert [name for name in found if name.removeprefix("New") in found.keys() - {name}] == []
    # In Go, the members of all enumerations are in one scope.
    members = [
        name
        for schema in found.values()
        for name in schema.get("x-enum-varnames", schema.get("enum", ()))
    ]
    assert [name for name, times in Counter(members).items() if times > 1] == []
    # A member has the same name whatever other enumerations there are.
    for name, schema in found.items():
        if "enum" in schema and not name.endswith("Code"):
            assert schema["x-enum-varnames"] == [
                f"{to_snake(name)}_{to_snake(each).replace(':', '_')}".upper()
                for each in schema["enum"]
            ]


async def test_every_example_of_a_problem_has_members_of_its_schema_only(app: FastAPI) -> None:
    found = app.openapi()["components"]["schemas"]
    contents = [
        node["content"][PROBLEM_JSON]
        for node in nodes(app.openapi())
        if PROBLEM_JSON in node.get("content", {})
    ]
    assert contents
    for content in contents:
        members = found[content["schema"]["$ref"].removeprefix(SCHEMAS)]["properties"].keys()
        for code, example in content["examples"].items():
            assert example["value"].keys() <= members, code
