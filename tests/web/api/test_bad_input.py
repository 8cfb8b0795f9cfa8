"""A corpus of bad input: none of it gives a 500, changes a row, or takes a second."""

import base64
import json
import time
from collections.abc import AsyncIterable, AsyncIterator
from typing import Any

import httpx
import jwt
import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from tests.contract import assert_problem, operation_of, operations
from tests.people import Person, Visitor
from tests.signing import SECRET
from ticketing.db.tables import Base
from ticketing.identity.credentials import new_api_key, new_refresh_token
from ticketing.identity.tokens import key_id
from ticketing.web.direct import DirectRoute, StrictRoute

pytestmark = pytest.mark.usefixtures("unmeasured")

JSON = {"Content-Type": "application/json"}
NOBODY = "019938a5-7d10-7b3c-8a44-0e5b6f9c2d11"
BODIED = [
    "/api/users/register",
    "/api/users/login",
    "/api/events/initialize",
    "/api/events/book",
    "/api/events/cancel",
    "/api/users/refresh",
    "/api/users/logout",
    "/api/users/me/password",
    "/api/users/me/keys",
    "/api/users/me",
    "/api/events/1",
    f"/api/users/me/sessions/{NOBODY}",
    f"/api/events/1/team/{NOBODY}",
]
METHODS = {
    "/api/users/me": "DELETE",
    "/api/events/1": "PATCH",
    BODIED[-2]: "DELETE",
    BODIED[-1]: "PUT",
}
"""Of those that have a body and no POST."""
MAY_HAVE_NONE = "/api/users/logout"
LISTS = [
    *("/api/events", "/api/users/me/bookings", "/api/users/me/keys", "/api/users/me/sessions"),
    *("/api/events/1/bookings", "/api/events/1/team", "/api/events/1/trail"),
]

LONGEST = 1.0
"""Seconds that an answer may take."""

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
    *(None, 0, 1.5, True, [], {}, "", "me", "00000000", "null", "\0", "\ud800", "g" * 36),
    *("019938a5-3c6b-7f0e-b7a2-53f0c9d1e6aa\0", "019938a5-3c6b-7f0e-b7a2-53f0c9d1e6a"),
    *("' OR 1=1 --", "../../etc/passwd", "a" * 60_000, "\uff1019938a5-3c6b-7f0e-b7a2-53f0c9d1e6aa"),
]
FIELDS = {
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
    ("/api/users/refresh", "refreshToken"): [*NOT_TEXT, *TOO_LONG],
    ("/api/users/logout", "everywhere"): [None, 0, 1, "true", "", [], {}],
    ("/api/users/me/keys", "name"): [*NOT_TEXT, *TOO_LONG, ""],
    ("/api/users/me/keys", "expiresAt"): [
        *(0, 1e300, 4102444800, True, [], {}, "", "tomorrow", "2031-02-30T00:00:00Z", "\0"),
        *("2000-01-01T00:00:00Z", "9999-12-31T23:59:59-23:59", "0001-01-01T00:00:00+23:59"),
        *("2031-01-01T00:00:00", "2031-01-01", "99999-01-01T00:00:00Z", "4102444800"),
    ],
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
    ("/api/users/me", "password"): [*NOT_TEXT, *TOO_LONG],
    ("/api/events/1", "name"): [*NOT_TEXT, *TOO_LONG, "ab", "", " \t\n ", "\u2003ab\u00a0"],
    (BODIED[-2], "password"): [*NOT_TEXT, *TOO_LONG],
    (BODIED[-1], "role"): [*NOT_TEXT, *TOO_LONG, "", "owner", "Staff", "staff ", "admin", "self"],
    ("/api/events/initialize", "totalTickets"): [*NOT_AN_EVENT, 1_000_001, "200", "1e3"],
    ("/api/events/book", "eventId"): NOT_AN_EVENT,
    ("/api/events/book", "userId"): NOT_A_USER,
    ("/api/events/cancel", "eventId"): NOT_AN_EVENT,
    ("/api/events/cancel", "userId"): NOT_A_USER,
}

OPTIONAL = {"everywhere"}

