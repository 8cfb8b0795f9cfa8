import asyncio

from structlog.testing import capture_logs

from ticketing.errors import DatabaseUnavailable
from ticketing.ops.loops import Loop, repeating


async def test_work_is_done_before_the_context_and_again_until_its_end() -> None:
    done: list[int] = []

    async def work() -> None:
        done.append(len(done))

    async with repeating(Loop("test", work, 0.001)):
        assert done[0] == 0
        async with asyncio.timeout(10):
            while len(done) < 3:  # noqa: ASYNC110 - the loop sends no event
                await asyncio.sleep(0)
    ended = list(done)
    await asyncio.sleep(0.01)
    assert done == ended


async def test_work_under_way_is_cut_short_at_the_end() -> None:
    is_second = False
    started = asyncio.Event()

    async def work() -> None:
        nonlocal is_second
        if is_second:
            started.set()
            await asyncio.Event().wait()
        is_second = True

    async with repeating(Loop("test", work, 0)):
        await started.wait()


async def test_a_failure_is_logged_with_what_is_behind_it() -> None:
    async def work() -> None:
        raise DatabaseUnavailable from OSError("nobody listens\nthere")

    with capture_logs() as logged:
        async with repeating(Loop("test", work, 60)):
            pass
    assert [(line["event"], line["loop"]) for line in logged] == [("loop.failing", "test")]
    assert logged[0]["reason"] == f"{DatabaseUnavailable()} (nobody listens)"
