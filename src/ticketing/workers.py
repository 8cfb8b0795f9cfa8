"""Background loops, each owned and stopped by the lifespan."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

from ticketing import telemetry
from ticketing.errors import TicketingError


@asynccontextmanager
async def repeating(
    name: str, work: Callable[[], Awaitable[None]], *, every: float, at_once: bool = True
) -> AsyncIterator[None]:
    """Do `work` once, then again every so many seconds for as long as the context lasts.

    Unless `at_once`, the first time is only after so many seconds.

    When it fails it is tried again as if nothing were: the log has one line for each row of
    failures, with a traceback where the failure is no domain error.
    """
    is_failing = False

    async def attempt() -> None:
        nonlocal is_failing
        try:
            await work()
        except Exception as error:  # noqa: BLE001 - whatever it is, the next time may be better
            if not is_failing:
                is_bug = not isinstance(error, TicketingError)
                telemetry.log.warning("loop.failing", loop=name, reason=str(error), exc_info=is_bug)
            is_failing = True
        else:
            is_failing = False

    async def go_on() -> None:
        while True:
            await asyncio.sleep(every)
            await attempt()

    if at_once:
        await attempt()
    task = asyncio.create_task(go_on(), name=name)
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
