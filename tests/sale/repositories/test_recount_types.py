"""Audits of an event with ticket types, quotas and tickets, corrupted by hand in each way."""

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from tests.people import Visitor
from ticketing.sale.repositories.recount import RecountRepository

EUR = {"amount": 2500, "currency": "EUR"}


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        ("SELECT 1", []),
        (
            "UPDATE events SET type_taken = '{1,2}'",
            [{"kind": "type_miscounted", "recorded": 1, "counted": 2, "ticketTypeId": "A"}],
        ),
        (
            "UPDATE events SET type_waiting = '{0,2}'",
            [{"kind": "type_line_miscounted", "recorded": 2, "counted": 1, "ticketTypeId": "B"}],
        ),
        (
            "UPDATE events SET quota_available = '{1}'",
            [{"kind": "quota_miscounted", "recorded": 3, "counted": 4, "quota": 0}],
        ),
        (
            "UPDATE tickets SET amount = 2400 WHERE ordinal = 1 AND amount > 0",
            [{"kind": "amount_miscounted", "recorded": 5000, "counted": 4900}],
        ),
        (
            "UPDATE tickets SET status = 'cancelled' WHERE ordinal = 4",
            [
                {"kind": "type_miscounted", "recorded": 2, "counted": 1, "ticketTypeId": "B"},
                {"kind": "quota_miscounted", "recorded": 4, "counted": 3, "quota": 0},
                {"kind": "tickets_miscounted", "recorded": 4, "counted": 3},
            ],
        ),
    ],
)
async def test_counters_of_types_that_differ_from_the_rows_are_found(
    visitor: Visitor, engine: AsyncEngine, statement: str, expected: list[dict[str, object]]
) -> None:
    ada, bob = await visitor.register(), await visitor.register()
    offer = {
        "ticketTypes": [{"name": "A", "price": EUR}, {"name": "B"}],
        "quotas": [{"name": "Hall", "capacity": 4, "ticketTypes": ["A", "B"]}],
    }
    made = await ada.post("/api/events", {"name": "Jazz", "capacity": 10} | offer)
    event, types = made.json()["id"], {each["name"]: each for each in made.json()["ticketTypes"]}
    lines = [{"ticketTypeId": types[name]["id"], "quantity": 2} for name in "AB"]
    booked = await ada.post("/api/events/book", {"eventId": event, "lines": lines})
    assert booked.json()["amount"] == 5000
    waits = {"eventId": event, "lines": [{"ticketTypeId": types["B"]["id"], "quantity": 1}]}
    assert (await bob.post("/api/events/book", waits)).status_code == 202
    async with engine.begin() as connection:
        await connection.execute(text(statement))
    found = [each.document() for each in (await RecountRepository(engine).recount()).differences]
    for each in found:
        assert each.pop("eventId") == event
        each.pop("bookingIds", None)
    names = {each["id"]: name for name, each in types.items()}
    for each in found:
        if "ticketTypeId" in each:
            each["ticketTypeId"] = names[each["ticketTypeId"]]
    assert found == expected
