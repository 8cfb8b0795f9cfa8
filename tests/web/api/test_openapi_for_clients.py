"""The OpenAPI document is fit to generate clients from it.

`make clients` generates some, compiles them, and lets them book.
"""

import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from fastapi import FastAPI
from pydantic.alias_generators import to_snake

from tests.contract import PROBLEM_JSON, Operation, operations
from ticketing.identity.permissions import RULES, Role
from ticketing.web import schemas

KEYWORDS: Final = {
    *("$ref", "type", "format", "enum", "const", "default", "examples", "description"),
    *("properties", "required", "additionalProperties", "items", "anyOf"),
    *(
        "contentMediaType",
        "pattern",
        "minLength",
        "maxLength",
        "minItems",
        "maxItems",
        "minimum",
        "maximum",
    ),
    "x-enum-varnames",
}
"""All that a schema of the document is made of."""
NOT_FILES: Final = {"application/json", PROBLEM_JSON, "text/html", "text/event-stream"}
"""Media types of responses that are no files."""
OVERRIDES: Final = Path(__file__).parents[3] / "clients/openapi-python-client.yaml"
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


def all_schemas(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield every schema of a document, with those inside of others."""
    for node in nodes(document):
        yield from _below(node.get("schema"))
    for schema in document["components"]["schemas"].values():
        yield from _below(schema)


def _below(schema: object) -> Iterator[dict[str, Any]]:
    if not isinstance(schema, dict):
        return
    yield schema
    inner = [*schema.get("properties", {}).values(), *schema.get("anyOf", ())]
    for each in (*inner, schema.get("items"), schema.get("additionalProperties")):
        yield from _below(each)


async def test_schemas_have_no_keywords_but_those_of_json_schema(app: FastAPI) -> None:
    # Pydantic documents a bound that it can't place as `le`, which linters and generators refuse.
    assert {name for each in all_schemas(app.openapi()) for name in each} <= KEYWORDS


async def test_every_schema_says_its_type(app: FastAPI) -> None:
    typed = {"$ref", "type", "anyOf", "const", "enum"}
    assert [each for each in all_schemas(app.openapi()) if not typed & each.keys()] == []


async def test_every_object_and_every_enumeration_of_a_schema_has_a_name(app: FastAPI) -> None:
    # openapi-python-client calls the members of Ticket.status TicketStatus. It drops both if there
    # is another schema of this name.
    found = [
        f"{name}.{member}"
        for name, schema in app.openapi()["components"]["schemas"].items()
        for member, inner in schema.get("properties", {}).items()
        for each in _below(inner)
        if {"enum", "properties"} & each.keys()
    ]
    assert found == []


async def test_no_enumeration_of_a_parameter_has_the_name_of_a_schema(app: FastAPI) -> None:
    names = {
        f"{operation.id}{parameter['name']}".lower()
        for operation in operations(app)
        for parameter in operation.document.get("parameters", ())
        if "enum" in parameter.get("schema", ())
    }
    assert not names & {name.lower() for name in app.openapi()["components"]["schemas"]}


async def test_the_members_of_every_body_are_known(app: FastAPI) -> None:
    # A client has no type for an object with any members.
    document = app.openapi()
    seen = [each["requestBody"] for each in nodes(document["paths"]) if "requestBody" in each]
    named = document["components"]["schemas"]
    asked: set[str] = set()
    for node in (each for body in seen for each in nodes(body)):
        name = str(node.get("$ref", "")).removeprefix(SCHEMAS)
        if name in named and name not in asked:
            asked.add(name)
            seen.append(named[name])
    assert "OfflineScan" in asked
    assert [name for name in asked if named[name].get("additionalProperties")] == []
    free = [each for name in asked for each in _below(named[name])]
    assert [each for each in free if each.get("additionalProperties") not in {None, False}] == []


async def test_every_body_is_a_schema_with_a_name_and_no_more(app: FastAPI) -> None:
    # openapi-python-client can't leave out a body that is one of several schemas, such as null.
    for operation in operations(app):
        for content in operation.document.get("requestBody", {}).get("content", {}).values():
            assert content["schema"].keys() == {"$ref"}, operation.id


async def test_clients_read_every_file_as_bytes(app: FastAPI) -> None:
    # Some generators read a string as JSON, whatever its media type.
    files = [
        (media, content["schema"])
        for operation in operations(app)
        for answer in operation.responses.values()
        for media, content in answer.get("content", {}).items()
        if media not in NOT_FILES
    ]
    for media, schema in files:
        assert (schema["type"], schema.get("format")) == ("string", "binary"), media
    told = re.findall("^  (.+): application/octet-stream$", OVERRIDES.read_text(), re.MULTILINE)
    assert {media for media, _ in files} == set(told)


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
    assert [name for name in members if not re.fullmatch("[A-Z][A-Z0-9_]*", name)] == []
    # A member has the same name whatever other enumerations there are.
    for name, schema in found.items():
        if "enum" in schema and not name.endswith("Code"):
            assert schema["x-enum-varnames"] == [
                re.sub("[:.]", "_", f"{to_snake(name)}_{to_snake(each)}".upper())
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
