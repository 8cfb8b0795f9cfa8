"""The faults of a cluster. Each one notes when the cluster commits again, before it ends."""

import asyncio
import signal
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from chaos.cluster import Cluster
from chaos.faults import Stage

HANG: Final = 8.0
"""Seconds for which standbys hang."""
HANG_LONG: Final = 15.0
"""The same, longer than the service waits for a commit, and shorter than Patroni's `ttl`."""
AWAY: Final = 12.0
"""Seconds without a primary."""
PAST_TTL: Final = 24.0
"""Seconds for which a node is frozen or cut off: longer than Patroni's `ttl`."""


def _of(stage: Stage) -> Cluster:
    if stage.rig.nodes is None:
        raise RuntimeError("the rig is not a cluster")
    return stage.rig.nodes


async def _recovered(stage: Stage) -> None:
    await _of(stage).accepts()
    stage.recovered_at = time.monotonic()


async def switchover(stage: Stage) -> None:
    """Have another node become the primary, as an operator does."""
    await _of(stage).switch_over()
    await _recovered(stage)


async def primary(stage: Stage) -> None:
    """Kill the primary's PostgreSQL; its Patroni stays."""
    leader = await _of(stage).leader()
    leader.send(signal.SIGKILL, patroni=False)
    await _recovered(stage)


async def node(stage: Stage) -> None:
    """Kill the primary's PostgreSQL and its Patroni, and start that node again later."""
    cluster = _of(stage)
    leader = await cluster.leader()
    leader.send(signal.SIGKILL)
    await _recovered(stage)
    if leader.patroni is not None:
        leader.patroni.wait()
    cluster.start(leader)


async def frozen(stage: Stage) -> None:
    """Freeze the primary's PostgreSQL and its Patroni for longer than the TTL."""
    leader = await _of(stage).leader()
    started = time.monotonic()
    leader.send(signal.SIGSTOP)
    try:
        await _recovered(stage)
        await asyncio.sleep(started + PAST_TTL - time.monotonic())
    finally:
        leader.send(signal.SIGCONT)


async def isolated(stage: Stage) -> None:
    """Cut the network between the primary and everything else."""
    leader = await _of(stage).leader()
    started = time.monotonic()
    leader.cut()
    try:
        await _recovered(stage)
        await asyncio.sleep(started + PAST_TTL - time.monotonic())
    finally:
        leader.heal()


async def standbys(stage: Stage) -> None:
    """Freeze all standbys, so that commits wait for them."""
    cluster = _of(stage)
    others = cluster.standbys(await cluster.leader())
    for each in others:
        each.send(signal.SIGSTOP, patroni=False)
    try:
        await asyncio.sleep(HANG)
    finally:
        for each in others:
            each.send(signal.SIGCONT, patroni=False)
    await _recovered(stage)


async def hanging(stage: Stage) -> None:
    """Freeze all standbys for 15 seconds, then kill the primary; a standby is promoted."""
    cluster = _of(stage)
    leader = await cluster.leader()
    others = cluster.standbys(leader)
    await cluster.be_patient()
    for each in others:
        each.send(signal.SIGSTOP, patroni=False)
    try:
        await asyncio.sleep(HANG_LONG)
        leader.send(signal.SIGKILL)
    finally:
        for each in others:
            each.send(signal.SIGCONT, patroni=False)
    await _recovered(stage)
    if await cluster.leader() is leader:
        stage.wrong.append("no standby was promoted")
    if leader.patroni is not None:
        leader.patroni.wait()
    leader.forget_settings()
    cluster.start(leader)


async def nobody(stage: Stage) -> None:
    """Kill all nodes, and start them after a while."""
    cluster = _of(stage)
    for each in cluster.nodes:
        each.send(signal.SIGKILL)
    await asyncio.sleep(AWAY)
    for each in cluster.nodes:
        if each.patroni is not None:
            each.patroni.wait()
        cluster.start(each)
    await _recovered(stage)


FAILOVERS: Final[Mapping[str, Callable[[Stage], Awaitable[None]]]] = {
    "switchover": switchover,
    "primary": primary,
    "node": node,
    "frozen": frozen,
    "isolated": isolated,
    "standbys": standbys,
    "hanging": hanging,
    "nobody": nobody,
}
