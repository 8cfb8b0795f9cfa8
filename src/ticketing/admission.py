"""How much a worker takes on at once, and what it sends away before it costs anything."""

import os
import re
from collections.abc import Mapping, Sequence
from itertools import count
from typing import Final, TypeAlias

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
    rb"|connection:(?! ?keep-alive\r)))[0-9A-Za-z-]++:[\t -~\x80-\xff]*+\r\n)*+"
)
"""Header fields but those that say how long a request is, or change what follows on it.

Nor may there be a control character: what ends a line for some does not for others.
"""
_HEAD: Final = re.compile(
    rb"POST (%b) HTTP/1\.1\r\n" % "|".join(SHEDDABLE).encode()
    + _FIELDS
    + rb"(?i:content-length):[ \t]*+([0-9]{1,5})[ \t]*+\r\n"
    + _FIELDS
    + rb"\r\n"
)

Answers: TypeAlias = Mapping[bytes, tuple[bytes, bytes, bytes]]
"""By path, what is before, between and behind the two places of the request's id."""


class Admission:
    """Bounds the requests under way in a worker to what it answers in TARGET seconds.

    By Little's law that is its rate times TARGET. The rate is measured while it is full, for only
    then it is as fast as it can: an idle worker has nothing to measure, nor any cost of this. It
    follows that a burst within the bound is taken on whole, and a standing queue can't form.
    """

    def __init__(self, counts: Counts | None = None) -> None:
        """Begin with a guess."""
        self.bound = FIRST
        self.shed = 0
        """How many were sent away."""
        self.answering = 0
        """How many of them by an answer like any other's."""
        self._since = self._said_at = float("-inf")
        self._answered = self._said = 0
        self._headers: Sequence[tuple[bytes, bytes]] | None = None
        self._answers: Answers = {}
        if counts is not None:
            counts.counter(SHED, "overload", read=lambda: self.shed)

    def answers(self, headers: Sequence[tuple[bytes, bytes]]) -> Answers:
        """Return `answers` of these headers, made once for as long as the server has the same."""
        if headers is not self._headers:
            self._headers, self._answers = headers, answers(headers)
        return self._answers

    def refuse(self, under_way: int, answered: int, now: float) -> None:
        """Count one that is sent away, and learn; `answered` are all so far, `now` in seconds."""
        self.shed += 1
        if now - self._since >= PERIOD:
            self._learn(under_way, answered - self.answering, now)

    def _learn(self, under_way: int, answered: int, now: float) -> None:
        elapsed = now - self._since
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


def answers(headers: Sequence[tuple[bytes, bytes]]) -> Answers:
    """Return the answers 503 `busy` that have these headers too.

    There are none if a connection has to end with its answer.
    """
    if CLOSES in headers:
        return {}
    return {path.encode(): _answer(path, headers) for path in SHEDDABLE}


def _answer(path: str, headers: Sequence[tuple[bytes, bytes]]) -> tuple[bytes, bytes, bytes]:
    error, mark = Busy(), "0" * 32
    body = orjson.dumps(error.problem(path, mark, error.members))
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
    return before + _OURS, between + _OURS, behind


def shed(data: bytes, answers: Answers) -> bytes | None:
    """Return the one of `answers` to a booking or a cancel that `data` is all of.

    None if it is anything else, or anything unusual: that is for the parser to understand.
    """
    if len(data) > WHOLE or (head := _HEAD.match(data)) is None:
        return None
    path, length = head.groups()
    if int(length) != len(data) - head.end() or (answer := answers.get(path)) is None:
        return None
    before, between, behind = answer
    number = b"%016x" % next(_NUMBERS)
    return b"".join((before, number, between, number, behind))
