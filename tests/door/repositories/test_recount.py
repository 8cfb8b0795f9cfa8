"""The recount finds what the door must never do."""

from collections.abc import Sequence
from uuid import uuid4

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from tests.door.scenes import Gala, scan
from tests.people import Visitor
from ticketing.db.statements import driver
from ticketing.door.compose import compose
from ticketing.door.repositories import recount as door
from ticketing.sale.repositories.recount import DIFFERENCES, Difference
from ticketing.settings import Settings
from ticketing.web.compose import share

AGAIN = text(
    "INSERT INTO check_ins (event_id, scan_id, ticket_id, list, direction, verdict, passed,"
    " conflict, received_at, happened_at) SELECT event_id, gen_random_uuid(), ticket_id, list,"
    " direction, verdict, passed, conflict, received_at, happened_at FROM check_ins"
)


async def recount(engine: AsyncEngine) -> Sequence[Difference]:
    async with driver(engine) as connection:
        return await door.recount(connection)


async def test_a_second_entry_and_a_ticket_of_nobody_are_found(
    visitor: Visitor, engine: AsyncEngine
) -> None:
    gala = await Gala.open(visitor)
    (ticket,) = await gala.sell()
    await scan(gala, ticketId=ticket)
    await scan(gala, ticketId=ticket)
    await gala.owner.patch(f"/api/tickets/{ticket}", {"name": "Ada"})
    assert await recount(engine) == []
    async with engine.begin() as connection:
        await connection.execute(AGAIN)
        await connection.execute(text("UPDATE ticket_details SET ticket_id = :id"), {"id": uuid4()})
    twice, missing = await recount(engine)
    assert (twice.kind, twice.event_id, twice.counted) == ("admitted_twice", gala.event, 1)
    assert [str(each) for each in twice.ticket_ids] == [ticket]
    assert (missing.kind, missing.event_id) == ("ticket_missing", gala.event)
    async with engine.begin() as connection:
        await connection.execute(text("UPDATE check_ins SET conflict = true"))
    assert [each.kind for each in await recount(engine)] == ["ticket_missing"]


async def test_the_audit_of_the_service_looks_at_the_door_too(
    visitor: Visitor, engine: AsyncEngine, settings: Settings
) -> None:
    gala = await Gala.open(visitor)
    await scan(gala, ticketId=(await gala.sell())[0])
    async with engine.begin() as connection:
        await connection.execute(AGAIN)
    shared = share(settings, None)
    part = compose(shared)
    (audit,) = [each for each in part.loops if each.name == "audit"]
    assert await audit.work()
    for close in part.close:
        await close()
    await shared.pools.close()
    (sample,) = next(iter(DIFFERENCES.collect())).samples
    assert sample.value == 1
