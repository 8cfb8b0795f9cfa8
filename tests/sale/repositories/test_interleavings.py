"""Two processes and a few people at one small event, in random order.

Some order of its operations, one at a time, must explain every history. The checker is that of
`make chaos`, which sees fewer interleavings and more faults.
"""

import asyncio
import random
import time
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, Literal
from uuid import UUID

import pytest
from asyncpg import Record
from chaos.checker import judge
from chaos.history import NUMBERS, ONE_PLACE, Asked, Operation, Verb, read_books
from sqlalchemy.ext.asyncio import AsyncEngine

from tests.factories import make_event, make_people
from ticketing.db.statements import Driver, Statement, driver
from ticketing.errors import TicketingError
from ticketing.sale.definitions import DefinedQuota, DefinedType, Definitions
from ticketing.sale.inventory.model import Booked, Cancelled, Waiting
from ticketing.sale.repositories.bookings import BookingRepository

Wish = Literal["book", "cancel", "cancel some"]
WISHES: list[list[Wish]] = [["book"], ["cancel"], ["book", "cancel"], ["cancel", "book"]]
"""The requests that a person makes at once."""
WITH_TICKETS: list[list[Wish]] = [
    *WISHES,
    ["book"],
    ["book", "book"],
    ["cancel some"],
    ["cancel some", "cancel some"],
    ["cancel", "cancel some"],
]
HISTORIES = 60
PEOPLE = 3
GROUPS = 6
"""How many people there are at events for groups, so that some wait behind others."""
CLIENTS = 5
TURNS = 4
LONGEST = 0.004
"""Seconds between two steps of a commit."""


@dataclass(frozen=True)
class Sold:
    """An event, and what can be asked for there."""

    event: int
    asked: Sequence[Asked] = (ONE_PLACE,)

    @property
    def wishes(self) -> Sequence[Sequence[Wish]]:
        return WISHES if self.asked == (ONE_PLACE,) else WITH_TICKETS


async def plain(engine: AsyncEngine, organiser: UUID, chance: random.Random) -> Sold:
    total = chance.randint(1, PEOPLE)
    return Sold(await make_event(engine, total=total, organiser=organiser))


async def for_groups(engine: AsyncEngine, organiser: UUID, chance: random.Random) -> Sold:
    """An event that gets counters when the first group waits, while others book."""
    total, most = chance.randint(1, 4), chance.randint(1, 2)
    event = await make_event(engine, total=total, organiser=organiser, max_bookings=most)
    return Sold(event, [((None, quantity),) for quantity in (1, 1, 2, 2, 3)])


async def with_types(engine: AsyncEngine, organiser: UUID, chance: random.Random) -> Sold:
    """Two types that share a quota, one of them also with a quota of its own."""
    hall = chance.randint(2, 3)
    types = {
        0: DefinedType(0, 0, "A", frozenset({0})),
        1: DefinedType(0, 1, "B", frozenset({0, 1})),
    }
    quotas = {
        0: DefinedQuota(0, 0, hall, "Hall"),
        1: DefinedQuota(0, 1, chance.randint(1, 2), type_slot=1),
    }
    event = await make_event(
        engine,
        total=hall + chance.randint(0, 1),
        organiser=organiser,
        max_bookings=chance.choice((1, 1, 2)),
        definitions=Definitions(types, quotas),
    )
    async with driver(engine) as connection:
        first, second = (kind.id for kind in (await read_books(connection, event)).kinds)
    alone: list[Asked] = [((kind, n),) for kind in (first, second) for n in (1, 1, 2, 3)]
    return Sold(event, [*alone, ((first, 1), (second, 1)), ((second, 1), (first, 2))])


KINDS = (plain, for_groups, with_types)


def refusal(error: TicketingError) -> dict[str, Any]:
    numbers = {name: value for name, value in error.members.items() if name in NUMBERS}
    return {"status": error.status, "code": error.code, **numbers}


def answer(outcome: Booked | Waiting | Cancelled) -> dict[str, Any]:
    found = outcome.booking
    told = {"id": str(found.id), "quantity": found.quantity, "became": found.status.value}
    match outcome:
        case Booked():
            return {**told, "status": 201}
        case Waiting(position=position):
            return {**told, "status": 202, "position": position}
        case Cancelled():
            return {**told, "status": 200, "promoted": len(outcome.promoted)}


class Clients:
    """Clients who book and cancel for random people, some at once."""

    def __init__(
        self,
        sold: Sold,
        people: Sequence[UUID],
        repositories: Sequence[BookingRepository],
        chance: random.Random,
    ) -> None:
        self._sold = sold
        self._people = people
        self._repositories = repositories
        self._chance = chance
        self._made: dict[UUID, list[UUID]] = {person: [] for person in people}
        self.operations: list[Operation] = []

    async def live(self) -> None:
        for _ in range(TURNS):
            process, user = (
                self._chance.choice(self._repositories),
                self._chance.choice(self._people),
            )
            wishes = self._chance.choice(self._sold.wishes)
            await asyncio.gather(*(self._once(process, wish, user) for wish in wishes))
            await asyncio.sleep(self._chance.random() * LONGEST)

    async def _once(self, process: BookingRepository, wish: Wish, user: UUID) -> None:
        verb: Verb = "book" if wish == "book" else "cancel"
        done = Operation(verb, self._sold.event, str(user), 0)
        call: Coroutine[Any, Any, Booked | Waiting | Cancelled]
        if wish == "book":
            done.lines = self._chance.choice(self._sold.asked)
            call = process.book(done.event, user, lines=done.lines)
        elif wish == "cancel" or not self._made[user]:
            call = process.cancel(done.event, user)
        else:
            held = await process.get(self._chance.choice(self._made[user]))
            some = [each.id for each in held.tickets if self._chance.random() < 0.5]
            done.booking, done.tickets = str(held.id), tuple(map(str, some))
            call = process.cancel_booking(held, some or None)
        await self._record(done, call, user)

    async def _record(
        self, done: Operation, call: Coroutine[Any, Any, Booked | Waiting | Cancelled], user: UUID
    ) -> None:
        done.start = time.monotonic()
        self.operations.append(done)
        try:
            outcome = await call
        except TicketingError as error:
            done.answer = refusal(error)
        else:
            done.answer = answer(outcome)
            if done.verb == "book":
                self._made[user].append(outcome.booking.id)
        done.end = time.monotonic()


@pytest.mark.usefixtures("unmeasured")
async def test_some_order_explains_the_responses_of_two_processes(
    engine: AsyncEngine,
    bookings: BookingRepository,
    elsewhere: BookingRepository,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    people = await make_people(engine, GROUPS)
    fetch, chance = Statement.fetch, random.Random()

    async def at_leisure(
        statement: Statement, connection: Driver, **parameters: object
    ) -> list[Record]:
        await asyncio.sleep(chance.random() * LONGEST)
        found = await fetch(statement, connection, **parameters)
        await asyncio.sleep(chance.random() * LONGEST)
        return found

    monkeypatch.setattr(Statement, "fetch", at_leisure)
    for seed in range(HISTORIES):
        chance.seed(seed)
        sold = await KINDS[seed % len(KINDS)](engine, people[0], chance)
        crowd = people[:PEOPLE] if sold.asked == (ONE_PLACE,) else people
        clients = Clients(sold, crowd, [bookings, elsewhere], chance)
        await asyncio.gather(*(clients.live() for _ in range(CLIENTS)))
        async with driver(engine) as connection:
            books = await read_books(connection, sold.event)
        assert judge(clients.operations, [books]) == [], f"seed {seed}"
