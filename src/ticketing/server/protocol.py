"""HTTP/1.1 on one connection: uvicorn's protocol, with limits on size and time.

No timer is set for a request that arrives in one piece and a response that the kernel accepts
whole, as nearly all do.
"""

import asyncio
from collections.abc import Callable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from enum import Enum, auto
from functools import partial
from typing import Any, Final
from uuid import uuid4

import httptools
from prometheus_client import Counter

from ticketing.errors import (
    BodyTooLarge,
    Busy,
    ExpectationFailed,
    HeadersTooLarge,
    HttpVersionNotSupported,
    MalformedRequest,
    RequestTimeout,
    TicketingError,
    TransferCodingNotImplemented,
    UrlTooLong,
)
from ticketing.ops import logs
from ticketing.server.admission import Admission
from ticketing.server.corked import Cork, Corked
from ticketing.server.targets import is_host, with_path
from ticketing.server.unread import Watch, confirmed, has_stalled
from ticketing.server.uvicorn_internals import STATUS_LINE, HttpToolsProtocol
from ticketing.web.asgi import ASGIApp, ASGIScope, Receive, Send
from ticketing.web.bodies import MAX_BODY
from ticketing.web.headers import CLOSES, OF_API
from ticketing.web.problems import MEDIA_TYPE, SHED, document
from ticketing.web.proxies import prefix_of, without
from ticketing.web.streams import is_stream

MAX_URL: Final = 8 * 1024
MAX_HEADER: Final = 16 * 1024
"""Bytes of the request line and header fields together."""
MAX_FIELDS: Final = 100
MAX_WIRE: Final = 512 * 1024
"""Bytes of a body as it is sent, with its chunk headers: 64 KiB in chunks of one byte fit."""
PIECE: Final = 4096
"""Bytes parsed at a time, which bounds the parser's memory for a connection."""
STOPPING: Final = 1.0
"""Seconds in which a body must arrive, or a response must be read, once the service stops."""
LINGER: Final = 1.0
"""Seconds in which a refused client can read the error before its connection is reset."""
SINGULAR: Final = {
    *(b"authorization", b"content-type", b"expect", b"host", b"idempotency-key"),
    b"transfer-encoding",
}
"""Fields that may come only once in a request. The parser checks Content-Length itself."""
CURRENT: Final = "1.1"
VERSIONS: Final = {CURRENT, "1.0"}
REFUSED: Final = Counter(
    "ticketing_http_refused_total",
    "Requests that were refused before a route had them, by problem code.",
    ["code"],
)


@dataclass(frozen=True, slots=True)
class Bounds:
    """Limits for clients: seconds for the header and for the body, and number of connections.

    `body_timeout` also limits how long a client may read nothing of a response: see Watch.
    """

    header_timeout: float
    body_timeout: float
    max_connections: int


class _Awaited(Enum):
    """The part of the request that is expected next."""

    NOTHING = auto()
    HEADER = auto()
    BODY = auto()


_NOTHING: Final = _Awaited.NOTHING  # Because looking it up in the enum is expensive.


