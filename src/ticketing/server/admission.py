"""Limits the requests under way in a worker, and refuses others before they cost anything."""

import asyncio
import re
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Final, TypeAlias
from uuid import uuid4

from ticketing.errors import Busy
from ticketing.ops import logs
from ticketing.server.uvicorn_internals import ServerState
from ticketing.web.headers import CLOSES, OF_API
from ticketing.web.problems import MEDIA_TYPE, SHED, document
from ticketing.web.streams import Streams

TARGET: Final = 0.5
"""Seconds in which accepted requests should get their responses."""
FIRST: Final = 1000
"""Requests under way that a worker accepts before it has measured its speed."""
LEAST: Final = 128
"""Requests under way that a worker accepts even if it completes none, as when its database
hangs."""
PERIOD: Final = 0.25
"""Seconds over which it measures its speed."""
STALE: Final = 2 * PERIOD
"""Seconds. A longer measurement shows a pause rather than the worker's speed."""

WHOLE: Final = 4096
"""Bytes of the largest request that is recognised without parsing."""
_FIELDS: Final = (
    rb"(?:(?!(?i:content-length|transfer-encoding|expect|upgrade|x-request-id"
    rb"|connection:(?! ?keep-alive\r)))[0-9A-Za-z-]++:[\t -~\x80-\xff]*+\r\n)*+"
)
"""Header fields, except those that define the request's length or change what follows.

Control characters are excluded, because parsers differ in which of them end a line.
"""
Answers: TypeAlias = Mapping[bytes, bytes]
"""Responses by path."""


class Admission:
    """Bounds the requests under way in a worker to what it completes in TARGET seconds.

    By Little's law the bound is its rate times TARGET. The rate is measured only while requests are
    refused, because only then the worker is at its full speed; an idle worker does no work for
    this. Therefore a burst within the bound is accepted whole, and no standing queue can form.
    Streams do not count, because they have their own limit.
    """

    def __init__(
        self, shed: Sequence[str] = (), serve: Sequence[str] = (), streams: Streams | None = None
    ) -> None:
        """Begin with the bound FIRST.

        A POST to a path in `shed` may be refused before it is parsed. A request to a path in
        `serve` is never refused.
        """
        self.shedding = Shedding(shed)
        self.serve = frozenset(serve)
        self.streams = streams or Streams()
        self.bound = FIRST
        self.shed = 0
        """Number of refused requests."""
        self.answers: Answers = {}
        """Responses to requests that are refused unparsed; empty while none are refused."""
        self.measured_at = float("-inf")
        """Start of the measurement, in seconds of the loop's clock."""
        self._is_watching = False
        self._answered = self._told = self._like_any_other = 0
        self._shed_metric = SHED.labels("overload")

    def is_full(self, state: ServerState) -> bool:
        """Whether the requests under way have reached the bound."""
        return len(state.tasks) - self.streams.open >= self.bound

    def _under_way(self, state: ServerState) -> int:
        return len(state.tasks) - self.streams.open

    def refuse(self) -> None:
        """Count a request that is refused after it was parsed."""
        self.shed += 1
        self._like_any_other += 1  # The server counts its response as completed.

    def watch(self, state: ServerState) -> None:
        """Provide `answers` and measure until no more requests are refused; needs a running loop.

        A timer does this work, because work for each refused request would slow down accepted ones.
        """
        if not self._is_watching:
            self._is_watching = True
            # Requests that begin now have had no time to complete.
            self._go_on(asyncio.get_running_loop(), state, is_busy=False)

    def close(self) -> None:
        """Stop refusing unparsed requests, because responses must now say `Connection: close`."""
        self.answers = {}

    def _go_on(self, loop: asyncio.AbstractEventLoop, state: ServerState, *, is_busy: bool) -> None:
        self.measured_at = loop.time()
        self._answered = state.total_requests - self._like_any_other
        request_id = uuid4().hex
        self.answers = self.shedding.answers(state.default_headers, request_id)
        loop.call_later(PERIOD, partial(self._look, loop, state, request_id, was_busy=is_busy))

    def _look(
        self,
        loop: asyncio.AbstractEventLoop,
        state: ServerState,
        request_id: str,
        *,
        was_busy: bool,
    ) -> None:
        elapsed = loop.time() - self.measured_at
        answered = state.total_requests - self._like_any_other - self._answered
        bound = max(LEAST, round(answered / elapsed * TARGET))
        # A higher rate always raises the bound. A lower rate lowers it only if the worker was busy.
        self.bound = bound if was_busy and elapsed < STALE else max(bound, self.bound)
        count, self._told = self.shed - self._told, self.shed
        if count == 0:
            self.answers, self._is_watching = {}, False
            return
        self._shed_metric.inc(count)
        logs.log.warning(
            "requests.shed",
            count=count,
            underWay=self._under_way(state),
            bound=self.bound,
            requestId=request_id,
        )
        self._go_on(loop, state, is_busy=2 * self._under_way(state) >= self.bound)


class Shedding:
    """Recognises requests that may be refused unparsed, and makes the responses to them."""

    def __init__(self, paths: Sequence[str]) -> None:
        """Recognise POSTs to these paths. Raises ValueError if a path has a parameter."""
        if any("{" in path for path in paths):
            raise ValueError("a path that is shed unparsed can't have a parameter")
        self._paths = paths
        self._head = re.compile(
            rb"POST (%b) HTTP/1\.1\r\n" % "|".join(map(re.escape, paths)).encode()
            + _FIELDS
            + rb"(?i:content-length):[ \t]*+([0-9]{1,5})[ \t]*+\r\n"
            + _FIELDS
            + rb"\r\n"
        )

    def answers(self, headers: Sequence[tuple[bytes, bytes]], request_id: str) -> Answers:
        """Return the responses 503 `busy`, with these headers and this id, by path.

        There are none if the connection must close after the response.
        """
        if CLOSES in headers:
            return {}
        return {path.encode(): _answer(path, headers, request_id) for path in self._paths}

    def find(self, data: bytes, answers: Answers) -> bytes | None:
        """Return the response from `answers` if `data` is exactly one request that may be refused.

        None for anything else or unusual, which the parser must read.
        """
        if len(data) > WHOLE or (head := self._head.match(data)) is None:
            return None
        path, length = head.groups()
        return answers.get(path) if head.end() + int(length) == len(data) else None


def _answer(path: str, headers: Sequence[tuple[bytes, bytes]], request_id: str) -> bytes:
    error = Busy()
    body = document(error, path, request_id)
    lines = [
        b"HTTP/1.1 503 Service Unavailable",
        *(b"%b: %b" % field for field in headers),
        f"content-type: {MEDIA_TYPE}".encode(),
        *(b"%b: %b" % field for field in OF_API),
        *(f"{name}: {value}".lower().encode() for name, value in error.header_fields().items()),
        b"content-length: %d" % len(body),
        b"x-request-id: %b" % request_id.encode(),
        b"",
        body,
    ]
    return b"\r\n".join(lines)