QUERIES = [
    *("limit=0&limit=-1", "limit[]=1&limit=x", "limit=%00", "limit=%ff", "limit=1e1", "limit=1;2"),
    *("cursor=%00", "cursor=%ff%fe", "cursor=%ed%a0%80", "cursor=" + "a" * 10_000, "cursor=%"),
    *("limit=1_0", "limit=%2B1", "limit=+1", "limit=1+", "limit=1.0", "limit=01", "limit=-0"),
    *("limit=%d9%a1", "limit=%EF%BC%91", "limit=true", "limit="),
    *("cursor=a&cursor=-", "limit=99999999999999999999", "limit=" + "9" * 5_000),
]

PATHS = [
    *("/%00", "/%ff%fe", "/%", "/%2e%2e/%2e%2e/etc/passwd", "/..%2f..%2fetc%2fpasswd", "/ä/ö"),
    *("/api/events/%00", "/api/events/%ff", "/api/events/1%00", "/api/events/1%2f2"),
    *("/api/events/%d9%a1", "/api/events/" + "9" * 20_000, "/api/events/0x1", "/api/events/1e1"),
    *("/api/events/NaN", "/api/events/-0", "/api/events/%F0%9F%8E%9F", "/api/events/1,2"),
    *("/api/events/1/bookings/2", "/api/users/me/", "/api/users/1", "/" + "a" * 20_000),
    *("/static/%00", "/static/../app.py", "/static/%2e%2e/app.py", "/static/" + "a" * 5_000),
    *("/static", "/static/", "/static//etc/passwd", "/static/redoc", "/openapi.json/", "/docs/x"),
]

NAMED = [
    *(("DELETE", "/api/users/me/keys/{}"), ("PUT", "/api/events/1/team/{}")),
    *(("DELETE", "/api/events/1/team/{}"), ("PUT", f"/api/events/{{}}/team/{NOBODY}")),
    ("DELETE", "/api/users/me/sessions/{}"),
    *(("GET", "/api/events/{}/trail"), ("GET", "/api/events/{}/team")),
]
NAMES = [
    *(NOBODY, NOBODY.upper(), NOBODY[:-1], NOBODY + "0", "%7B" + NOBODY + "%7D", "0" * 32),
    *("urn:uuid:" + NOBODY, "%20" + NOBODY, NOBODY + "%0a", NOBODY + "%00", "me", "null", "%00"),
    *("%ff%fe", "%ED%A0%80", "%EF%BC%91", "..%2f..%2fme", "'%20OR%201=1%20--", "%25s%25n", "*"),
    *("-1", "0", "2", "1e1", "9" * 5_000, "a" * 20_000, "%F0%9F%8E%9F"),
]

HEADERS: list[dict[str, Any]] = [
    *({"Host": host} for host in ("[", "]", "a:b:c", "http://[::1", "%00", " ", "a" * 10_000)),
    {"Host": b"\xff\xfe"},
    *({"X-Request-Id": given} for given in ("", " ", "a" * 65, "a b", "a;b", '"}', "%0a", "../x")),
    {"X-Request-Id": b"\xff"},
    {"Accept": "\t,;q=;*", "Accept-Encoding": "x" * 10_000, "Accept-Language": b"\xff"},
    {"Cookie": "a=b; c" * 1_000},
    {"Range": "bytes=9-1,x", "If-None-Match": '"', "If-Modified-Since": "never"},
    {"X-Forwarded-For": "'; --", "Forwarded": "for=\x01", "X-Forwarded-Proto": "gopher"},
    {"Expect": "200-maybe", "Upgrade": "websocket", "Connection": "upgrade"},
    {"X-HTTP-Method-Override": "DELETE"},
]
CONTENT_TYPES: list[Any] = [
    *("", " ", "/", "json", "text/plain", "text/json", "application/xml", "application/", ";"),
    *("application/x-www-form-urlencoded", "multipart/form-data", "multipart/form-data; boundary="),
    *("application/json2", "application/jsonp", "a" * 10_000, b"\xff\xfe", b"application/\xffjson"),
    "application/octet-stream, application/json",
]
LENGTHS = ["abc", "", " ", "-1", "+5", "1.5", "0x10", "9" * 5_000, "1_0", "\u0663x".encode().hex()]


class Swift(httpx.AsyncBaseTransport):
    """Sends what took long again: slow is what is slow by itself, not what met a busy machine."""

    def __init__(self, transport: httpx.AsyncBaseTransport) -> None:
        self._transport = transport

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        for _ in range(3):
            started = time.perf_counter()
            answer = await self._transport.handle_async_request(request)
            if time.perf_counter() - started <= LONGEST:
                return answer
        raise AssertionError(f"{request.method} {request.url!s:.200} takes over {LONGEST} s")


