"""Limits of size and time of a connection, over plain sockets."""

import json
import re
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.folders import folder_open_to_all, put
from tests.serving import PATIENCE, UNMEASURED, Service, serving

HOST = b"Host: x\r\n"
POST = b"POST /api/users/login HTTP/1.1\r\nContent-Type: application/json\r\n" + HOST
CREDENTIALS = b'{"username":"nobody","password":"correct horse"}'
LENGTH = b"Content-Length: %d\r\n" % len(CREDENTIALS)
ALIVE = b"GET /livez HTTP/1.1\r\n" + HOST + b"\r\n"


@contextmanager
def kept(data: Path, **settings: str) -> Iterator[Service]:
    """One service for several tests, because none changes anything."""
    with folder_open_to_all() as folder:
        put(data, folder)
        with serving(folder, **settings) as running:
            yield running
            assert "Traceback" not in running.console.read_text()


@pytest.fixture(scope="module")
def service(kept_data: Path) -> Iterator[Service]:
    limits = {"TICKETING_HEADER_TIMEOUT": "1", "TICKETING_BODY_TIMEOUT": "2"}
    with kept(kept_data, **limits) as running:
        yield running


@pytest.fixture(scope="module")
def narrow(kept_data: Path) -> Iterator[Service]:
    """A service below a prefix, for one connection."""
    limits = {"TICKETING_MAX_CONNECTIONS": "1", "TICKETING_BODY_TIMEOUT": "2"}
    with kept(kept_data, TICKETING_ROOT_PATH="/tickets", **limits, **UNMEASURED) as running:
        yield running


@pytest.fixture(scope="module")
def hasty(kept_data: Path) -> Iterator[Service]:
    """A service that waits for a second only."""
    limits = {"TICKETING_KEEP_ALIVE": "1", "TICKETING_BODY_TIMEOUT": "1"}
    with kept(kept_data, **limits, **UNMEASURED) as running:
        yield running


def connect(service: Service) -> socket.socket:
    url = httpx.URL(service.url)
    return socket.create_connection((url.host, url.port), timeout=10)


def deaf(service: Service) -> socket.socket:
    """A connection that buffers almost nothing."""
    url = httpx.URL(service.url)
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.connect((url.host, url.port))
    return connection


def until_closed(connection: socket.socket) -> bytes:
    said = b""
    with suppress(ConnectionResetError):
        while more := connection.recv(65536):
            said += more
    return said


def say(service: Service, *parts: bytes, pause: float = 0.0, is_all: bool = False) -> bytes:
    """Return all responses until the service closes. With `is_all`, first close for writing."""
    with connect(service) as connection:
        with suppress(BrokenPipeError, ConnectionResetError):
            for part in parts:
                connection.sendall(part)
                time.sleep(pause)
            if is_all:
                connection.shutdown(socket.SHUT_WR)
        return until_closed(connection)


def assert_refused(said: bytes, status: int, code: str) -> dict[str, Any]:
    head, _, body = said.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 %d " % status), said[:200]
    fields = dict(line.split(b": ", 1) for line in head.lower().split(b"\r\n")[1:])
    assert fields[b"content-type"] == b"application/problem+json"
    assert fields[b"connection"] == b"close"
    assert fields[b"x-content-type-options"] == b"nosniff"
    document: dict[str, Any] = json.loads(body)
    assert (document["code"], document["status"]) == (code, status)
    assert document["requestId"].encode() == fields[b"x-request-id"]
    return document


def statuses(said: bytes) -> list[int]:
    return [int(status) for status in re.findall(rb"HTTP/1\.1 ([0-9]{3}) ", said)]


CLOSE = b"Connection: close\r\n\r\n"
# It needs the database, and a thread for the password.
EVENT = b"GET /api/events/999 HTTP/1.1\r\n" + HOST + b"\r\n"
LOGIN = POST + LENGTH + b"\r\n" + CREDENTIALS


