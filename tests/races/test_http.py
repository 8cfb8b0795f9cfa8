"""Requests that a server must refuse in HTTP/1.1, on a real connection (RFC 9110 and 9112)."""

import socket
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import httpx
import pytest

from tests.folders import folder_open_to_all, put
from tests.serving import Service, serving

LOGIN = b'{"username":"nobody","password":"correct horse"}'
LENGTH = b"Content-Length: %d\r\n" % len(LOGIN)
TYPE = b"Content-Type: application/json\r\n"
CHUNKED = b"%x\r\n%b\r\n0\r\n\r\n" % (len(LOGIN), LOGIN)


@pytest.fixture(scope="module")
def service(kept_data: Path) -> Iterator[Service]:
    with folder_open_to_all() as folder:
        put(kept_data, folder)
        with serving(folder) as running:
            yield running


def ask(service: Service, *parts: bytes) -> bytes:
    """Send parts, each after the response to the previous one, and return all responses."""
    host, port = service.url.removeprefix("http://").split(":")
    said = b""
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        for part in parts:
            connection.sendall(part)
            said += connection.recv(65536)
        connection.shutdown(socket.SHUT_WR)
        while more := connection.recv(65536):
            said += more
    return said


def get(line: bytes = b"GET /livez HTTP/1.1", *fields: bytes) -> bytes:
    return b"\r\n".join([line, *fields, b"", b""])


HOSTS = [
    *(b"a", b"tickets.example:3000", b"127.0.0.1", b"[::1]:3000", b"a_b.example", b"%41.example"),
    *(b"a:", b"[::1]:"),
]
NO_HOSTS = [b"", b" ", b"a b", b"a/b", b"a@b", b"a:b", b"a:123456", b"[::1", b"::1", b"a%4"]


@pytest.mark.parametrize("host", HOSTS)
def test_a_valid_host_is_accepted(service: Service, host: bytes) -> None:
    assert ask(service, get(b"GET /livez HTTP/1.1", b"Host: " + host)).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("line", [b"GET /livez HTTP/1.1", b"GET /livez HTTP/1.0"])
@pytest.mark.parametrize("host", NO_HOSTS)
def test_an_invalid_host_is_refused(service: Service, line: bytes, host: bytes) -> None:
    said = ask(service, get(line, b"Host: " + host))
    assert said.startswith(b"HTTP/1.1 400 ")
    assert b'"code":"malformed_request"' in said


@pytest.mark.parametrize(
    ("target", "same"),
    [
        (b"GET http://a/livez", b"GET /livez"),
        (b"GET http://a", b"GET /"),
        (b"GET HTTP://a:80", b"GET /"),
        (b"GET http://a?q=1", b"GET /?q=1"),
        (b"OPTIONS http://a", b"OPTIONS *"),
        (b"OPTIONS http://a?q=1", b"OPTIONS /?q=1"),
        (b"OPTIONS http://a/", b"OPTIONS /"),
    ],
)
def test_a_target_in_absolute_form_is_the_same_without_its_authority(
    service: Service, target: bytes, same: bytes
) -> None:
    asked, plain = [
        ask(service, get(line + b" HTTP/1.1", b"Host: a", b"X-Request-ID: mine")).lower()
        for line in (target, same)
    ]
    assert b'"code":"malformed_request"' not in asked
    (status, _, body), (plain_status, _, plain_body) = (
        (each.partition(b"\r\n")[0], *each.partition(b"\r\n\r\n")[1:]) for each in (asked, plain)
    )
    assert (status, body) == (plain_status, plain_body)


def test_a_request_without_a_host_is_refused_in_1_1_and_accepted_in_1_0(service: Service) -> None:
    assert ask(service, get()).startswith(b"HTTP/1.1 400 ")
    assert ask(service, get(b"GET /livez HTTP/1.0")).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("version", [b" HTTP/2.0", b" HTTP/0.9", b""])
def test_another_version_is_refused_by_its_name(service: Service, version: bytes) -> None:
    # HTTP/0.9 names no version at all.
    said = ask(service, get(b"GET /livez" + version, b"Host: a"))
    assert said.startswith(b"HTTP/1.1 505 ")
    assert b'"code":"http_version_not_supported"' in said


@pytest.mark.parametrize("line", [b"GET /livez HTTP/1.2", b"GET /livez HTTP/3.0"])
def test_an_unknown_version_is_refused(service: Service, line: bytes) -> None:
    said = ask(service, get(line, b"Host: a"))
    assert said.startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize(
    ("coding", "status"),
    [
        (b"chunked", 401),
        (b"Chunked", 401),
        (b"gzip, chunked", 501),
        (b"chunked, gzip", 400),
        (b"gzip", 501),
        (b"chunked, chunked", 400),
        (b"identity", 501),
    ],
)
def test_an_ambiguous_body_is_refused(service: Service, coding: bytes, status: int) -> None:
    head = [b"POST /api/users/login HTTP/1.1", b"Host: a", TYPE[:-2]]
    said = ask(service, b"\r\n".join([*head, b"Transfer-Encoding: " + coding, b"", CHUNKED]))
    assert said.startswith(b"HTTP/1.1 %d " % status), said[:60]


