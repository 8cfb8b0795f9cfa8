"""The bookings of a deleted account."""

from uuid import UUID

import pytest
from fastapi import FastAPI
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from tests.contract import assert_problem
from tests.people import PASSWORD, Person, Visitor
from ticketing.db.facts import COMMAND_LINE
from ticketing.errors import UserNotFound
from ticketing.identity.callers import AccessList
from ticketing.identity.repositories.access import AccessRepository
from ticketing.sale.details import Details
from ticketing.sale.part import Sale
from ticketing.sale.repositories.bookings import BookingRepository


async def standing(person: Person) -> list[str]:
    items = (await person.get("/api/users/me/bookings")).json()["items"]
    return [each["status"] for each in items]


async def delete(person: Person) -> None:
    gone = await person.post("/api/users/me/delete", {"password": PASSWORD})
    assert gone.status_code == 204


async def execute(engine: AsyncEngine, statement: str) -> None:
    async with engine.begin() as connection:
        await connection.execute(text(statement))


async def statuses(engine: AsyncEngine, person: Person) -> list[str]:
    async with engine.connect() as connection:
        rows = await connection.execute(
            text("SELECT status FROM bookings WHERE user_id = :id ORDER BY seq"),
            {"id": UUID(person.id)},
        )
        return list(rows.scalars())


async def test_a_freed_place_goes_past_a_deleted_account_to_the_next_person(
    visitor: Visitor, engine: AsyncEngine
) -> None:
    ada, bob, cleo = [await visitor.register() for _ in range(3)]
    event = await ada.organise(total=1)
    for person in (ada, bob, cleo):
        await person.book(event)
    await delete(bob)
    found = await visitor.event(event)
    assert (found["availableTickets"], found["waitingListCount"]) == (0, 1)
    assert (await ada.cancel(event)).json()["promoted"] == 1
    assert await standing(cleo) == ["booked"]
    assert await statuses(engine, bob) == ["cancelled"]


async def test_a_place_that_is_booked_still_counts(visitor: Visitor, engine: AsyncEngine) -> None:
    ada, bob = [await visitor.register() for _ in range(2)]
    event = await ada.organise(total=1)
    await bob.book(event)
    await delete(bob)
    assert (await visitor.event(event))["availableTickets"] == 0
    assert await statuses(engine, bob) == ["booked"]


async def test_an_interrupted_deletion_is_finished_by_any_worker(
    visitor: Visitor, engine: AsyncEngine, app: FastAPI
) -> None:
    ada, bob, cleo, eve = [await visitor.register() for _ in range(4)]
    event, other = await ada.organise(total=1), await ada.organise(total=1)
    for person in (ada, bob, cleo):
        await person.book(event)
    await bob.book(other)
    bookings: BookingRepository = app.state.provided[Sale].bookings
    # As if a worker was killed between the deletion and the next step.
    await execute(
        engine,
        f"""
        WITH gone AS (
            UPDATE users SET username = '~gone', password_hash = NULL WHERE id = '{bob.id}'
        )
        INSERT INTO departures (user_id, waiting) SELECT '{bob.id}', ARRAY(
            SELECT id FROM bookings WHERE user_id = '{bob.id}' AND status = 'waiting'
        )
        """,
    )
    assert (await ada.cancel(event)).json()["promoted"] == 1
    assert await statuses(engine, bob) == ["booked", "booked"]
    # As if it had been four seconds ago.
    await execute(engine, "UPDATE departures SET left_at = left_at - interval '4 seconds'")
    await execute(engine, "UPDATE bookings SET created_at = created_at - interval '4 seconds'")
    await bookings.finish_departures()
    assert await standing(cleo) == ["booked"]
    assert await statuses(engine, bob) == ["cancelled", "booked"]
    async with engine.connect() as connection:
        assert await connection.scalar(text("SELECT count(*) FROM departures")) == 0
    assert_problem(await eve.book(event, for_=bob), 403, "forbidden")


async def test_nobody_books_for_a_deleted_account(visitor: Visitor, engine: AsyncEngine) -> None:
    ada, bob = [await visitor.register() for _ in range(2)]
    event, full = await ada.organise(), await ada.organise(total=1)
    await ada.book(full)
    await delete(bob)
    for each in (event, full):
        assert_problem(await ada.book(each, for_=bob), 404, "user_not_found")
    assert await statuses(engine, bob) == []
    assert (await visitor.event(event))["availableTickets"] == 10
    assert (await visitor.event(full))["waitingListCount"] == 0


async def test_a_token_that_another_service_still_accepts_does_nothing(
    visitor: Visitor, engine: AsyncEngine, app: FastAPI
) -> None:
    # Another service does not know yet. Its repositories behave the same.
    ada, bob = [await visitor.register() for _ in range(2)]
    event = await ada.organise()
    await delete(bob)
    sale: Sale = app.state.provided[Sale]
    with pytest.raises(UserNotFound):
        await sale.bookings.book(event, UUID(bob.id))
    with pytest.raises(UserNotFound):
        await sale.events.make(UUID(bob.id), Details("A concert"), 1, COMMAND_LINE)
    access = AccessRepository(engine, AccessList())
    async with engine.connect() as connection:
        name = await connection.scalar(
            text("SELECT username FROM users WHERE id = :id"), {"id": UUID(bob.id)}
        )
    for act in (access.promote, access.demote, access.log_out):
        with pytest.raises(UserNotFound):
            await act(name)
