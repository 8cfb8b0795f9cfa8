"""What goes wrong, on purpose. Each fault returns when it is over; being well again is then due."""

import asyncio
import os
import random
import signal
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from chaos.rig import DATABASE_ERRORS, FAKETIME, PATIENCE, Rig, Service, until
from chaos.versions import earlier

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
    wrong: list[str] = field(default_factory=list)
    """What must not be, whatever the clients saw."""


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


async def network(stage: Stage) -> None:
    """Have the network lose packets of everybody, and be slow."""
    spoilt = stage.rig.network
    if spoilt is None:
        return
    delay = stage.chance.uniform(0.001, 0.02)
    spoilt.spoil(delay=delay, loss=stage.chance.uniform(0.01, 0.06))
    proxy = stage.rig.proxy if not spoilt.has_netem else None
    if proxy is not None:
        proxy.latency = delay
    try:
        await asyncio.sleep(stage.chance.uniform(1.0, 2.5))
    finally:
        spoilt.mend()
        if proxy is not None:
            proxy.latency = 0.0


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
        await asyncio.sleep(2.5)
    finally:
        stage.rig.clock.write_text("+0\n")
    # Each process looks at the file once a second: until then one of them goes wrong.
    await asyncio.sleep(1.5)


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
    service = stage.rig.services[-1]
    before = set(service.workers)
    stage.rig.harm([service.process.pid], signal.SIGHUP)

    async def replaced() -> bool:
        now = set(service.workers)
        return len(now) == len(before) and not now & before

    # Where a worker is killed meanwhile, the restart may be given up: that is no failure.
    with suppress(TimeoutError):
        async with asyncio.timeout(20):
            await until(replaced)


async def upgrade(stage: Stage) -> None:
    """Migrate under load, run this version beside the one before, and have that one leave."""
    rig = stage.rig
    before = rig.services[0]
    complaint = "nothing was tried"
    with suppress(TimeoutError):
        async with asyncio.timeout(PATIENCE):
            # What else goes wrong meanwhile may cut it off: then it is run again.
            while complaint := await rig.migrate():  # noqa: ASYNC110 - nothing tells when
                await asyncio.sleep(0.2)
    if complaint:
        stage.wrong.append(f"the database could not be migrated: {complaint}")
        return
    new = await _beside(rig)
    rig.ports.append(new.port)
    await asyncio.sleep(stage.chance.uniform(1.0, 2.5))
    # As a load balancer does, before it is stopped.
    rig.ports.remove(before.port)
    status = await rig.stop(before, signal.SIGTERM)
    if status != 0:
        stage.wrong.append(f"the version before, told to stop, ended with status {status}")


async def _beside(rig: Rig) -> Service:
    """Start this version, as often as it takes."""
    async with asyncio.timeout(PATIENCE):
        while True:
            with suppress(RuntimeError):
                service = await asyncio.to_thread(rig.start)
                while service.process.poll() is None:
                    if await rig.is_ready(service):
                        return service
                    await asyncio.sleep(0.05)
                rig.services.remove(service)
            await asyncio.sleep(0.2)


FAULTS: Final[Mapping[str, Callable[[Stage], Awaitable[None]]]] = {
    "worker": worker,
    "workers": workers,
    "backend": backend,
    "postmaster": postmaster,
    "restart": restart,
    "freeze": freeze,
    "cut": cut,
    "slow": slow,
    "network": network,
    "rude": rude,
    "clock": clock,
    "disk": disk,
    "rolling": rolling,
    "upgrade": upgrade,
}

NEED_PROXY: Final = {"cut", "slow", "clock", "disk"}
"""Those that need a database of the harness's own."""
NEED_EARLIER: Final = {"upgrade"}
"""Those that need the version before this one."""

ORDERLY: Final = {"rolling", "upgrade"}
"""Those in which no request fails, where nothing else goes wrong."""


def impossible(name: str) -> str:
    """Say what a fault lacks on this machine, whatever the rig; nothing if it can be."""
    if name in NEED_EARLIER and earlier() is None:
        return "the history of the repository has no version with an earlier database"
    return ""


def missing(name: str, rig: Rig) -> str:
    """Say what a fault lacks here; nothing if it can be."""
    if name == "network" and rig.network is None:
        return "the harness has no network of its own"
    if name == "clock" and rig.clock is None:
        return (
            "libfaketime is not installed" if FAKETIME is None else "needs the harness's database"
        )
    if name == "disk" and rig.disk is None:
        return "no small file system can be mounted (it needs root)"
    return ""
