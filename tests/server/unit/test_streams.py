"""Responses that stay open are counted separately, have a limit, and end when a worker drains."""

import asyncio
import signal
import time
from collections.abc import AsyncIterator

import pytest
from fastapi import FastAPI

from tests.examples import FAREWELL, PREFIX, examples
from tests.workers import Worker, serving
from ticketing.app import create_app
from ticketing.server.admission import LEAST
from ticketing.settings import Settings
from ticketing.web.streams import Streams

STREAM = f"GET {PREFIX}/stream HTTP/1.1\r\nHost: a\r\n\r\n".encode()
WELCOME = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
DRAIN = 4.0
"""Seconds in which a busy machine ends twenty streams and serves two requests."""


@pytest.fixture
async def app(settings: Settings) -> FastAPI:
    return create_app(settings, also=[examples])


async def until(worker: Worker, count: int) -> None:
    async with asyncio.timeout(10):
        while worker.service.streams.open != count:  # noqa: ASYNC110 - it sends no event
            await asyncio.sleep(0.01)


async def test_many_listeners_leave_room_for_other_requests(
    app: FastAPI, settings: Settings
) -> None:
    async with serving(app, settings) as worker:
        worker.admission.bound = LEAST
        for _ in range(LEAST + 5):
            _, head = await worker.ask(STREAM)
            assert head.startswith(b"HTTP/1.1 200 ")
        assert worker.service.streams.open == LEAST + 5
        assert len(worker.server.server_state.tasks) > LEAST
        assert (await worker.ask(WELCOME))[1].startswith(b"HTTP/1.1 200 ")
        assert worker.admission.shed == 0
        worker.close()
        await until(worker, 0)


async def test_a_listener_too_many_is_refused_and_one_that_leaves_makes_room(
    app: FastAPI, settings: Settings
) -> None:
    settings = settings.model_copy(update={"max_streams": 2})
    async with serving(app, settings) as worker:
        for _ in range(2):
            assert (await worker.ask(STREAM))[1].startswith(b"HTTP/1.1 200 ")
        reader, head = await worker.ask(STREAM)
        assert head.startswith(b"HTTP/1.1 503 ")
        assert b'"code":"busy"' in await reader.read(4096)
        worker.close()
        await until(worker, 0)
        assert (await worker.ask(STREAM))[1].startswith(b"HTTP/1.1 200 ")


async def test_streams_end_when_a_drain_begins_and_none_begins_after(
    app: FastAPI, settings: Settings
) -> None:
    async with serving(app, settings, drain=DRAIN) as worker:
        readers = [(await worker.ask(STREAM))[0] for _ in range(20)]
        began = time.monotonic()
        worker.server.handle_exit(signal.SIGTERM, None)
        for reader in readers:
            sent = await asyncio.wait_for(reader.readuntil(b"\r\n0\r\n\r\n"), 10)
            assert sent.endswith(b"%x\r\n%b\r\n0\r\n\r\n" % (len(FAREWELL), FAREWELL))
        assert time.monotonic() - began < DRAIN  # While other requests are still admitted:
        assert (await worker.ask(WELCOME))[1].startswith(b"HTTP/1.1 200 ")
        assert (await worker.ask(STREAM))[1].startswith(b"HTTP/1.1 503 ")
        await until(worker, 0)


async def test_a_stream_ends_with_its_source() -> None:
    async def three() -> AsyncIterator[int]:
        for number in range(3):
            yield number

    assert [each async for each in Streams().until_drained(three(), -1)] == [0, 1, 2]


async def test_a_failing_source_fails_its_stream_and_leaves_nothing_behind() -> None:
    async def failing() -> AsyncIterator[int]:
        yield 1
        raise ValueError("no more")

    before = asyncio.all_tasks()
    with pytest.raises(ValueError, match="no more"):
        assert [each async for each in Streams().until_drained(failing(), -1)]
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == before


async def test_something_is_sent_while_the_source_is_silent() -> None:
    before, after = asyncio.Event(), asyncio.Event()

    async def late() -> AsyncIterator[int]:
        await before.wait()
        yield 1
        await after.wait()

    sent = []
    async for each in Streams().until_drained(late(), -1, every=0.03):
        sent.append(each)
        if each == -1:
            (after if 1 in sent else before).set()
    assert sent[0] == sent[-1] == -1
    assert [each for each in sent if each != -1] == [1]


async def test_a_head_request_holds_no_stream(app: FastAPI, settings: Settings) -> None:
    async with serving(app, settings) as worker:
        for _ in range(3):
            reader, head = await worker.ask(STREAM.replace(b"GET", b"HEAD"))
            assert head.startswith(b"HTTP/1.1 200 ")
        await until(worker, 0)
        worker.close()
        assert await reader.read() == b""
