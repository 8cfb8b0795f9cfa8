"""Many people book at once, through two real services on one database."""

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.people import Person, Visitor
from tests.serving import serving
from tests.signing import SECRET

pytestmark = pytest.mark.usefixtures("unmeasured")

PLACES = 50


@pytest.fixture
def two_services(database_url: str, tmp_path: Path) -> Iterator[list[str]]:
    """Two services of two workers each on one database."""
    with ExitStack() as stack:
        urls = []
        for name in ("one", "two"):
            folder = tmp_path / name
            folder.mkdir()
            service = stack.enter_context(
                serving(
                    folder,
                    *("--workers", "2"),
                    TICKETING_DATABASE_URL=database_url,
                    TICKETING_JWT_SECRET=SECRET,
                )
            )
            urls.append(service.url)
        yield urls


async def people_of(client: httpx.AsyncClient, count: int) -> list[Person]:
    limit = asyncio.Semaphore(10)

    async def one() -> Person:
        async with limit:
            return await Visitor(client).register()

    return await asyncio.gather(*(one() for _ in range(count)))


async def test_200_people_and_50_places_through_two_services(two_services: list[str]) -> None:
    limits = httpx.Limits(max_connections=64)
    async with (
        httpx.AsyncClient(base_url=two_services[0], limits=limits, timeout=60) as one,
        httpx.AsyncClient(base_url=two_services[1], limits=limits, timeout=60) as two,
    ):
        people = await people_of(one, 200)
        for person in people[100:]:
            person.client = two
        organiser = await Visitor(one).register()
        event = await organiser.organise(total=PLACES)

        answers = await asyncio.gather(*(person.book(event) for person in people))
        by_status = [
            [p for p, a in zip(people, answers, strict=True) if a.status_code == status]
            for status in (201, 202)
        ]
        booked, waiting = by_status
        assert (len(booked), len(waiting)) == (PLACES, 150)
        positions = {
            person.id: answer.json()["position"]
            for person, answer in zip(people, answers, strict=True)
            if answer.status_code == 202
        }
        assert sorted(positions.values()) == list(range(1, 151))
        line = sorted(positions, key=lambda person: positions[person])

        # 60 leave: first 20 from the waiting list, then 40 with a place, through both services.
        leavers = [*waiting[::7][:20], *booked[:40]]
        gone = {person.id for person in leavers}
        left = await asyncio.gather(*(person.cancel(event) for person in leavers[:20]))
        assert [answer.json().get("promoted") for answer in left] == [0] * 20
        left = await asyncio.gather(*(person.cancel(event) for person in leavers[20:]))
        assert [answer.json().get("promoted") for answer in left] == [1] * 40

        shown = await organiser.event(event)
        assert (shown["availableTickets"], shown["waitingListCount"]) == (0, 90)
        items = await everything(organiser, event)
        now = {item["userId"]: item for item in items if item["status"] != "cancelled"}
        assert sum(item["status"] == "booked" for item in now.values()) == PLACES
        still = [item["userId"] for item in items if item["status"] == "waiting"]
        # Nobody overtook: those who wait are the end of the old waiting list, in its order.
        assert still == [person for person in line if person not in gone][-90:]
        assert [now[user]["position"] for user in still] == list(range(1, 91))
        assert {item["userId"] for item in items if item["status"] == "cancelled"} == gone


async def everything(organiser: Person, event: int) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = []
    cursor: dict[str, str] = {}
    while True:
        answer = await organiser.get(f"/api/events/{event}/bookings", limit=100, **cursor)
        page = answer.json()
        items += page["items"]
        if page["nextCursor"] is None:
            return items
        cursor = {"cursor": page["nextCursor"]}
