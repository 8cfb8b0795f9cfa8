"""Flat combining without a database: the batches, and the outcome of each request."""

import asyncio
from collections.abc import Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ticketing.db.combiner import RETRY, WAVES, Combiner, Retry
from ticketing.errors import Busy, DatabaseUnavailable

caller: ContextVar[str] = ContextVar("caller", default="nobody")


class CulpritError(Exception):
    """A request that breaks every batch it is in."""


@dataclass
class Store:
    """A slow commit that stores its requests and fails on demand."""

    culprits: frozenset[int] = frozenset()
    lost: dict[int, int] = field(default_factory=dict)
    """How many commits a request loses before it succeeds."""
    committed: list[int] = field(default_factory=list)
    batches: list[list[int]] = field(default_factory=list)
    contexts: set[str] = field(default_factory=set)
    opened: asyncio.Event = field(default_factory=asyncio.Event)
    started: asyncio.Event = field(default_factory=asyncio.Event)

    async def commit(self, batch: Sequence[int]) -> Sequence[int | Exception | Retry]:
        self.batches.append(list(batch))
        self.contexts.add(caller.get())
        self.started.set()
        await self.opened.wait()
        if self.culprits & set(batch):
            raise CulpritError
        outcomes: list[int | Exception | Retry] = []
        for request in batch:
            if self.lost.get(request, 0) > 0:
                self.lost[request] -= 1
                outcomes.append(RETRY)
            elif request < 0:
                outcomes.append(KeyError(request))
            else:
                self.committed.append(request)
                outcomes.append(request * 2)
        return outcomes


def combiner(
    store: Store, *, max_batch: int = 8, max_queue: int = 1000, max_wait: float = 60
) -> Combiner[int, int]:
    return Combiner[int, int](
        store.commit, name="test", max_batch=max_batch, max_queue=max_queue, max_wait=max_wait
    )


def opened(**arguments: object) -> Store:
    store = Store(**arguments)  # type: ignore[arg-type]
    store.opened.set()
    return store


async def test_a_lone_request_is_committed_at_once() -> None:
    store = opened()
    assert await combiner(store).submit(21) == 42
    assert store.batches == [[21]]


async def test_requests_of_the_next_turns_join_and_do_not_delay_a_batch_for_ever() -> None:
    store = opened()
    combine = combiner(store, max_batch=100)
    answers = []
    for number in range(20):  # One request in each turn.
        answers.append(asyncio.create_task(combine.submit(number)))
        await asyncio.sleep(0)
    assert await asyncio.gather(*answers) == [2 * number for number in range(20)]
    sizes = [len(batch) for batch in store.batches]
    assert sum(sizes) == 20
    assert min(sizes[:-1]) >= 2
    assert max(sizes) <= 2 * WAVES + 1


async def test_a_full_batch_waits_for_nobody() -> None:
    store = opened()
    combine = combiner(store, max_batch=2)
    answers = [asyncio.create_task(combine.submit(number)) for number in range(2)]
    turns = 0
    while not store.started.is_set():
        await asyncio.sleep(0)
        turns += 1
        answers.append(asyncio.create_task(combine.submit(turns + 1)))
    assert turns == 2
    assert len(await asyncio.gather(*answers)) == len(answers)


async def test_requests_that_arrive_during_a_commit_share_the_next_one_in_order() -> None:
    store = Store()
    combine = combiner(store)
    first = asyncio.create_task(combine.submit(0))
    await store.started.wait()
    others = [asyncio.create_task(combine.submit(number)) for number in range(1, 6)]
    await asyncio.sleep(0)
    store.opened.set()
    assert await asyncio.gather(first, *others) == [0, 2, 4, 6, 8, 10]
    assert store.batches == [[0], [1, 2, 3, 4, 5]]


async def test_a_batch_is_bounded() -> None:
    store = opened()
    combine = combiner(store, max_batch=3)
    await asyncio.gather(*(combine.submit(number) for number in range(7)))
    assert [len(batch) for batch in store.batches] == [3, 3, 1]


