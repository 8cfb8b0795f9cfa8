"""Two replicas of the service on a cluster."""

import asyncio
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from typing import Final

import asyncpg
from chaos import cluster
from chaos.rig import Rig, made_folder, settings, until

from ticketing.db.sessions import lacking

REPLICAS: Final = 2


@asynccontextmanager
async def replicated(*, pooled: bool) -> AsyncIterator[Rig]:
    """Run the replicas and their cluster until the context ends."""
    with ExitStack() as stack:
        folder = stack.enter_context(made_folder(limited=False))
        where = folder / "cluster"
        where.mkdir()
        async with cluster.running(where, pooled=pooled) as nodes:
            environment = settings() | {
                "TICKETING_DATABASE_URL": nodes.url(nodes.pgbouncer),
                "TICKETING_MIGRATION_DATABASE_URL": nodes.url(),
                "TICKETING_POOLER": "transaction" if pooled else "none",
                "TICKETING_RATE_LIMIT_STORE": "postgresql",
                "TICKETING_AUDIT_EVERY": "5",
            }
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
            )
            try:
                for _ in range(REPLICAS):
                    service = await asyncio.to_thread(found.start)
                    found.ports.append(service.port)
                    await until(lambda service=service: found.is_ready(service))  # type: ignore[misc]
                yield found
            finally:
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
        cwd="/",
    )
    if await process.wait():
        raise RuntimeError("the cluster could not be migrated")