@pytest.fixture
def client(client: httpx.AsyncClient) -> httpx.AsyncClient:
    client._transport = Swift(client._transport)
    return client


@pytest.fixture
async def ada(visitor: Visitor, engine: AsyncEngine) -> AsyncIterator[Person]:
    """Somebody with an event, a place and a place in a line, whose rows stay as they are."""
    ada, bob = [await visitor.register() for _ in range(2)]
    event = await ada.organise(total=1)
    await ada.book(event)
    await bob.book(event)
    before = await rows(engine)
    yield ada
    assert await rows(engine) == before


# What commits that changed nothing leave, and the counts of limits, are no rows of anybody.
TABLES = sorted(set(Base.metadata.tables) - {"commits", "rates"})


async def rows(engine: AsyncEngine) -> dict[str, list[str]]:
    async with engine.connect() as connection:
        return {
            table: list(
                await connection.scalars(text(f"SELECT t::text FROM {table} AS t ORDER BY 1"))
            )
            for table in TABLES
        }


def body_of(person: Person, path: str) -> dict[str, Any]:
    """What the route would accept."""
    bodies: dict[str, dict[str, Any]] = {
        "/api/users/register": {"username": "newcomer", "password": "correct horse"},
        "/api/users/login": {"username": "newcomer", "password": "correct horse"},
        "/api/events/initialize": {"name": "A concert", "totalTickets": 1},
        "/api/events/book": {"eventId": 1, "userId": person.id},
        "/api/events/cancel": {"eventId": 1, "userId": person.id},
        "/api/users/refresh": {"refreshToken": person.refresh_token},
        "/api/users/logout": {"everywhere": True},
        "/api/users/me/password": {
            "currentPassword": "correct horse",
            "newPassword": "another horse",
        },
        "/api/users/me/keys": {"name": "A program", "scopes": ["bookings:read"]},
        "/api/users/me": {"password": "correct horse"},
        "/api/events/1": {"name": "Another concert"},
        BODIED[-2]: {"password": "correct horse"},
        BODIED[-1]: {"role": "staff"},
    }
    return bodies[path]


async def send(
    person: Person,
    path: str,
    *,
    headers: dict[str, Any] = JSON,
    content: str | bytes | AsyncIterable[bytes] | None = None,
    json: object = None,
) -> httpx.Response:
    """Send a body to where one belongs."""
    return await person.client.request(
        METHODS.get(path, "POST"),
        path,
        headers=person.headers | headers,
        content=content,
        json=json,
    )


def assert_refused(answer: httpx.Response, what: object) -> None:
    assert 400 <= answer.status_code < 500, f"{what!r:.200}: {answer.status_code} {answer.text}"


@pytest.mark.parametrize("path", [*BODIED, "/api/users/token"])
async def test_no_body_that_is_none_is_served(ada: Person, path: str) -> None:
    for what, body in BODIES.items():
        if body or path != MAY_HAVE_NONE:
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
        # A lone surrogate is not JSON at all.
        if isinstance(value, str) and not is_utf8(value):
            assert_problem(answer, 400, "malformed_body")
            continue
        refused = assert_problem(answer, 422, "validation_failed")
        assert [error["pointer"] for error in refused["errors"]] == [f"#/{field}"], repr(value)


async def test_no_bad_scope_is_served(ada: Person) -> None:
    scopes: list[Any] = [
        *(None, "bookings:read", {}, [], [None], [1], ["bookings"], ["BOOKINGS:READ"], [["x"]]),
        *(["bookings:read"] * 4, ["bookings:read", "admin"], ["*"], ["\0"], ["bookings:read "]),
    ]
    for each in scopes:
        answer = await ada.post("/api/users/me/keys", {"name": "A program", "scopes": each})
        assert_problem(answer, 422, "validation_failed")


@pytest.mark.parametrize("path", BODIED)
async def test_no_field_more_or_less_is_served(ada: Person, path: str) -> None:
    body = body_of(ada, path)
    wrong: list[dict[str, Any]] = [
        body | {"id": 1},
        body | {"": ""},
        body | {"is_admin": True},
        {key.upper(): value for key, value in body.items()},
        {"event_id": 1, "user_id": ada.id, "total_tickets": 1} | body,
        *({k: v for k, v in body.items() if k != missing} for missing in body.keys() - OPTIONAL),
    ]
    for given in wrong:
        answer = await send(ada, path, json=given)
        assert_problem(answer, 422, "validation_failed")


