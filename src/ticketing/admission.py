"""How much a worker takes on at once, and what it sends away before it costs anything."""

import os
import re
from collections.abc import Iterable
from typing import Final

import orjson

from ticketing import telemetry
from ticketing.errors import Busy
from ticketing.headers import OF_API
from ticketing.metrics import SHED, Counts

TARGET: Final = 0.5
"""Seconds in which what is taken on shall be answered."""
FIRST: Final = 1000
"""Requests under way that a worker takes on before it knows how fast it is."""
LEAST: Final = 128
"""The same of a worker that answers nothing, because its database hangs."""
PERIOD: Final = 0.25
"""Seconds over which it measures how fast it is."""
STALE: Final = 1.0
SAY_EVERY: Final = 1.0

SHEDDABLE: Final = ("/api/events/book", "/api/events/cancel")
WHOLE: Final = 4096
"""Bytes of the largest request that is recognised without parsing."""
_LENGTH: Final = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]{1,5})[ \t]*(?=\r\n)", re.IGNORECASE)
# What changes how long a request is, or what follows on it.
_UNUSUAL: Final = re.compile(
    rb"\n(transfer-encoding|expect|upgrade|x-request-id|connection:(?! ?keep-alive\r)|[ \t])",
    re.IGNORECASE,
)


class Admission:
    """Bounds the requests under way in a worker to what it answers in TARGET seconds.

    By Little's law that is its rate times TARGET. The rate is measured while it is full, for only
    then it is as fast as it can: an idle worker has nothing to measure, nor any cost of this. It
    follows that a burst within the bound is taken on whole, and a standing queue can't form.
    """

    def __init__(self, counts: Counts | None = None) -> None:
        """Begin with a guess."""
        self._counts = counts
        self.bound = FIRST
        self.shed = 0
        """How many were sent away."""
        self.answering = 0
        """How many of them by an answer like any other's."""
        self._since = self._said_at = float("-inf")
        self._answered = self._said = 0

    def refuse(self, under_way: int, answered: int, now: float) -> None:
        """Count one that is sent away, and learn; `answered` are all so far, `now` in seconds."""
        self.shed += 1
        if self._counts is not None:
            self._counts.add(SHED, "overload")
        answered -= self.answering
        elapsed = now - self._since
        if elapsed >= PERIOD:
            if elapsed < STALE:
                self.bound = max(LEAST, round((answered - self._answered) / elapsed * TARGET))
            self._since, self._answered = now, answered
        if now - self._said_at >= SAY_EVERY:
            telemetry.log.warning(
                "requests.shed", count=self.shed - self._said, underWay=under_way, bound=self.bound
            )
            self._said_at, self._said = now, self.shed


def _document(path: str) -> tuple[bytes, bytes]:
    """Return what is before and behind the id of the request in the answer's body."""
    error = Busy()
    mark = "the id"
    before, _, behind = orjson.dumps(error.problem(path, mark, error.members)).partition(
        mark.encode()
    )
    return before, behind


_BODIES: Final = {f"POST {path} HTTP/1.1".encode(): _document(path) for path in SHEDDABLE}
_ID: Final = 32
_HEAD: Final = b"".join(
    [
        b"content-type: application/problem+json\r\n",
        *(b"%b: %b\r\n" % field for field in OF_API),
        *(f"{n}: {v}\r\n".lower().encode() for n, v in Busy.headers.items()),
    ]
)


def shed(data: bytes, headers: Iterable[tuple[bytes, bytes]]) -> bytes | None:
    """Return the answer 503 `busy` to a booking or a cancel that `data` is all of.

    None if it is anything else, or anything unusual: that is for the parser to understand.
    """
    line, _, _ = data.partition(b"\r\n")
    body = _BODIES.get(line)
    if body is None or len(data) > WHOLE:
        return None
    head, separator, content = data.partition(b"\r\n\r\n")
    lengths = _LENGTH.findall(head + b"\r\n")
    if not separator or len(lengths) != 1 or int(lengths[0]) != len(content):
        return None
    if _UNUSUAL.search(head + b"\r") or head.lower().count(b"content-length") != 1:
        return None
    request_id = os.urandom(_ID // 2).hex().encode()
    return b"".join(
        [
            b"HTTP/1.1 503 Service Unavailable\r\n",
            *(b"%b: %b\r\n" % field for field in headers),
            _HEAD,
            b"x-request-id: %b\r\ncontent-length: %d\r\n\r\n"
            % (request_id, len(body[0]) + _ID + len(body[1])),
            body[0],
            request_id,
            body[1],
        ]
    )
