"""`ticketing deliver`: delivers webhooks in a process of its own."""

import asyncio
import os
import signal

from ticketing.cli.database import database
from ticketing.cli.options import load
from ticketing.errors import StartupError
from ticketing.ops import logs
from ticketing.ops.leaving import cancellable, held, run
from ticketing.settings import Settings


def deliver() -> None:
    """Deliver webhooks until the process is stopped.

    Needs TICKETING_DATABASE_URL. Several of these processes share the work. Set
    TICKETING_WEBHOOK_DELIVERY=off for the service, if only these are to deliver.
    """
    settings = load(None)
    if settings.database_url is None:
        raise StartupError(
            "TICKETING_DATABASE_URL: is required, because the workers deliver with an embedded"
            " PostgreSQL"
        )
    logs.configure(settings)
    with database(settings) as (complete, _):
        run(_deliver(complete))


async def _deliver(settings: Settings) -> None:
    # Imported here, so that `serve` starts sooner and uses less memory.
    with held():
        from ticketing.feed.compose import delivering  # noqa: PLC0415
        from ticketing.web.compose import share  # noqa: PLC0415

    told = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, told.set)
    shared = share(settings.model_copy(update={"rate_limits": "off"}), None)
    try:
        # A signal that arrived before the loop listened to it ends the process too.
        with cancellable():
            async with delivering(shared):
                logs.log.info("deliverer.started", pid=os.getpid())
                await told.wait()
    finally:
        await shared.pools.close()
    logs.log.info("deliverer.stopped", pid=os.getpid())