def test_chunks_are_refused_in_http_1_0(service: Service) -> None:
    head = [b"POST /api/users/login HTTP/1.0", b"Host: a", TYPE[:-2]]
    said = ask(service, b"\r\n".join([*head, b"Transfer-Encoding: chunked", b"", CHUNKED]))
    assert said.startswith(b"HTTP/1.1 400 ")


def expecting(line: bytes, expected: bytes, length: bytes = LENGTH) -> bytes:
    return line + b"\r\nHost: a\r\n" + TYPE + b"Expect: " + expected + b"\r\n" + length + b"\r\n"


POST = b"POST /api/users/login HTTP/1.1"


def test_a_client_that_expects_100_continue_gets_it(service: Service) -> None:
    said = ask(service, expecting(POST, b"100-continue"), LOGIN)
    assert said.startswith(b"HTTP/1.1 100 ")
    assert b"HTTP/1.1 401 " in said


def test_a_client_of_1_0_never_gets_100_continue(service: Service) -> None:
    said = ask(service, expecting(POST[:-1] + b"0", b"100-continue") + LOGIN)
    assert said.startswith(b"HTTP/1.1 401 ")


def test_another_expectation_is_refused(service: Service) -> None:
    said = ask(service, expecting(POST, b"200-ok") + LOGIN)
    assert said.startswith(b"HTTP/1.1 417 ")
    assert b'"code":"expectation_failed"' in said


@pytest.mark.parametrize("length", [b"65537", b"70000", b"99999999999"])
def test_a_body_that_is_too_large_gets_no_100_continue(service: Service, length: bytes) -> None:
    declared = b"Content-Length: " + length + b"\r\n"
    said = ask(service, expecting(POST, b"100-continue", declared))
    assert said.startswith(b"HTTP/1.1 413 ")
    assert b"connection: close" in said.lower()


PAGES = ("/docs", "/redoc", "/openapi.json", "/static/docs.js", "/static/none.js", "/nothing")
DIFFERS = {"date", "x-request-id", "ratelimit", "transfer-encoding"}


@pytest.mark.parametrize("encoding", ["identity", "gzip"])
def test_a_head_has_the_header_of_its_get_and_no_body(service: Service, encoding: str) -> None:
    who = {"username": f"head-{encoding}", "password": "correct horse"}
    uuids = ("keyId", "sessionId", "userId", "bookingId", "customerId", "webhookId", "ticketId")
    ids = dict.fromkeys(uuids, str(uuid4()))
    ids |= dict.fromkeys(("eventId", "ticketTypeId", "quotaId", "codeId"), "1")
    asked = {"Accept-Encoding": encoding, "Connection": "close"}
    with httpx.Client(base_url=service.url, headers=asked) as client:
        client.post("/api/users/register", json=who).raise_for_status()
        token = client.post("/api/users/login", json=who).json()["token"]
        client.headers["Authorization"] = f"Bearer {token}"
        paths = client.get("/openapi.json").json()["paths"]
        read = [
            path.format(**ids)
            for path, item in paths.items()
            # A stream has no end. A manifest has the time, in as many digits as it needs.
            if "get" in item and not path.endswith(("/live", "/door-manifest"))
        ]
        assert len(read) > 10
        client.post("/api/events/initialize", json={"name": "Recital", "totalTickets": 1})
        statuses = set()
        for path in (*read, *PAGES):
            got = client.get(path)
            head = [f"{name}: {value}".encode() for name, value in client.headers.items()]
            said = ask(service, get(b"HEAD %b HTTP/1.1" % path.encode(), b"Host: a", *head))
            first, *lines = said.removesuffix(b"\r\n\r\n").decode().split("\r\n")
            assert first.split()[1] == str(got.status_code), path
            told = dict(line.split(": ", 1) for line in lines)
            assert said.endswith(b"\r\n\r\n")
            assert said.count(b"\r\n\r\n") == 1, path
            # The length of what is compressed or streamed is not known in advance.
            if not {"content-encoding", "transfer-encoding"} & got.headers.keys():
                assert int(told["content-length"]) == len(got.content), path
            for name, value in got.headers.items():
                assert name in DIFFERS or told[name] == value, f"{path}: {name}"
            statuses.add(got.status_code)
        assert statuses >= {200, 404}
