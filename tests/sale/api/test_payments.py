"""Payments, refunds, and what is owed."""

import asyncio
from typing import Any

import httpx
import pytest

from tests.contract import assert_problem
from tests.people import Person, Visitor
from tests.serving import PATIENCE
from ticketing.sale.repositories import payments

PAID_AT = "2026-04-01T10:00:00Z"
FULL = {"kind": "fullUntil", "until": "2100-01-01T00:00:00Z"}
FEE = {"kind": "flatFee", "fee": 500}


class Shop:
    """An organiser with an event, whose only ticket type has a price."""

    def __init__(self, owner: Person, event: dict[str, Any]) -> None:
        self.owner = owner
        self.event = event["id"]
        (self.type,) = event["ticketTypes"]

    @classmethod
    async def open(
        cls, visitor: Visitor, price: int = 1600, *, capacity: int = 10, **more: object
    ) -> "Shop":
        owner = await visitor.register()
        types = [{"name": "Seat", "price": {"amount": price, "currency": "EUR"}}]
        event = {"name": "A concert", "capacity": capacity, "ticketTypes": types} | more
        made = await owner.post("/api/events", event)
        assert made.status_code == 201, made.text
        return cls(owner, made.json())

    async def sell(self, places: int = 1, to: Person | None = None) -> str:
        lines = [{"ticketTypeId": self.type["id"], "quantity": places}]
        person = to or await self.owner.register()
        body = {"eventId": self.event, "userId": person.id, "lines": lines}
        made = await self.owner.post("/api/events/book", body)
        assert made.status_code == 201, made.text
        return str(made.json()["id"])

    async def pay(self, booking: str, amount: int, reference: str = "order-1") -> httpx.Response:
        body = {"reference": reference, "amount": amount, "paidAt": PAID_AT}
        return await self.owner.post(f"/api/bookings/{booking}/payments", body)

    async def refund(self, booking: str, amount: int, reference: str) -> httpx.Response:
        body = {"reference": reference, "amount": amount}
        return await self.owner.post(f"/api/bookings/{booking}/refunds", body)

    async def cancel(self, booking: str, *tickets: str) -> dict[str, Any]:
        body = {"ticketIds": tickets} if tickets else {}
        made = await self.owner.post(f"/api/bookings/{booking}/cancel", body)
        assert made.status_code == 200, made.text
        cancelled: dict[str, Any] = made.json()
        return cancelled

    async def tickets(self, booking: str) -> list[dict[str, Any]]:
        listed = await self.owner.get(f"/api/bookings/{booking}/tickets")
        items: list[dict[str, Any]] = listed.json()["items"]
        return items

    async def account(self, booking: str) -> tuple[int, int, int, int]:
        """What is kept, paid, refunded and owed of a booking."""
        now = (await self.owner.get(f"/api/bookings/{booking}")).json()
        return now["kept"], now["paid"], now["refunded"], now["owed"]

    async def settlement(self, **page: str | int) -> dict[str, Any]:
        listed = await self.owner.get(f"/api/events/{self.event}/settlement", **page)
        assert listed.status_code == 200, listed.text
        answer: dict[str, Any] = listed.json()
        return answer

    async def owed(self) -> dict[str, int]:
        """What is owed for each booking in the settlement."""
        return {each["bookingId"]: each["owed"] for each in (await self.settlement())["items"]}


async def test_a_payment_is_recorded_once_by_its_reference(visitor: Visitor) -> None:
    shop = await Shop.open(visitor)
    booking = await shop.sell()
    first = await shop.pay(booking, 1600)
    assert first.status_code == 201
    payment = first.json()
    assert payment.pop("recordedAt")
    assert payment == {
        "reference": "order-1",
        "amount": 1600,
        "currency": "EUR",
        "paidAt": PAID_AT,
    }
    again = await shop.pay(booking, 1600)
    assert (again.status_code, again.json()) == (200, first.json())
    assert await shop.account(booking) == (0, 1600, 0, 0)
    problem = assert_problem(await shop.pay(booking, 1700), 409, "reference_reused")
    assert problem["amount"] == 1600
    # A refund has references of its own, and so has another booking.
    assert (await shop.refund(booking, 1, "order-1")).status_code == 201
    assert (await shop.pay(await shop.sell(), 1600)).status_code == 201


