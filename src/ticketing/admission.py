"""How much a worker takes on at once, and what it sends away before it costs anything."""

import os
import re
from collections.abc import Iterable
from functools import lru_cache
from itertools import count
from typing import Final

import orjson

from ticketing import telemetry
from ticketing.errors import Busy
from ticketing.headers import CLOSES, OF_API
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
_FIELDS: Final = (
    rb"(?:(?!(?i:content-length|transfer-encoding|expect|upgrade|x-request-id"
    rb"|connection:(?! ?keep-alive\r))|\s).*+\n)*+"
)
"""Header fields but those that say how long a request is, or change what follows on it."""
_HEAD: Final = re.compile(
    rb"POST (%b) HTTP/1\.1\r\n" % "|".join(SHEDDABLE).encode()
    + _FIELDS
    + rb"(?i:content-length):[ \t]*+([0-9]{1,5})[ \t]*+\r\n"
    + _FIELDS
    + rb"\r\n"
)
_BARE: Final = re.compile(rb"\r(?!\n)")
"""What ends a line for some, and not for others."""


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


_OURS: Final = os.urandom(8).hex().encode()
_NUMBERS: Final = count()
"""For ids, which only have to differ: to ask the kernel for each would take longer."""


@lru_cache(maxsize=2 * len(SHEDDABLE))
def _answer(
    path: bytes, headers: tuple[tuple[bytes, bytes], ...]
) -> tuple[bytes, bytes, bytes] | None:
    """Return what is before, between and behind the two places of the request's id.

    None if the connection has to end with the answer.
    """
    if CLOSES in headers:
        return None
    error, mark = Busy(), "0" * 32
    body = orjson.dumps(error.problem(path.decode(), mark, error.members))
    lines = [
        b"HTTP/1.1 503 Service Unavailable",
        *(b"%b: %b" % field for field in headers),
        b"content-type: application/problem+json",
        *(b"%b: %b" % field for field in OF_API),
        *(f"{name}: {value}".lower().encode() for name, value in error.headers.items()),
        b"content-length: %d" % len(body),
        b"x-request-id: %b" % mark.encode(),
        b"",
        body,
    ]
    before, between, behind = b"\r\n".join(lines).split(mark.encode())
    return before, between, behind


def shed(data: bytes, headers: Iterable[tuple[bytes, bytes]]) -> bytes | None:
    """Return the answer 503 `busy` to a booking or a cancel that `data` is all of.

    None if it is anything else, or anything unusual: that is for the parser to understand.
    """
    if len(data) > WHOLE or (head := _HEAD.match(data)) is None:
        return None
    path, length = head.groups()
    end = head.end()
    if int(length) != len(data) - end or _BARE.search(data, 0, end):
        return None
    answer = _answer(path, tuple(headers))
    if answer is None:
        return None
    before, between, behind = answer
    request_id = b"%b%016x" % (_OURS, next(_NUMBERS))
    return b"".join((before, request_id, between, request_id, behind))
