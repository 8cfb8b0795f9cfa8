"""Records of an event become visible in the order of their numbers, whichever process writes them.

So a program that follows them by number misses none: see `ticketing.db.facts.recorded`.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Any

import pytest
from fastapi import FastAPI
from sqlalchemy.ext.asyncio import AsyncEngine

from tests.factories import make_event, make_people
from tests.people import Person, Visitor
from tests.plans import statements
from ticketing.database_address import Address
from ticketing.db.facts import COMMAND_LINE
from ticketing.db.hosts import Server
from ticketing.db.statements import Driver, Statement
from ticketing.identity.permissions import Role
from ticketing.identity.repositories import team
from ticketing.sale.details import Details
from ticketing.sale.inventory.codes import CodeKind
from ticketing.sale.repositories import revisions, ticket_types
from ticketing.sale.repositories.bookings import BookingRepository
from ticketing.sale.repositories.codes import CodeRepository, NewCodes
from ticketing.sale.repositories.events import columns

WRITERS: dict[str, tuple[Statement, dict[str, object]]] = {
    "ticketing.identity.repositories.team GRANT": (team.GRANT, {"role": "manager"}),
    "ticketing.identity.repositories.team REVOKE": (team.REVOKE, {}),
    "ticketing.identity.repositories.team REVOKE_ALL": (team.REVOKE_ALL, {}),
    "ticketing.sale.repositories.revisions REVISE": (
        revisions.REVISE,
        {
            **columns(Details("B")),
            "folded": "b",
            "total": 1,
            "status": "published",
            "paused": False,
            "action": "event.revised",
            "changes": "{}",
            "whole": "{}",
        },
    ),
    "ticketing.sale.repositories.ticket_types REVISE": (
        ticket_types.REVISE,
        {"action": "ticket_type.created", "details": "{}", "whole": "{}"},
    ),
    "ticketing.sale.repositories.revisions CHANGE_OWNER": (
        revisions.CHANGE_OWNER,
        {"whole": "{}"},
    ),
    "ticketing.sale.repositories.revisions DELETE": (revisions.DELETE, {}),
}
"""Statements that record a change of an existing event, and their parameters besides ids."""
GOING = {"CHANGE_OWNER", "DELETE"}
"""After these, people who saw the trail can see it no longer."""
WITH_THE_FIRST_RECORD = "ticketing.sale.repositories.events MAKE"
"""Statements that record the creation of an event. Nothing else can change it yet."""

WHILE_LOCKED = {
    *(f"ticketing.sale.repositories.codes {name}" for name in ("MAKE", "CHANGE", "DELETE")),
    *(f"ticketing.door.repositories.check_ins {name}" for name in ("ADD", "UNDO")),
    "ticketing.door.repositories.doors PUT",
    "ticketing.door.repositories.tickets PUT",
}
"""Statements whose repository locks the event before, in the same transaction."""

HOLD = "SELECT FROM events WHERE id = $1 FOR NO KEY UPDATE"
RECORD = "INSERT INTO audit_records (action, event_id, details) VALUES ('held', $1, '{}')"
OF_EVENT = "SELECT action FROM audit_records WHERE event_id = $1 ORDER BY seq"
WAITS = """
    SELECT EXISTS (
        SELECT FROM pg_stat_activity
        WHERE datname = current_database() AND wait_event_type = 'Lock'
    )
"""


@pytest.fixture
async def connections(database_url: str) -> AsyncIterator[list[Driver]]:
    """Three connections without the service's timeouts."""
    server = Server(Address.parse(database_url))
    made = [await server.connect() for _ in range(3)]
    yield made
    for each in made:
        await each.close()


async def begun(connection: Driver, change: Awaitable[Any]) -> asyncio.Future[Any]:
    """Start the change, and return when it has ended or waits for a lock."""
    task = asyncio.ensure_future(change)
    while not task.done() and not await connection.fetchval(WAITS):
        await asyncio.wait({task}, timeout=0.001)
    return task


def carried_out(name: str, connection: Driver, event: int, user: object) -> Awaitable[Any]:
    statement, more = WRITERS[name]
    ids = {"id": event, "event": event, "user": user}
    return statement.fetch(connection, **ids, **more, **COMMAND_LINE._asdict())


def test_every_statement_that_records_a_change_of_an_event_is_tried_here() -> None:
    recording = {
        name
        for name, each in statements().items()
        if "INSERT INTO audit_records" in each.sql and "CAST(NULL AS bigint)" not in each.sql
    }
    commits = {name for name in recording if name.startswith("commit ")}
    assert recording - commits - WHILE_LOCKED == WRITERS.keys() | {WITH_THE_FIRST_RECORD}
    assert recording >= WHILE_LOCKED
    assert commits


