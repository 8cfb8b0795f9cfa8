"""Webhooks outlive the processes that deliver them."""

import asyncio
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from tests.feed.receiving import LOOPBACK, Received, receiving
from tests.people import Visitor
from tests.serving import TICKETING, TOGETHER
from tests.signing import SECRET
from ticketing.settings import Settings


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"webhook_delivery": "off"})


@contextmanager
def delivering(folder: Path, url: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run `ticketing deliver`."""
    environment = {
        "TICKETING_DATABASE_URL": url,
        "TICKETING_JWT_SECRET": SECRET,
        "TICKETING_WEBHOOK_NETWORKS": str(LOOPBACK[0]),
        "TICKETING_LOG_DIR": str(folder),
    }
    process = subprocess.Popen(
        [*TOGETHER, *TICKETING, "deliver"], cwd=folder, env={**os.environ, **environment}
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


async def test_after_kill_9_between_commit_and_delivery_another_process_delivers(
    visitor: Visitor,
    client: httpx.AsyncClient,
    engine: AsyncEngine,
    database_url: str,
    tmp_path: Path,
) -> None:
    """C38."""
    del client
    ada = await visitor.register()
    event = await ada.organise()
    hangs = asyncio.Event()

    async def hang(_: Received) -> int:
        await hangs.wait()
        return 200

    async with receiving(hang) as receiver:
        made = await ada.post("/api/webhooks", {"url": receiver.url, "eventId": event})
        assert made.status_code == 201
        with delivering(tmp_path, database_url) as dying:
            await ada.book(event)
            await receiver.got(1)
            dying.send_signal(signal.SIGKILL)
            dying.wait()
        await ada.cancel(event)
        # As if the time of the dead process had passed.
        async with engine.begin() as connection:
            await connection.execute(text("UPDATE webhooks SET due_at = now()"))
        hangs.set()
        with delivering(tmp_path, database_url) as living:
            received = await receiver.got(3)
            living.send_signal(signal.SIGTERM)
            assert living.wait() == 0
        assert [each.fact["bookingSequence"] for each in received] == [1, 1, 2]
        assert received[0].body == received[1].body
