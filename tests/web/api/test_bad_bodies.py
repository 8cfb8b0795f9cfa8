"""Bad bodies: none gives a 500, changes a row, or takes a second."""

import json
from collections.abc import AsyncIterable, AsyncIterator
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute

from tests.bodies import BODIED, METHODS, NOBODY, body_of
from tests.contract import assert_problem, operation_of, operations
from tests.people import Person, Visitor
from ticketing.identity.permissions import Scope
from ticketing.web.direct import DirectRoute, StrictRoute

pytestmark = pytest.mark.usefixtures("unmeasured")

JSON = {"Content-Type": "application/json"}
MAY_HAVE_NONE = {
    "/api/users/logout",
    *(f"/api/{of}" for of in (f"bookings/{NOBODY}/cancel", f"holds/{NOBODY}/confirm")),
    f"/api/holds/{NOBODY}/extend",
}

BODIES = {
    "nothing": b"",
    "null": b"null",
    "a list": b"[]",
    "a list of objects": b'[{"name": "abc", "totalTickets": 1}]',
    "a number": b"1",
    "a string": b'"abc"',
    "true": b"true",
    "no value": b"{",
    "no end": b'{"name": "abc"',
    "two values": b"{}{}",
    "single quotes": b"{'name': 'abc'}",
    "a comment": b'{"name": "abc" /* no */}',
    "a comma too many": b'{"name": "abc",}',
    "a bare word": b"undefined",
    "NaN": b"NaN",
    "infinity": b'{"totalTickets": Infinity, "eventId": -Infinity}',
    "not a number in a field": b'{"name": "abc", "totalTickets": NaN, "eventId": NaN}',
    "a number of 5,000 digits": b'{"totalTickets": ' + b"9" * 5000 + b"}",
    "a number of 4,000 digits": b'{"totalTickets": ' + b"9" * 4000 + b"}",
    "a huge exponent": b'{"totalTickets": 1e999999, "eventId": 1e-999999}',
    "nested 30,000 deep": b"[" * 30_000,
    "nested 20,000 deep and closed": b"[" * 20_000 + b"]" * 20_000,
    "objects nested 900 deep": b'{"name": ' * 900 + b"1" + b"}" * 900,
    "objects nested 201 deep": b'{"name": ' * 201 + b"1" + b"}" * 201,
    "UTF-16": '{"name": "abc", "totalTickets": 1}'.encode("utf-16"),
    "UTF-16 without its mark": '{"name": "abc", "totalTickets": 1}'.encode("utf-16-le"),
    "UTF-32": '{"name": "abc", "totalTickets": 1}'.encode("utf-32"),
    "latin-1": '{"name": "é", "username": "é"}'.encode("latin-1"),
    "half a character": b'{"name": "\xe2\x82"}',
    "an overlong NUL": b'{"name": "\xc0\x80"}',
    "a surrogate in UTF-8": b'{"name": "\xed\xa0\x80"}',
    "UTF-7": b"+AHsAfQ-",
    "gzip": b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03\xab\xae\x05\x00",
    "random bytes": bytes(range(256)),
    "NUL bytes": b"\0" * 100,
    "a NUL in a name": b'{"na\\u0000me": "abc"}',
    "a surrogate as a name": b'{"\\ud800": 1}',
    "a surrogate in a nested name": b'{"name": {"\\udfff": ["\\ud800"]}}',
    "prototype": b'{"__proto__": {"admin": true}, "constructor": 1}',
    "10,000 unknown fields": json.dumps({f"f{i}": 0 for i in range(5_000)}).encode(),
    "a form": b"name=abc&totalTickets=1",
    "XML": b'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]><x>&e;</x>',
    "over 64 KiB": b" " * 65_537,
}