async def test_no_query_that_is_none_is_served(ada: Person) -> None:
    for path in LISTS:
        for query in QUERIES:
            answer = await ada.client.get(f"{path}?{query}", headers=ada.headers)
            assert_problem(answer, 422, answer.json()["code"])
    for query in ("q=", "q=%00", "q=" + "a" * 101, "q=" + "%F0%9F%8E%9F" * 101, "q=ok&q=%00"):
        answer = await ada.client.get(f"/api/events?{query}")
        assert_problem(answer, 422, "validation_failed")


async def test_no_search_text_breaks_the_search(ada: Person) -> None:
    for q in ("%", "_", "\\", "'", '"', "%%%", "\\%", "a' OR '1'='1", "\u202e", "\x01", "🎟" * 100):
        answer = await ada.get("/api/events", q=q)
        assert answer.status_code == 200
        assert answer.json()["items"] == []
    # What is not UTF-8 is searched for as replacement characters.
    for query in ("q=%ff", "q=%ed%a0%80", "q=%", "q=%zz"):
        answer = await ada.client.get(f"/api/events?{query}")
        assert answer.json() == {"items": [], "nextCursor": None}


async def test_no_path_breaks_the_service(ada: Person) -> None:
    for path in PATHS:
        answer = await ada.client.get(path, headers=ada.headers)
        assert answer.status_code in {404, 422}, path[:100]


async def test_no_name_in_a_path_breaks_the_service(ada: Person) -> None:
    for name in NAMES:
        for method, path in NAMED:
            json = {"role": "staff"} if method == "PUT" else None
            if "sessions" in path:
                json = {"password": "correct horse"}
            answer = await ada.client.request(
                method, path.format(name), headers=ada.headers, json=json
            )
            assert answer.status_code in {404, 422}, f"{method} {path.format(name):.100}"


@pytest.mark.parametrize("suffix", ["", "/bookings"])
async def test_an_event_has_one_address(ada: Person, suffix: str) -> None:
    assert (await ada.client.get(f"/api/events/1{suffix}", headers=ada.headers)).status_code == 200
    for other in ("1.0", "1_0", "+1", "%201", "1%20", "01", "1%0a", "%EF%BC%91", "1e0", "0x1"):
        answer = await ada.client.get(f"/api/events/{other}{suffix}", headers=ada.headers)
        (error,) = assert_problem(answer, 422, "validation_failed")["errors"]
        assert (error["pointer"], error["type"]) == ("#/eventId", "int_parsing"), other


@pytest.mark.parametrize("path", BODIED)
async def test_a_body_that_would_do_is_refused_in_another_encoding(ada: Person, path: str) -> None:
    content = json.dumps(body_of(ada, path))
    for encoding in ("utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"):
        answer = await send(ada, path, content=content.encode(encoding))
        assert_problem(answer, 400, "malformed_body")


@pytest.mark.parametrize("path", BODIED)
async def test_a_body_is_refused_that_nests_too_deep(ada: Person, path: str) -> None:
    for depth in (201, 1_000, 30_000):
        content = b'{"x":' + b"[" * depth + b"]" * depth + b"}"
        answer = await send(ada, path, content=content)
        assert_problem(answer, 400, "malformed_body")


async def test_every_route_with_a_body_is_in_the_corpus(app: FastAPI) -> None:
    requests = (httpx.Request(METHODS.get(path, "POST"), f"http://test{path}") for path in BODIED)
    tried = {each.id for request in requests if (each := operation_of(app, request))}
    assert tried == {each.id for each in operations(app) if "requestBody" in each.document}


async def test_every_route_with_a_body_reads_json_strictly(app: FastAPI) -> None:
    for route in app.routes:
        if isinstance(route, APIRoute) and route.body_field is not None:
            assert isinstance(route, StrictRoute | DirectRoute), route.path


async def test_no_header_turns_a_method_into_another(ada: Person) -> None:
    for name in ("X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override", "_method"):
        for path in ("/api/events/cancel?_method=POST", "/api/events/1?_method=DELETE"):
            plain = await ada.client.get(path, headers=ada.headers)
            answer = await ada.client.get(path, headers=ada.headers | {name: "POST"})
            assert answer.status_code == plain.status_code


