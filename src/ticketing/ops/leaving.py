"""Ends a command that is interrupted.

The exception of a signal must not arise in the midst of an import or of an event loop. Modules in C
that are half loaded, and drivers that are in the midst of a message, crash from it.
"""

import asyncio
import sys
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from functools import partial
from types import FrameType
from typing import Any, TypeVar

T = TypeVar("T")

_told: list[int] = []
_instead: list[Callable[[], object]] = []
"""What a signal calls instead of raising an exception; the last one is in force."""


def leave(number: int, _frame: FrameType | None) -> None:
    """Exit after a signal, and close everything that is open.

    While the service runs, the supervisor handles signals instead.
    """
    _told.append(number)
    if _instead:
        _instead[-1]()
    else:
        leave_if_told()


def leave_if_told() -> None:
    """Exit if a signal arrived that was held, or whose exception a library caught."""
    if _told:
        sys.exit(128 + _told[0])


@contextmanager
def held() -> Iterator[None]:
    """Exit only at the end of the context if a signal arrives in it.

    For what is short, as an import, and for what waits in `cancellable` only.
    """
    try:
        with _calling(lambda: None):
            yield
    finally:
        if not _instead:
            leave_if_told()


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine in an event loop. If a signal arrives, exit when the loop is closed."""
    with held():
        return asyncio.run(work)  # noqa: TID251 - a signal is held here


@contextmanager
def cancellable() -> Iterator[None]:
    """Cancel the task if a signal arrives in the context, or arrived earlier. Use it in `run`."""
    task = asyncio.current_task()
    assert task is not None  # noqa: S101 - for mypy: a coroutine runs in one
    loop = asyncio.get_running_loop()
    is_inside = True

    def cancel() -> None:
        if is_inside:  # What follows closes connections.
            task.cancel()

    # Not at once, because the driver may be in the midst of a message.
    with _calling(partial(loop.call_soon_threadsafe, cancel)):
        try:
            if _told:
                loop.call_soon(cancel)
            yield
        finally:
            is_inside = False


@contextmanager
def _calling(what: Callable[[], object]) -> Iterator[None]:
    _instead.append(what)
    try:
        yield
    finally:
        _instead.pop()