async def test_a_full_queue_refuses_at_once_and_changes_nothing() -> None:
    store = Store()
    combine = combiner(store, max_queue=2)
    first = asyncio.create_task(combine.submit(0))
    await store.started.wait()
    waiting = [asyncio.create_task(combine.submit(number)) for number in (1, 2)]
    await asyncio.sleep(0)
    with pytest.raises(Busy):
        await combine.submit(3)
    store.opened.set()
    await asyncio.gather(first, *waiting)
    assert store.committed == [0, 1, 2]


async def test_a_request_that_has_waited_too_long_is_refused_before_the_commit() -> None:
    store = Store()
    combine = combiner(store, max_wait=0.01)
    first = asyncio.create_task(combine.submit(0))
    await store.started.wait()
    late = [asyncio.create_task(combine.submit(number)) for number in (1, 2)]
    # They are refused while the commit still hangs.
    for answer in late:
        with pytest.raises(Busy):
            await answer
    store.opened.set()
    assert await first == 0
    assert await combine.submit(3) == 6
    assert store.committed == [0, 3]


async def test_a_request_that_always_loses_its_commit_ends_as_busy() -> None:
    store = opened(lost={1: 10**9})
    with pytest.raises(Busy):
        await combiner(store, max_wait=0.02).submit(1)
    assert store.committed == []


async def test_a_request_that_lost_a_hundred_commits_is_not_retried() -> None:
    store = opened(lost={1: 10**9, 2: 99})
    answers = await asyncio.gather(
        *(combiner(store).submit(request) for request in (1, 2)), return_exceptions=True
    )
    assert [type(answer) for answer in answers] == [Busy, int]
    assert sum(1 in batch for batch in store.batches) == 100


async def test_a_lost_request_keeps_its_place_before_those_that_came_later() -> None:
    store = Store(lost={1: 1, 2: 1})
    combine = combiner(store, max_batch=3)
    tasks = [asyncio.create_task(combine.submit(number)) for number in range(6)]
    await store.started.wait()
    store.opened.set()
    assert await asyncio.gather(*tasks) == [0, 2, 4, 6, 8, 10]
    assert store.batches == [[0, 1, 2], [1, 2, 3], [4, 5]]


async def test_requests_that_retry_after_a_split_keep_their_order() -> None:
    store = opened(lost={0: 1, 2: 1}, culprits=frozenset({3}))
    combine = combiner(store, max_batch=4)
    tasks = [asyncio.create_task(combine.submit(number)) for number in range(4)]
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    assert answers[:3] == [0, 2, 4]
    assert isinstance(answers[3], CulpritError)
    assert store.batches[-1] == [0, 2]


async def test_no_request_waits_for_a_leader_that_is_ending() -> None:
    store = opened()
    combine = combiner(store)
    for number in range(200):
        # Each arrives at another moment of the leader's end.
        task = asyncio.create_task(combine.submit(number))
        for _ in range(number % 7):
            await asyncio.sleep(0)
        assert await asyncio.wait_for(combine.submit(1000), 5) == 2000
        assert await asyncio.wait_for(task, 5) == number * 2


async def test_a_cancelled_caller_is_skipped_before_the_commit() -> None:
    store = Store()
    combine = combiner(store)
    first = asyncio.create_task(combine.submit(0))
    await store.started.wait()
    gone = asyncio.create_task(combine.submit(1))
    stays = asyncio.create_task(combine.submit(2))
    await asyncio.sleep(0)
    gone.cancel()
    store.opened.set()
    assert (await first, await stays) == (0, 4)
    assert store.committed == [0, 2]


async def test_a_caller_that_is_cancelled_during_its_commit_does_not_cancel_others() -> None:
    store = Store()
    combine = combiner(store)
    tasks = [asyncio.create_task(combine.submit(number)) for number in range(3)]
    await store.started.wait()
    tasks[0].cancel()
    store.opened.set()
    assert await asyncio.gather(*tasks[1:]) == [2, 4]
    assert store.committed == [0, 1, 2]


