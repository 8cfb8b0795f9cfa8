"""Everybody at once: each person has their own connection, and all requests are sent together.

The client is a separate process: `python -m benchmarks.stampede PORT EVENT PEOPLE OUT`.
"""

import asyncio
import gc
import json
import re
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import quantiles
from typing import Any, Final

import uvloop
from benchmarks.ground import PEOPLE, BooksWrongError, Ground, environment
from benchmarks.servers import ROOT, Server

PLACES: Final = 500
PATIENCE: Final = 600.0
TOGETHER: Final = 200
"""Connections that are opened at the same time, because the listen queue is bounded."""
BOOKED, WAITING, BUSY = 201, 202, 503
LENGTH: Final = re.compile(rb"\r\ncontent-length: (\d+)", re.IGNORECASE)
RETRY: Final = re.compile(rb"\r\nretry-after: (\d+)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Stampede:
    """The result of one stampede. Times in seconds since the first request was sent."""

    contender: str
    people: int
    places: int
    everybody: float
    """Time of the last person's response."""
    p50: float
    p99: float
    booked: int
    waiting: int
    told_to_come_again: int
    """Responses 503. The person resent the request after `Retry-After`."""
    connections: list[int]


class Person(asyncio.Protocol):
    """One person with one connection and one request."""

    def __init__(self, request: bytes, crowd: "Crowd") -> None:
        """Keep the request."""
        self._request = request
        self._crowd = crowd
        self._transport: asyncio.WriteTransport | None = None
        self._received = b""
        self.refused = 0
        self.at = 0.0
        self.status = 0
        self.answer: dict[str, Any] = {}

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Be ready."""
        self._transport = transport  # type: ignore[assignment]

    def connection_lost(self, _: Exception | None) -> None:
        """Give up, because a response is missing."""
        if not self.status:
            self._crowd.leave()

    def send(self) -> None:
        """Ask."""
        if self._transport is not None:
            self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        """Record the response and its time."""
        self._received += data
        head, separator, body = self._received.partition(b"\r\n\r\n")
        length = LENGTH.search(head)
        if not separator or length is None or len(body) < int(length[1]):
            return
        status = int(head[9:12])
        self._received = b""
        if status == BUSY:
            self.refused += 1
            told = RETRY.search(head)
            asyncio.get_running_loop().call_later(int(told[1]) if told else 1, self.send)
            return
        self.at, self.status, self.answer = time.perf_counter(), status, json.loads(body)
        self._crowd.leave()


class Crowd:
    """All people, until the last one has a response."""

    def __init__(self) -> None:
        """Begin with nobody."""
        self._missing = 0
        self._all_gone = asyncio.Event()

    def leave(self) -> None:
        """Count one person less to wait for."""
        self._missing -= 1
        if not self._missing:
            self._all_gone.set()

    async def come(self, port: int, requests: list[bytes]) -> tuple[float, list[Person]]:
        """Connect everybody, send all requests at once, and return the start and all results."""
        loop = asyncio.get_running_loop()
        self._missing = len(requests)
        everybody: list[Person] = []
        for start in range(0, len(requests), TOGETHER):
            made = await asyncio.gather(
                *(
                    loop.create_connection(partial(Person, request, self), "127.0.0.1", port)
                    for request in requests[start : start + TOGETHER]
                )
            )
            everybody += [protocol for _, protocol in made]
        await asyncio.sleep(1.0)
        gc.disable()
        began = time.perf_counter()
        for person in everybody:
            person.send()
        async with asyncio.timeout(PATIENCE):
            await self._all_gone.wait()
        return began, everybody


def _requests(people: Path, event: int) -> list[bytes]:
    made = []
    for line in people.read_text().splitlines()[:PEOPLE]:
        who, token = line.split()
        body = f'{{"eventId":{event},"userId":"{who}"}}'
        made.append(
            (
                "POST /api/events/book HTTP/1.1\r\nHost: localhost\r\n"
                f"Authorization: Bearer {token}\r\nContent-Type: application/json\r\n"
                f"Content-Length: {len(body)}\r\n\r\n{body}"
            ).encode()
        )
    return made


def _client(port: int, event: int, people: Path, out: Path) -> None:
    began, everybody = uvloop.run(Crowd().come(port, _requests(people, event)))
    found = [
        {
            "status": person.status,
            "after": person.at - began,
            "refused": person.refused,
            "answer": person.answer,
        }
        for person in everybody
    ]
    out.write_text(json.dumps(found))


def run(server: Server, ground: Ground, people: Path, folder: Path) -> Stampede:
    """Run one stampede and check every response. Raises BooksWrongError."""
    event = ground.add_events(1, PLACES)
    out = folder / "stampede.json"
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.stampede", str(server.port), str(event), people, out],
        cwd=ROOT,
        env=environment(),
    )
    connections = [0]
    while process.poll() is None:
        # The client holds all connections until the last response.
        connections = max(connections, server.connections(), key=sum)
        time.sleep(0.5)
    if process.returncode:
        raise RuntimeError("the stampede's client failed")
    answers = json.loads(out.read_text())
    out.unlink()
    server.wait_until_idle()
    if server.name == "noop":
        _require(all(each["status"] == BOOKED for each in answers), "the no-op refused a request")
    else:
        _check(ground, event, answers)
    after = sorted(each["after"] for each in answers)
    percentiles = quantiles(after, n=100)
    status = Counter(each["status"] for each in answers)
    return Stampede(
        contender=server.name,
        people=len(answers),
        places=PLACES,
        everybody=after[-1],
        p50=percentiles[49],
        p99=percentiles[98],
        booked=status[BOOKED],
        waiting=status[WAITING],
        told_to_come_again=sum(each["refused"] for each in answers),
        connections=connections,
    )


def _require(agrees: bool, complaint: str) -> None:  # noqa: FBT001 - a condition
    if not agrees:
        raise BooksWrongError(f"stampede: {complaint}")


def _check(ground: Ground, event: int, answers: list[dict[str, Any]]) -> None:
    """Compare every response with its row in the database."""
    status = Counter(each["status"] for each in answers)
    line = len(answers) - PLACES
    _require(
        status == Counter({BOOKED: PLACES, WAITING: line}), f"responses by status: {dict(status)}"
    )
    books = ground.books(event, 1)
    _require(
        (books.taken, books.booked_rows, books.waiting, books.waiting_rows, books.crooked)
        == (PLACES, PLACES, line, line, 0),
        f"{books}",
    )
    rows = ground.bookings(event)
    told = {
        (each["answer"]["id"], each["answer"]["status"], each["answer"].get("position"))
        for each in answers
    }
    _require(told == rows, f"{len(told ^ rows)} responses differ from their rows")


if __name__ == "__main__":
    _client(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]), Path(sys.argv[4]))
