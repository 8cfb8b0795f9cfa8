"""Audits of codes, corrupted by hand in each way."""

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from tests.people import Visitor
from ticketing.sale.repositories.recount import RecountRepository


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        ("SELECT 1", []),
        ("UPDATE codes SET uses = 1", [("code_uses_miscounted", 1, 2)]),
        ("UPDATE codes SET tickets = 6", [("code_tickets_miscounted", 6, 5)]),
        (
            "UPDATE codes SET uses = 0, tickets = 0",
            [("code_tickets_miscounted", 0, 5), ("code_uses_miscounted", 0, 2)],
        ),
        ("DELETE FROM codes", [("code_missing", None, 2)]),
        (
            "UPDATE bookings SET code_id = NULL",
            [("code_tickets_miscounted", 5, 0), ("code_uses_miscounted", 2, 0)],
        ),
        ("UPDATE bookings SET code_tickets = 1", [("code_tickets_miscounted", 5, 2)]),
    ],
)
async def test_codes_whose_counters_differ_from_the_bookings_are_found(
    visitor: Visitor,
    engine: AsyncEngine,
    statement: str,
    expected: list[tuple[str, int | None, int]],
) -> None:
    ada = await visitor.register()
    types = [{"name": "A", "price": {"amount": 2500, "currency": "EUR"}}]
    body = {"name": "Jazz", "capacity": 9, "ticketTypes": types}
    event = (await ada.post("/api/events", body)).json()["id"]
    codes = {"kind": "discount", "percent": 100, "codes": ["FREE"]}
    made = (await ada.post(f"/api/events/{event}/codes", codes)).json()["items"]
    for place, quantity in (("/api/events/book", 2), ("/api/holds", 3), ("/api/holds", 1)):
        person = await visitor.register()
        wanted = {"eventId": event, "quantity": quantity, "code": "FREE"}
        booked = await person.post(place, wanted)
        assert booked.status_code == 201, booked.text
    await person.delete(f"/api/holds/{booked.json()['id']}")
    async with engine.begin() as connection:
        await connection.execute(text(statement))
    found = (await RecountRepository(engine).recount()).differences
    assert [(each.kind, each.recorded, each.counted) for each in found] == expected
    for each in found:
        assert (each.event_id, each.code_id) == (event, made[0]["id"])
        assert each.document()["codeId"] == made[0]["id"]
