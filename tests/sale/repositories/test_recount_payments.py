"""Audits of payments and refunds, corrupted by hand in each way."""

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from tests.people import Visitor
from ticketing.sale.repositories.recount import RecountRepository

UNGUARDED = (
    "ALTER TABLE bookings DROP CONSTRAINT ck_bookings_refunded",
    "ALTER TABLE bookings DROP CONSTRAINT ck_bookings_kept",
)


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        ("SELECT 1", []),
        ("UPDATE bookings SET paid = 6000", [("paid_miscounted", 6000, 5000)]),
        (
            "UPDATE bookings SET paid = NULL",
            [("paid_miscounted", 0, 5000)],
        ),
        ("UPDATE bookings SET refunded = 0", [("refunded_miscounted", 0, 2500)]),
        (
            "UPDATE payments SET amount = 2400 WHERE kind = 'payment'",
            [
                ("paid_miscounted", 5000, 2400),
                ("refunded_too_much", 2400, 2500),
            ],
        ),
        ("DELETE FROM payments WHERE kind = 'refund'", [("refunded_miscounted", 2500, 0)]),
        ("UPDATE bookings SET kept = 2501", [("kept_too_much", 2501, 2500)]),
        ("UPDATE bookings SET kept = -1", [("kept_too_much", -1, 2500)]),
    ],
)
async def test_money_that_differs_from_its_records_is_found(
    visitor: Visitor,
    engine: AsyncEngine,
    statement: str,
    expected: list[tuple[str, int, int]],
) -> None:
    ada = await visitor.register()
    types = [{"name": "A", "price": {"amount": 2500, "currency": "EUR"}}]
    policy = {"kind": "flatFee", "fee": 500}
    body = {"name": "Jazz", "capacity": 9, "ticketTypes": types, "refundPolicy": policy}
    event = (await ada.post("/api/events", body)).json()
    booking = await ada.sell(event["id"], event["ticketTypes"][0]["id"], places=2)
    path = f"/api/bookings/{booking['id']}"
    await ada.post(f"{path}/payments", {"reference": "p", "amount": 5000})
    (ticket, _) = (await ada.get(f"{path}/tickets")).json()["items"]
    reduced = await ada.post(f"{path}/cancel", {"ticketIds": [ticket["id"]]})
    assert reduced.json()["refund"] == 2000
    await ada.post(f"{path}/refunds", {"reference": "r", "amount": 2500})
    async with engine.begin() as connection:
        for change in (*UNGUARDED, statement):
            await connection.execute(text(change))
    found = (await RecountRepository(engine).recount()).differences
    assert [(each.kind, each.recorded, each.counted) for each in found] == expected
    for each in found:
        assert each.event_id == event["id"]
        assert [str(held) for held in each.booking_ids] == [booking["id"]]
