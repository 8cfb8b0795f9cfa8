"""Gates that scan at a steady rate, however long the responses take. `benchmarks.door` starts it.

The load is open: a scan is sent on schedule, and its latency counts from the scheduled time.
"""

import asyncio
import gc
import json
import math
import os
import sys
import time
from collections import deque
from pathlib import Path
from statistics import quantiles
from typing import Final, NamedTuple

import uvloop

CONNECTIONS: Final = 256
"""A gate needs seconds for a person, so a thousand scans per second come from many."""
TICK: Final = 0.001
"""Seconds between two looks at the schedule."""
LEAD: Final = 1.0
"""Seconds of scans before and after those that count, so that these are all beside the sale."""
PATIENCE: Final = 10.0
"""Seconds of waiting for the last responses."""
ADMITTED: Final = b'"verdict":"admitted"'
OK: Final = b"HTTP/1.1 200"


class Scanned(NamedTuple):
    """The scans of one round. Times in milliseconds. A response that never came is infinitely late.

    `admitted` counts all of the round, and everything else those that count.
    """

    admitted: int
    rate: float
    """Scans per second that got a decision in time."""
    broken: int
    """Scans without a decision."""
    p50: float
    p99: float
    cores: float
    """Processor time of the generator, in cores."""


class _Scan:
    __slots__ = ("done", "meant")

    def __init__(self, meant: float) -> None:
        self.meant = meant
        self.done = math.inf


class _Gate(asyncio.Protocol):
    """A connection with at most one scan under way."""

    admitted = 0

    def __init__(self, idle: "deque[_Gate]") -> None:
        self._idle = idle
        self._scan: _Scan | None = None
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: asyncio.Transport = transport  # type: ignore[assignment]
        self._idle.append(self)

    def send(self, scan: _Scan, request: bytes) -> None:
        self._scan = scan
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._received += data
        # Every response is an object without a line break, or a problem: also one.
        if not self._received.endswith(b"}"):
            return
        if self._scan is not None and self._received.startswith(OK):
            self._scan.done = time.perf_counter()
            _Gate.admitted += ADMITTED in self._received
        self._received, self._scan = b"", None
        self._idle.append(self)


def requests(codes: Path, token: str, event: int, number: int) -> list[bytes]:
    """Return a request for each code of the file. `number` tells the rounds apart."""
    head = (
        f"POST /api/events/{event}/check-ins HTTP/1.1\r\nHost: localhost\r\n"
        f"Authorization: Bearer {token}\r\nContent-Type: application/json\r\nContent-Length: "
    )
    made = []
    for place, code in enumerate(codes.read_text().splitlines()):
        scan_id = f"01993800-{number:04x}-7000-8000-{place:012x}"
        body = f'{{"scanId":"{scan_id}","code":"{code}","gate":"{place % 8}"}}'
        made.append(f"{head}{len(body)}\r\n\r\n{body}".encode())
    return made


async def _offer(port: int, made: list[bytes], rate: float, seconds: float) -> Scanned:
    """Connect, wait for a line, offer the scans, and return what became of them."""
    loop = asyncio.get_running_loop()
    idle: deque[_Gate] = deque()
    for _ in range(CONNECTIONS):
        await loop.create_connection(lambda: _Gate(idle), "127.0.0.1", port)
    gc.disable()
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    scans: list[_Scan] = []
    waiting: deque[_Scan] = deque()
    sent = 0

    def send() -> None:
        nonlocal sent
        while waiting and idle:
            idle.popleft().send(waiting.popleft(), made[sent])
            sent += 1

    used, began = time.process_time(), time.perf_counter()
    length = seconds + 2 * LEAD
    while (now := time.perf_counter()) < began + length:
        for _ in range(int((now - began) * rate) - len(scans)):
            scan = _Scan(began + len(scans) / rate)
            scans.append(scan)
            waiting.append(scan)
        send()
        await asyncio.sleep(TICK)
    used = time.process_time() - used
    until = time.perf_counter() + PATIENCE
    while (waiting or len(idle) < CONNECTIONS) and time.perf_counter() < until:
        send()
        await asyncio.sleep(TICK)
    first, last = began + LEAD, began + LEAD + seconds
    counted = [each for each in scans if first <= each.meant < last]
    late = quantiles([1_000 * (each.done - each.meant) for each in counted], n=100)
    return Scanned(
        _Gate.admitted,
        sum(first <= each.done < last for each in scans) / seconds,
        sum(math.isinf(each.done) for each in scans),
        late[49],
        late[98],
        used / length,
    )


def main() -> None:
    """Scan the codes of a file: `port codes event number rate seconds`, and BENCH_TOKEN."""
    port, codes, event, number, rate, seconds = sys.argv[1:]
    made = requests(Path(codes), os.environ["BENCH_TOKEN"], int(event), int(number))
    found = uvloop.run(_offer(int(port), made, float(rate), float(seconds)))
    print(json.dumps(found._asdict()), flush=True)


if __name__ == "__main__":
    main()
