"""Tickets are passed on while others change the same tickets, through two real services."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from tests.databases import Databases
from tests.door.scenes import Gala, scan
from tests.people import Person, Visitor
from tests.serving import UNMEASURED, serving
from tests.signing import SECRET

pytestmark = pytest.mark.usefixtures("unmeasured")

TRIES = 40
AT_ONCE = 20
ACCEPT = "/api/tickets/accept"


@dataclass
class Passing:
    """Bob has tickets, and passes each on by a link. Eve and others are at another service."""

    gala: Gala
    bob: Person
    eve: Person
    fay: Person
    tickets: list[str]
    booking: str
    codes: list[str]
    tokens: list[str]

    async def both(
        self, one: Callable[[int], Awaitable[httpx.Response]]
    ) -> list[tuple[httpx.Response, httpx.Response]]:
        """Have Eve accept each link while somebody does `one`, and return both responses."""
        told = []
        for start in range(0, TRIES, AT_ONCE):
            told += await asyncio.gather(
                *[
                    asyncio.gather(self.eve.post(ACCEPT, {"token": self.tokens[place]}), one(place))
                    for place in range(start, start + AT_ONCE)
                ]
            )
        return told

    async def now(self) -> list[dict[str, Any]]:
        """Return all tickets as the event's owner sees them."""
        return [await self.gala.ticket(each) for each in self.tickets]


@pytest.fixture(scope="module")
def urls(_databases: Databases, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[str]]:
    """Two services on one database."""
    database_url = _databases.take()
    with ExitStack() as stack:
        yield [
            stack.enter_context(
                serving(
                    tmp_path_factory.mktemp(name),
                    TICKETING_DATABASE_URL=database_url,
                    TICKETING_JWT_SECRET=SECRET,
                    **UNMEASURED,
                )
            ).url
            for name in ("north", "south")
        ]
    _databases.give_back(database_url)


@pytest.fixture
async def passing(urls: list[str]) -> AsyncIterator[Passing]:
    async with AsyncExitStack() as stack:
        visitors = []
        for url in urls:
            client = httpx.AsyncClient(base_url=url, timeout=60)
            visitors.append(Visitor(await stack.enter_async_context(client)))
        north, south = visitors
        gala = await Gala.open(north, capacity=TRIES, maxTicketsPerPerson=TRIES)
        bob = await north.register()
        eve, fay = [await south.register() for _ in range(2)]
        tickets = await gala.sell(bob, TRIES)
        read = [(await bob.get(f"/api/tickets/{each}")).json() for each in tickets]
        offers = [await bob.post(f"/api/tickets/{each}/transfers", None) for each in tickets]
        yield Passing(
            gala,
            bob,
            eve,
            fay,
            tickets,
            read[0]["bookingId"],
            [each["code"] for each in read],
            [each.json()["token"] for each in offers],
        )


def _outcome(response: httpx.Response) -> object:
    return response.json()["code"] if response.is_error else response.status_code


async def test_of_two_who_accept_at_once_one_gets_the_ticket(passing: Passing) -> None:
    told = await passing.both(
        lambda place: passing.fay.post(ACCEPT, {"token": passing.tokens[place]})
    )
    for (eves, fays), ticket, old in zip(told, await passing.now(), passing.codes, strict=True):
        assert {_outcome(eves), _outcome(fays)} == {200, "transfer_not_found"}
        won, winner = (eves, passing.eve) if eves.is_success else (fays, passing.fay)
        assert (ticket["holder"]["userId"], ticket["generation"]) == (winner.id, 2)
        assert (await scan(passing.gala, code=old))["verdict"] == "revoked"
        assert (await scan(passing.gala, code=won.json()["code"]))["verdict"] == "admitted"


async def test_a_ticket_that_is_cancelled_while_somebody_accepts_it_is_cancelled(
    passing: Passing,
) -> None:
    path = f"/api/bookings/{passing.booking}/cancel"
    told = await passing.both(
        lambda place: passing.bob.post(path, {"ticketIds": [passing.tickets[place]]})
    )
    outcomes = Counter((_outcome(accepted), _outcome(cancel)) for accepted, cancel in told)
    assert outcomes.keys() <= {(200, 200), ("ticket_cancelled", 200)}
    assert {each["status"] for each in await passing.now()} == {"cancelled"}
    for accepted, _ in told:
        if accepted.is_success:
            seen = await scan(passing.gala, code=accepted.json()["code"])
            assert seen["verdict"] == "cancelled"
    event = (await passing.gala.owner.get(f"/api/events/{passing.gala.event}")).json()
    assert event["availableTickets"] == TRIES


async def test_who_passed_a_ticket_on_gets_no_new_code_at_the_same_time(passing: Passing) -> None:
    told = await passing.both(
        lambda place: passing.bob.post(f"/api/tickets/{passing.tickets[place]}/reissue", None)
    )
    for (accepted, reissued), ticket in zip(told, await passing.now(), strict=True):
        assert (_outcome(accepted), _outcome(reissued)) in {
            (200, "forbidden"),
            ("transfer_not_found", 200),
        }
        assert ticket["generation"] == 2
        holder = passing.eve if accepted.is_success else passing.bob
        assert ticket["holder"]["userId"] == holder.id


async def test_who_passed_a_ticket_on_makes_no_link_for_it_at_the_same_time(
    passing: Passing,
) -> None:
    told = await passing.both(
        lambda place: passing.bob.post(f"/api/tickets/{passing.tickets[place]}/transfers", None)
    )
    for (accepted, offered), ticket in zip(told, await passing.now(), strict=True):
        assert (_outcome(accepted), _outcome(offered)) in {
            (200, "forbidden"),
            ("transfer_not_found", 201),
        }
        holder = passing.eve if accepted.is_success else passing.bob
        assert ticket["holder"]["userId"] == holder.id
