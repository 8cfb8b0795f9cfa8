"""Flood the service with logins while people book, and measure how long a booking takes.

Rounds with and without the flood alternate, so that other load on the machine affects both.
Bookings arrive at a fixed rate (an open load). The flood is clients that log in again and again,
half of them with a correct password. Rate limits are off, because they would stop the flood.

`python -m benchmarks.login_flood` fails if the p99 of a booking is over 3 times its quiet value.
"""

import argparse
import asyncio
import gc
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from statistics import median
from typing import Final

import uvloop
from benchmarks.arena import arena
from benchmarks.ground import environment
from benchmarks.overload import Generator, Phase
from benchmarks.servers import ROOT

EVENTS: Final = 100
AT_MOST: Final = 3.0
"""How many times longer the p99 of a booking may be in the flood."""
ACCOUNT: Final = {"username": "flood", "password": "correct horse battery"}
WRONG: Final = ACCOUNT | {"password": "incorrect horse"}
WARM_UP: Final = 3.0
"""Seconds."""


async def _login(port: int, body: dict[str, str], answers: Counter[int]) -> None:
    content = json.dumps(body).encode()
    request = (
        b"POST /api/users/login HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        b"Content-Length: %d\r\n\r\n%b" % (len(content), content)
    )
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    while True:
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        _, _, length = head.lower().partition(b"\r\ncontent-length: ")
        await reader.readexactly(int(length.partition(b"\r\n")[0]))
        answers[int(head[9:12])] += 1
        if b"\r\nconnection: close" in head.lower():
            writer.close()
            reader, writer = await asyncio.open_connection("127.0.0.1", port)


async def _flood(port: int, connections: int) -> None:
    """Log in until standard input is closed, then print the responses by status."""
    # An attacker has other processors, so this uses only what the service leaves over.
    os.nice(19)
    answers: Counter[int] = Counter()
    async with asyncio.TaskGroup() as group:
        clients = [
            group.create_task(_login(port, WRONG if number % 2 else ACCOUNT, answers))
            for number in range(connections)
        ]
        sys.stdout.write("\n")
        sys.stdout.flush()
        await asyncio.to_thread(sys.stdin.read)
        for client in clients:
            client.cancel()
    sys.stdout.write(json.dumps(answers))


@contextmanager
def _flooded(port: int, connections: int) -> Iterator[Counter[str]]:
    """Run the flood until the context ends, and count its responses at the end."""
    answers: Counter[str] = Counter()
    with subprocess.Popen(
        [
            *(sys.executable, "-m", "benchmarks.login_flood"),
            *("--flood", str(port), "--connections", str(connections)),
        ],
        cwd=ROOT,
        env=environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            if process.stdout is not None:
                process.stdout.readline()
            yield answers
            written, _ = process.communicate(timeout=30)
            answers.update(json.loads(written))
        finally:
            process.kill()


def _tell(what: str, phase: Phase, answers: Counter[str] | None = None) -> None:
    sys.stderr.write(
        f"{what:6} {phase.told:6,} of {phase.sent:,} booked  p50 {phase.p50 * 1000:6.1f} ms"
        f"  p99 {phase.p99 * 1000:6.1f} ms  other {phase.other}  cores: service"
        f" {phase.service:.2f}, in all {phase.machine:.2f}"
        f"{'' if answers is None else f'  logins by status {dict(sorted(answers.items()))}'}\n"
    )


async def _measure(
    generator: Generator, port: int, given: argparse.Namespace
) -> tuple[list[Phase], list[Phase], Counter[str]]:
    """Return the quiet rounds, the rounds in the flood, and the flood's responses by status."""
    gc.disable()
    await generator.offer(given.rate, WARM_UP)
    quiet: list[Phase] = []
    flooded: list[Phase] = []
    told: Counter[str] = Counter()
    for number in range(given.rounds * 2):
        if number % 4 in {0, 3}:  # quiet, flood, flood, quiet: neither is always first
            quiet.append((await generator.offer(given.rate, given.seconds))())
            _tell("quiet", quiet[-1])
            continue
        with _flooded(port, given.connections) as answers:
            await asyncio.sleep(WARM_UP)
            flooded.append((await generator.offer(given.rate, given.seconds))())
        told += answers
        _tell("flood", flooded[-1], answers)
        await asyncio.sleep(WARM_UP)  # Requests that waited are done.
    return quiet, flooded, told


def main() -> None:
    """Measure, and fail if the flood slows bookings down too much."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.login_flood", description=__doc__)
    parser.add_argument("--rounds", type=int, default=6, help="of each kind")
    parser.add_argument("--seconds", type=float, default=10.0, help="seconds of a round")
    parser.add_argument("--rate", type=float, default=100.0, help="bookings per second")
    parser.add_argument("--connections", type=int, default=64, help="that log in")
    parser.add_argument("--flood", type=int, metavar="PORT", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.flood:
        uvloop.run(_flood(given.flood, given.connections))
        return
    with arena() as here, here.fresh("service") as server:
        server.create("/api/users/register", ACCOUNT)
        first = here.ground().add_events(EVENTS)
        here.ground().settle()
        generator = Generator(server.port, server.pid, first, here.people)
        quiet, flooded, told = uvloop.run(_measure(generator, server.port, given))
        books = here.ground().books(first, EVENTS)
    calm, rough = (median(each.p99 for each in rounds) for rounds in (quiet, flooded))
    print(f"logins: {dict(sorted(told.items()))}; rows: {books}")
    print(
        f"p99 of a booking, median of {given.rounds} rounds: {calm * 1000:.1f} ms quiet,"
        f" {rough * 1000:.1f} ms in the flood: {rough / calm:.2f} times, at most {AT_MOST:g}"
    )
    phases = [*quiet, *flooded]
    if books.crooked or books.taken != books.booked_rows:
        sys.exit("counters and rows differ")
    if not (told["200"] and told["401"]):
        sys.exit("no password was verified, so there was no flood")
    if sum(each.told for each in phases) < sum(each.sent for each in phases):
        sys.exit("not every booking was acknowledged")
    if rough > AT_MOST * calm:
        sys.exit("too slow")


if __name__ == "__main__":
    main()