async def test_no_answer_tells_back_what_host_it_was_asked_for(ada: Person) -> None:
    tricks = {
        "Host": "evil.example",
        "X-Forwarded-Host": "evil.example",
        "X-Host": "evil.example",
        "Forwarded": "host=evil.example",
        "X-Original-URL": "/evil.example",
    }
    paths = ("/", "/docs", "/openapi.json", "/static", "/nope", "/api/events/", "/api/events/1")
    for path in paths:
        answer = await ada.client.get(path, headers=ada.headers | tricks)
        assert "evil" not in f"{answer.headers} {answer.text}"


async def test_no_method_breaks_the_service(ada: Person) -> None:
    for path in (*(set(BODIED) - METHODS.keys()), "/", "/static/docs.js", "/docs"):
        for method in ("PUT", "DELETE", "PATCH", "TRACE", "CONNECT", "BREW", "get", "P" * 1_000):
            answer = await ada.client.request(method, path, headers=ada.headers)
            # "get" is written "GET" by the client, and some of these have it.
            assert answer.status_code == 405 or method == "get"
            assert answer.headers.get("allow") or answer.is_success


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


async def test_no_header_breaks_the_service(ada: Person) -> None:
    for given in HEADERS:
        headers = ada.headers | given
        served = await ada.client.get("/api/events/1", headers=headers)
        assert_problem(await ada.client.get("/nope", headers=headers), 404, "not_found")
        assert served.status_code == 200
        assert served.headers["x-request-id"] not in {"", given.get("X-Request-Id")}


KID = key_id(SECRET)


def token(key: str = SECRET, algorithm: str = "HS256", kid: object = KID, **claims: object) -> str:
    now = int(time.time())
    usual = {
        "sub": "019938a5-3c6b-7f0e-b7a2-53f0c9d1e6aa",
        "sid": "019938a5-7d10-7b3c-8a44-0e5b6f9c2d11",
        "iss": "ticketing",
        "aud": "ticketing",
        "iat": now,
        "exp": now + 60,
        "jti": "1",
    }
    given = {name: value for name, value in (usual | claims).items() if value is not ...}
    return jwt.encode(given, key, algorithm, {} if kid is ... else {"kid": kid})


def raw_token(header: bytes, claims: bytes, algorithm: str = "HS256") -> str:
    """Parts that no library would write, signed with the service's own key, which they name."""
    header = header.replace(b"{", b'{"kid": "%s", ' % KID.encode(), 1)
    parts = [base64.urlsafe_b64encode(part).rstrip(b"=") for part in (header, claims)]
    signature = jwt.get_algorithm_by_name(algorithm).sign(b".".join(parts), SECRET.encode())
    return b".".join([*parts, base64.urlsafe_b64encode(signature).rstrip(b"=")]).decode()


HS256 = b'{"alg": "HS256", "typ": "JWT"}'


