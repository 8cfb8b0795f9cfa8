"""Offer more requests than the service can handle, and measure what it still does.

The load is open: requests are sent on schedule, without waiting for earlier responses, and latency
counts from the scheduled time (no coordinated omission). First the rate is raised until the service
can't follow. Each round then offers a little more than that rate, which gives the most bookings;
then four times what was just booked; then half of it. At the end the promises are checked. The exit
status is 1 if one is broken.

`make overload`, or `python -m benchmarks.overload`. The generator is a separate process. If there
are at least two cores, it has the last one to itself, because real clients have their own machines.
"""

import argparse
import asyncio
import gc
import json
import os
import re
import subprocess
import sys
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from statistics import median, quantiles
from typing import Any, Final, NamedTuple

import uvloop
from benchmarks.arena import arena
from benchmarks.ground import environment
from benchmarks.servers import ROOT, machine_cpu_seconds, tree_cpu_seconds

EVENTS: Final = 400
MAX_CONNECTIONS: Final = 8000
PATIENCE: Final = 5.0
"""Seconds after which a client gives up."""
TICK: Final = 0.002
"""Seconds that a generator without its own core sleeps between two looks.

Waking it more often would cost the service more than responding.
"""
FOLLOWS: Final = 0.97
"""Share of the offered requests that must be booked in time if the service follows."""
SWIFT: Final = 0.5
"""Seconds within which 99 of 100 get a response if the service follows."""
RAISES: Final = (1.35, 1.08)
"""Factors by which the rate is raised until the service can't follow: coarse, then fine."""
ROUNDS: Final = 5
PEAK: Final = 1.35
"""Multiple of the sustained rate that is offered to measure the peak."""
FAILURES: Final = 2
"""Consecutive failures at a rate before it counts, because one may have another cause."""
TIMES: Final = 4
"""Multiple of the last peak that is offered as overload."""
KEPT: Final = 0.8
"""Share of the peak that must still be booked under overload."""
LATEST: Final = 2.0
"""Seconds within which 99 of 100 accepted requests must get a response under overload."""
BACK: Final = 5.0
"""Seconds after the overload until everything must be normal."""
LENGTH: Final = re.compile(rb"\r\ncontent-length: (\d+)", re.IGNORECASE)
BOOKED, BUSY, GIVEN_UP = 201, 503, 0
CLOSE: Final = b"\r\nconnection: close"


class _Wish:
    """A request and its result."""

    __slots__ = ("at", "done", "meant", "retry_after", "status")

    def __init__(self, meant: float) -> None:
        self.meant = meant
        self.done = 0.0
        self.status = GIVEN_UP
        self.retry_after = False


class _Line(asyncio.Protocol):
    """A connection with at most one request under way."""

    def __init__(self, idle: "deque[_Line]") -> None:
        self._idle = idle
        self._transport: asyncio.Transport | None = None
        self._received = b""
        self.wish: _Wish | None = None
        self.is_open = True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]

    def connection_lost(self, _: Exception | None) -> None:
        self.is_open = False

    def send(self, wish: _Wish, request: bytes) -> None:
        self.wish = wish
        if self._transport is not None:
            self._transport.write(request)

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        data = self._received + data
        head, separator, body = data.partition(b"\r\n\r\n")
        length = LENGTH.search(head)
        if not separator or length is None or len(body) < int(length[1]):
            self._received = data
            return
        self._received = b""
        wish, self.wish = self.wish, None
        if wish is not None:
            wish.done = time.perf_counter()
            wish.status = int(head[9:12])
            wish.retry_after = b"retry-after" in head.lower() if wish.status == BUSY else False
        if CLOSE in head.lower():
            self.abort()
        else:
            self._idle.append(self)


