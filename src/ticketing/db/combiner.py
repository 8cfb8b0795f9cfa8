"""Flat combining: requests that arrive during a commit share the next commit.

It depends on asyncio only. Hendler, Incze, Shavit and Tzafrir, "Flat combining and the
synchronization-parallelism tradeoff" (SPAA 2010), describe the idea for threads.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextvars import Context
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from prometheus_client import Gauge, Histogram

from ticketing.errors import Busy, Unavailable
from ticketing.ops import metrics
from ticketing.ops.metrics import LIVE, SIZES, Sample

BATCH: Final = Histogram(
    "ticketing_batch_requests",
    "Requests that went to the database together.",
    ["queue"],
    buckets=SIZES,
)
QUEUE: Final = Gauge(
    "ticketing_queue_requests",
    "Requests that wait for the next batch.",
    ["queue"],
    multiprocess_mode=LIVE,
)


class Retry:
    """The outcome of a request that lost its commit to another worker. It joins the next commit."""


RETRY: Final = Retry()

WAVES: Final = 2
"""How many times a batch lets requests join. The second time only if one joined at the first."""

MAX_BATCH: Final = 512
MAX_QUEUE: Final = 10_000
MAX_WAIT: Final = 5.0
"""Seconds."""
MAX_RIDES: Final = 100
"""Commits that a request may lose. No healthy request loses so many because of others."""

RequestT = TypeVar("RequestT")
ResultT = TypeVar("ResultT")


@dataclass(slots=True, eq=False)
class _Entry(Generic[RequestT, ResultT]):
    request: RequestT
    deadline: float
    answer: "asyncio.Future[ResultT]"
    rides: int = 0
    """How many commits the request has lost."""


class Combiner(Generic[RequestT, ResultT]):
    """Pass requests to `commit` in batches, in order of arrival, one batch at a time.

    `commit` returns one outcome per request: a result, an exception for only that caller, or RETRY.
    If it raises, the batch is split until the failing request is alone. An Unavailable is raised
    for the whole batch, because no request caused it. No batch waits for a timer: an idle combiner
    commits a single request after two turns of the event loop, and batches grow with the load.
    """

    def __init__(
        self,
        commit: Callable[[Sequence[RequestT]], Awaitable[Sequence[ResultT | Exception | Retry]]],
        *,
        name: str,
        max_batch: int = MAX_BATCH,
        max_queue: int = MAX_QUEUE,
        max_wait: float = MAX_WAIT,
    ) -> None:
        """Limit a batch and the queue in requests, and the wait before a commit in seconds.

        `name` is the name of the queue in the metrics.
        """
        self._commit = commit
        self._name = name
        self._sizes = BATCH.labels(name)
        self._max_batch = max_batch
        self._max_queue = max_queue
        self._max_wait = max_wait
        self._queue: deque[_Entry[RequestT, ResultT]] = deque()
        self._leader: asyncio.Task[None] | None = None
        self._alarm: asyncio.TimerHandle | None = None
        self._closed = False

    @property
    def waiting(self) -> int:
        """How many requests wait for the next batch."""
        return len(self._queue)

    @property
    def sample(self) -> Sample:
        """The metric to sample: how many requests wait."""
        return QUEUE.labels(self._name), lambda: len(self._queue)

    async def submit(self, request: RequestT) -> ResultT:
        """Return the request's own result, or raise its own error.

        Raises Busy if the queue is full, the request waited too long or lost MAX_RIDES commits, or
        the combiner is closed. Then nothing was changed. A caller that is cancelled while it waits
        is skipped. If it is cancelled during its commit, the request may have been done.
        """
        if self._closed or len(self._queue) >= self._max_queue:
            raise Busy
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[ResultT] = loop.create_future()
        entry = _Entry(request, loop.time() + self._max_wait, answer)
        self._queue.append(entry)
        if self._alarm is None:
            self._alarm = loop.call_at(entry.deadline, self._expire)
        if self._leader is None:
            # An empty context, because a batch has many requests and must not log the id of one.
            self._leader = loop.create_task(self._lead(), context=Context())
        return await answer

    async def close(self) -> None:
        """Refuse new requests and finish the queued ones."""
        self._closed = True
        if self._leader is not None:
            await self._leader
        if self._alarm is not None:
            self._alarm.cancel()

    def _expire(self) -> None:
        """Refuse requests that have waited too long, also while a commit hangs."""
        loop = asyncio.get_running_loop()
        # The oldest are at the head: requests that retry are put back there.
        while self._queue and self._queue[0].deadline <= loop.time():
            answer = self._queue.popleft().answer
            if not answer.done():
                answer.set_exception(Busy())
        # One timer for the whole queue, because most requests end long before it fires.
        self._alarm = None
        if self._queue:
            self._alarm = loop.call_at(self._queue[0].deadline, self._expire)

    async def _lead(self) -> None:
        try:
            while self._queue:
                await self._gather()
                if batch := self._take():
                    if metrics.is_shared:
                        self._sizes.observe(len(batch))
                    self._queue.extendleft(reversed(await self._attempt(batch)))
        finally:
            # No await since the queue was empty, so no request can have joined it meanwhile.
            self._leader = None

    async def _gather(self) -> None:
        """Let requests join that have arrived. A commit of ten costs little more than one of one.

        A request takes two turns of the event loop from its socket to the queue.
        """
        for _ in range(WAVES):
            before = len(self._queue)
            if before < self._max_batch:
                await asyncio.sleep(0)
                await asyncio.sleep(0)
            if len(self._queue) == before:
                return

    def _take(self) -> list[_Entry[RequestT, ResultT]]:
        now = asyncio.get_running_loop().time()
        batch: list[_Entry[RequestT, ResultT]] = []
        while self._queue and len(batch) < self._max_batch:
            entry = self._queue.popleft()
            if entry.answer.done():
                continue
            if entry.deadline <= now:
                entry.answer.set_exception(Busy())
            else:
                batch.append(entry)
        return batch

    async def _attempt(
        self, batch: list[_Entry[RequestT, ResultT]]
    ) -> list[_Entry[RequestT, ResultT]]:
        """Commit a batch, set the outcome of each request, and return the requests to retry."""
        try:
            outcomes = await self._commit([entry.request for entry in batch])
            if len(outcomes) != len(batch):
                raise RuntimeError("commit must return one outcome per request")  # noqa: TRY301
        except Exception as error:  # noqa: BLE001 - it is raised in every caller
            if len(batch) > 1 and not isinstance(error, Unavailable):
                middle = len(batch) // 2
                again = await self._attempt(batch[:middle])
                return again + await self._attempt(batch[middle:])
            outcomes = [error] * len(batch)
        again = []
        for entry, outcome in zip(batch, outcomes, strict=True):
            if entry.answer.done():
                continue
            if isinstance(outcome, Retry):
                entry.rides += 1
                if entry.rides < MAX_RIDES:
                    again.append(entry)
                else:
                    entry.answer.set_exception(Busy())
            elif isinstance(outcome, Exception):
                entry.answer.set_exception(outcome)
            else:
                entry.answer.set_result(outcome)
        return again