@pytest.mark.parametrize("name", WRITERS)
async def test_no_record_gets_its_number_while_another_changes_the_event(
    name: str, engine: AsyncEngine, connections: list[Driver]
) -> None:
    owner, member = await make_people(engine, 2)
    event = await make_event(engine, total=1, organiser=owner)
    await team.TeamRepository(engine).grant(event, member, Role.STAFF, COMMAND_LINE)
    asking, holding, writing = connections
    async with holding.transaction():
        await holding.execute(HOLD, event)
        change = await begun(asking, carried_out(name, writing, event, member))
        await holding.execute(RECORD, event)
    await change
    *_, before_last, last = [row["action"] for row in await holding.fetch(OF_EVENT, event)]
    assert before_last == "held"
    assert last != "held"


@pytest.mark.parametrize("change", ["make", "change", "delete"])
async def test_no_change_of_a_code_gets_its_number_while_another_changes_the_event(
    change: str, engine: AsyncEngine, connections: list[Driver]
) -> None:
    (owner,) = await make_people(engine, 1)
    event = await make_event(engine, total=1, organiser=owner)
    codes = CodeRepository(engine)
    first, second = [
        NewCodes(CodeKind.DISCOUNT, (text,), percent=5) for text in ("SPRING26", "SUMMER26")
    ]
    (code,) = await codes.make(event, first, COMMAND_LINE)
    of_code = event, code.does.id
    changes: dict[str, Callable[[], Awaitable[Any]]] = {
        "make": partial(codes.make, event, second, COMMAND_LINE),
        "change": partial(codes.change, *of_code, {"active": False}, COMMAND_LINE),
        "delete": partial(codes.delete, *of_code, COMMAND_LINE),
    }
    asking, holding, _ = connections
    async with holding.transaction():
        await holding.execute(HOLD, event)
        changed = await begun(asking, changes[change]())
        await holding.execute(RECORD, event)
    await changed
    *_, before_last, last = [row["action"] for row in await holding.fetch(OF_EVENT, event)]
    assert before_last == "held"
    assert last.startswith("code")


@pytest.mark.parametrize("of_events", [1, 2])
async def test_no_booking_gets_its_number_while_another_changes_the_event(
    of_events: int, engine: AsyncEngine, connections: list[Driver]
) -> None:
    (owner,) = await make_people(engine, 1)
    numbers = [await make_event(engine, total=1, organiser=owner) for _ in range(of_events)]
    bookings = BookingRepository(engine)
    asking, holding, _ = connections
    async with holding.transaction():
        await holding.execute(HOLD, numbers[0])
        booked = asyncio.gather(*(bookings.book(event, owner) for event in numbers))
        change = await begun(asking, booked)
        await holding.execute(RECORD, numbers[0])
    await change
    await bookings.close()
    found = [row["action"] for row in await holding.fetch(OF_EVENT, numbers[0])]
    assert found == ["event.created", "held", "booking.booked"]


@pytest.mark.parametrize("name", [each for each in WRITERS if each.split()[1] not in GOING])
async def test_a_program_that_follows_by_number_misses_no_record_that_is_written_slowly(
    name: str, visitor: Visitor, app: FastAPI, connections: list[Driver]
) -> None:
    del app
    ada, bob = [await visitor.register() for _ in range(2)]
    event = await ada.organise()
    await ada.appoint(event, bob, "staff")
    asking, writing, _ = connections
    seen = await news(ada, event, 0)
    async with writing.transaction():
        await carried_out(name, writing, event, bob.id)
        booked = await begun(asking, ada.book(event))
        seen += await news(ada, event, seen[-1]["id"])
    assert (await booked).status_code == 201
    seen += await news(ada, event, seen[-1]["id"])
    assert sorted(seen, key=lambda each: each["id"]) == await news(ada, event, 0)
    assert len(seen) == len({each["id"] for each in seen}) == 4


async def news(person: Person, event: int, known: int) -> list[dict[str, Any]]:
    """Return the records after `known`, oldest first, as the route's documentation says."""
    found: list[dict[str, Any]] = []
    cursor: dict[str, str] = {}
    while True:
        answer = await person.get(f"/api/events/{event}/trail", limit=2, **cursor)
        page = answer.json()
        found += [each for each in page["items"] if each["id"] > known]
        if page["nextCursor"] is None or page["items"][-1]["id"] <= known:
            return found[::-1]
        cursor = {"cursor": page["nextCursor"]}
