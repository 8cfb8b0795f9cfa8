"""How much a worker takes on at once, and what it sends away before it costs anything."""

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
"""Seconds in which what is taken on shall be answered."""
FIRST: Final = 1000
"""Requests under way that a worker takes on before it knows how fast it is."""
LEAST: Final = 128
"""The same of a worker that answers nothing, because its database hangs."""
PERIOD: Final = 0.25
"""Seconds over which it measures how fast it is."""
STALE: Final = 2 * PERIOD
"""Seconds after which a measurement tells more of a pause than of how fast it is."""

WHOLE: Final = 4096
"""Bytes of the largest request that is recognised without parsing."""
_FIELDS: Final = (
    rb"(?:(?!(?i:content-length|transfer-encoding|expect|upgrade|x-request-id"
    rb"|connection:(?! ?keep-alive\r)))[0-9A-Za-z-]++:[\t -~\x80-\xff]*+\r\n)*+"
)
"""Header fields but those that say how long a request is, or change what follows on it.

Nor may there be a control character: what ends a line for some does not for others.
"""
Answers: TypeAlias = Mapping[bytes, bytes]
"""By path."""


class Admission:
    """Bounds the requests under way in a worker to what it answers in TARGET seconds.

    By Little's law that is its rate times TARGET. The rate is measured while some are sent away,
    for only then it is as fast as it can: an idle worker has nothing to measure, nor any cost of
    this. It follows that a burst within the bound is taken on whole, and a standing queue can't
    form. Streams are not under way: they have a limit of their own.
    """

    def __init__(
        self, shed: Sequence[str] = (), serve: Sequence[str] = (), streams: Streams | None = None
    ) -> None:
        """Begin with a guess.

        A POST to one of the paths in `shed` may be sent away before it is parsed; a request for one
        in `serve` never is.
        """
        self.shedding = Shedding(shed)
        self.serve = frozenset(serve)
        self._streams = streams or Streams()
        self.bound = FIRST
        self.shed = 0
        """How many were sent away."""
        self.answers: Answers = {}
        """What those are told who are sent away unparsed; nothing while there are none."""
        self.measured_at = float("-inf")
        """Seconds of the loop's clock."""
        self._is_watching = False
        self._answered = self._told = self._like_any_other = 0
        self._shed_metric = SHED.labels("overload")

    def is_full(self, state: ServerState) -> bool:
        """Whether as much is under way as it takes on."""
        return len(state.tasks) - self._streams.open >= self.bound

    def _under_way(self, state: ServerState) -> int:
        return len(state.tasks) - self._streams.open

    def refuse(self) -> None:
        """Count one that is sent away by an answer like any other's."""
        self.shed += 1
        self._like_any_other += 1  # The server will count its answer.

    def watch(self, state: ServerState) -> None:
        """Have `answers` from now on, and learn, until nobody is sent away; needs a running loop.

        All of it is done by a timer: what each who is sent away costs, those who are served lack.
        """
        if not self._is_watching:
            self._is_watching = True
            # What begins now has had no time to be answered.
            self._go_on(asyncio.get_running_loop(), state, is_busy=False)

    def close(self) -> None:
        """Leave all to the server, whose headers say from now on that connections end."""
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
        # It can do what it did. That it can do no more is seen only while it has enough to do.
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
    """Recognises requests that may be sent away, and says what they are answered."""

    def __init__(self, paths: Sequence[str]) -> None:
        """Recognise POSTs to these paths. Raises ValueError for one that has a parameter."""
        if any("{" in path for path in paths):
            raise ValueError("what is shed unparsed is recognised by its path as it is written")
        self._paths = paths
        self._head = re.compile(
            rb"POST (%b) HTTP/1\.1\r\n" % "|".join(map(re.escape, paths)).encode()
            + _FIELDS
            + rb"(?i:content-length):[ \t]*+([0-9]{1,5})[ \t]*+\r\n"
            + _FIELDS
            + rb"\r\n"
        )

    def answers(self, headers: Sequence[tuple[bytes, bytes]], request_id: str) -> Answers:
        """Return the answers 503 `busy` that have these headers too, and this id.

        There are none if a connection has to end with its answer.
        """
        if CLOSES in headers:
            return {}
        return {path.encode(): _answer(path, headers, request_id) for path in self._paths}

    def find(self, data: bytes, answers: Answers) -> bytes | None:
        """Return the one of `answers` to a request that `data` is all of.

        None if it is anything else, or anything unusual: that is for the parser to understand.
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
