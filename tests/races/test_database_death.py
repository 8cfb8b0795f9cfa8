"""The embedded PostgreSQL dies while the service runs, and is restarted."""

import asyncio
import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from tests.people import Person, Visitor
from tests.processes import backends, family, guard, kill, postmaster, wait_until_gone
from tests.serving import PATIENCE, Service, logged, serving, until

pytestmark = pytest.mark.usefixtures("unmeasured")

HEALTHY_AGAIN = 5.0


VICTIMS: dict[str, Callable[[Path], list[int]]] = {
    "its server": lambda folder: [postmaster(folder)],
    "its guard": lambda folder: [guard(folder)],
    "both": lambda folder: [guard(folder), postmaster(folder)],
    "every process of it": lambda folder: [postmaster(folder), *backends(folder)],
    "its backends": backends,
}


async def is_healthy_again(person: Person, client: httpx.AsyncClient) -> float:
    """Wait until the service is ready and books. Return how long that took."""

    async def is_ready() -> bool:
        return (await client.get("/readyz")).status_code == 200

    async def takes_an_event() -> bool:
        return (await person.post("/api/events/initialize", EVENT)).status_code == 201

    started = time.monotonic()
    await until(is_ready)
    await until(takes_an_event)
    return time.monotonic() - started


EVENT = {"name": "A concert", "totalTickets": 1}


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_whichever_process_of_the_database_is_killed_all_acknowledged_bookings_return(
    kept_dir: Path, workers: str
) -> None:
    with serving(kept_dir, "--workers", workers) as service:
        async with httpx.AsyncClient(base_url=service.url, timeout=PATIENCE) as client:
            person = await Visitor(client).register()
            for number, (who, victims) in enumerate(VICTIMS.items(), start=1):
                # Connections of a whole pool. All will be lost.
                await asyncio.gather(*[client.get("/readyz") for _ in range(20)])
                assert (await person.book(await person.organise())).status_code == 201
                kill(victims(kept_dir))
                await asyncio.sleep(0.1)
                assert await is_healthy_again(person, client) < HEALTHY_AGAIN, who
                answers = await asyncio.gather(*[client.get("/readyz") for _ in range(20)])
                assert {answer.status_code for answer in answers} == {200}, who
                mine = await person.get("/api/users/me/bookings")
                assert len(mine.json()["items"]) == number, who
        assert len(logged(kept_dir, "database.restarted")) == 4  # it restarts its backends itself
        assert logged(kept_dir, "worker.died") == []
        relatives = family(service.process.pid)
        assert service.stop() == 0
        wait_until_gone(relatives)


async def test_a_backend_that_ignores_signals_does_not_keep_the_database_down(
    kept_dir: Path,
) -> None:
    with serving(kept_dir) as service:
        async with httpx.AsyncClient(base_url=service.url, timeout=PATIENCE) as client:
            person = await Visitor(client).register()
            deaf = backends(kept_dir)
            for pid in deaf:
                os.kill(pid, signal.SIGSTOP)
            kill([postmaster(kept_dir)])
            await asyncio.sleep(0.1)
            assert await is_healthy_again(person, client) < HEALTHY_AGAIN
            wait_until_gone(deaf)


def stops_with(service: Service) -> str:
    assert service.process.wait(PATIENCE) == 1
    said = service.console.read_text()
    assert "Traceback" not in said
    return said.splitlines()[-1]


def test_a_database_that_cannot_be_started_again_ends_the_service(kept_dir: Path) -> None:
    with serving(kept_dir) as service:
        relatives = family(service.process.pid)
        server = postmaster(kept_dir)
        shutil.move(kept_dir / "data" / "postgres", kept_dir / "elsewhere")
        kill([server])
        log = kept_dir / "data" / "postgres" / "server.log"
        assert stops_with(service) == (
            f"ticketing: PostgreSQL died and could not be started again: see {log}"
        )
        wait_until_gone(relatives)


SPARED = (
    "nobody",
    "its guard",
    "its server",
    "its guard and server",
)


def test_no_process_is_left_when_several_are_killed_at_once_and_the_service_starts_again(
    kept_dir: Path,
) -> None:
    # Each start comes after the deaths before it.
    for spared in SPARED:
        with serving(kept_dir, "--workers", "2") as service:
            assert httpx.get(service.url + "/readyz").status_code == 200, f"before {spared}"
            relatives = family(service.process.pid)
            guards = [pid for pid, command in relatives.items() if "/bin/sh" in command]
            left = {
                "nobody": [],
                "its guard": guards,
                "its server": [postmaster(kept_dir)],
                "its guard and server": [*guards, postmaster(kept_dir)],
            }[spared]
            kill(relatives.keys() - set(left))
            service.process.wait(PATIENCE)
            wait_until_gone(relatives)
    with serving(kept_dir) as service:
        assert httpx.get(service.url + "/readyz").status_code == 200
        assert service.stop() == 0


def test_a_truncated_pid_file_does_not_keep_the_database_down(kept_dir: Path) -> None:
    for left in ("", "what a disk made of it"):
        with serving(kept_dir) as service:
            assert httpx.get(service.url + "/readyz").status_code == 200
            relatives = family(service.process.pid)
            kill(relatives)
            service.process.wait(PATIENCE)
            wait_until_gone(relatives)
        (kept_dir / "data" / "postgres" / "postmaster.pid").write_text(left)
    with serving(kept_dir) as service:
        assert httpx.get(service.url + "/readyz").status_code == 200
