"""Requests that are refused under overload."""

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing
from functools import partial
from multiprocessing import Pipe

import orjson
import pytest
import uvicorn
from starlette.responses import PlainTextResponse
from structlog.testing import capture_logs
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.server import ServerState

from ticketing.server.admission import FIRST, LEAST, Admission, Shedding
from ticketing.server.corked import Cork
from ticketing.server.protocol import BoundedProtocol, Bounds
from ticketing.server.serving import Server
from ticketing.web.headers import CLOSES
from ticketing.web.service import Service
from ticketing.web.streams import Streams

ID = "0" * 32
PATHS = ("/api/events/book", "/api/events/cancel")
SALE = Shedding(PATHS)
BODY = b'{"eventId":1,"userId":"01990000-0000-7000-8000-000000000001"}'


def request(*fields: bytes, line: bytes = b"POST /api/events/book HTTP/1.1") -> bytes:
    length = b"Content-Length: %d" % len(BODY)
    return b"\r\n".join([line, b"Host: a", *fields, length, b"", BODY])


def test_a_booking_that_arrived_whole_gets_a_problem_document() -> None:
    for word in (b"book", b"cancel"):
        line = b"POST /api/events/%b HTTP/1.1" % word
        answer = SALE.find(request(line=line), SALE.answers([(b"date", b"today")], ID))
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
        assert headers["x-request-id"] == problem["requestId"] == ID
        assert problem["code"] == "busy"
        assert problem["status"] == 503
        assert problem["retryAfter"] == 1
        assert problem["instance"] == "/api/events/" + word.decode()


@pytest.mark.parametrize(
    ("path", "prefix", "is_served"),
    [
        (b"/livez", b"", True),
        (b"/tickets/livez", b"X-Forwarded-Prefix: /tickets\r\n", True),
        (b"/livez", b"X-Forwarded-Prefix: /tickets\r\n", True),
        (b"/tickets/livez", b"", False),
        (b"/tickets/livez", b"X-Forwarded-Prefix: /other\r\n", False),
        (b"/tickets/api/events", b"X-Forwarded-Prefix: /tickets\r\n", False),
    ],
)
async def test_what_is_always_served_is_recognised_below_a_prefix(
    path: bytes, prefix: bytes, *, is_served: bool
) -> None:
    async with connected(Full()) as (_, reader, writer):
        writer.write(b"GET %b HTTP/1.1\r\nHost: a\r\n%b\r\n" % (path, prefix))
        status = b"HTTP/1.1 200 " if is_served else b"HTTP/1.1 503 "
        assert (await answer(reader))[0].startswith(status)


def test_a_keep_alive_header_is_nothing_unusual() -> None:
    assert SALE.find(request(b"Connection: keep-alive"), SALE.answers([], ID)) is not None


def test_a_request_whose_connection_must_end_is_left_to_the_protocol() -> None:
    assert SALE.find(request(), SALE.answers([(b"date", b"today"), CLOSES], ID)) is None


def config_of(admission: Admission) -> uvicorn.Config:
    return uvicorn.Config(
        PlainTextResponse("let through"),
        http=partial(BoundedProtocol, Bounds(1, 1, 10), admission, Cork()),  # type: ignore[arg-type]
        lifespan="off",
        log_config=None,
        timeout_keep_alive=1,
        port=0,
    )


