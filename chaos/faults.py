"""The faults. Each one returns when it is over; after that the service must become healthy."""

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
"""Seconds for which the disk is full."""


@dataclass
class Stage:
    """The objects that a fault acts on."""

    rig: Rig
    chance: random.Random
    freeze: float
    """Seconds for which a database is frozen."""
    rudeness: float = 0.0
    """Probability that a client closes the connection before the response."""
    wrong: list[str] = field(default_factory=list)
    """Faults of the service, apart from those that clients see."""
    recovered_at: float | None = None
    """When a cluster committed again."""


async def _until_served(stage: Stage) -> None:
    """Wait until the harness's own database runs, because the service can't start it."""
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
    """Kill a process of the database that serves a connection; the database drops the others."""
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
    """Stop the database's server as an operator does. It is started again."""
    if (found := stage.rig.postmaster) is not None:
        stage.rig.harm([found], signal.SIGINT)
    await asyncio.sleep(0.05)
    await _until_served(stage)


async def freeze(stage: Stage) -> None:
    """Freeze every process of the database, and let it continue later."""
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
    """Cut connections during a commit, so that its outcome is unknown."""
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
    """Delay data between service and database, some of it for very long."""
    proxy = stage.rig.proxy
    if proxy is None:
        return
    proxy.latency, proxy.stalls = stage.chance.uniform(0.001, 0.02), 0.01
    try:
        await asyncio.sleep(stage.chance.uniform(1.0, 2.5))
    finally:
        proxy.latency = proxy.stalls = 0.0


async def network(stage: Stage) -> None:
    """Have the network drop packets, and delay the others."""
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
    """Have clients close the connection before the response, and connect again."""
    stage.rudeness = 0.3
    try:
        await asyncio.sleep(stage.chance.uniform(1.0, 2.5))
    finally:
        stage.rudeness = 0.0


async def clock(stage: Stage) -> None:
    """Move the service's clock by an hour, forward or back, and later reset it."""
    if stage.rig.clock is None:
        return
    stage.rig.clock.write_text(f"{stage.chance.choice((HOUR, -HOUR)):+}\n")
    try:
        await asyncio.sleep(2.5)
    finally:
        stage.rig.clock.write_text("+0\n")
    # Each process reads the file once a second, so until then their clocks differ.
    await asyncio.sleep(1.5)


async def disk(stage: Stage) -> None:
    """Fill the database's disk."""
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
                    with suppress(OSError):  # Another process was faster.
                        os.posix_fallocate(file.fileno(), size, free)
                # A new segment of the log needs room, and without it the database panics.
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

    # If a worker is killed meanwhile, the restart may be cancelled, which is no failure.
    with suppress(TimeoutError):
        async with asyncio.timeout(20):
            await until(replaced)


async def upgrade(stage: Stage) -> None:
    """Migrate under load, run this version beside the previous one, and stop the previous one."""
    rig = stage.rig
    before = rig.services[0]
    complaint = "no attempt was made"
    with suppress(TimeoutError):
        async with asyncio.timeout(PATIENCE):
            # Another fault may interrupt it. It is then run again.
            while complaint := await rig.migrate():  # noqa: ASYNC110 - there is no event
                await asyncio.sleep(0.2)
    if complaint:
        # The rows cannot be checked then, because this version does not know their form.
        raise TimeoutError(f"the database could not be migrated: {complaint}")
    new = await _beside(rig)
    rig.ports.append(new.port)
    await asyncio.sleep(stage.chance.uniform(1.0, 2.5))
    # Stop sending requests to it first, as a load balancer does.
    rig.ports.remove(before.port)
    status = await rig.stop(before, signal.SIGTERM)
    if status != 0:
        stage.wrong.append(f"the previous version ended with status {status} when it was stopped")


async def _beside(rig: Rig) -> Service:
    """Start this version, with retries."""
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
"""Faults that need a database of the harness."""
NEED_EARLIER: Final = {"upgrade"}
"""Faults that need the previous version."""

ORDERLY: Final = {"rolling", "upgrade"}
"""Faults during which no request may fail, if there is no other fault."""


def impossible(name: str) -> str:
    """Return what a fault lacks on this machine with any rig; empty if it is possible."""
    if name in NEED_EARLIER and earlier() is None:
        return "the history of the repository has no version with an earlier database"
    return ""


def missing(name: str, rig: Rig) -> str:
    """Return what a fault lacks here; empty if it is possible."""
    if name == "network" and rig.network is None:
        return "the harness has no network of its own"
    if name == "clock" and rig.clock is None:
        return (
            "libfaketime is not installed" if FAKETIME is None else "needs the harness's database"
        )
    if name == "disk" and rig.disk is None:
        return "no small file system can be mounted (it needs root)"
    return ""
