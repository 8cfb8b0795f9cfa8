"""A service that is stopped or restarted under load responds to all accepted requests."""

import asyncio
import signal
from pathlib import Path

import asyncpg
import httpx
import pytest

from tests.load import Load, load
from tests.people import Person, Visitor
from tests.serving import PATIENCE, Service, logged, serving, until
from ticketing.embedded.server import embedded, url_of

CROWD = 30
SALE = {"/api/events/book", "/api/events/cancel"}


async def crowd(service: Service) -> tuple[list[Person], int]:
    """Return people, and an event with a place for each of them."""
    async with httpx.AsyncClient(base_url=service.url, timeout=PATIENCE) as client:
        people = [await Visitor(client).register() for _ in range(CROWD)]
        return people, await people[0].organise(CROWD)


async def restarted(folder: Path, times: int) -> None:
    async def is_done() -> bool:
        return len(logged(folder, "service.restarted")) == times

    await until(is_done)


async def check_the_books(database: str, found: Load, event: int) -> None:
    """Check that people have the bookings that their responses show."""
    connection = await asyncpg.connect(database)
    booked = "SELECT user_id::text FROM bookings WHERE event_id = $1 AND status = 'booked'"
    holders = {row[0] for row in await connection.fetch(booked, event)}
    await connection.close()
    assert {person for person, holds in found.held.items() if holds} == holders & set(found.held)
    assert len(found.held) >= CROWD - found.unanswered


@pytest.mark.usefixtures("unmeasured")
@pytest.mark.parametrize(("workers", "keep_alive"), [("1", True), ("2", False)])
async def test_a_rolling_restart_fails_no_request(
    kept_dir: Path, workers: str, *, keep_alive: bool
) -> None:
    with serving(kept_dir, "--workers", workers) as service:
        people, event_id = await crowd(service)
        async with load(service.url, people, event_id, keep_alive=keep_alive) as found:
            for times in (1, 2):
                # The second also finds workers that have just started.
                service.process.send_signal(signal.SIGHUP)
                await restarted(kept_dir, times)
        assert found.unanswered == found.refused == 0
        assert set(found.statuses) == {200, 201}
        assert found.answered > CROWD
        assert len(logged(kept_dir, "service.restarting")) == 2
        assert logged(kept_dir, "worker.died") == []
        await check_the_books(url_of(kept_dir / "data" / "sockets"), found, event_id)


@pytest.mark.usefixtures("unmeasured")
@pytest.mark.parametrize(
    ("workers", "number", "keep_alive"),
    [("1", signal.SIGINT, True), ("2", signal.SIGTERM, False)],
)
async def test_a_stop_responds_to_all_accepted_requests_and_loses_no_acknowledged_booking(
    kept_dir: Path, workers: str, number: signal.Signals, *, keep_alive: bool
) -> None:
    with serving(kept_dir, "--workers", workers) as service:
        people, event_id = await crowd(service)
        async with load(service.url, people, event_id, keep_alive=keep_alive) as found:
            await asyncio.sleep(0.3)
            before = found.answered
            service.process.send_signal(number)
            assert await asyncio.to_thread(service.process.wait, PATIENCE) == 0
        assert found.answered > before
        assert set(found.statuses) == {200, 201}
        lines = logged(kept_dir, "request.completed")
        assert sum(line["path"] in SALE for line in lines) == found.answered
        # The kernel may accept one more between the last look at the queue and its end.
        assert found.unanswered <= 1
        assert logged(kept_dir, "worker.killed") == []
        assert len(logged(kept_dir, "Application shutdown complete.")) == int(workers)
        assert len(logged(kept_dir, "worker.started")) == int(workers)
    with embedded(kept_dir / "data") as server:
        await check_the_books(server.url, found, event_id)


async def test_readiness_fails_before_the_service_stops_accepting(kept_dir: Path) -> None:
    with serving(kept_dir, TICKETING_DRAIN="1.5") as service:
        async with httpx.AsyncClient(base_url=service.url) as kept:

            async def is_not_ready() -> bool:
                return (await kept.get("/readyz")).status_code == 503

            assert not await is_not_ready()
            service.process.send_signal(signal.SIGTERM)
            await until(is_not_ready)
            assert (await kept.get("/readyz")).json()["code"] == "not_ready"
            # It still accepts connections, and closes each after its response.
            async with httpx.AsyncClient(base_url=service.url) as fresh:

                async def says_so() -> bool:
                    answer = await fresh.get("/livez")
                    return answer.status_code == 200 and "connection" in answer.headers

                await until(says_so)
        assert await asyncio.to_thread(service.process.wait, PATIENCE) == 0
