"""The parent of the workers: starts, replaces, restarts and stops them."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import connection, get_context, resource_tracker
from multiprocessing.connection import Connection
from types import FrameType
from typing import Final

from ticketing.errors import StartupError
from ticketing.ops.logs import log
from ticketing.server.terms import RETIRE

TICK: Final = 0.1
"""Seconds between two calls of `watch`. A process that ends is noticed at once."""
STEADY: Final = 10.0
"""Seconds after which the death of a worker does not count as one during start-up."""
FIRST_PAUSE: Final = 0.25
LONGEST_PAUSE: Final = 10.0
"""Seconds before a worker that keeps dying is started again; doubled each time from FIRST_PAUSE."""
LONGEST_OUTAGE: Final = 1.0
"""The same for a worker that was ready before it died: it may become ready again."""

_spawn = get_context("spawn")


class _Worker:
    """A server process, from its start to its end."""

    def __init__(self, work: Callable[[int, Connection], None], number: int) -> None:
        self.number = number
        self._readiness, told = _spawn.Pipe(duplex=False)
        self._process = _spawn.Process(target=work, args=(number, told))
        self._is_ready = False
        self.started_at = time.monotonic()
        with told, _signals_for_parent_only():
            self._process.start()
        self.pid = self._process.pid or 0
        self.sentinel = self._process.sentinel

    @property
    def is_ready(self) -> bool:
        """Whether it has been ready."""
        if not self._is_ready and not self._readiness.closed and self._readiness.poll():
            with self._readiness, suppress(EOFError):  # it died first
                self._readiness.recv()
                self._is_ready = True
        return self._is_ready

    @property
    def is_serving(self) -> bool:
        return self.status is None and self.is_ready

    @property
    def status(self) -> int | None:
        """Its exit status, or minus the signal that ended it; None while it runs."""
        return self._process.exitcode

    def tell(self, number: int) -> None:
        """Send a signal, unless it has ended."""
        if self.status is None:  # It is not reaped yet, so the process id is still its own.
            os.kill(self.pid, number)


@dataclass
class _Place:
    """A slot for a worker."""

    worker: _Worker | None = None
    deaths: int = 0
    """Number of consecutive deaths during start-up."""
    not_before: float = 0.0
    """Time before which no worker may start here."""


class Supervisor:
    """Keeps `count` processes running `work`, until it must stop.

    `work` is called in each process with a number from 0 to `count`, which no other live process
    has, and with a connection to which it sends once it serves. `forget` is called with the number
    of each process that ended. `watch` is called every TICK; if it raises StartupError, the service
    ends. A worker that does not become ready or stop within `patience` seconds is killed.
    """

    def __init__(
        self,
        work: Callable[[int, Connection], None],
        count: int,
        *,
        watch: Callable[[], None],
        forget: Callable[[int], None],
        patience: float,
    ) -> None:
        """Keep the arguments. `run` starts the workers."""
        self._work = work
        self._places = [_Place() for _ in range(count)]
        self._watch = watch
        self._forget = forget
        self._patience = patience
        self._told_to_stop = self._told_to_restart = False
        self._beside: list[_Worker] = []
        """During a restart: the worker that is not ready yet, or the one that is stopping."""

    def run(self, *, on_starting: Callable[[], None], on_stopping: Callable[[], None]) -> None:
        """Serve until SIGTERM or SIGINT. SIGHUP replaces the workers one by one.

        `on_starting` is called after the signal handlers are set, before the first worker starts;
        `on_stopping` before the workers are stopped. Raises StartupError, after all workers have
        stopped, if they can't start, if `watch` raised it, or if a worker had to be killed.
        """
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._take)
        on_starting()
        try:
            while not self._told_to_stop:
                self._tick()
                if self._told_to_restart:
                    self._told_to_restart = False
                    self._restart()
        finally:
            log.info("service.stopping")
            on_stopping()
            in_time = self._stop()
            log.info("service.stopped")
        if not in_time:
            raise StartupError("a worker did not stop in time and was killed")

    def _take(self, number: int, _frame: FrameType | None) -> None:
        if number == signal.SIGHUP:
            self._told_to_restart = True
        else:
            self._told_to_stop = True

    def _start(self) -> _Worker:
        """Start a worker with the lowest free number."""
        taken = {worker.number for worker in (*self._workers(), *self._beside)}
        number = next(each for each in range(len(self._places) + 1) if each not in taken)
        return _Worker(self._work, number)

    def _workers(self) -> list[_Worker]:
        return [place.worker for place in self._places if place.worker is not None]

    def _tick(self) -> None:
        """Start missing workers, wait up to TICK for one to end, and call `watch`."""
        for place in self._places:
            if place.worker is None and time.monotonic() >= place.not_before:
                place.worker = self._start()
        connection.wait([worker.sentinel for worker in self._workers()], TICK)
        for place in self._places:
            if place.worker is not None and place.worker.status is not None:
                self._bury(place, place.worker)
        self._watch()

    def _bury(self, place: _Place, worker: _Worker) -> None:
        status = worker.status or 0
        log.warning("worker.died", pid=worker.pid, status=max(status, 0), signal=max(-status, 0))
        if status > 0 and not any(each.is_serving for each in self._workers()):
            raise StartupError("a worker could not start: see the log")
        now = time.monotonic()
        if worker.is_ready and now - worker.started_at >= STEADY:
            place.deaths = 0
        else:
            place.deaths += 1
        place.worker = None
        self._forget(worker.number)
        # After its first death it is replaced at once, because it may have been killed by mistake.
        pause = FIRST_PAUSE * 2 ** min(place.deaths - 2, 10) if place.deaths > 1 else 0.0
        longest = LONGEST_OUTAGE if worker.is_ready else LONGEST_PAUSE
        place.not_before = now + min(pause, longest)

    def _restart(self) -> None:
        """Replace each worker by a ready one. If one does not become ready, keep the rest."""
        started_at = time.monotonic()
        log.info("service.restarting", workers=len(self._places))
        for place in self._places:
            new = self._start()
            self._beside.append(new)
            self._tick_until(lambda new=new: new.is_ready or new.status is not None)  # type: ignore[misc]
            if self._told_to_stop:
                return
            if not new.is_serving:
                log.error("service.restart_failed", pid=new.pid, status=new.status)
                new.tell(signal.SIGKILL)
                self._tick_until(lambda new=new: new.status is not None)  # type: ignore[misc]
                self._beside.clear()
                self._forget(new.number)
                return
            old, place.worker, place.deaths = place.worker, new, 0
            self._beside = [old] if old is not None else []
            # Before the next one starts, because the database has connections for only one more
            # worker.
            if old is not None and not self._leave(old):
                return
        elapsed = time.monotonic() - started_at
        log.info("service.restarted", workers=len(self._places), durationMs=round(elapsed * 1000))

    def _leave(self, old: _Worker) -> bool:
        """Stop a worker that has been replaced. Return False if the service must stop."""
        old.tell(RETIRE)
        self._tick_until(lambda: old.status is not None)
        if self._told_to_stop:
            return False
        if old.status is None:
            log.error("worker.killed", pid=old.pid)
            old.tell(signal.SIGKILL)
        self._beside.clear()
        self._forget(old.number)
        return True

    def _tick_until(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + self._patience
        while not condition() and not self._told_to_stop and time.monotonic() < deadline:
            self._tick()

    def _stop(self) -> bool:
        """Stop every worker, and return whether all stopped in time."""
        left = [*self._workers(), *self._beside]
        for worker in left:
            worker.tell(signal.SIGTERM)
        deadline = time.monotonic() + self._patience
        while left and time.monotonic() < deadline:
            connection.wait([worker.sentinel for worker in left], TICK)
            left = [worker for worker in left if worker.status is None]
            with suppress(StartupError):  # Requests under way still get their responses.
                self._watch()
        for worker in left:
            log.error("worker.killed", pid=worker.pid)
            worker.tell(signal.SIGKILL)
        return not left


@contextmanager
def _signals_for_parent_only() -> Iterator[None]:
    """Block a terminal's signals in processes started inside, because their parent stops them."""
    resource_tracker.ensure_running()  # It would unblock them during the first start.
    numbers = {signal.SIGINT, signal.SIGHUP}
    signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, numbers)