@asynccontextmanager
async def served(
    server: uvicorn.Server,
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """Serve, and yield a connection to the server."""
    serving = asyncio.create_task(server.serve())
    while not server.started:  # noqa: ASYNC110 - it sends no event
        await asyncio.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield reader, writer
    finally:
        writer.close()
        server.should_exit = True
        await serving


@asynccontextmanager
async def connected(
    admission: Admission,
) -> AsyncIterator[tuple[uvicorn.Server, asyncio.StreamReader, asyncio.StreamWriter]]:
    """Serve with `admission`, and yield the server and a connection to it."""
    server = uvicorn.Server(config_of(admission))
    async with served(server) as (reader, writer):
        yield server, reader, writer


async def answer(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    head = await reader.readuntil(b"\r\n\r\n")
    return head, await reader.readexactly(int(head.partition(b"content-length: ")[2].split()[0]))


class Full(Admission):
    """Admits nothing."""

    bound = property(lambda _: 0, lambda *_: None)

    def __init__(self) -> None:
        super().__init__(PATHS, ("/livez",))


def service() -> Service:
    async def is_usable() -> bool:
        return True

    return Service(is_usable, lambda: False, Streams(), registration_is_open=True)


def parsed(protocol: BoundedProtocol) -> int:
    """Return how many refused requests this server had to parse."""
    return protocol._admission._like_any_other


@asynccontextmanager
async def sent_away() -> AsyncIterator[
    tuple[BoundedProtocol, asyncio.StreamReader, asyncio.StreamWriter]
]:
    """Connect to a server that refuses all requests, already without parsing."""
    async with connected(Full()) as (server, reader, writer):
        writer.write(request())
        await answer(reader)
        again = await asyncio.open_connection(*writer.get_extra_info("peername"))
        again[1].write(request())
        await answer(again[0])
        (protocol,) = (
            each
            for each in server.server_state.connections
            if isinstance(each, BoundedProtocol)
            and each.client == again[1].get_extra_info("sockname")
        )
        assert parsed(protocol) == 1
        try:
            yield protocol, *again
        finally:
            again[1].close()


async def test_a_connection_that_had_only_refused_requests_for_a_while_is_closed() -> None:
    async with sent_away() as (protocol, reader, writer):
        for _ in range(8):
            writer.write(request())
            head, body = await answer(reader)
            assert head.startswith(b"HTTP/1.1 503 ")
            assert orjson.loads(body)["code"] == "busy"
            await asyncio.sleep(0.2)
        assert await asyncio.wait_for(reader.read(), 5) == b""
        assert parsed(protocol) == 1


async def test_a_refused_client_has_the_usual_time_for_a_header() -> None:
    async with sent_away() as (_, reader, writer):
        for _ in range(4):
            writer.write(request())
            await answer(reader)
            await asyncio.sleep(0.2)
        writer.write(request()[:20])
        began = time.monotonic()
        head, _ = await answer(reader)
        assert head.startswith(b"HTTP/1.1 408 ")
        assert 0.9 < time.monotonic() - began < 5


@pytest.mark.parametrize("more", [0, 1000])
async def test_a_client_that_reads_nothing_gets_a_limited_number_of_responses(more: int) -> None:
    async with sent_away() as (protocol, reader, _):
        sent = 0
        while not protocol.flow.write_paused:
            protocol.data_received(request())
            sent += 1
        for _ in range(more):
            protocol.data_received(request())
        assert protocol.transport.get_write_buffer_size() < 2 * HIGH_WATER_LIMIT
        for _ in range(sent + more):
            assert (await answer(reader))[0].startswith(b"HTTP/1.1 503 ")
        # The reader is ahead of the loop's next turn.
        while protocol.flow.write_paused:  # noqa: ASYNC110 - the transport sets no event
            await asyncio.sleep(0)
        # Reading may have taken so long that the server stopped refusing unparsed.
        protocol._admission.watch(protocol.server_state)
        before = parsed(protocol)
        protocol.data_received(request())
        assert (await answer(reader))[0].startswith(b"HTTP/1.1 503 ")
        assert parsed(protocol) == before


async def test_a_refusal_of_a_stopping_server_closes_the_connection() -> None:
    full = Full()
    config = config_of(full)
    _parent, ready = Pipe()
    server = Server(config, drain=1, ready=ready, service=service(), admission=full)
    async with served(server) as (reader, writer):
        for _ in range(2):
            writer.write(request())
            assert b"\r\nconnection: close\r\n" not in (await answer(reader))[0]
        assert full.answers
        server.handle_exit(signal.SIGTERM, None)
        while CLOSES not in config.encoded_headers:  # noqa: ASYNC110 - it sends no event
            await asyncio.sleep(0)
        writer.write(request())
        assert b"\r\nconnection: close\r\n" in (await answer(reader))[0]


async def test_an_idle_connection_holds_no_memory_of_the_last_request() -> None:
    async with connected(Admission()) as (server, reader, writer):
        for _ in range(2):
            writer.write(request() + request())
            for _ in range(2):
                assert (await answer(reader))[1] == b"let through"
            (protocol,) = server.server_state.connections
            assert isinstance(protocol, BoundedProtocol)
            assert not any((protocol.cycle, protocol.scope, protocol.headers))


async def test_connections_share_the_names_of_their_attributes() -> None:
    # With more than 30, each instance has its own dictionary, which is larger and slower.
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
def test_any_unusual_request_is_left_to_the_parser(data: bytes) -> None:
    assert SALE.find(data, SALE.answers([], ID)) is None


class Stepped(asyncio.SelectorEventLoop):
    """A loop whose clock the test sets."""

    now = 10.0

    def time(self) -> float:
        return self.now

    async def come_to(self, now: float) -> None:
        """Run the callbacks that are due until `now`."""
        self.now = now
        await asyncio.sleep(0)
        await asyncio.sleep(0)


@pytest.fixture
def loop() -> Iterator[Stepped]:
    with closing(Stepped()) as loop:
        yield loop


def busy(under_way: int) -> ServerState:
    """Return the state of a server with this many running requests."""
    state = ServerState()
    state.tasks = set(range(under_way))  # type: ignore[arg-type]
    return state


def test_the_limit_follows_the_responses_of_half_a_second(loop: Stepped) -> None:
    admission, state = Admission(), busy(FIRST)
    state.total_requests = 5

    async def overload() -> None:
        admission.watch(state)
        admission.refuse()
        state.total_requests += 1000
        await loop.come_to(10.2)
        assert admission.bound == FIRST
        # A busy response does not count as work, whichever way it was sent.
        state.total_requests += 1
        admission.shed += 300
        await loop.come_to(10.25)
        assert admission.bound == 2000
        admission.shed += 1
        state.total_requests += 300
        await loop.come_to(10.5)
        assert admission.bound == 600
        admission.shed += 1
        await loop.come_to(10.75)
        assert admission.bound == LEAST
        assert admission.shed == 303

    loop.run_until_complete(overload())


@pytest.mark.parametrize(
    ("under_way", "moments"),
    [
        # A burst of requests that take longer than one measurement.
        (2 * FIRST, [10.25]),
        # Little to do until more arrived than is admitted.
        (FIRST // 2 - 1, [10.25, 10.5]),
        # A pause of the process.
        (2 * FIRST, [10.25, 20]),
        (2 * FIRST, [10.25, 10.8]),
    ],
)
def test_only_slow_responses_lower_the_limit(
    loop: Stepped, under_way: int, moments: list[float]
) -> None:
    admission, state = Admission(), busy(under_way)

    async def overload() -> None:
        admission.watch(state)
        for moment in moments:
            admission.refuse()
            state.total_requests += 1
            await loop.come_to(moment)
            assert admission.bound == FIRST

    loop.run_until_complete(overload())


def test_responses_raise_the_limit_after_refusals_have_ended(
    loop: Stepped,
) -> None:
    admission, state = Admission(PATHS), busy(FIRST)

    async def pass_by() -> None:
        admission.watch(state)
        admission.refuse()
        await loop.come_to(10.25)
        assert admission.bound == FIRST
        assert admission.answers
        state.total_requests += 1000
        await loop.come_to(10.5)
        assert admission.bound == 2000
        assert not admission.answers
        # Later requests are measured from their own start.
        await loop.come_to(10.6)
        admission.watch(state)
        admission.refuse()
        state.total_requests += 1500
        await loop.come_to(10.85)
        assert admission.bound == 3000 - 2

    loop.run_until_complete(pass_by())


def test_requests_that_are_refused_in_one_moment_share_the_id_of_its_log_line(
    loop: Stepped,
) -> None:
    admission, state = Admission(PATHS), ServerState()
    lines: list[tuple[int, str]] = []

    async def overload() -> None:
        for moment in range(1, 4):
            admission.watch(state)
            told = {SALE.find(request(), admission.answers) for _ in range(2)}
            admission.shed += 2
            with capture_logs() as captured:
                await loop.come_to(10 + moment / 4)
            (line,) = captured
            (answer,) = told
            assert answer is not None
            assert line["event"] == "requests.shed"
            assert answer.count(line["requestId"].encode()) == 2
            lines.append((line["count"], line["requestId"]))

    loop.run_until_complete(overload())
    assert [count for count, _ in lines] == [2, 2, 2]
    assert len({request_id for _, request_id in lines}) == 3
