"""Too many requests arrive: admitted ones are served, others are refused at once."""

import asyncio
import os
import signal
import time
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from chaos.client import Client, Response

from tests.people import Person, Visitor
from tests.processes import backends, postmaster
from tests.serving import TICKETING, logged, serving
from ticketing.server.admission import FIRST, PERIOD

pytestmark = pytest.mark.usefixtures("unmeasured")

MORE = 100


async def test_while_the_database_hangs_requests_above_the_limit_are_refused_at_once(
    kept_dir: Path,
) -> None:
    with serving(kept_dir) as service, ExitStack() as stack:
        async with httpx.AsyncClient(base_url=service.url) as client:
            person = await Visitor(client).register()
            event = await person.organise()
        port = urlsplit(service.url).port or 0
        clients = [Client([port], patience=30) for _ in range(FIRST + MORE)]
        for one in clients:
            stack.callback(one.close)

        async def ask(one: Client, path: str = f"/api/events/{event}") -> Response:
            return await one.request("GET", path)

        # All clients connect before the database hangs.
        for start in range(0, len(clients), 100):
            await asyncio.gather(*(ask(one, "/livez") for one in clients[start : start + 100]))
        await asyncio.sleep(0.5)  # A request counts as running until shortly after its response.
        frozen = [postmaster(kept_dir), *backends(kept_dir)]
        for pid in frozen:
            os.kill(pid, signal.SIGSTOP)
        try:
            admitted = [asyncio.create_task(book(one, person, event)) for one in clients[:FIRST]]
            await asyncio.sleep(1.5)
            early = [(await task).body for task in admitted if task.done()]
            assert early == []
            started = time.monotonic()
            shed = await asyncio.gather(*(book(one, person, event) for one in clients[FIRST:]))
            # The connection is kept for any request, and health checks respond.
            others = [await ask(clients[-1]), await ask(clients[-1]), await ask(clients[-2])]
            alive = await ask(clients[-1], "/livez")
            assert time.monotonic() - started < 1.5
        finally:
            for pid in frozen:
                os.kill(pid, signal.SIGCONT)
        for answer in (*shed, *others):
            assert (answer.status, answer.code) == (503, "busy")
            assert answer.headers["retry-after"] == "1"
            assert answer.headers["x-request-id"] == answer.body["requestId"]
            assert "connection" not in answer.headers
        assert alive.status == 200
        answers = [answer.status for answer in await asyncio.gather(*admitted)]
        assert answers.count(201) == 1
        assert set(answers) == {201, 409}
        again = await asyncio.gather(*(book(one, person, event) for one in clients[FIRST:]))
        assert {answer.status for answer in again} == {409}
        await asyncio.sleep(2 * PERIOD)
        told = logged(kept_dir, "requests.shed")
        assert sum(line["count"] for line in told) == MORE + len(others)
        assert {answer.body["requestId"] for answer in shed} & {line["requestId"] for line in told}


@pytest.mark.parametrize(("soft", "hard", "served"), [(128, 4096, 400), (128, 300, 100)])
async def test_a_worker_accepts_as_many_connections_as_it_may_open_files(
    kept_dir: Path, soft: int, hard: int, served: int
) -> None:
    limited = f'ulimit -Sn {soft}; ulimit -Hn {hard}; exec "$@"'
    command = ("/bin/sh", "-c", limited, "sh", *TICKETING)
    with serving(kept_dir, command=command) as service, ExitStack() as stack:
        port = urlsplit(service.url).port or 0
        clients = [Client([port], patience=30) for _ in range(400)]
        for one in clients:
            stack.callback(one.close)
        answers = [await one.request("GET", "/api/events") for one in clients]
        assert [answer.status for answer in answers[:served]] == [200] * served
        assert {answer.status for answer in answers[served:]} <= {503}
        # Those above the limit get the 503 of a busy service. Of few files, half are for streams.
        assert {answer.code for answer in answers[served:]} <= {"busy"}


async def book(one: Client, person: Person, event: int) -> Response:
    body = {"eventId": event, "userId": person.id}
    return await one.request("POST", "/api/events/book", body, token=person.token)