NOT_TEXT: list[Any] = [
    *(None, 0, 1.5, True, [], {}, ["abc"], {"$ne": None}),
    *("\0", "abcdefgh\0", "\ud800", "abcdefgh\udfff", "\udfff\ud800abcdefgh"),
]
TOO_LONG = ["a" * 129, "🎟" * 1000, "a" * 60_000]
NOT_AN_EVENT: list[Any] = [
    *(None, "1", "", "one", True, False, [], [1], {}, {"id": 1}),
    *(0, -1, 1.5, -0.0, 1e-300, 2**53, 2**63, -(2**63), 2**64, 10**400, 1e300),
]
NOT_A_USER: list[Any] = [
    *(0, 1.5, True, [], {}, "", "me", "00000000", "null", "\0", "\ud800", "g" * 36),
    *("019938a5-3c6b-7f0e-b7a2-53f0c9d1e6aa\0", "019938a5-3c6b-7f0e-b7a2-53f0c9d1e6a"),
    *("' OR 1=1 --", "../../etc/passwd", "a" * 60_000, "\uff1019938a5-3c6b-7f0e-b7a2-53f0c9d1e6aa"),
]
NOT_A_TIME: list[Any] = [
    *(0, 1e300, 4102444800, True, [], {}, "", "tomorrow", "2031-02-30T00:00:00Z", "\0"),
    *("infinity", "-infinity", "9999-12-31T23:59:59-23:59", "0001-01-01T00:00:00+23:59"),
    *("2031-01-01T00:00:00", "2031-01-01", "99999-01-01T00:00:00Z", "4102444800"),
]
FIELDS = {
    (BODIED[1], "reason"): [*NOT_TEXT, "a" * 201, "", " "],
    ("/api/events/1/check-ins", "scanId"): NOT_A_USER,
    ("/api/events/1/check-ins", "code"): [*NOT_TEXT[1:], "a" * 501],
    ("/api/events/1/check-ins", "list"): [*NOT_TEXT[1:], "a" * 61, ""],
    ("/api/events/1/check-ins", "gate"): [*NOT_TEXT[1:], "a" * 61, ""],
    ("/api/events/1/check-ins", "direction"): [*NOT_TEXT, "up", ""],
    ("/api/events/1/check-ins", "scannedAt"): NOT_A_TIME,
    ("/api/events/1/check-ins/bulk", "sentAt"): NOT_A_TIME,
    ("/api/events/1/check-ins/bulk", "items"): [None, 0, "", {}, [], [{}] * 151],
    ("/api/events/1/door", "lists"): [None, 0, "", {}, [], [{"name": "a"}] * 51],
    ("/api/events/1/door", "namesUntil"): NOT_A_TIME,
    ("/api/tickets/accept", "token"): [*NOT_TEXT, *TOO_LONG],
    # Null takes the name away.
    (BODIED[0], "name"): [*NOT_TEXT[1:], "a" * 201, "", " \t\n ", "\u200b", "\u2067a"],
    (BODIED[0], "email"): [*NOT_TEXT[1:], "a" * 250 + "@b.org", "", "a", "a@", "a b@c.org"],
    (BODIED[0], "validFrom"): [*NOT_A_TIME, "9999-12-31T23:59:59Z"],
    (BODIED[0], "validUntil"): [*NOT_A_TIME, "9999-12-31T23:59:59Z"],
    ("/api/users/register", "username"): [
        *NOT_TEXT,
        *TOO_LONG,
        *(
            "ab",
            "",
            "a b c",
            "\u0430\u0434\u0430",
            "\uff41\uff42\uff43",
            "abc\n",
            "abc\r\nX: y",
            "abc\u202e",
            "a/b/c",
        ),
        *("a'; DROP TABLE users; --", "<script>", "${jndi:ldap://x}", "%00%00", "abc\u200b"),
    ],
    ("/api/users/register", "password"): [*NOT_TEXT, *TOO_LONG, "", "1234567"],
    ("/api/users/me/password", "currentPassword"): [*NOT_TEXT, *TOO_LONG],
    ("/api/users/me/password", "newPassword"): [*NOT_TEXT, *TOO_LONG, "", "1234567"],
    ("/api/users/password", "token"): [*NOT_TEXT, *TOO_LONG],
    ("/api/users/password", "newPassword"): [*NOT_TEXT, *TOO_LONG, "", "1234567"],
    ("/api/users/refresh", "refreshToken"): [*NOT_TEXT, *TOO_LONG],
    ("/api/users/logout", "everywhere"): [None, 0, 1, "true", "", [], {}],
    ("/api/users/me/keys", "name"): [*NOT_TEXT, *TOO_LONG, ""],
    ("/api/users/me/keys", "expiresAt"): [*NOT_A_TIME, "2000-01-01T00:00:00Z"],
    ("/api/users/login", "username"): [*NOT_TEXT, *TOO_LONG],
    ("/api/users/login", "password"): [*NOT_TEXT, *TOO_LONG],
    ("/api/events/initialize", "name"): [
        *NOT_TEXT,
        *TOO_LONG,
        "ab",
        "",
        " \t\n ",
        "\u2003ab\u00a0",
    ],
    ("/api/users/me/delete", "password"): [*NOT_TEXT, *TOO_LONG],
    ("/api/events/1", "name"): [*NOT_TEXT, *TOO_LONG, "ab", "", " \t\n ", "\u2003ab\u00a0"],
    # Null removes what is known.
    (BODIED[-3], "name"): [*NOT_TEXT[1:], "a" * 201, "", " \t\n ", "\u200b", "\u2067a"],
    (BODIED[-3], "email"): [*NOT_TEXT[1:], "a" * 250 + "@b.org", "", "a", "a@", "a b@c.org"],
    (BODIED[-2], "password"): [*NOT_TEXT, *TOO_LONG],
    (BODIED[-1], "role"): [*NOT_TEXT, *TOO_LONG, "", "owner", "Staff", "staff ", "admin", "self"],
    ("/api/events/initialize", "totalTickets"): [*NOT_AN_EVENT, 1_000_001, "200", "1e3"],
    ("/api/events/book", "eventId"): NOT_AN_EVENT,
    ("/api/events/book", "userId"): NOT_A_USER,
    ("/api/events/book", "quantity"): [*NOT_AN_EVENT, 1_001, "2", "1e1"],
    (BODIED[-6], "paidAt"): [*NOT_A_TIME, "9999-12-31T23:59:59Z"],
    (BODIED[-8], "paidAt"): [*NOT_A_TIME, "9999-12-31T23:59:59Z"],
    ("/api/holds", "eventId"): NOT_AN_EVENT,
    ("/api/holds", "userId"): NOT_A_USER,
    ("/api/holds", "quantity"): [*NOT_AN_EVENT, 1_001, "2", "1e1"],
    ("/api/holds", "expiresAt"): [*NOT_A_TIME, "2200-01-01T00:00:00Z"],
    (BODIED[-7], "expiresAt"): [*NOT_A_TIME, "9999-12-31T23:59:59Z"],
    ("/api/events/cancel", "eventId"): NOT_AN_EVENT,
    ("/api/events/cancel", "userId"): NOT_A_USER,
}

