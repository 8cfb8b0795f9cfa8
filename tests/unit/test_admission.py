"""What is sent away under overload, and when."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import orjson
import pytest
import uvicorn
from starlette.responses import PlainTextResponse

from ticketing.admission import FIRST, LEAST, Admission, answers, shed
from ticketing.headers import CLOSES
from ticketing.protocol import BoundedProtocol, Limits

BODY = b'{"eventId":1,"userId":"01990000-0000-7000-8000-000000000001"}'


def request(*fields: bytes, line: bytes = b"POST /api/events/book HTTP/1.1") -> bytes:
    length = b"Content-Length: %d" % len(BODY)
    return b"\r\n".join([line, b"Host: a", *fields, length, b"", BODY])


def test_a_booking_that_came_whole_is_answered_with_a_problem_document() -> None:
    for word in (b"book", b"cancel"):
        line = b"POST /api/events/%b HTTP/1.1" % word
        answer = shed(request(line=line), answers([(b"date", b"today")]))
        assert answer is not None
        head, _, body = answer.partition(b"\r\n\r\n")
        first, *lines = head.decode().split("\r\n")
        headers = dict(field.split(": ", 1) for field in lines)
        problem = orjson.loads(body)
        assert first == "HTTP/1.1 503 Service Unavailable"
        assert headers["retry-after"] == "1"
        assert headers["date"] == "today"
        assert headers["cache-control"] == "no-store"
        assert headers["content-length"] == str(len(body))
        assert headers["x-request-id"] == problem["requestId"]
        assert problem["code"] == "busy"
        assert problem["status"] == 503
        assert problem["retryAfter"] == 1
        assert problem["instance"] == "/api/events/" + word.decode()


def test_every_answer_has_an_id_of_its_own() -> None:
    assert shed(request(), answers([])) != shed(request(), answers([]))


def test_a_connection_that_is_kept_alive_by_its_word_is_nothing_unusual() -> None:
    assert shed(request(b"Connection: keep-alive"), answers([])) is not None


def test_where_the_connection_must_end_it_is_left_to_the_protocol() -> None:
    assert shed(request(), answers([(b"date", b"today"), CLOSES])) is None


@asynccontextmanager
async def connected(
    admission: Admission,
) -> AsyncIterator[tuple[uvicorn.Server, asyncio.StreamReader, asyncio.StreamWriter]]:
    """Serve within `admission`, and give a connection to what serves."""
    config = uvicorn.Config(
        PlainTextResponse("let through"),
        http=partial(BoundedProtocol, Limits(1, 1, 10), admission, None),  # type: ignore[arg-type]
        lifespan="off",
        log_config=None,
        timeout_keep_alive=1,
        port=0,
    )
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve())
    while not server.started:  # noqa: ASYNC110 - it tells nobody
        await asyncio.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield server, reader, writer
    finally:
        writer.close()
        server.should_exit = True
        await serving


async def answer(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    head = await reader.readuntil(b"\r\n\r\n")
    return head, await reader.readexactly(int(head.partition(b"content-length: ")[2].split()[0]))


async def test_a_connection_ends_when_nothing_came_for_a_while_but_what_was_sent_away() -> None:
    class Full(Admission):
        def refuse(self, *_: object) -> None:
            """Stay full."""

    full = Full()
    full.bound = 0
    async with connected(full) as (_, reader, writer):
        for _ in range(5):
            writer.write(request())
            head, body = await answer(reader)
            assert head.startswith(b"HTTP/1.1 503 ")
            assert orjson.loads(body)["code"] == "busy"
            await asyncio.sleep(0.4)
        assert await asyncio.wait_for(reader.read(), 5) == b""


async def test_a_connection_that_waits_for_its_next_request_holds_nothing_of_the_last() -> None:
    async with connected(Admission()) as (server, reader, writer):
        for _ in range(2):
            writer.write(request() + request())
            for _ in range(2):
                assert (await answer(reader))[1] == b"let through"
            (protocol,) = server.server_state.connections
            assert isinstance(protocol, BoundedProtocol)
            assert not any((protocol.cycle, protocol.scope, protocol.headers))


async def test_connections_share_the_names_of_their_attributes() -> None:
    # More than 30, and each instance has a dictionary of its own: larger, and slower to look at.
    async with connected(Admission()) as (server, reader, writer):
        writer.write(request())
        await answer(reader)
        (protocol,) = server.server_state.connections
        assert len(vars(protocol)) <= 30


@pytest.mark.parametrize(
    "data",
    [
        b"",
        request()[:-1],
        request() + b"G",
        request() + request(),
        request(line=b"GET /api/events/book HTTP/1.1"),
        request(line=b"POST /api/events/book HTTP/1.0"),
        request(line=b"POST /api/events/book?a=1 HTTP/1.1"),
        request(line=b"POST /livez HTTP/1.1"),
        request(b"Content-Length: 1"),
        request(b"Content-Length : 61"),
        request(b"A: b\nContent-Length: 1"),
        request(b"A: b\rContent-Length: 1"),
        request(b"Transfer-Encoding: chunked"),
        request(b"A: b\nTransfer-Encoding: chunked"),
        request(b"Expect: 100-continue"),
        request(b"Connection: close"),
        request(b"Connection: keep-alive, close"),
        request(b"Upgrade: h2c"),
        request(b"X-Request-ID: mine"),
        request(b"A: b", b" c"),
        request(b"A: b\x00c"),
        request(b": b"),
        request(b"A: " + b"b" * 4096),
        request().replace(b"Content-Length: 61", b"Content-Length: 6a"),
        request().replace(b"Content-Length: 61\r\n", b""),
    ],
)
def test_whatever_is_unusual_is_left_to_the_parser(data: bytes) -> None:
    assert shed(data, answers([])) is None


def test_the_bound_follows_what_is_answered_in_half_a_second() -> None:
    admission = Admission()
    admission.refuse(FIRST, answered=0, now=10.0)
    assert admission.bound == FIRST
    admission.refuse(FIRST, answered=100, now=10.1)
    assert admission.bound == FIRST
    admission.refuse(FIRST, answered=1000, now=10.25)
    assert admission.bound == 2000
    admission.refuse(FIRST, answered=1000, now=10.5)
    assert admission.bound == LEAST
    assert admission.shed == 4


def test_a_pause_is_not_taken_for_slowness() -> None:
    admission = Admission()
    admission.refuse(FIRST, answered=0, now=10.0)
    admission.refuse(FIRST, answered=5, now=20.0)
    assert admission.bound == FIRST


def test_an_answer_that_says_busy_is_not_taken_for_work() -> None:
    admission = Admission()
    admission.refuse(FIRST, answered=0, now=10.0)
    admission.answering += 500
    admission.refuse(FIRST, answered=1000, now=10.25)
    assert admission.bound == 1000