def bad_tokens() -> dict[str, str]:
    now = int(time.time())
    good = token()
    head, claims, signature = good.split(".")
    payload = json.dumps(jwt.decode(good, options={"verify_signature": False})).encode()
    return {
        "another key": token("another key that is long enough for HS256"),
        "no algorithm": token("", "none"),
        "no algorithm, in capitals": raw_token(b'{"alg": "NONE"}', b"{}"),
        "another algorithm": raw_token(b'{"alg": "HS512"}', payload, "HS512"),
        "another algorithm than it says": raw_token(HS256, payload, "HS512"),
        "a number for an algorithm": raw_token(b'{"alg": 1}', b"{}"),
        "a list for an algorithm": raw_token(b'{"alg": ["HS256"]}', b"{}"),
        "an algorithm of public keys": raw_token(b'{"alg": "RS256"}', b"{}"),
        "an unknown critical header": raw_token(b'{"alg": "HS256", "crit": ["x"]}', b"{}"),
        "a detached payload": raw_token(b'{"alg": "HS256", "b64": false, "crit": ["b64"]}', b"{}"),
        "a number for a key id": raw_token(b'{"alg": "HS256", "kid": 1}', payload),
        "a list for a key id": raw_token(b'{"alg": "HS256", "kid": ["x"]}', payload),
        "a path for a key id": token(kid="../../dev/null"),
        "the id of a key that is not ours": token(kid="00000000"),
        "no key id": token(kid=...),
        "a key of its own": raw_token(b'{"alg": "HS256", "kid": "x", "jwk": {}}', payload),
        "a header that is a list": raw_token(b"[]", b"{}"),
        "a header that is no JSON": raw_token(b"{", b"{}"),
        "a header that is no UTF-8": raw_token(b"\xff", b"{}"),
        "a header nested deep": raw_token(b'{"alg": "HS256", "x": ' + b"[" * 9_000, b"{}"),
        "claims that are a list": raw_token(HS256, b"[]"),
        "claims that are no JSON": raw_token(HS256, b"{"),
        "claims nested deep": raw_token(HS256, b"[" * 9_000),
        "expired": token(exp=now - 1),
        "expired long ago": token(exp=-1),
        "not yet valid": token(nbf=now + 60),
        "issued in the future": token(iat=now + 60),
        "another audience": token(aud="elsewhere"),
        "a list of other audiences": token(aud=["elsewhere"]),
        "another issuer": token(iss="elsewhere"),
        "no subject": token(sub=...),
        "no session": token(sid=...),
        "a session that is no id": token(sid="mine"),
        "a session that is a number": token(sid=1),
        "a session that is a list": token(sid=[]),
        "no issuer": token(iss=...),
        "no audience": token(aud=...),
        "no time of issue": token(iat=...),
        "no end": token(exp=...),
        "no id": token(jti=...),
        "a subject that is no id": token(sub="ada"),
        "a subject that is a number": token(sub=1),
        "a subject that is a list": token(sub=["ada"]),
        "a subject that is nothing": token(sub=None),
        "an end that is a word": token(exp="never"),
        "an end that is infinite": token(exp=float("inf")),
        "an end that is not a number": token(exp=float("nan")),
        "an end beyond every float": token(exp=10**400),
        "an end of 5,000 digits": raw_token(HS256, b'{"exp": ' + b"9" * 5_000 + b"}"),
        "a start that is infinite": token(nbf=float("inf")),
        "an issue that is infinite": token(iat=float("inf")),
        "no signature": f"{head}.{claims}.",
        "two parts": f"{head}.{claims}",
        "four parts": f"{good}.{signature}",
        "five parts": ".".join([head] * 5),
        "another's claims": f"{head}.{token(sub='x').split('.')[1]}.{signature}",
        "a refresh token": new_refresh_token(),
        "an API key that was never made": new_api_key(),
        "an API key with a wrong check sum": new_api_key()[:-8] + "00000000",
        "an API key without one": new_api_key()[:-9],
        "half an API key": new_api_key()[:40],
        "an API key in capitals": new_api_key().upper(),
        "a huge API key": "tkt_" + "0" * 60_000,
        "an API key's prefix": "tkt_",
        "nothing": "",
        "dots": "..",
        "a word": "null",
        "a wildcard": "*",
        "a huge one": "a" * 60_000,
        "huge claims": token(x="a" * 40_000, aud="elsewhere"),
        "blanks": "a b c",
        "SQL": "' OR 1=1 --",
    }


async def test_no_bad_token_is_served(ada: Person) -> None:
    assert (await with_authorization(ada, f"Bearer {token(sub=ada.id)}")).status_code == 200
    for what, bad in bad_tokens().items():
        answer = await with_authorization(ada, f"Bearer {bad}")
        assert answer.status_code == 401, what
        assert_problem(answer, 401, "not_authenticated")
        event = {"name": "A concert", "totalTickets": 1}
        headers = {"Authorization": f"Bearer {bad}"}
        made = await ada.client.post("/api/events/initialize", headers=headers, json=event)
        assert_problem(made, 401, "not_authenticated")


async def test_no_other_scheme_is_served(ada: Person) -> None:
    for given in (
        *("", " ", "Bearer", "Bearer ", "Basic YWRhOmhvcnNl", f"Token {ada.token}", ada.token),
        *(
            f"Bearer{ada.token}",
            f"Bearer\t{ada.token}",
            f'Bearer "{ada.token}"',
            f"Bearer,{ada.token}",
        ),
        *(b"\xff\xfe", b"Bearer \xff\xfe.\xff.\xff", b"Bearer \xc3\xa9"),
    ):
        assert_problem(await with_authorization(ada, given), 401, "not_authenticated")


async def with_authorization(person: Person, given: str | bytes) -> httpx.Response:
    value = given.encode() if isinstance(given, str) else given
    return await person.client.get("/api/users/me", headers={b"Authorization": value})