async def test_a_batch_runs_in_an_empty_context() -> None:
    store = opened()
    caller.set("somebody")
    await combiner(store).submit(1)
    assert store.contexts == {"nobody"}


async def test_an_unavailable_database_fails_the_whole_batch_without_a_split() -> None:
    batches: list[int] = []

    async def commit(batch: Sequence[int]) -> Sequence[int]:
        batches.append(len(batch))
        raise DatabaseUnavailable

    combine = Combiner[int, int](commit, name="test", max_batch=8, max_queue=100, max_wait=60)
    answers = await asyncio.gather(*(combine.submit(n) for n in range(4)), return_exceptions=True)
    assert [type(answer) for answer in answers] == [DatabaseUnavailable] * 4
    assert batches == [4]


async def test_a_commit_that_returns_too_few_outcomes_fails_all_requests() -> None:
    async def commit(batch: Sequence[int]) -> Sequence[int]:
        return list(batch)[1:]

    combine = Combiner[int, int](commit, name="test", max_batch=8, max_queue=100, max_wait=60)
    answers = await asyncio.gather(*(combine.submit(n) for n in range(3)), return_exceptions=True)
    assert [type(answer) for answer in answers] == [RuntimeError] * 3


async def test_closing_finishes_queued_requests_and_refuses_new_ones() -> None:
    store = Store()
    combine = combiner(store, max_batch=2)
    tasks = [asyncio.create_task(combine.submit(number)) for number in range(5)]
    await store.started.wait()
    closing = asyncio.create_task(combine.close())
    await asyncio.sleep(0)
    with pytest.raises(Busy):
        await combine.submit(9)
    store.opened.set()
    await closing
    assert await asyncio.gather(*tasks) == [0, 2, 4, 6, 8]
    await combine.close()


arrivals = st.lists(
    st.tuples(st.integers(-5, 40), st.integers(0, 3), st.booleans()), min_size=1, max_size=60
)


@pytest.mark.usefixtures("unmeasured")
@settings(max_examples=300, deadline=None)
@given(
    arrivals,
    st.frozensets(st.integers(0, 40), max_size=4),
    st.dictionaries(st.integers(0, 40), st.integers(0, 3), max_size=6),
    st.integers(1, 9),
)
def test_every_request_gets_its_own_result_whatever_arrives_fails_or_is_cancelled(  # noqa: C901 - a loop over kinds
    arrivals: list[tuple[int, int, bool]],
    culprits: frozenset[int],
    lost: dict[int, int],
    max_batch: int,
) -> None:
    async def run() -> None:
        store = opened(culprits=culprits, lost=dict(lost))
        combine = combiner(store, max_batch=max_batch)
        tasks: list[tuple[int, bool, asyncio.Task[int]]] = []
        for request, pause, leaves in arrivals:
            tasks.append((request, leaves, asyncio.create_task(combine.submit(request))))
            for _ in range(pause):
                await asyncio.sleep(0)
            if leaves:
                tasks[-1][2].cancel()
        await asyncio.wait_for(asyncio.wait([task for _, _, task in tasks]), 10)
        expected = []
        for request, leaves, task in tasks:
            if task.cancelled():
                assert leaves
                continue
            if request in culprits:
                assert isinstance(task.exception(), CulpritError)
            elif request < 0:
                assert isinstance(task.exception(), KeyError)
            else:
                assert task.result() == request * 2
                expected.append(request)
        # Every request with a result was committed, and some that were cancelled meanwhile.
        left = [request for request, leaves, task in tasks if task.cancelled()]
        rest = list(store.committed)
        for request in expected:
            rest.remove(request)
        for request in rest:
            left.remove(request)
        assert all(len(batch) <= max_batch for batch in store.batches)
        await combine.close()

    with asyncio.Runner() as runner:
        runner.run(run())