OPTIONAL = {"everywhere", "ticketIds", "userId", "expiresAt"}


CONTENT_TYPES: list[Any] = [
    *("", " ", "/", "json", "text/plain", "text/json", "application/xml", "application/", ";"),
    *("application/x-www-form-urlencoded", "multipart/form-data", "multipart/form-data; boundary="),
    *("application/json2", "application/jsonp", "a" * 10_000, b"\xff\xfe", b"application/\xffjson"),
    "application/octet-stream, application/json",
]
LENGTHS = ["abc", "", " ", "-1", "+5", "1.5", "0x10", "9" * 5_000, "1_0", "\u0663x".encode().hex()]


async def send(
    person: Person,
    path: str,
    *,
    headers: dict[str, Any] = JSON,
    content: str | bytes | AsyncIterable[bytes] | None = None,
    json: object = None,
) -> httpx.Response:
    """Send a body to a route that has one."""
    return await person.client.request(
        METHODS.get(path, "POST"),
        path,
        headers=person.headers | {"If-Match": "*"} | headers,
        content=content,
        json=json,
    )


def assert_refused(answer: httpx.Response, what: object) -> None:
    assert 400 <= answer.status_code < 500, f"{what!r:.200}: {answer.status_code} {answer.text}"


@pytest.mark.parametrize("path", [*BODIED, "/api/users/token"])
async def test_no_invalid_body_is_served(ada: Person, path: str) -> None:
    for what, body in BODIES.items():
        if body not in {b"", b"null"} or path not in MAY_HAVE_NONE:
            answer = await send(ada, path, content=body)
            assert_refused(answer, what)


@pytest.mark.parametrize("path", BODIED)
async def test_no_body_of_another_type_is_served(ada: Person, path: str) -> None:
    content = json.dumps(body_of(ada, path))
    for kind in CONTENT_TYPES:
        answer = await send(ada, path, headers={"Content-Type": kind}, content=content)
        assert_problem(answer, 415, "unsupported_media_type")


def is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


@pytest.mark.parametrize(("path", "field"), FIELDS)
async def test_no_bad_value_is_served(ada: Person, path: str, field: str) -> None:
    for value in FIELDS[path, field]:
        # json.dumps keeps a lone surrogate as its escape, which is ASCII.
        content = json.dumps(body_of(ada, path) | {field: value})
        answer = await send(ada, path, content=content)
        # A lone surrogate is not valid JSON.
        if isinstance(value, str) and not is_utf8(value):
            assert_problem(answer, 400, "malformed_body")
            continue
        refused = assert_problem(answer, 422, "validation_failed")
        assert [error["pointer"] for error in refused["errors"]] == [f"#/{field}"], repr(value)


async def test_no_bad_scope_is_served(ada: Person) -> None:
    scopes: list[Any] = [
        *(None, "bookings:read", {}, [], [None], [1], ["bookings"], ["BOOKINGS:READ"], [["x"]]),
        *(
            ["bookings:read"] * (len(Scope) + 1),
            ["bookings:read", "admin"],
            ["*"],
            ["\0"],
            ["bookings:read "],
        ),
    ]
    for each in scopes:
        answer = await ada.post("/api/users/me/keys", {"name": "A program", "scopes": each})
        assert_problem(answer, 422, "validation_failed")


