"""Limits across processes of one service, and across services on one database."""

import asyncio
import os
import signal
from collections import Counter
from pathlib import Path

import httpx
import pytest

from tests.people import PASSWORD, Visitor
from tests.processes import workers_of
from tests.serving import UP, Service, logged, said, serving, until
from tests.signing import SECRET

pytestmark = pytest.mark.usefixtures("unmeasured")

WRONG = {"username": "ada", "password": "wrong"}


def calling(service: Service, at_once: int = 16) -> httpx.AsyncClient:
    """A person whose calls each use a new connection, so that all processes serve them."""
    limits = httpx.Limits(max_connections=at_once, max_keepalive_connections=0)
    return httpx.AsyncClient(base_url=service.url, limits=limits, timeout=30)


async def answers(
    client: httpx.AsyncClient, times: int, path: str = "/api/events/1"
) -> Counter[int]:
    given = await asyncio.gather(*(client.get(path) for _ in range(times)))
    return Counter(answer.status_code for answer in given)


async def test_the_processes_of_a_service_share_each_limit_and_new_ones_know_it(
    kept_dir: Path,
) -> None:
    environment = {"TICKETING_RATE_LIMITS": "on", "TICKETING_LIMIT_REQUESTS": "100/36000s"}
    with serving(kept_dir, "--workers", "2", **environment) as service:
        async with calling(service) as client:
            said(service, UP, times=2)
            given = await answers(client, 300)
            # Two counts within the same microsecond may count as one.
            assert given[404] + given[429] == 300
            assert 100 <= given[404] <= 103
            os.kill(workers_of(service)[0], signal.SIGKILL)
            said(service, UP, times=3)
            assert (await answers(client, 50))[429] == 50
            assert (await answers(client, 50, "/readyz"))[200] == 50
    assert len(logged(kept_dir, "worker.died")) == 1


@pytest.mark.parametrize("store", ["memory", "postgresql"])
async def test_guessing_at_two_processes_gains_nothing(kept_dir: Path, store: str) -> None:
    environment = {"TICKETING_RATE_LIMITS": "on", "TICKETING_RATE_LIMIT_STORE": store}
    with serving(kept_dir, "--workers", "2", **environment) as service:
        async with calling(service, at_once=8) as client:
            await Visitor(client).register("ada")
            guesses = [client.post("/api/users/login", json=WRONG) for _ in range(20)]
            given = Counter(answer.status_code for answer in await asyncio.gather(*guesses))
            assert given == {401: 3, 429: 17}
            right = {"username": "ada", "password": PASSWORD}
            refused = await client.post("/api/users/login", json=right)
            assert refused.status_code == 429
            await asyncio.sleep(float(refused.headers["Retry-After"]))
            assert (await client.post("/api/users/login", json=right)).status_code == 200


async def test_services_on_one_database_share_each_limit(
    database_url: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    environment = {
        "TICKETING_RATE_LIMITS": "on",
        "TICKETING_RATE_LIMIT_STORE": "postgresql",
        "TICKETING_LIMIT_REQUESTS": "50/36000s",
        "TICKETING_DATABASE_URL": database_url,
        "TICKETING_JWT_SECRET": SECRET,
    }
    folders = [tmp_path_factory.mktemp("service") for _ in range(2)]
    with serving(folders[0], **environment) as one, serving(folders[1], **environment) as other:
        async with calling(one) as client:
            assert (await answers(client, 60))[404] == 50
        async with calling(other) as client:

            async def told() -> bool:
                return bool((await answers(client, 1))[429])

            await until(told)
            assert (await answers(client, 60))[429] == 60
