"""Bad addresses, methods and headers: none gives a 500, changes a row, or takes a second."""

from typing import Any

import pytest

from tests.bodies import BODIED, METHODS, NOBODY
from tests.contract import assert_problem
from tests.people import Person

pytestmark = pytest.mark.usefixtures("unmeasured")

LISTS = [
    *("/api/events", "/api/users/me/bookings", "/api/users/me/keys", "/api/users/me/sessions"),
    *("/api/events/1/bookings", "/api/events/1/team", "/api/events/1/trail"),
]

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
    ("POST", "/api/users/me/sessions/{}/end"),
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


async def test_no_invalid_query_is_served(ada: Person) -> None:
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
    # Bytes that are not UTF-8 are searched for as replacement characters.
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


async def test_no_header_turns_a_method_into_another(ada: Person) -> None:
    for name in ("X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override", "_method"):
        for path in ("/api/events/cancel?_method=POST", "/api/events/1?_method=DELETE"):
            plain = await ada.client.get(path, headers=ada.headers)
            answer = await ada.client.get(path, headers=ada.headers | {name: "POST"})
            assert answer.status_code == plain.status_code


async def test_no_response_repeats_the_host_of_the_request(ada: Person) -> None:
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
            is_read = answer.is_success or answer.status_code == 404
            assert answer.headers.get("allow") or is_read


async def test_no_header_breaks_the_service(ada: Person) -> None:
    for given in HEADERS:
        headers = ada.headers | given
        served = await ada.client.get("/api/events/1", headers=headers)
        assert_problem(await ada.client.get("/nope", headers=headers), 404, "not_found")
        assert served.status_code == 200
        assert served.headers["x-request-id"] not in {"", given.get("X-Request-Id")}
