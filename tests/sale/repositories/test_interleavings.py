"""Two processes and a few people at one small event, in random order.

Some order of its operations, one at a time, must explain every history. The checker is that of
`make chaos`, which sees fewer interleavings and more faults.
"""

import asyncio
import random
from collections.abc import Sequence
from typing import Any
from uuid import UUID

import pytest
from asyncpg import Record
from chaos.checker import judge
from chaos.history import Operation, Verb, read_books
from sqlalchemy.ext.asyncio import AsyncEngine

from tests.factories import make_event, make_people
from ticketing.db.statements import Driver, Statement, driver
from ticketing.errors import TicketingError
from ticketing.sale.inventory.model import Booked, Outcome, Waiting
from ticketing.sale.repositories.bookings import BookingRepository

WISHES: list[list[Verb]] = [["book"], ["cancel"], ["book", "cancel"], ["cancel", "book"]]
"""The requests that a person makes at once."""
HISTORIES = 60
PEOPLE = 3
CLIENTS = 5
TURNS = 4
LONGEST = 0.004
"""Seconds between two steps of a commit."""


def answer(outcome: Outcome) -> dict[str, Any]:
    match outcome:
        case Booked(booking):
            return {"status": 201, "id": str(booking.id)}
        case Waiting(booking, position):
            return {"status": 202, "id": str(booking.id), "position": position}
        case TicketingError():
            return {"status": outcome.status, "code": outcome.code}
        case Exception():
            raise outcome
        case _:
            return {
                "status": 200,
                "id": str(outcome.booking.id),
                "promoted": len(outcome.promoted),
            }


async def history(
    event: int,
    people: Sequence[UUID],
    repositories: Sequence[BookingRepository],
    chance: random.Random,
) -> list[Operation]:
    """Let clients book and cancel for random people, some at once, and return the history."""
    loop = asyncio.get_running_loop()
    operations: list[Operation] = []

    async def once(process: BookingRepository, verb: Verb, user: UUID) -> None:
        call = process.book if verb == "book" else process.cancel
        done = Operation(verb, event, str(user), loop.time())
        operations.append(done)
        try:
            done.answer = answer(await call(event, user))
        except TicketingError as refusal:
            done.answer = answer(refusal)
        done.end = loop.time()

    async def client() -> None:
        for _ in range(TURNS):
            process, user = chance.choice(repositories), chance.choice(people)
            await asyncio.gather(*(once(process, verb, user) for verb in chance.choice(WISHES)))
            await asyncio.sleep(chance.random() * LONGEST)

    await asyncio.gather(*(client() for _ in range(CLIENTS)))
    return operations


@pytest.mark.usefixtures("unmeasured")
async def test_some_order_explains_the_responses_of_two_processes(
    engine: AsyncEngine,
    bookings: BookingRepository,
    elsewhere: BookingRepository,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    people = await make_people(engine, PEOPLE)
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
        event = await make_event(engine, total=1 + seed % PEOPLE, organiser=people[0])
        operations = await history(event, people, [bookings, elsewhere], chance)
        async with driver(engine) as connection:
            books = await read_books(connection, event)
        assert judge(operations, [books]) == [], f"seed {seed}"
