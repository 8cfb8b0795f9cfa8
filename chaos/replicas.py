"""Two replicas of the service on a cluster, behind HAProxy."""

import asyncio
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from typing import Final

import asyncpg
from chaos import cluster
from chaos.receiver import Receiver
from chaos.rig import Kind, Rig, made_folder, settings, until
from chaos.shared import WRONG_PASSWORDS

from ticketing.db.sessions import lacking

REPLICAS: Final = 2
MANY: Final = "500000/60s"
LIMITS: Final = {
    "TICKETING_RATE_LIMITS": "on",
    "TICKETING_LIMIT_BOOKINGS": MANY,
    "TICKETING_LIMIT_KEY_BOOKINGS": MANY,
    "TICKETING_LIMIT_ADDRESS_BOOKINGS": MANY,
    "TICKETING_LIMIT_REQUESTS": MANY,
    "TICKETING_LIMIT_REGISTRATIONS": MANY,
    "TICKETING_LIMIT_ADDRESS_LOGINS": MANY,
    "TICKETING_LIMIT_LOGINS": f"{WRONG_PASSWORDS}/3600s",
}
"""Only the last one is low, for a check that it holds for both replicas together."""


@asynccontextmanager
async def replicated(kind: Kind) -> AsyncIterator[Rig]:
    """Run the replicas and their cluster until the context ends."""
    pooled = kind == "pooled"
    with ExitStack() as stack:
        folder = stack.enter_context(made_folder(limited=False))
        where = folder / "cluster"
        where.mkdir()
        async with cluster.running(where, pooled=pooled) as nodes:
            ports = {
                "cluster": [nodes.haproxy],
                "hosts": [node.outer for node in nodes.nodes],
                "pooled": [nodes.pgbouncer or 0],
            }
            environment = settings() | {
                "TICKETING_DATABASE_URL": nodes.url(*ports[kind]),
                "TICKETING_MIGRATION_DATABASE_URL": nodes.url(),
                "TICKETING_POOLER": "transaction" if pooled else "none",
                "TICKETING_RATE_LIMIT_STORE": "postgresql",
                "TICKETING_AUDIT_EVERY": "3",
                "TICKETING_WEBHOOK_NETWORKS": "127.0.0.1",
                "TICKETING_TRUSTED_PROXIES": "127.0.0.1",
                **LIMITS,
            }
            with nodes.explaining():
                if pooled:
                    await _give_settings(nodes.url())
                await _migrate(environment)
            started = stack.enter_context(ExitStack())
            found = Rig(
                folder=folder,
                environment=environment,
                started=started,
                services=[],
                ports=[],
                earlier=None,
                network=None,
                cluster=folder,
                sockets=folder,
                database=None,
                proxy=None,
                clock=None,
                disk=None,
                nodes=nodes,
                receiver=Receiver(),
            )
            try:
                with nodes.explaining():
                    for _ in range(REPLICAS):
                        service = await asyncio.to_thread(found.start)
                        await until(lambda service=service: found.is_ready(service))  # type: ignore[misc]
                    found.ports.append(nodes.front(*(each.port for each in found.services)))
                    await until(found.is_reached)
                yield found
            finally:
                if found.receiver is not None:
                    await found.receiver.close()
                for service in list(found.services):
                    await found.stop(service, signal.SIGINT)


async def _give_settings(url: str) -> None:
    connection = await asyncpg.connect(url)
    if sql := await lacking(connection):
        await connection.execute(sql)
    await connection.close()


async def _migrate(environment: dict[str, str]) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "ticketing", "migrate"),
        env={**environment, "TICKETING_LOG_FILE": "off"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        cwd="/",
    )
    _, complaint = await process.communicate()
    if process.returncode:
        raise RuntimeError(f"the cluster could not be migrated: {complaint.decode()}")