@dataclass(frozen=True, slots=True)
class Phase:
    """One phase: the offered load and its results. Times in seconds."""

    offered: float
    """Requests per second."""
    seconds: float
    sent: int
    good: int
    """Bookings that were acknowledged before the end of the phase."""
    told: int
    """Bookings that were acknowledged within the client's timeout."""
    shed: int
    """Responses 503 with Retry-After."""
    other: dict[int, int]
    """Other responses by status; 0: no response."""
    p50: float
    p99: float
    """Latency of acknowledged bookings."""
    alive_worst: float
    """Longest duration of /livez."""
    alive_missed: int
    generator: float
    """Cores used by the generator."""
    service: float
    """Cores used by the service."""
    machine: float
    """Cores used in total: also by PostgreSQL and other programs."""
    connections: int
    """Open connections at the end."""
    recovered: float
    """Time from the start of the phase until everything was normal."""

    @property
    def goodput(self) -> float:
        """Bookings per second."""
        return self.good / self.seconds

    @property
    def follows(self) -> bool:
        """Whether the service followed the rate."""
        # Later bookings do not count, because they show that a queue grew.
        return self.good >= FOLLOWS * self.sent and self.p99 <= SWIFT


class Generator:
    """Sends bookings on schedule, without waiting for earlier responses."""

    def __init__(
        self, port: int, pid: int, first_event: int, people: Path, tick: float = TICK
    ) -> None:
        self._port = port
        self._tick = tick
        self._pid = pid
        self._first_event = first_event
        self._people = [line.split() for line in people.read_text().splitlines()]
        self._next = 0
        self._idle: deque[_Line] = deque()
        self._all: set[_Line] = set()
        self._opening = 0
        self._backlog: deque[_Wish] = deque()
        self._alive: list[float] = []

    def _request(self) -> bytes:
        number, self._next = self._next, self._next + 1
        who, token = self._people[number % len(self._people)]
        body = f'{{"eventId":{self._first_event + number // len(self._people)},"userId":"{who}"}}'
        return (
            "POST /api/events/book HTTP/1.1\r\nHost: localhost\r\n"
            f"Authorization: Bearer {token}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n\r\n{body}"
        ).encode()

    async def _open(self) -> None:
        try:
            _, line = await asyncio.get_running_loop().create_connection(
                lambda: _Line(self._idle), "127.0.0.1", self._port
            )
        except OSError:
            return
        finally:
            self._opening -= 1
        self._all.add(line)
        self._idle.append(line)

    def _cpu(self) -> list[float]:
        return [time.process_time(), tree_cpu_seconds(self._pid), machine_cpu_seconds()]

    def _send(self) -> None:
        while self._backlog:
            while self._idle and not self._idle[0].is_open:
                self._all.discard(self._idle.popleft())
            if not self._idle:
                break
            self._idle.popleft().send(self._backlog.popleft(), self._request())
        wanted = min(len(self._backlog), 50, MAX_CONNECTIONS - len(self._all)) - self._opening
        for _ in range(max(wanted, 0)):
            self._opening += 1
            asyncio.get_running_loop().create_task(self._open())

    def _give_up(self, now: float) -> None:
        while self._backlog and self._backlog[0].meant < now - PATIENCE:
            self._backlog.popleft()
        for line in list(self._all):
            if not line.is_open:
                self._all.discard(line)
            elif line.wish is not None and line.wish.meant < now - PATIENCE:
                line.wish = None
                line.abort()
                self._all.discard(line)

    async def gather(self) -> None:
        """Open all connections first, a few at a time, because the listen queue is bounded."""
        while len(self._all) < MAX_CONNECTIONS:
            self._opening += 50
            await asyncio.gather(*(self._open() for _ in range(50)))

    async def _ask_if_alive(self) -> None:
        while True:
            started = time.perf_counter()
            try:
                async with asyncio.timeout(PATIENCE):
                    reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
                    writer.write(b"GET /livez HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
                    is_alive = (await reader.readline()).startswith(b"HTTP/1.1 200")
                    writer.transport.abort()
            except OSError:
                is_alive = False
            self._alive.append(time.perf_counter() - started if is_alive else -1.0)
            await asyncio.sleep(0.05)

    async def offer(
        self, rate: float, seconds: float, *, drain: bool = True
    ) -> Callable[[], Phase]:
        """Offer `rate` requests per second, and return a function that returns the results.

        With `drain`, wait for the last responses. Without it, call the function after they arrived.
        """
        self._alive = []
        wishes: list[_Wish] = []
        before = self._cpu()
        began = time.perf_counter()
        asking = asyncio.create_task(self._ask_if_alive())
        look = began
        while (now := time.perf_counter()) < began + seconds:
            for _ in range(int((now - began) * rate) - len(wishes)):
                wish = _Wish(began + len(wishes) / rate)
                wishes.append(wish)
                self._backlog.append(wish)
            self._send()
            if now > look:
                self._give_up(now)
                look = now + 0.1
            await asyncio.sleep(self._tick)
        cpu = [now - then for now, then in zip(self._cpu(), before, strict=True)]
        if drain:
            until = time.perf_counter() + PATIENCE
            while time.perf_counter() < until and (
                self._backlog or any(line.wish is not None for line in self._all)
            ):
                self._send()
                await asyncio.sleep(0.01)
        asking.cancel()
        return partial(self._phase, wishes, rate, seconds, began, cpu, self._alive)

    def _phase(  # noqa: PLR0913, PLR0917 - what was measured
        self,
        wishes: list[_Wish],
        rate: float,
        seconds: float,
        began: float,
        cpu: list[float],
        asked: list[float],
    ) -> Phase:
        end = began + seconds
        told = [w for w in wishes if w.status == BOOKED and w.done - w.meant <= PATIENCE]
        # Goodput counts responses during the phase, and none after it.
        good = sum(w.done <= end for w in told)
        late = sorted(w.done - w.meant for w in told) or [0.0, 0.0]
        percentiles = quantiles(late, n=100)
        statuses = Counter(w.status for w in wishes if w.status != BOOKED and not w.retry_after)
        alive = [each for each in asked if each >= 0]
        return Phase(
            offered=rate,
            seconds=seconds,
            sent=len(wishes),
            good=good,
            told=len(told),
            shed=sum(w.retry_after for w in wishes),
            other=dict(statuses),
            p50=percentiles[49],
            p99=percentiles[98],
            alive_worst=max(alive, default=PATIENCE),
            alive_missed=len(asked) - len(alive),
            generator=cpu[0] / seconds,
            service=cpu[1] / seconds,
            machine=cpu[2] / seconds,
            connections=len(self._all),
            recovered=_recovered(wishes, began),
        )


def _recovered(wishes: list[_Wish], began: float) -> float:
    """Return the scheduled time of the last request that was not booked quickly."""
    late = [w.meant for w in wishes if w.status != BOOKED or w.done - w.meant > SWIFT]
    # One in a hundred may be late even without overload.
    return late[-1 - len(wishes) // 100] - began if len(late) > len(wishes) // 100 else 0.0


class Round(NamedTuple):
    """Three phases one after the other."""

    peak: Phase
    over: Phase
    after: Phase


async def _generate(generator: Generator, seconds: float) -> list[Round]:
    """Find the rate that the service can follow, and return the rounds."""
    gc.disable()
    await generator.gather()
    followed = 500.0
    for step in RAISES:
        failures = 0
        while failures < FAILURES:
            phase = (await generator.offer(followed * step, 3))()
            _tell(phase)
            if phase.follows:
                followed, failures = followed * step, 0
            else:
                failures += 1
    rounds: list[Round] = []
    sustained = followed
    while len(rounds) < ROUNDS:
        peak = (await generator.offer(PEAK * sustained, seconds))()
        _tell(peak)
        if peak.follows:  # The machine, not the service, was the limit before.
            sustained *= PEAK
            continue
        sustained = peak.goodput
        over = await generator.offer(TIMES * sustained, seconds, drain=False)
        after = await generator.offer(sustained / 2, seconds)
        rounds.append(Round(peak, over(), after()))
        _tell(rounds[-1].over)
        _tell(rounds[-1].after)
    return rounds


def _tell(phase: Phase) -> None:
    sys.stderr.write(
        f"{phase.offered:8,.0f}/s offered  {phase.goodput:8,.0f}/s booked  p50 {phase.p50:6.3f} s"
        f"  p99 {phase.p99:6.3f} s  {phase.shed:7,} shed  other {phase.other}"
        f"  /livez at most {phase.alive_worst:.3f} s, {phase.alive_missed} missed"
        f"  {phase.connections} connections  cores: generator {phase.generator:.2f},"
        f" service {phase.service:.2f}, in all"
        f" {phase.machine:.2f}  normal after {phase.recovered:.2f} s\n"
    )


def judge(rounds: Sequence[Round]) -> list[tuple[bool, str]]:
    """Return for each promise whether it was kept."""
    peak = median(each.peak.goodput for each in rounds)
    booked = median(each.over.goodput for each in rounds)
    overs = [each.over for each in rounds]
    offered = median(each.offered for each in overs)
    strange = sum((Counter(each.other) for each in overs), Counter[int]())
    unanswered = strange.pop(GIVEN_UP, 0)
    told, shed = sum(each.told for each in overs), sum(each.shed for each in overs)
    p99 = max(each.p99 for each in overs)
    missed = sum(each.alive_missed for each in overs)
    alive = max(each.alive_worst for each in overs)
    recovered = max(each.after.recovered for each in rounds)
    share = f"{booked:,.0f}/s, {booked / peak:.2f} of the peak, {peak:,.0f}/s"
    return [
        (
            booked >= KEPT * peak,
            f"of {offered:,.0f}/s at least {KEPT} of the peak is booked: {share}",
        ),
        (p99 <= LATEST, f"p99 of the booked is at most {LATEST} s: {p99:.2f} s"),
        (
            # Otherwise accepted requests without a response would make the percentile look better.
            unanswered <= (told + unanswered) / 100,
            f"at most one in a hundred accepted requests gets no response: {unanswered:,}",
        ),
        (not strange, f"all others get 503 with Retry-After: {shed:,}, {dict(strange)} not"),
        (missed == 0, f"/livez always responds: {missed} missed, at most {alive:.2f} s"),
        (recovered <= BACK, f"everything is normal at most {BACK} s later: {recovered:.2f} s"),
    ]


def main() -> None:
    """Start a service, overload it, and record what it did."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.overload", description=__doc__)
    parser.add_argument(
        "--seconds", type=float, default=6.0, help="seconds of each part of a round"
    )
    parser.add_argument("--client", nargs=6, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.client:
        port, pid, first, people, tick, out = given.client
        generator = Generator(int(port), int(pid), int(first), Path(people), float(tick))
        rounds = uvloop.run(_generate(generator, given.seconds))
        lines = [[asdict(phase) for phase in each] for each in rounds]
        Path(out).write_text(json.dumps(lines))
        return
    *others, last = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, others or {last})
    with arena() as here, here.fresh("service") as server:
        first = here.ground().add_events(EVENTS)
        here.ground().settle()
        out = here.folder / "overload.json"
        os.sched_setaffinity(0, {last})
        subprocess.run(
            [
                *(sys.executable, "-m", "benchmarks.overload", "--seconds", str(given.seconds)),
                *("--client", str(server.port), str(server.pid), str(first)),
                *(str(here.people), str(0 if others else TICK), str(out)),
            ],
            cwd=ROOT,
            env=environment(),
            check=True,
        )
        books = here.ground().books(first, EVENTS)
        rounds = [Round(*map(_phase, each)) for each in json.loads(out.read_text())]
    is_right = not books.crooked and books.taken == books.booked_rows
    verdicts = [*judge(rounds), (is_right, f"counters and rows agree: {books}")]
    print("\n".join(f"{'kept  ' if kept else 'BROKEN'}  {what}" for kept, what in verdicts))
    sys.exit(not all(kept for kept, _ in verdicts))


def _phase(document: dict[str, Any]) -> Phase:
    """Read the generator's output. JSON has no numbers as names, so statuses are converted."""
    other = {int(status): n for status, n in document["other"].items()}
    return Phase(**{**document, "other": other})


if __name__ == "__main__":
    main()