async def test_a_payment_has_the_time_at_which_it_is_recorded_unless_it_names_one(
    visitor: Visitor,
) -> None:
    shop = await Shop.open(visitor)
    booking = await shop.sell()
    body = {"reference": "order-1", "amount": 1}
    made = (await shop.owner.post(f"/api/bookings/{booking}/payments", body)).json()
    assert made["paidAt"] == made["recordedAt"]
    other = {"reference": "order-2", "amount": 1, "paidAt": "2026-04-01T10:00"}
    refused = await shop.owner.post(f"/api/bookings/{booking}/payments", other)
    assert_problem(refused, 422, "validation_failed")


@pytest.mark.parametrize("amount", [0, -1, 1.5, "10", 10.0, 10**12 + 1])
async def test_an_amount_is_a_positive_integer(visitor: Visitor, amount: object) -> None:
    shop = await Shop.open(visitor)
    booking = await shop.sell()
    for path in ("payments", "refunds"):
        body = {"reference": "order-1", "amount": amount}
        made = await shop.owner.post(f"/api/bookings/{booking}/{path}", body)
        assert_problem(made, 422, "validation_failed")


async def test_payments_for_one_booking_have_a_largest_sum(
    visitor: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(payments, "MOST_PAID", 2 * 10**12)
    shop = await Shop.open(visitor)
    booking = await shop.sell()
    answers = [await shop.pay(booking, 10**12, f"order-{number}") for number in range(3)]
    assert [each.status_code for each in answers[:2]] == [201, 201]
    assert_problem(answers[2], 422, "validation_failed")


async def test_nothing_is_paid_for_a_free_booking_and_nothing_is_owed(visitor: Visitor) -> None:
    owner = await visitor.register()
    event = await owner.organise()
    booking = (await owner.book(event)).json()["id"]
    body = {"reference": "order-1", "amount": 1}
    assert_problem(await owner.post(f"/api/bookings/{booking}/payments", body), 409, "booking_free")
    assert_problem(
        await owner.post(f"/api/bookings/{booking}/refunds", body), 409, "refund_exceeds_paid"
    )
    cancelled = (await owner.cancel(event)).json()
    assert (cancelled["status"], cancelled["refund"]) == ("cancelled", 0)
    assert (await owner.get(f"/api/bookings/{booking}")).json()["owed"] == 0
    listed = (await owner.get(f"/api/events/{event}/settlement")).json()
    totals = {"currency": None, "paid": 0, "refunded": 0, "owed": 0}
    assert listed == {"items": [], "nextCursor": None, "totals": totals}


async def test_refunds_are_never_more_than_what_was_paid(visitor: Visitor) -> None:
    shop = await Shop.open(visitor, 1000)
    booking = await shop.sell()
    await shop.pay(booking, 1000)
    two = await asyncio.gather(*(shop.refund(booking, 600, each) for each in ("a", "b")))
    assert sorted(each.status_code for each in two) == [201, 409]
    refused = next(each for each in two if each.status_code == 409)
    problem = assert_problem(refused, 409, "refund_exceeds_paid")
    assert [problem[each] for each in ("amount", "paid", "refunded")] == [600, 1000, 600]

    booking = await shop.sell()
    await shop.pay(booking, 1000)
    two = await asyncio.gather(*(shop.refund(booking, 500, each) for each in ("a", "b")))
    assert [each.status_code for each in two] == [201, 201]
    assert_problem(await shop.refund(booking, 1, "c"), 409, "refund_exceeds_paid")
    # The same refund again is the first one, although nothing is left.
    again = await shop.refund(booking, 500, "b")
    assert (again.status_code, again.json()) == (200, two[1].json())
    assert_problem(await shop.refund(booking, 501, "b"), 409, "reference_reused")


async def test_a_place_that_is_sold_again_can_be_refunded_again(visitor: Visitor) -> None:
    shop = await Shop.open(visitor, 1000, capacity=1, refundPolicy=FULL)
    p, q = await visitor.register(), await visitor.register()
    for buyer in (p, q, p):
        booking = await shop.sell(to=buyer)
        await shop.pay(booking, 1000)
        assert (await shop.cancel(booking))["refund"] == 1000
        assert (await shop.refund(booking, 1000, "refund-1")).status_code == 201
    assert (await visitor.event(shop.event))["availableTickets"] == 1
    assert await shop.owed() == {}


async def test_what_is_owed_follows_from_what_was_paid(visitor: Visitor) -> None:
    shop = await Shop.open(visitor, 5000)
    part, over, unpaid, exact = [await shop.sell() for _ in range(4)]
    await shop.pay(part, 2000)
    await shop.pay(over, 10_000)
    await shop.pay(exact, 5000)
    assert await shop.account(part) == (0, 2000, 0, -3000)
    assert await shop.account(over) == (0, 10_000, 0, 5000)
    assert await shop.account(unpaid) == (0, 0, 0, -5000)
    assert await shop.owed() == {over: 5000}
    assert (await shop.settlement())["totals"] == {
        "currency": "EUR",
        "paid": 17_000,
        "refunded": 0,
        "owed": 5000,
    }
    await shop.refund(over, 2000, "refund-1")
    assert await shop.owed() == {over: 3000}


async def test_the_settlement_is_listed_in_pages_in_the_order_of_bookings(
    visitor: Visitor,
) -> None:
    shop = await Shop.open(visitor, 100)
    sold = [await shop.sell() for _ in range(3)]
    for booking in reversed(sold):
        await shop.pay(booking, 300)
    first = await shop.settlement(limit=2)
    assert [each["bookingId"] for each in first["items"]] == sold[:2]
    second = await shop.settlement(limit=2, cursor=first["nextCursor"])
    assert [each["bookingId"] for each in second["items"]] == sold[2:]
    assert second["nextCursor"] is None
    assert second["totals"] == first["totals"]
    assert first["totals"]["owed"] == 600


async def test_money_that_comes_after_a_cancel_is_owed_back_whatever_the_policy_is(
    visitor: Visitor,
) -> None:
    shop = await Shop.open(visitor, 5000)
    unpaid, part = await shop.sell(), await shop.sell()
    await shop.pay(part, 2000)
    for booking in (unpaid, part):
        assert (await shop.cancel(booking))["refund"] == 0
    # Without a refund policy the organiser keeps what was paid, and no more.
    assert await shop.account(part) == (2000, 2000, 0, 0)
    assert await shop.account(unpaid) == (0, 0, 0, 0)
    for _ in range(3):
        assert (await shop.pay(unpaid, 5000, "late")).is_success
        assert (await shop.pay(part, 3000, "late")).is_success
    assert await shop.owed() == {unpaid: 5000, part: 3000}
    assert (await visitor.event(shop.event))["availableTickets"] == 10


async def test_a_part_of_a_booking_gives_back_what_it_cost(visitor: Visitor) -> None:
    shop = await Shop.open(visitor, 1600, refundPolicy=FULL)
    booking = await shop.sell(5)
    await shop.pay(booking, 8000)
    bought = await shop.tickets(booking)
    unknown = [bought[2]["id"], "019938a5-9d21-7f01-a3b4-5c6d7e8f9a0b"]
    refused = await shop.owner.post(f"/api/bookings/{booking}/cancel", {"ticketIds": unknown})
    assert_problem(refused, 404, "ticket_not_found")
    assert await shop.tickets(booking) == bought
    reduced = await shop.cancel(booking, bought[2]["id"])
    assert (reduced["status"], reduced["amount"], reduced["refund"]) == ("booked", 6400, 1600)
    assert await shop.owed() == {booking: 1600}
    expected = [each | {"status": "cancelled"} if each is bought[2] else each for each in bought]
    assert await shop.tickets(booking) == expected


async def test_a_booking_is_refunded_in_parts_to_the_last_cent(visitor: Visitor) -> None:
    half = {"kind": "percentage", "percent": 50, "until": "2100-01-01T00:00:00Z"}
    shop = await Shop.open(visitor, 333, refundPolicy=half)
    booking = await shop.sell(3)
    await shop.pay(booking, 999)
    parts = []
    for ticket in await shop.tickets(booking):
        parts.append((await shop.cancel(booking, ticket["id"]))["refund"])
        (owed,) = (await shop.owed()).values()
        assert owed == parts[-1]
        assert (await shop.refund(booking, owed, ticket["id"])).status_code == 201
    assert parts == [167, 167, 166]
    assert await shop.account(booking) == (499, 999, 500, 0)


async def test_a_flat_fee_is_kept_once_for_each_booking(visitor: Visitor) -> None:
    shop = await Shop.open(visitor, 1600, refundPolicy=FEE)
    booking = await shop.sell(3)
    await shop.pay(booking, 4800)
    refunds = [
        (await shop.cancel(booking, ticket["id"]))["refund"]
        for ticket in await shop.tickets(booking)
    ]
    assert refunds == [1100, 1600, 1600]
    assert await shop.account(booking) == (500, 4800, 0, 4300)
    # Cancelling again gives nothing back.
    assert (await shop.cancel(booking))["refund"] == 0
    assert await shop.owed() == {booking: 4300}


async def test_the_refund_policy_is_that_of_the_time_of_the_purchase(visitor: Visitor) -> None:
    shop = await Shop.open(visitor, 1600, refundPolicy=FULL)
    booking = await shop.sell()
    path = f"/api/events/{shop.event}"
    changed = await shop.owner.patch(path, {"refundPolicy": FEE})
    assert changed.json()["refundPolicy"] == FEE | {"until": None, "percent": None}
    later = await shop.sell()
    removed = await shop.owner.patch(path, {"refundPolicy": None})
    assert removed.json()["refundPolicy"]["kind"] == "none"
    last = await shop.sell()
    refunds = [(await shop.cancel(each))["refund"] for each in (booking, later, last)]
    assert refunds == [1600, 1100, 0]


async def test_bookings_that_are_committed_together_keep_the_refund_policy(
    visitor: Visitor,
) -> None:
    shop = await Shop.open(visitor, 1600, refundPolicy=FEE)
    buyers = [await visitor.register() for _ in range(5)]
    sold = await asyncio.gather(*(shop.sell(2, to=each) for each in buyers))
    cancelled = await asyncio.gather(*(shop.cancel(each) for each in sold))
    assert [each["refund"] for each in cancelled] == [2700] * 5


async def test_from_the_deadline_on_nothing_is_given_back(visitor: Visitor) -> None:
    shop = await Shop.open(visitor, 1600, refundPolicy=FULL | {"until": "2020-01-01T00:00:00Z"})
    booking = await shop.sell()
    await shop.pay(booking, 1600)
    assert (await shop.cancel(booking))["refund"] == 0
    assert await shop.account(booking) == (1600, 1600, 0, 0)


async def test_a_cancelled_event_owes_what_was_paid(visitor: Visitor) -> None:
    shop = await Shop.open(visitor, 1600)
    booking = await shop.sell(2)
    await shop.pay(booking, 3200)
    assert (await shop.owner.post(f"/api/events/{shop.event}/cancel", {})).is_success
    async with asyncio.timeout(PATIENCE):
        while await shop.owed() != {booking: 3200}:  # noqa: ASYNC110 - a loop of the service does it
            await asyncio.sleep(0.1)


@pytest.mark.parametrize(
    "wrong",
    [
        {"kind": "fullUntil"},
        {"kind": "none", "fee": 500},
        {"kind": "percentage", "until": "2100-01-01T00:00:00Z"},
        {"kind": "percentage", "until": "2100-01-01T00:00:00Z", "percent": 101},
        {"kind": "flatFee", "fee": 500, "until": "2100-01-01T00:00:00Z"},
        {"kind": "flatFee", "fee": 5.0},
        {"kind": "half"},
        {"kind": "fullUntil", "until": "2100-01-01T00:00"},
    ],
)
async def test_a_refund_policy_has_the_fields_of_its_kind(
    visitor: Visitor, wrong: dict[str, object]
) -> None:
    owner = await visitor.register()
    body = {"name": "A concert", "capacity": 10, "refundPolicy": wrong}
    problem = assert_problem(await owner.post("/api/events", body), 422, "validation_failed")
    assert problem["errors"][0]["pointer"].startswith("#/refundPolicy")


async def test_a_deadline_is_a_local_time_of_the_event_and_moves_with_a_copy(
    visitor: Visitor,
) -> None:
    owner = await visitor.register()
    body = {
        "name": "A concert",
        "capacity": 10,
        "timezone": "Europe/Berlin",
        "startsAt": "2036-07-10T20:00",
        "refundPolicy": {"kind": "percentage", "percent": 50, "until": "2036-07-03T12:00"},
    }
    made = (await owner.post("/api/events", body)).json()
    assert made["refundPolicy"] == {
        "kind": "percentage",
        "until": "2036-07-03T10:00:00Z",
        "percent": 50,
        "fee": None,
    }
    assert made["local"]["refundUntil"] == "2036-07-03T12:00:00"
    path = f"/api/events/{made['id']}"
    moved = (await owner.patch(path, {"timezone": "Europe/London"})).json()
    assert moved["refundPolicy"]["until"] == "2036-07-03T11:00:00Z"
    copies = await owner.post(f"{path}/copies", {"startsAt": ["2036-12-10T20:00"]})
    (copy,) = copies.json()["items"]
    assert copy["refundPolicy"] == moved["refundPolicy"] | {"until": "2036-12-03T12:00:00Z"}
    assert (await owner.get(f"{path}/trail")).json()["items"][0]["details"] == {
        "timezone": {"from": "Europe/Berlin", "to": "Europe/London"},
        "startsAt": {"from": "2036-07-10T18:00:00Z", "to": "2036-07-10T19:00:00Z"},
        "refundPolicy": {
            "from": {"kind": "percentage", "until": "2036-07-03T10:00:00+00:00", "percent": 50},
            "to": {"kind": "percentage", "until": "2036-07-03T11:00:00+00:00", "percent": 50},
        },
    }


async def test_the_tax_of_a_ticket_is_that_of_the_time_of_the_purchase(visitor: Visitor) -> None:
    types = [
        {"name": "Seat", "price": {"amount": 1500, "currency": "EUR"}, "taxRate": "19"},
    ]
    shop = await Shop.open(visitor, ticketTypes=types)
    assert (shop.type["taxRate"], shop.type["price"]["tax"]) == ("19", 239)
    booking = await shop.sell(2)
    path = f"/api/events/{shop.event}/ticket-types/{shop.type['id']}"
    changed = (await shop.owner.patch(path, {"taxRate": "7.70"})).json()
    assert (changed["taxRate"], changed["price"]["tax"]) == ("7.7", 107)
    assert [each["tax"] for each in await shop.tickets(booking)] == [239, 239]
    assert [each["tax"] for each in await shop.tickets(await shop.sell())] == [107]
    removed = (await shop.owner.patch(path, {"taxRate": None})).json()
    assert (removed["taxRate"], removed["price"]["tax"]) == (None, 0)


@pytest.mark.parametrize("rate", ["19.12345", "-1", "101", "1,5", "", "1e1", 19, "٣"])
async def test_a_tax_rate_is_a_decimal_number_of_percent(visitor: Visitor, rate: object) -> None:
    owner = await visitor.register()
    types = [{"name": "Seat", "taxRate": rate}]
    body = {"name": "A concert", "capacity": 10, "ticketTypes": types}
    assert_problem(await owner.post("/api/events", body), 422, "validation_failed")


async def test_only_the_team_records_money_and_the_buyer_reads_it(visitor: Visitor) -> None:
    shop = await Shop.open(visitor)
    buyer, staff, other = [await visitor.register() for _ in range(3)]
    await shop.owner.appoint(shop.event, staff, "staff")
    booking = await shop.sell(to=buyer)
    await shop.pay(booking, 1600)
    await shop.refund(booking, 600, "refund-1")
    body = {"reference": "mine", "amount": 1600}
    for person in (buyer, staff, other):
        for path in ("payments", "refunds"):
            made = await person.post(f"/api/bookings/{booking}/{path}", body)
            assert_problem(made, 403, "forbidden")
    assert_problem(await buyer.get(f"/api/events/{shop.event}/settlement"), 403, "forbidden")
    (payment,) = (await buyer.get(f"/api/bookings/{booking}/payments")).json()["items"]
    (refund,) = (await buyer.get(f"/api/bookings/{booking}/refunds")).json()["items"]
    assert (payment["amount"], refund["amount"]) == (1600, 600)
    assert "paidAt" not in refund
    for person in (staff, other):
        assert_problem(await person.get(f"/api/bookings/{booking}/payments"), 403, "forbidden")
    program = await shop.owner.make_key("bookings:write")
    made = await program.post(f"/api/bookings/{booking}/payments", body)
    assert made.status_code == 201


async def test_payments_are_listed_in_pages_oldest_first(visitor: Visitor) -> None:
    shop = await Shop.open(visitor)
    booking = await shop.sell()
    for number in (3, 1, 2):
        await shop.pay(booking, number, f"order-{number}")
    path = f"/api/bookings/{booking}/payments"
    first = (await shop.owner.get(path, limit=2)).json()
    assert [each["amount"] for each in first["items"]] == [3, 1]
    second = (await shop.owner.get(path, cursor=first["nextCursor"])).json()
    assert [each["amount"] for each in second["items"]] == [2]


async def test_the_trail_has_each_payment_and_refund_once(visitor: Visitor) -> None:
    shop = await Shop.open(visitor)
    booking = await shop.sell()
    for _ in range(2):
        await shop.pay(booking, 1600)
        await shop.refund(booking, 600, "refund-1")
    records = (await shop.owner.get(f"/api/events/{shop.event}/trail")).json()["items"]
    told = [(each["action"], each["details"]) for each in records[:2]]
    named = {"bookingId": booking, "currency": "EUR"}
    assert told == [
        ("refund.recorded", named | {"reference": "refund-1", "amount": 600}),
        ("payment.recorded", named | {"reference": "order-1", "amount": 1600}),
    ]
    assert records[2]["action"] == "booking.booked"
    assert records[0]["actorId"] == shop.owner.id


async def test_a_resent_payment_returns_the_first_response(visitor: Visitor) -> None:
    shop = await Shop.open(visitor)
    booking = await shop.sell()
    path, body = f"/api/bookings/{booking}/payments", {"reference": "order-1", "amount": 1600}
    first = await shop.owner.post(path, body, key="notice-1")
    again = await shop.owner.post(path, body, key="notice-1")
    assert (again.status_code, again.content) == (201, first.content)
    assert again.headers["Idempotency-Replayed"] == "true"


async def test_the_bookings_that_are_not_paid_in_full_are_listed(visitor: Visitor) -> None:
    shop = await Shop.open(visitor)
    paid, half, gone, none = [await shop.sell() for _ in range(4)]
    await shop.pay(paid, 1600, "a")
    await shop.pay(half, 800, "b")
    await shop.cancel(gone)

    async def listed(**asked: str) -> list[str]:
        answer = await shop.owner.get(f"/api/events/{shop.event}/bookings", **asked)
        assert answer.status_code == 200, answer.text
        return [each["id"] for each in answer.json()["items"]]

    assert await listed(unpaid="true") == [half, none]
    assert await listed(unpaid="true", status="cancelled") == []
    assert await listed(unpaid="false") == [paid, half, gone, none]
    assert_problem(
        await shop.owner.get(f"/api/events/{shop.event}/bookings", unpaid="perhaps"),
        *(422, "validation_failed"),
    )