@pytest.mark.parametrize("pause", [0, 0.003])
@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ([], []),
        ([ALIVE], [200]),
        ([EVENT], [404]),
        ([EVENT + b"\r\n"], [404]),
        ([LOGIN], [401]),
        ([EVENT] * 20, [404] * 20),
        ([ALIVE, EVENT, LOGIN, ALIVE], [200, 404, 401, 200]),
        ([b"".join([ALIVE, EVENT, LOGIN, ALIVE])], [200, 404, 401, 200]),
        ([b"".join([EVENT] * 200)], [404] * 200),
        ([EVENT + b"nonsense\r\n\r\n"], [404, 400]),
        ([EVENT[:-2]], [400]),
        ([EVENT, EVENT[:-2]], [404, 400]),
        ([LOGIN[:-1]], [400]),
        ([EVENT, LOGIN[:-1]], [404, 400]),
        ([LOGIN, ALIVE, LOGIN[:-1]], [401, 200, 400]),
    ],
)
def test_a_client_that_has_closed_for_writing_gets_its_responses(
    service: Service, asked: list[bytes], told: list[int], pause: float
) -> None:
    for _ in range(5):
        assert statuses(say(service, *asked, pause=pause, is_all=True)) == told


def test_no_request_passes_a_limit(service: Service) -> None:
    get = b"GET /livez HTTP/1.1\r\n" + HOST
    fields = b"".join(b"X-%d: 1\r\n" % number for number in range(98))
    assert statuses(say(service, get + fields + CLOSE)) == [200]
    assert_refused(say(service, get + fields + b"X: 1\r\n" + CLOSE), 431, "headers_too_large")
    big = b"X: " + b"a" * 16_000 + b"\r\n"
    assert statuses(say(service, get + big + CLOSE)) == [200]
    big = b"X: " + b"a" * 16_400 + b"\r\n"
    assert_refused(say(service, get + big + CLOSE), 431, "headers_too_large")
    assert_refused(say(service, get + b"X: ", *[b"a" * 65_536] * 20), 431, "headers_too_large")
    many = b"X-Some: value\r\n" * 1_000
    assert_refused(say(service, get, *[many] * 20), 431, "headers_too_large")

    path = b"GET /livez?%b HTTP/1.1\r\n" + HOST + CLOSE
    assert statuses(say(service, path % (b"a" * 8_100))) == [200]
    assert_refused(say(service, path % (b"a" * 8_200)), 414, "url_too_long")
    assert_refused(say(service, b"GET /", *[b"a" * 65_536] * 20), 414, "url_too_long")

    chunked = POST + b"Transfer-Encoding: chunked\r\n\r\n"
    trailers = b"X-Some: value\r\n" * 1_000
    body = b"2\r\n{}\r\n0\r\n"
    assert_refused(say(service, chunked + body, *[trailers] * 100), 413, "body_too_large")
    declared = POST + b"Content-Length: 104857600\r\n\r\n"
    assert_refused_by_application = say(service, declared, *[b" " * 65_536] * 50)
    assert statuses(assert_refused_by_application) == [413]
    assert httpx.get(service.url + "/livez").status_code == 200


