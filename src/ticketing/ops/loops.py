"""Background loops, which the lifespan starts and stops."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

from ticketing.errors import TicketingError
from ticketing.ops import logs


@dataclass(frozen=True, slots=True)
class Loop:
    """Work that a worker repeats every `every` seconds."""

    name: str
    work: Callable[[], Awaitable[object]]
    every: float
    at_once: bool = True
    """Whether the work is first done at the start, before the worker serves."""


def _reason(error: Exception) -> str:
    """Return what it says, and the first line of what is behind it."""
    behind = str(error.__cause__ or "").splitlines()
    return f"{error} ({behind[0]})" if behind else str(error)


@asynccontextmanager
async def repeating(loop: Loop) -> AsyncIterator[None]:
    """Repeat the loop's work until the context ends.

    Work that fails is tried again the next time. The log has one line for each series of failures,
    with a traceback unless the failure is a TicketingError.
    """
    is_failing = False

    async def attempt() -> None:
        nonlocal is_failing
        try:
            await loop.work()
        except Exception as error:  # noqa: BLE001 - the next attempt may succeed
            if not is_failing:
                is_bug = not isinstance(error, TicketingError)
                logs.log.warning(
                    "loop.failing", loop=loop.name, reason=_reason(error), exc_info=is_bug
                )
            is_failing = True
        else:
            is_failing = False

    async def go_on() -> None:
        while True:
            await asyncio.sleep(loop.every)
            await attempt()

    if loop.at_once:
        await attempt()
    task = asyncio.create_task(go_on(), name=loop.name)
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
