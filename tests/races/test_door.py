"""Two gates scan the same tickets at the same moment, through two real services."""

import asyncio
import os
import subprocess
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from uuid import uuid4

import httpx
import pytest

from tests.door.scenes import Gala
from tests.people import Visitor
from tests.serving import TICKETING, UNMEASURED, serving
from tests.signing import SECRET

pytestmark = pytest.mark.usefixtures("unmeasured")

TICKETS = 200


async def test_of_two_gates_at_the_same_moment_one_admits(
    database_url: str, tmp_path: Path
) -> None:
    with ExitStack() as stack:
        urls = []
        for name in ("north", "south"):
            (tmp_path / name).mkdir()
            service = serving(
                tmp_path / name,
                TICKETING_DATABASE_URL=database_url,
                TICKETING_JWT_SECRET=SECRET,
                **UNMEASURED,
            )
            urls.append(stack.enter_context(service).url)
        async with (
            httpx.AsyncClient(base_url=urls[0], timeout=60) as north,
            httpx.AsyncClient(base_url=urls[1], timeout=60) as south,
        ):
            gala = await Gala.open(Visitor(north), capacity=TICKETS, maxTicketsPerPerson=TICKETS)
            tickets = await gala.sell(places=TICKETS)
            path = f"/api/events/{gala.event}/check-ins"

            async def scan(gate: httpx.AsyncClient, ticket: str) -> tuple[str, str]:
                body = {"scanId": str(uuid4()), "ticketId": ticket}
                answer = await gate.post(path, json=body, headers=gala.owner.headers)
                assert answer.status_code == 200, answer.text
                return ticket, answer.json()["verdict"]

            told = []
            for place in range(0, TICKETS, 20):
                those = tickets[place : place + 20]
                told += await asyncio.gather(
                    *[scan(gate, each) for each in those for gate in (north, south)]
                )
            assert Counter(told) == {
                (ticket, verdict): 1
                for ticket in tickets
                for verdict in ("admitted", "already_used")
            }
            listed = (await gala.owner.get(path, limit=1)).json()
            assert listed["counts"]["all"]["entries"] == TICKETS


def test_the_operator_lists_rotates_and_retires_keys(database_url: str, tmp_path: Path) -> None:
    def run(*arguments: str, status: int = 0) -> str:
        done = subprocess.run(
            [*TICKETING, "ticket-key", *arguments],
            cwd=tmp_path,
            env={
                **os.environ,
                "TICKETING_DATABASE_URL": database_url,
                "TICKETING_JWT_SECRET": SECRET,
            },
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == status, done.stderr
        return done.stdout if status == 0 else done.stderr

    assert run("rotate", "--signs-in", "0").split()[:3] == ["key", "1", "signs"]
    assert run("rotate").split()[:3] == ["key", "2", "verifies"]
    assert [line.split()[1:3] for line in run("list").splitlines()] == [
        ["2", "verifies"],
        ["1", "signs"],
    ]
    assert run("retire", "1") == "Key 1 is retired.\n"
    assert "there is no key 1" in run("retire", "1", status=1)