def test_bytes_that_are_no_request_get_an_error(service: Service) -> None:
    for said in (
        *(b"hello\r\n\r\n", b"GET / HTTP/1.1\r\nbad header\r\n\r\n", b"GET /\xff HTTP/1.1\r\n\r\n"),
        *(
            b"\x16\x03\x01\x02\x00\x01",
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            b"GET / HTTP/9.9\r\n\r\n",
        ),
        b"CONNECT evil.example:443 HTTP/1.1\r\n" + HOST + b"\r\n",
        POST + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n",
        POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        POST + b"Content-Length: -1\r\n\r\n",
        *(
            POST + 2 * (name + b": a\r\n") + b"Content-Length: 2\r\n\r\n{}"
            for name in (b"Authorization", b"idempotency-key", b"Content-type")
        ),
        b"GET /livez HTTP/1.1\r\n" + 2 * HOST + b"\r\n",
    ):
        answer = say(service, said)
        assert b"evil" not in answer
        assert_refused(answer, 400, "malformed_request")
    broken = say(service, POST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n")
    assert assert_refused(broken, 400, "malformed_request")["instance"] == "/api/users/login"
    answered_first = say(service, ALIVE * 2 + b"hello\r\n\r\n")
    assert statuses(answered_first) == [200, 200, 400]


def test_a_url_with_a_host_is_served_by_its_path(service: Service) -> None:
    said = say(service, b"GET http://evil.example/livez HTTP/1.1\r\n" + HOST + CLOSE)
    assert statuses(said) == [200]
    assert b"evil" not in said


def test_a_slow_client_is_disconnected(service: Service) -> None:
    began = time.monotonic()
    assert say(service) == b""
    assert say(service, *[b"\r\n"] * 4, pause=0.4) == b""
    assert time.monotonic() - began < 8
    drip = [b"GET /livez HTTP/1.1\r\nX: ", *[b"a"] * 5]
    assert_refused(say(service, *drip, pause=0.4), 408, "request_timeout")
    document = assert_refused(say(service, POST + LENGTH + b"\r\n{"), 408, "request_timeout")
    assert document["instance"] == "/api/users/login"
    second = say(service, ALIVE, b"GET /li", pause=0.3)
    assert statuses(second) == [200, 408]
    # The response is sent already, so there is no other.
    early = b"GET /livez HTTP/1.1\r\n" + HOST + b"Content-Length: 5\r\n\r\n"
    assert statuses(say(service, early)) == [200]


def test_a_client_within_the_limits_is_served(service: Service) -> None:
    post = POST + LENGTH + b"\r\n" + CREDENTIALS
    chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in CREDENTIALS) + b"0\r\n\r\n"
    chunked = POST + b"Transfer-Encoding: chunked\r\n\r\n" + chunks
    last = b"HEAD /livez HTTP/1.1\r\n" + HOST + CLOSE
    said = say(service, ALIVE + post + chunked + ALIVE + last)
    assert statuses(said) == [200, 401, 401, 200, 200]
    assert said.endswith(b"\r\n\r\n")  # HEAD has no body.
    assert statuses(say(service, *(b"%c" % byte for byte in post + last))) == [401, 200]
    assert statuses(say(service, ALIVE * 2_000 + last)) == [200] * 2_001
    expecting = POST + LENGTH + b"Expect: 100-continue\r\n\r\n"
    assert statuses(say(service, expecting, CREDENTIALS + last, pause=0.2)) == [100, 401, 200]
    # Trailers are not headers.
    late = chunked[:-2] + b"Authorization: Bearer x\r\n\r\n"
    assert statuses(say(service, late + last)) == [401, 200]


@pytest.mark.parametrize("protocol", [b"h2c", b"websocket", b"TLS/1.0"])
def test_an_upgrade_to_another_protocol_is_ignored(service: Service, protocol: bytes) -> None:
    wish = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: %b\r\nHTTP2-Settings: x\r\n" % protocol
    post = POST + wish + LENGTH + b"\r\n" + CREDENTIALS
    said = say(service, post + post[:-1], post[-1:] + b"GET / HTTP/1.1\r\n" + HOST + CLOSE)
    assert statuses(said) == [401, 401, 200]
    assert b"invalid_credentials" in said


@pytest.mark.usefixtures("unmeasured")
def test_one_connection_too_many_gets_a_503(kept_dir: Path) -> None:
    with serving(kept_dir, TICKETING_MAX_CONNECTIONS="3") as service, ExitStack() as stack:
        held = [stack.enter_context(connect(service)) for _ in range(3)]
        for connection in held:
            connection.sendall(ALIVE)
            assert statuses(connection.recv(65536)) == [200]
        refused = say(service, b"GET /api/events HTTP/1.1\r\n" + HOST + b"\r\n")
        assert assert_refused(refused, 503, "busy")["retryAfter"] == 1
        assert b"\r\nretry-after: 1\r\n" in refused
        assert statuses(say(service, ALIVE[:-2] + CLOSE)) == [200]
        for connection in held:
            connection.close()
        deadline = time.monotonic() + PATIENCE
        while httpx.get(service.url + "/api/events").status_code != 200:
            assert time.monotonic() < deadline


BUNDLE = b"GET /static/swagger-ui/swagger-ui-bundle.js HTTP/1.1\r\n" + HOST


def admitted(service: Service) -> socket.socket:
    """Return the only connection, once the one of an earlier test has ended."""
    deadline = time.monotonic() + PATIENCE
    while True:
        connection = deaf(service)
        connection.settimeout(10)
        connection.sendall(EVENT)
        if statuses(connection.recv(65536)) == [404]:
            return connection
        connection.close()
        assert time.monotonic() < deadline