class BoundedProtocol(HttpToolsProtocol):
    """Serves a connection, and closes it if the client exceeds a limit.

    If a request was begun, the client gets a problem document, after the responses to earlier
    requests.
    """

    # In the instance's dictionary these would be more entries than Python can share between
    # instances: each connection would be larger and every lookup slower. Two are uvicorn's, because
    # every request looks them up.
    __slots__ = (
        "_admission",
        "_awaited",
        "_body_bytes",
        "_bounds",
        "_cork",
        "_deadline",
        "_header_bytes",
        "_held",
        "_is_idle",
        "_is_over",
        "_last_word",
        "_refused",
        "_sent_away_at",
        "_watch",
        "tasks",
        "transport",
    )

    transport: Corked

    def __init__(
        self,
        bounds: Bounds,
        admission: Admission,
        cork: Cork,
        **given: Any,  # noqa: ANN401 - uvicorn's own
    ) -> None:
        """Serve within `bounds` and `admission`. uvicorn passes the other arguments."""
        super().__init__(**given)
        self.timeout_keep_alive = min(self.timeout_keep_alive, bounds.body_timeout)  # type: ignore[assignment]
        self._bounds = bounds
        self._admission = admission
        self._cork = cork
        self._awaited = _NOTHING
        self._is_idle = True
        """No request is under way, and the client has read all responses."""
        # Without the piece in which the header began, because that may contain other requests too.
        self._header_bytes = 0
        self._body_bytes = 0
        self._held = b""
        """Data that arrived after a request that waits for earlier ones."""
        self._deadline: asyncio.TimerHandle | None = None
        self._sent_away_at = float("-inf")
        self._watch: Watch | None = None
        """Set while writing is paused."""
        self._is_over = False
        """The client sends no more. It may still read, so it gets its responses."""
        self._refused = False
        self._last_word: TicketingError | None = None
        """Sent after the responses to earlier requests."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for a header, with a timeout."""
        super().connection_made(Corked(transport, self._cork))
        if len(self.connections) - self._admission.streams.open > self._bounds.max_connections:
            self.app = partial(_too_many, self.app, self._admission, SHED.labels("connections").inc)
        self._expire_in(self._bounds.header_timeout)

    def connection_lost(self, exc: Exception | None) -> None:
        """Cancel every timer."""
        super().connection_lost(exc)
        self._unset_keepalive_if_required()
        self._disarm()
        self._stop_watching()

    def eof_received(self) -> bool:  # type: ignore[override]
        """Respond to what was requested, and then close: the client may still wait for responses.

        Or it is gone. The server can't know which, and carries out the requests in both cases. A
        stream has no end to wait for.
        """
        self._is_over = True
        if self.cycle is not None and is_stream(self.cycle.scope):
            self.transport.close()
        self._conclude()
        return True

    def _conclude(self) -> None:
        """Close after all responses; refuse a request that is incomplete."""
        if self._held or self.pipeline:
            return
        if self._awaited is not _NOTHING and not self._refused:
            self._refuse(MalformedRequest())
        elif self.cycle is None or self.cycle.response_complete:
            self.transport.close()

    def data_received(self, data: bytes) -> None:
        """Refuse the request if the worker is full, or else read the data."""
        # Under overload this is the most frequent operation: refuse a request that came in one
        # piece, before it is parsed. So its attributes are in slots, and no timer is set.
        admission = self._admission
        if self._is_idle and admission.is_full(self.server_state):
            answer = admission.shedding.find(data, admission.answers)
            if answer is not None:
                self.transport.write_now(answer)
                admission.shed += 1
                self._sent_away_at = admission.measured_at
                return
        self._read(data)

    def _read(self, data: bytes) -> None:
        """Parse the data, or hold it while earlier requests wait."""
        if self._refused:
            return
        if self._held:  # The application reads a body, which makes the socket read on.
            self._held += data
            self.flow.pause_reading()
            return
        while data:
            if self.pipeline:
                self._held = data
                break
            piece, data = (data, b"") if len(data) <= PIECE else (data[:PIECE], data[PIECE:])
            try:
                self.parser.feed_data(piece)
                if self._awaited is not _NOTHING:
                    self._count(len(piece))
            except httptools.HttpParserUpgrade as upgrade:
                data = self._without_upgrade() + piece[upgrade.args[0] :] + data
            except httptools.HttpParserError as error:
                cause = error.__context__
                self._refuse(cause if isinstance(cause, TicketingError) else MalformedRequest())
                return
            except TicketingError as error:
                self._refuse(error)
                return
        if self._awaited is not _NOTHING and self._deadline is None:
            self._expire_in(self._patience())

    def timeout_keep_alive_handler(self) -> None:
        """Check an idle connection for the first time."""
        began = self.loop.time() - self.timeout_keep_alive
        self._look_at_idle(None, began + self.config.timeout_keep_alive)

    def _look_at_idle(self, before: int | None, until: float) -> None:
        """Close the connection at `until`, or if the client read nothing between two checks.

        A refused request keeps it open for longer.
        """
        now = confirmed(self.transport)
        left = max(until - self.loop.time(), self._kept_alive_for())
        if has_stalled(before, now):
            self.transport.abort()
        elif left > 0:
            self.timeout_keep_alive_task = self.loop.call_later(
                min(left, self.timeout_keep_alive), self._look_at_idle, now, until
            )
        else:
            super().timeout_keep_alive_handler()

    def _kept_alive_for(self) -> float:
        return self._sent_away_at + self.config.timeout_keep_alive - self.loop.time()

    def _count(self, size: int) -> None:
        if self._awaited is _Awaited.HEADER:
            self._header_bytes += size
            self._check_header()
            if self._header_bytes > MAX_HEADER:
                raise HeadersTooLarge
        else:
            self._body_bytes += size
            if self._body_bytes > MAX_WIRE:
                raise BodyTooLarge

    def _check_header(self) -> None:
        if len(self.url) > MAX_URL:
            raise UrlTooLong
        size = len(self.url) + sum(len(name) + len(value) for name, value in self.headers)
        if size > MAX_HEADER or len(self.headers) > MAX_FIELDS:
            raise HeadersTooLarge

    def _check_singular(self) -> None:
        # With two, this service and a proxy could each use a different one.
        names = [name for name, _ in self.headers if name in SINGULAR]
        if len(set(names)) != len(names):
            raise MalformedRequest

    def _check_meaning(self, fields: Mapping[bytes, bytes]) -> None:
        """Refuse what a server must refuse (RFC 9110, 10.1.1; RFC 9112, 2.3, 3.2, 6.1)."""
        version = self.parser.get_http_version()
        if version not in VERSIONS:
            raise HttpVersionNotSupported
        host = fields.get(b"host")
        if not is_host(host) if host is not None else version == CURRENT:
            raise MalformedRequest
        if (coding := fields.get(b"transfer-encoding")) is not None:
            if version != CURRENT:
                raise MalformedRequest
            if coding.strip().lower() != b"chunked":
                raise TransferCodingNotImplemented
        if (expected := fields.get(b"expect")) is not None:
            if version != CURRENT:
                self.expect_100_continue = False
            elif expected.strip().lower() != b"100-continue":
                raise ExpectationFailed
            elif int(fields.get(b"content-length", b"0")) > MAX_BODY:
                # Reading it would be useless. The client learns this before it sends the body.
                raise BodyTooLarge

    def _without_upgrade(self) -> bytes:
        """Return the header without its request for an upgrade.

        The parser treats the data after it as another protocol, and has no option against that.
        This server supports no upgrade, and may ignore the request for one (RFC 9110, section 7.8).
        """
        version = self.parser.get_http_version().encode()
        lines = [b"%b %b HTTP/%b" % (self.parser.get_method(), self.url, version)]
        lines += [b"%b: %b" % field for field in self.headers if field[0] != b"upgrade"]
        self.parser = httptools.HttpRequestParser(self)
        return b"\r\n".join([*lines, b"", b""])

    def on_message_begin(self) -> None:
        """Begin a request."""
        super().on_message_begin()
        self._is_idle = False
        self._disarm()
        self._unset_keepalive_if_required()
        self._awaited = _Awaited.HEADER
        self._header_bytes = -PIECE

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header field. Trailer fields after a body are dropped."""
        if self._awaited is _Awaited.HEADER:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Start the request."""
        fields = dict(self.headers)
        if len(fields) != len(self.headers):
            self._check_singular()
        self._check_meaning(fields)
        if self._header_bytes > -PIECE or len(self.headers) > MAX_FIELDS:
            self._check_header()
        if self.parser.should_upgrade():
            if self.parser.get_method() == b"CONNECT":
                raise MalformedRequest  # This is not a proxy.
            return  # The request begins again without the upgrade.
        if self.url[:1] != b"/":
            self.url = with_path(self.url, self.parser.get_method())
        admission = self._admission
        if admission.is_full(self.server_state):
            admission.watch(self.server_state)
            app = self.app
            self.app = partial(_too_many, app, admission, admission.refuse, stays=True)
            super().on_headers_complete()
            self.app = app
        else:
            super().on_headers_complete()
        self._awaited = _Awaited.BODY
        self._body_bytes = 0
        self._disarm()

    def on_message_complete(self) -> None:
        """End the request."""
        if self.parser.should_upgrade():
            return
        super().on_message_complete()
        self._awaited = _NOTHING
        self._disarm()

    def on_response_complete(self) -> None:
        """Continue with data that waited for this response."""
        if self._last_word is not None and not self.pipeline:
            self._say(self._last_word)
            return
        super().on_response_complete()
        if self._awaited is _NOTHING and self.cycle.response_complete:
            # An idle connection needs none of these objects.
            self.cycle = self.scope = self.headers = None  # type: ignore[assignment]
            self._is_idle = not self.flow.write_paused
        if self._held and not self.pipeline:
            data, self._held = self._held, b""
            self._read(data)
        if self._is_over:
            self._conclude()

    def pause_writing(self) -> None:
        """Stop reading while the client does not read, and watch it."""
        super().pause_writing()
        self._is_idle = False
        self._watch = Watch(self.transport, self._bounds.body_timeout)

    def resume_writing(self) -> None:
        """Continue, because the client reads again."""
        super().resume_writing()
        self._stop_watching()
        self._is_idle = self.cycle is None and self._awaited is _NOTHING and not self._refused

    def _stop_watching(self) -> None:
        if self._watch is not None:
            self._watch.stop()
            self._watch = None

    def _patience(self) -> float:
        bounds = self._bounds
        return bounds.body_timeout if self._awaited is _Awaited.BODY else bounds.header_timeout

    def _expire_in(self, seconds: float) -> None:
        self._deadline = self.loop.call_later(seconds, self._expire)

    def _disarm(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _expire(self) -> None:
        self._deadline = None
        if self.flow.read_paused or self._held:  # The server lets the client wait.
            self._expire_in(self._patience())
        elif self._awaited is not _NOTHING:
            self._refuse(RequestTimeout())
        elif (left := self._kept_alive_for()) > 0:
            self._expire_in(left)
        else:
            self.transport.close()

    def _refuse(self, error: TicketingError) -> None:
        """Stop reading, and close the connection, with this error if it can still be sent."""
        self._refused = True
        self._is_idle = False
        self._held = b""
        self._disarm()
        self._unset_keepalive_if_required()
        cycle = self.cycle
        if self._awaited is _Awaited.BODY:
            if cycle.response_complete:
                self._linger()
                return
            if cycle.response_started:
                cycle.keep_alive = False
                return
            if self.pipeline:
                self.pipeline.popleft()
                self._last_word = error
                return
            cycle.disconnected = True  # For the application.
            cycle.message_event.set()
        elif cycle is not None and not cycle.response_complete:
            self._last_word = error
            return
        self._say(error)

    def _say(self, error: TicketingError) -> None:
        if self.transport.is_closing():
            return
        path = self.scope.get("path", "") if self._awaited is _Awaited.BODY else ""
        headers, body = _problem(error, path, self.client)
        REFUSED.labels(error.code).inc()
        lines = [STATUS_LINE[error.status]]
        for name, value in (*self.server_state.default_headers, *headers):
            lines += [name, b": ", value, b"\r\n"]
        self.transport.write(b"".join([*lines, b"\r\n", body]))
        self._linger()

    def _linger(self) -> None:
        # Closing while the client still sends would reset the connection, and lose the response.
        if self._is_over:
            self.transport.close()
        elif not self.transport.is_closing():
            self.flow.resume_reading()
            self.transport.write_eof()
            self._deadline = self.loop.call_later(LINGER, self.transport.abort)

    def shutdown(self) -> None:
        """Finish complete requests; an incomplete one gets STOPPING seconds."""
        super().shutdown()
        if self._awaited is _Awaited.BODY and not self.transport.is_closing():
            self._disarm()
            self._expire_in(STOPPING)
        elif self.flow.write_paused:
            self.loop.call_later(STOPPING, self._abort_unread)

    def _abort_unread(self) -> None:
        if self.flow.write_paused:
            self.transport.abort()


def _problem(
    error: TicketingError, path: str, client: tuple[str, int] | None
) -> tuple[list[tuple[bytes, bytes]], bytes]:
    """Return the headers and the body of a response that the server makes itself."""
    request_id = uuid4().hex
    logs.log.info(
        "request.refused",
        status=error.status,
        code=error.code,
        requestId=request_id,
        clientIp=client[0] if client else None,
    )
    body = document(error, path, request_id)
    return [*_headers(error, request_id, len(body))], body


def _headers(error: TicketingError, request_id: str, size: int) -> Iterator[tuple[bytes, bytes]]:
    yield b"content-type", MEDIA_TYPE.encode()
    yield b"content-length", str(size).encode()
    for name, value in error.header_fields().items():
        yield name.lower().encode(), value.encode()
    yield b"x-request-id", request_id.encode()
    yield from OF_API
    yield b"connection", b"close"


def _is_served(scope: ASGIScope, serve: AbstractSet[str]) -> bool:
    """Whether the path is always served, also below the prefix that a proxy names.

    Any client may name one, because it could ask for the path without it.
    """
    path = scope["path"]
    told = [value for name, value in scope["headers"] if name == b"x-forwarded-prefix"]
    return path in serve or (bool(told) and without(prefix_of(b",".join(told)), path) in serve)


async def _too_many(  # noqa: PLR0913, PLR0917 - three are ASGI's
    app: ASGIApp,
    admission: Admission,
    count: Callable[[], None],
    scope: ASGIScope,
    receive: Receive,
    send: Send,
    *,
    stays: bool = False,
) -> None:
    """Return 503 `busy`, unless the path is always served. `stays` keeps the connection open."""
    if _is_served(scope, admission.serve):
        await app(scope, receive, send)
        return
    count()
    error = Busy()
    headers, body = _problem(error, scope["path"], scope["client"])
    if stays:
        headers.remove(CLOSES)
    await send({"type": "http.response.start", "status": error.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
