"""Makes the OpenAPI document short, and easy to generate clients from."""

import json
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any, Final

from pydantic.alias_generators import to_snake

SCHEMAS: Final = "#/components/schemas/"
PARAMETERS: Final = "#/components/parameters/"


def tidy(document: dict[str, Any]) -> None:
    """Give the document plain names and types, and list each parameter once.

    Raises ValueError if two schemas get the same name.
    """
    components = document["components"]
    names = {name: _plain_name(name) for name in components["schemas"]}
    schemas = {names[name]: each for name, each in components["schemas"].items()}
    if len(schemas) < len(components["schemas"]):
        raise ValueError("two schemas have the same name")
    components["schemas"] = dict(sorted(schemas.items()))
    for schema in schemas.values():
        _make_plain(schema)
        for member in schema.get("properties", {}).values():
            _make_plain(member)
    _name_members(schemas)
    operations = [each for item in document["paths"].values() for each in item.values()]
    components["parameters"] = _share_parameters(operations)
    for node in _nodes(document):
        reference = node.get("$ref", "")
        if reference.startswith(SCHEMAS):
            node["$ref"] = SCHEMAS + names[reference.removeprefix(SCHEMAS)]


def _plain_name(name: str) -> str:
    """Return the name for clients: EventPage for `PageOut[EventOut]` (written with underscores).

    "Out" is dropped, because clients have no other class of that name.
    """
    if page := re.fullmatch(r"PageOut_(\w+)_", name):
        return f"{_plain_name(page[1])}Page"
    return name.removesuffix("Out")


def _make_plain(schema: dict[str, Any]) -> None:
    """Shorten the schema without changing its meaning."""
    schema.pop("title", None)  # It only repeats the name.
    match schema.get("anyOf"):
        case [{"type": kind, **rest}, {"type": "null"}]:
            del schema["anyOf"]
            schema["type"] = [kind, "null"]
            for name, value in rest.items():
                schema.setdefault(str(name), value)
    for bound in {"minimum", "maximum"} & schema.keys():
        schema[bound] = int(schema[bound])  # The framework turns them into floats.
    if isinstance(schema.get("items"), dict):
        _make_plain(schema["items"])


def _name_members(schemas: dict[str, dict[str, Any]]) -> None:
    """Name the members of each enumeration after it, because in Go they are all in one scope.

    Always, so that an enumeration that is added renames nothing in existing clients.
    """
    for name, schema in schemas.items():
        if "enum" in schema:
            schema.setdefault(
                "x-enum-varnames",
                [
                    re.sub(r"\W", "_", f"{to_snake(name)}_{to_snake(member)}".upper())
                    for member in schema["enum"]
                ],
            )


def _share_parameters(operations: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Replace parameters that several operations have by references, and return them."""
    every = [each for operation in operations for each in operation.get("parameters", ())]
    for parameter in every:
        _make_plain(parameter["schema"])
        parameter["schema"].pop("description", None)  # The parameter has the same one.
    times = Counter(json.dumps(parameter) for parameter in every)
    shared: dict[str, dict[str, Any]] = {}
    for operation in operations:
        for place, parameter in enumerate(operation.get("parameters", ())):
            if times[json.dumps(parameter)] > 1:
                if shared.setdefault(parameter["name"], parameter) != parameter:
                    raise ValueError(f"two parameters have the name {parameter['name']}")
                operation["parameters"][place] = {"$ref": PARAMETERS + parameter["name"]}
    return shared


def _nodes(document: object) -> Iterator[dict[str, Any]]:
    """Yield every object in a document."""
    if isinstance(document, dict):
        yield document
        document = list(document.values())
    if isinstance(document, list):
        for each in document:
            yield from _nodes(each)
