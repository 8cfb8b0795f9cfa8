"""What goes wrong, on purpose. Each fault returns when it is over; being well again is then due."""

import asyncio
import os
import random
import signal
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from chaos.rig import DATABASE_ERRORS, FAKETIME, Rig, until

HOUR: Final = 3600
FULL: Final = 3.0
"""Seconds without room on the disk."""


@dataclass
class Stage:
    """What a fault works on."""

    rig: Rig
    chance: random.Random
    freeze: float
    """Seconds for which a frozen database stays so."""
    rudeness: float = 0.0
    """How likely a client hangs up before it is answered."""


async def _until_served(stage: Stage) -> None:
    """Wait until the harness's own database is up: bringing it up is not the service's work."""
    if stage.rig.is_embedded:
        return

    async def answers() -> bool:
        with suppress(*DATABASE_ERRORS):
            await (await stage.rig.connection()).close()
            return True
        return False

    await until(answers)


async def worker(stage: Stage) -> None:
    """Kill one server process."""
    found = stage.rig.workers
    stage.rig.harm(stage.chance.sample(found, min(1, len(found))), signal.SIGKILL)


async def workers(stage: Stage) -> None:
    """Kill every server process."""
    stage.rig.harm(stage.rig.workers, signal.SIGKILL)


async def backend(stage: Stage) -> None:
    """Kill one process of the database that serves a connection; it then drops all others."""
    found = stage.rig.backends
    stage.rig.harm(stage.chance.sample(found, min(1, len(found))), signal.SIGKILL)
    await asyncio.sleep(0.05)
    await _until_served(stage)


async def postmaster(stage: Stage) -> None:
    """Kill the database's server."""
    if (found := stage.rig.postmaster) is not None:
        stage.rig.harm([found], signal.SIGKILL)
    await asyncio.sleep(0.05)
    await _until_served(stage)


async def restart(stage: Stage) -> None:
    """Stop the database's server as an operator does; it is started again."""
    if (found := stage.rig.postmaster) is not None:
        stage.rig.harm([found], signal.SIGINT)
    await asyncio.sleep(0.05)
    await _until_served(stage)


async def freeze(stage: Stage) -> None:
    """Stop every process of the database where it is, and let it go on later."""
    server = stage.rig.postmaster
    if server is None:
        return
    frozen = [server, *stage.rig.backends]
    stage.rig.harm(frozen, signal.SIGSTOP)
    try:
        await asyncio.sleep(stage.freeze)
    finally:
        stage.rig.harm(frozen, signal.SIGCONT)


async def cut(stage: Stage) -> None:
    """Cut connections half-way through a commit, whose outcome nobody then knows."""
    proxy = stage.rig.proxy
    if proxy is None:
        return
    for _ in range(stage.chance.randint(2, 6)):
        proxy.cuts_left += 1
        await asyncio.sleep(stage.chance.uniform(0.05, 0.4))
    proxy.cuts_left = 0
    if stage.chance.random() < 0.5:  # noqa: PLR2004 - even odds
        proxy.cut_all()


async def slow(stage: Stage) -> None:
    """Have pieces between service and database come late, and some very late."""
    proxy = stage.rig.proxy
    if proxy is None:
        return
    proxy.latency, proxy.stalls = stage.chance.uniform(0.001, 0.02), 0.01
    try:
        await asyncio.sleep(stage.chance.uniform(1.0, 2.5))
    finally:
        proxy.latency = proxy.stalls = 0.0


async def rude(stage: Stage) -> None:
    """Have clients hang up before they are answered, and come again."""
    stage.rudeness = 0.3
    try:
        await asyncio.sleep(stage.chance.uniform(1.0, 2.5))
    finally:
        stage.rudeness = 0.0


async def clock(stage: Stage) -> None:
    """Step the service's clock by an hour, forth or back, and later right again."""
    if stage.rig.clock is None:
        return
    stage.rig.clock.write_text(f"{stage.chance.choice((HOUR, -HOUR)):+}\n")
    try:
        await asyncio.sleep(2.5)  # It looks at the file once a second.
    finally:
        stage.rig.clock.write_text("+0\n")


async def disk(stage: Stage) -> None:
    """Leave the database without a byte of room."""
    if stage.rig.disk is None:
        return
    filler = stage.rig.disk / "filler"
    try:
        with filler.open("wb") as file:
            for _ in range(round(FULL / 0.1)):
                room = os.statvfs(stage.rig.disk)
                free = room.f_bavail * room.f_frsize
                if free:
                    size = file.seek(0, os.SEEK_END)
                    with suppress(OSError):  # Somebody was faster.
                        os.posix_fallocate(file.fileno(), size, free)
                # A new segment of the log needs room, and to have none makes the database panic.
                with suppress(*DATABASE_ERRORS):
                    connection = await stage.rig.connection()
                    try:
                        await connection.execute("SELECT pg_switch_wal()")
                    finally:
                        connection.terminate()
                await asyncio.sleep(0.1)
    finally:
        filler.unlink()
    await _until_served(stage)


async def rolling(stage: Stage) -> None:
    """Have the workers replaced one by one."""
    before = set(stage.rig.workers)
    stage.rig.harm([stage.rig.service.pid], signal.SIGHUP)

    async def replaced() -> bool:
        now = set(stage.rig.workers)
        return len(now) == len(before) and not now & before

    # Where a worker is killed meanwhile, the restart may be given up: that is no failure.
    with suppress(TimeoutError):
        async with asyncio.timeout(20):
            await until(replaced)


FAULTS: Final[Mapping[str, Callable[[Stage], Awaitable[None]]]] = {
    "worker": worker,
    "workers": workers,
    "backend": backend,
    "postmaster": postmaster,
    "restart": restart,
    "freeze": freeze,
    "cut": cut,
    "slow": slow,
    "rude": rude,
    "clock": clock,
    "disk": disk,
    "rolling": rolling,
}

NEED_PROXY: Final = {"cut", "slow", "clock", "disk"}
"""Those that need a database of the harness's own."""


def missing(name: str, rig: Rig) -> str:
    """Say what a fault lacks here; nothing if it can be."""
    if name == "clock" and rig.clock is None:
        return (
            "libfaketime is not installed" if FAKETIME is None else "needs the harness's database"
        )
    if name == "disk" and rig.disk is None:
        return "no small file system can be mounted (it needs root)"
    return ""