@pytest.mark.usefixtures("unmeasured")
@pytest.mark.parametrize("asked", [BUNDLE + b"\r\n", (BUNDLE + b"\r\n") * 10, ALIVE * 100_000])
def test_a_client_that_does_not_read_is_disconnected(narrow: Service, asked: bytes) -> None:
    with admitted(narrow) as connection:
        connection.settimeout(0.5)
        with suppress(TimeoutError, ConnectionError):
            connection.sendall(asked)
        began = time.monotonic()
        assert httpx.get(narrow.url + "/api/events").status_code == 503
        while httpx.get(narrow.url + "/api/events").status_code == 503:
            assert time.monotonic() - began < 15
            time.sleep(0.1)


@pytest.mark.usefixtures("unmeasured")
def test_the_health_checks_always_respond_below_a_prefix_too(narrow: Service) -> None:
    with admitted(narrow):
        for path, status in {b"/tickets/livez": 200, b"/livez": 200, b"/tickets/": 503}.items():
            asked = b"GET %b HTTP/1.1\r\n" % path + HOST + CLOSE
            assert statuses(say(narrow, asked)) == [status]


@pytest.mark.usefixtures("unmeasured")
def test_a_client_that_reads_slowly_gets_the_whole_response(hasty: Service) -> None:
    with deaf(hasty) as connection:
        connection.sendall(BUNDLE + CLOSE)
        connection.settimeout(10)
        began, said, pause = time.monotonic(), 0, 0.0
        while more := connection.recv(65536):
            said += len(more)
            pause += len(more) / 600_000
            if pause > 0.1:
                time.sleep(pause)
                pause = 0.0
        assert said > 1_700_000
        assert time.monotonic() - began > 2


STEADY = 4096
"""Bytes that a client reads in each quarter of a second."""


def steadily(connection: socket.socket, times: int) -> int:
    """Read a little at intervals, and return the total size."""
    said = 0
    for _ in range(times):
        said += len(connection.recv(STEADY))
        time.sleep(0.25)
    return said


@pytest.mark.parametrize("times", [1, 2], ids=["in the kernel", "more than the kernel takes over"])
def test_a_client_that_reads_little_but_steadily_is_not_disconnected(
    service: Service, times: int
) -> None:
    with deaf(service) as connection:
        connection.settimeout(10)
        connection.sendall((BUNDLE + b"\r\n") * (times - 1) + BUNDLE + CLOSE)
        said = steadily(connection, 20)
        while more := connection.recv(1 << 20):
            said += len(more)
        assert said > times * 1_700_000


@pytest.mark.usefixtures("unmeasured")
def test_a_client_that_reads_steadily_does_not_hold_a_connection_for_ever(hasty: Service) -> None:
    with deaf(hasty) as connection:
        connection.settimeout(10)
        connection.sendall((BUNDLE + b"\r\n") * 10)
        with pytest.raises(ConnectionResetError):
            steadily(connection, 400)


@pytest.mark.usefixtures("unmeasured")
def test_an_idle_connection_is_closed_after_the_time_that_is_set(hasty: Service) -> None:
    with connect(hasty) as connection:
        for _ in range(2):  # A request restarts the time.
            connection.sendall(ALIVE)
            assert statuses(connection.recv(65536)) == [200]
        assert connection.recv(65536) == b""


@pytest.mark.usefixtures("unmeasured")
def test_neither_half_a_request_nor_a_client_that_does_not_read_delays_the_stop(
    kept_dir: Path,
) -> None:
    with serving(kept_dir) as service, ExitStack() as stack:
        for begun in (b"", b"GET /li", POST + LENGTH + b"\r\n{", ALIVE + b"GET /li"):
            stack.enter_context(connect(service)).sendall(begun)
        # More than the kernel buffers.
        stack.enter_context(deaf(service)).sendall((BUNDLE + b"\r\n") * 10)
        time.sleep(0.5)
        began = time.monotonic()
        assert service.stop() == 0
        assert time.monotonic() - began < 15  # The grace is 30.