CHANGED = {path for path, method in METHODS.items() if method == "PATCH"}
"""A change has only the fields that are to be different."""


@pytest.mark.parametrize("path", BODIED)
async def test_no_body_with_a_field_more_or_less_is_served(ada: Person, path: str) -> None:
    body = body_of(ada, path)
    wrong: list[dict[str, Any]] = [
        body | {"id": 1},
        body | {"": ""},
        body | {"is_admin": True},
        {key.upper(): value for key, value in body.items()},
        {"event_id": 1, "user_id": ada.id, "total_tickets": 1} | body,
    ]
    wrong = [each for each in wrong if each != body]
    if path not in CHANGED:
        kept = body.keys() - OPTIONAL
        wrong += [{k: v for k, v in body.items() if k != missing} for missing in kept]
    for given in wrong:
        answer = await send(ada, path, json=given)
        assert_problem(answer, 422, "validation_failed")


@pytest.mark.parametrize("path", BODIED)
async def test_a_valid_body_is_refused_in_another_encoding(ada: Person, path: str) -> None:
    content = json.dumps(body_of(ada, path))
    for encoding in ("utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"):
        answer = await send(ada, path, content=content.encode(encoding))
        assert_problem(answer, 400, "malformed_body")


@pytest.mark.parametrize("path", BODIED)
async def test_a_body_with_a_byte_order_mark_gets_an_error_that_says_so(
    ada: Person, path: str
) -> None:
    content = json.dumps(body_of(ada, path)).encode("utf-8-sig")
    answer = await send(ada, path, content=content)
    assert_problem(answer, 400, "malformed_body")
    assert "begins with a byte order mark" in answer.json()["detail"]


@pytest.mark.parametrize("path", BODIED)
async def test_a_body_is_refused_that_nests_too_deep(ada: Person, path: str) -> None:
    for depth in (201, 1_000, 30_000):
        content = b'{"x":' + b"[" * depth + b"]" * depth + b"}"
        answer = await send(ada, path, content=content)
        assert_problem(answer, 400, "malformed_body")


async def test_every_route_with_a_body_is_tested(app: FastAPI) -> None:
    requests = (httpx.Request(METHODS.get(path, "POST"), f"http://test{path}") for path in BODIED)
    tried = {each.id for request in requests if (each := operation_of(app, request))}
    assert tried == {each.id for each in operations(app) if "requestBody" in each.document}


async def test_every_route_with_a_body_reads_json_strictly(app: FastAPI) -> None:
    for route in app.routes:
        if isinstance(route, APIRoute) and route.body_field is not None:
            assert isinstance(route, StrictRoute | DirectRoute), route.path


@pytest.mark.parametrize("length", LENGTHS)
async def test_no_declared_length_breaks_the_service(ada: Person, length: str) -> None:
    for path in BODIED:
        headers = JSON | {"Content-Length": length}
        assert_refused(await send(ada, path, headers=headers, content=b"[]"), length)


async def test_a_body_over_64_kib_is_refused_as_it_arrives_too(ada: Person) -> None:
    class Chunks:
        async def __aiter__(self) -> AsyncIterator[bytes]:
            for _ in range(65):
                yield b" " * 1024

    for path in BODIED:
        answer = await send(ada, path, content=Chunks())
        assert_problem(answer, 413, "body_too_large")


@pytest.mark.parametrize("coding", ["gzip", "br", "GZIP", "identity, gzip", "x-unknown"])
async def test_a_compressed_body_is_refused_and_changes_nothing(
    visitor: Visitor, coding: str
) -> None:
    ada = await visitor.register()
    event = await ada.organise()
    headers = ada.headers | {"Content-Encoding": coding, "If-Match": "*"}
    for method, path, body in (
        ("POST", "/api/events/book", {"eventId": event, "userId": ada.id}),
        ("PATCH", f"/api/events/{event}", {"name": "Another concert"}),
    ):
        refused = await visitor.client.request(method, path, json=body, headers=headers)
        assert_problem(refused, 415, "unsupported_media_type")
        assert refused.headers["accept-encoding"] == "identity"
    found = await visitor.event(event)
    assert (found["name"], found["availableTickets"]) == ("A concert", 10)


@pytest.mark.parametrize("coding", ["", "identity", "Identity"])
async def test_a_body_with_identity_encoding_is_accepted(visitor: Visitor, coding: str) -> None:
    ada = await visitor.register()
    event = await ada.organise()
    headers = ada.headers | {"Content-Encoding": coding}
    body = {"eventId": event, "userId": ada.id}
    booked = await visitor.client.post("/api/events/book", json=body, headers=headers)
    assert booked.status_code == 201
