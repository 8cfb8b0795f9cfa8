"""Codes: access, discounts, limits, and what comes back."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from tests.codes import SOON, Shop
from tests.contract import assert_problem
from tests.holding import OFFERS, confirm, end, status
from tests.people import Visitor
from tests.sales import assert_recounted, tickets


def without_request(response: httpx.Response) -> dict[str, Any]:
    body: dict[str, Any] = response.json()
    return {name: value for name, value in body.items() if name != "requestId"}


async def test_a_code_opens_its_own_hidden_types_and_no_other_one_can_be_found(
    visitor: Visitor,
) -> None:
    shop = await Shop.open(visitor)
    await shop.make("X", kind="access", ticketTypes=[shop.types["H1"]])
    await shop.make("Y", kind="access", ticketTypes=[shop.types["H2"]])
    ada = await visitor.register()
    path = f"/api/events/{shop.event}"
    listed = (await ada.get(f"{path}/ticket-types")).json()["items"]
    assert [each["name"] for each in listed] == ["P"]

    async def names(code: str) -> list[str]:
        checked = await ada.post(f"{path}/codes/check", {"code": code})
        return [each["name"] for each in checked.json()["ticketTypes"]]

    assert await names("X") == ["P", "H1"]
    assert await names(" y ") == ["P", "H2"]
    refused = await ada.post(f"{path}/codes/check", {"code": "Z"})
    assert_problem(refused, 422, "code_unknown")
    unknown = await shop.book(ada, "X", unknown=1)
    assert_problem(unknown, 404, "ticket_type_not_found")
    for refused in (
        await shop.book(ada, "X", H2=1),
        await shop.hold(ada, "X", H2=1),
        await shop.book(ada, None, H1=1),
        await shop.book(ada, "X", H1=1, H2=1),
    ):
        assert without_request(refused) | {"instance": ""} == without_request(unknown) | {
            "instance": ""
        }
    booked = await shop.book(ada, "x", H1=2)
    assert booked.status_code == 201
    assert await shop.used() == [(1, 2), (0, 0)]
    staff = await visitor.register()
    await shop.owner.appoint(shop.event, staff, "staff")
    for reader, code in ((ada, "X"), (shop.owner, "X"), (staff, None)):
        assert (await reader.get(f"/api/bookings/{booked.json()['id']}")).json()["code"] == code


async def test_the_prices_of_a_discounted_booking_add_up_and_are_refunded_to_the_last_cent(
    visitor: Visitor, engine: AsyncEngine
) -> None:
    full = {"kind": "fullUntil", "until": SOON}
    shop = await Shop.open(visitor, 400, refundPolicy=full)
    await shop.make("TWO", amount=200, per="booking")
    buyer = await visitor.register()
    held = await shop.held(buyer, "two", P=3)
    assert (held["amount"], held["currency"]) == (1000, "EUR")
    paid = {"paymentReference": "order-1"}
    sold = await shop.owner.post(f"/api/holds/{held['id']}/confirm", paid)
    assert (sold.json()["status"], sold.json()["amount"]) == ("booked", 1000)
    assert await shop.prices(held["id"]) == [334, 333, 333]
    refunds = []
    for ticket in await tickets(shop.owner, held["id"]):
        # Only the last one gives back what was taken of the code.
        assert await shop.used() == [(1, 3)]
        path = f"/api/bookings/{held['id']}/cancel"
        refunds.append(
            (await shop.owner.post(path, {"ticketIds": [ticket["id"]]})).json()["refund"]
        )
    assert refunds == [334, 333, 333]
    assert await shop.used() == [(0, 0)]
    await assert_recounted(engine)


async def test_a_ticket_that_is_given_back_refunds_its_reduced_price_and_leaves_the_others(
    visitor: Visitor, engine: AsyncEngine
) -> None:
    full = {"kind": "fullUntil", "until": SOON}
    shop = await Shop.open(visitor, 2000, capacity=5, refundPolicy=full, **OFFERS)
    await shop.make("FIVE", percent=20)
    buyer, waiter = await visitor.register(), await visitor.register()
    held = await shop.held(buyer, "FIVE", P=5)
    sold = await confirm(shop.owner, held["id"], paymentReference="order-1")
    assert sold.json()["amount"] == 8000
    waiting = await shop.book(waiter, None, P=1)
    assert waiting.status_code == 202
    before = await tickets(buyer, held["id"])
    assert [each["amount"] for each in before] == [1600] * 5
    third = before[2]["id"]
    path = f"/api/bookings/{held['id']}/cancel"
    # One id is unknown, so nothing is cancelled.
    unknown = await buyer.post(path, {"ticketIds": [third, waiting.json()["id"]]})
    assert_problem(unknown, 404, "ticket_not_found")
    assert await tickets(buyer, held["id"]) == before
    cancelled = await buyer.post(path, {"ticketIds": [third]})
    assert [cancelled.json()[each] for each in ("refund", "promoted", "quantity")] == [1600, 1, 4]
    after = await tickets(buyer, held["id"])
    assert after == [*before[:2], before[2] | {"status": "cancelled"}, *before[3:]]
    assert await status(waiter, waiting.json()["id"]) == "offered"
    assert await shop.used() == [(1, 5)]
    await assert_recounted(engine)


@pytest.mark.parametrize(
    ("discount", "quantity", "expected"),
    [
        ({"percent": 20}, 2, [80, 80]),
        ({"percent": 50, "per": "booking"}, 3, [50, 50, 50]),
        ({"amount": 30}, 2, [70, 70]),
        ({"amount": 101}, 2, [0, 0]),
        ({"amount": 30, "per": "booking"}, 2, [85, 85]),
        ({"amount": 1000, "per": "booking"}, 2, [0, 0]),
        ({"percent": 33}, 1, [67]),
    ],
)
async def test_a_discount_is_of_each_ticket_or_of_the_booking_and_never_below_nothing(
    visitor: Visitor, discount: dict[str, Any], quantity: int, expected: list[int]
) -> None:
    shop = await Shop.open(visitor, 100)
    await shop.make("LESS", **discount)
    buyer = await visitor.register()
    body = shop.body("LESS", P=quantity) | {"userId": buyer.id}
    sold = (await shop.owner.post("/api/events/book", body)).json()
    assert sold["amount"] == sum(expected)
    assert sold["currency"] == ("EUR" if any(expected) else None)
    assert await shop.prices(sold["id"]) == expected


async def test_what_is_free_because_of_a_code_needs_no_payment(visitor: Visitor) -> None:
    shop = await Shop.open(visitor)
    await shop.make("FREE", percent=100)
    await shop.make("HALF", percent=50)
    ada, bob, eve = [await visitor.register() for _ in range(3)]
    booked = await shop.book(ada, "FREE", P=2)
    assert (booked.status_code, booked.json()["currency"]) == (201, None)
    held = await shop.held(bob, "FREE", P=1)
    confirmed = await bob.post(f"/api/holds/{held['id']}/confirm", {})
    assert confirmed.json()["status"] == "booked"
    problem = assert_problem(await shop.book(eve, "HALF", P=2), 409, "payment_required")
    assert problem["amount"] == 400
    assert await shop.used() == [(2, 3), (0, 0)]


async def test_a_discount_is_of_chosen_types_alone(visitor: Visitor) -> None:
    shop = await Shop.open(visitor)
    euros = {"amount": 1000, "currency": "EUR"}
    path = f"/api/events/{shop.event}/ticket-types"
    box = (await shop.owner.post(path, {"name": "Box", "price": euros})).json()["id"]
    shop.types["Box"] = box
    await shop.make("BOX", percent=50, ticketTypes=[box])
    await shop.make("ALL", percent=50)
    ada = await visitor.register()
    held = await shop.held(ada, "BOX", P=1, Box=2)
    assert held["amount"] == 400 + 2 * 500
    assert await shop.used() == [(1, 2), (0, 0)]
    bob = await visitor.register()
    assert_problem(await shop.hold(bob, "BOX", P=1), 422, "code_not_applicable")
    # A free place uses up no discount.
    await shop.owner.post(path, {"name": "Free"})
    free = (await shop.owner.get(path)).json()["items"][-1]["id"]
    shop.types["Free"] = free
    assert_problem(await shop.hold(bob, "ALL", Free=1), 422, "code_not_applicable")


async def test_the_limits_of_uses_and_of_tickets_are_two(
    visitor: Visitor, engine: AsyncEngine
) -> None:
    shop = await Shop.open(visitor)
    await shop.make("ONE", percent=100, maxUses=1, maxTickets=1)
    await shop.make("FIVE", percent=100, maxTickets=5)
    ada, bob = await visitor.register(), await visitor.register()
    problem = assert_problem(await shop.book(ada, "ONE", P=5), 422, "code_quantity_not_allowed")
    assert (problem["requested"], problem["limit"]) == (5, 1)
    held = await shop.held(ada, "ONE", P=1)
    problem = assert_problem(await shop.book(bob, "ONE", P=1), 409, "code_used_up")
    assert [problem[each] for each in ("limits", "limit", "has")] == ["uses", 1, 1]
    await end(engine, held["id"])
    assert (await shop.book(bob, "ONE", P=1)).status_code == 201
    # The hold has expired, and its use is another's now.
    problem = assert_problem(
        await ada.post(f"/api/holds/{held['id']}/confirm", {}), 410, "hold_expired"
    )
    assert problem["reason"] == "code"
    await shop.held(ada, "FIVE", P=3)
    eve = await visitor.register()
    problem = assert_problem(await shop.hold(eve, "FIVE", P=3), 409, "code_used_up")
    assert [problem[each] for each in ("limits", "limit", "has", "requested")] == [
        *("tickets", 5),
        *(3, 3),
    ]
    await shop.held(eve, "FIVE", P=2)
    assert await shop.used() == [(1, 1), (2, 5)]
    await assert_recounted(engine)


async def test_what_is_given_back_is_exactly_what_was_taken(
    visitor: Visitor, engine: AsyncEngine
) -> None:
    shop = await Shop.open(visitor)
    await shop.make("FREE", percent=100)
    ada, bob, eve = [await visitor.register() for _ in range(3)]
    released = await shop.held(ada, "FREE", P=2)
    await shop.book(bob, "FREE", P=3)
    expired = await shop.held(eve, "FREE", P=4)
    assert await shop.used() == [(3, 9)]
    await ada.delete(f"/api/holds/{released['id']}")
    assert await shop.used() == [(2, 7)]
    cancel = {"eventId": shop.event}
    for _ in range(2):
        assert (await bob.post("/api/events/cancel", cancel)).status_code == 200
    assert await shop.used() == [(1, 4)]
    await end(engine, expired["id"])
    await ada.post("/api/events/cancel", cancel)
    await shop.book(ada, None, P=1)
    confirmed = await eve.post(f"/api/holds/{expired['id']}/confirm", {})
    # Late, but nothing was taken from others: it uses the code once more.
    assert confirmed.json()["status"] == "booked", confirmed.text
    assert await shop.used() == [(1, 4)]
    await shop.owner.post(f"/api/events/{shop.event}/cancel", None)
    await assert_recounted(engine)


async def test_a_code_with_ten_uses_is_used_ten_times_by_two_hundred_at_once(
    visitor: Visitor, engine: AsyncEngine
) -> None:
    shop = await Shop.open(visitor)
    await shop.make("TEN", percent=100, maxUses=10)
    customers = [f"customer-{number}" for number in range(200)]

    async def hold(customer: str) -> httpx.Response:
        body = shop.body("ten", P=1) | {"customer": {"externalId": customer}}
        return await shop.owner.post("/api/holds", body)

    answers = await asyncio.gather(*map(hold, customers))
    held = [each.json()["id"] for each in answers if each.status_code == 201]
    assert len(held) == 10
    for each in answers:
        if each.status_code != 201:
            assert_problem(each, 409, "code_used_up")
    assert (await visitor.event(shop.event))["availableTickets"] == 990
    await end(engine, *held[:3])
    answers = await asyncio.gather(*(hold(f"another-{number}") for number in range(20)))
    assert sum(each.status_code == 201 for each in answers) == 3
    assert await shop.used() == [(10, 10)]
    await assert_recounted(engine)


async def test_a_code_is_judged_when_the_hold_is_made(
    visitor: Visitor, engine: AsyncEngine
) -> None:
    shop = await Shop.open(visitor)
    (summer, later) = [
        *await shop.make(" Summer 26", percent=50, endsAt=SOON),
        *await shop.make("LATER", percent=50, startsAt=SOON),
    ]
    ada, bob = await visitor.register(), await visitor.register()
    held = await shop.held(ada, " summer26 ", P=1)
    assert held["amount"] == 200
    problem = assert_problem(await shop.hold(bob, "later", P=1), 422, "code_not_started")
    assert problem["startsAt"] == SOON
    past = (datetime.now(UTC) - timedelta(seconds=1)).isoformat()
    path = f"/api/events/{shop.event}/codes"
    ended = await shop.owner.patch(f"{path}/{summer['id']}", {"endsAt": past})
    assert ended.status_code == 200, ended.text
    assert_problem(await shop.hold(bob, "SUMMER26", P=1), 422, "code_expired")
    stopped = await shop.owner.patch(f"{path}/{later['id']}", {"active": False, "startsAt": None})
    assert stopped.json()["active"] is False
    assert_problem(await shop.hold(bob, "LATER", P=1), 422, "code_unknown")
    # What is held keeps its price, whatever became of the code.
    await shop.owner.patch(f"{path}/{summer['id']}", {"active": False})
    sold = await shop.owner.post(f"/api/holds/{held['id']}/confirm", {"paymentReference": "a"})
    assert (sold.json()["status"], sold.json()["amount"]) == ("booked", 200)
    await assert_recounted(engine)


async def test_a_request_with_a_code_never_waits(visitor: Visitor) -> None:
    shop = await Shop.open(visitor, capacity=1)
    await shop.make("FREE", percent=100)
    await shop.make("X", kind="access", ticketTypes=[shop.types["H1"]])
    ada, bob = await visitor.register(), await visitor.register()
    assert (await shop.book(ada, "FREE", P=1)).status_code == 201
    for code, kind in (("FREE", "P"), ("X", "H1")):
        assert_problem(await shop.book(bob, code, **{kind: 1}), 409, "sold_out")
    assert await shop.used() == [(1, 1), (0, 0)]


async def test_a_code_reduces_nothing_at_another_event(visitor: Visitor) -> None:
    shop, other = await Shop.open(visitor), await Shop.open(visitor)
    await shop.make("FREE", percent=100)
    ada = await visitor.register()
    assert_problem(await other.book(ada, "FREE", P=1), 422, "code_unknown")


async def test_a_code_for_a_plain_event_with_one_visible_type_counts(
    visitor: Visitor, engine: AsyncEngine
) -> None:
    owner, ada = await visitor.register(), await visitor.register()
    event = await owner.organise()
    (admission,) = (await owner.event(event))["ticketTypes"]
    body = {"kind": "access", "codes": ["IN"], "ticketTypes": [admission["id"]], "maxUses": 1}
    assert (await owner.post(f"/api/events/{event}/codes", body)).status_code == 201
    booked = await ada.post("/api/events/book", {"eventId": event, "code": "in"})
    assert booked.status_code == 201, booked.text
    bob = await visitor.register()
    refused = await bob.post("/api/events/book", {"eventId": event, "code": "in"})
    assert_problem(refused, 409, "code_used_up")
    await ada.post("/api/events/cancel", {"eventId": event})
    held = await bob.post("/api/holds", {"eventId": event, "code": "in"})
    assert held.status_code == 201
    await assert_recounted(engine)


async def test_the_trail_names_codes_by_id(visitor: Visitor) -> None:
    shop = await Shop.open(visitor)
    (free,) = await shop.make("VERYSECRET", percent=100)
    ada = await visitor.register()
    await shop.book(ada, "VERYSECRET", P=1)
    trail = await shop.owner.get(f"/api/events/{shop.event}/trail")
    assert "SECRET" not in trail.text
    booked, made, *_ = trail.json()["items"]
    assert booked["details"]["codeId"] == free["id"]
    assert made["details"] == {"codes": 1, "firstId": free["id"], "lastId": free["id"]}


async def test_times_at_the_ends_of_the_calendar_are_refused(visitor: Visitor) -> None:
    shop = await Shop.open(visitor)
    (made,) = await shop.make("EARLY")
    path = f"/api/events/{shop.event}/codes"
    for time in (
        *("0001-01-01T00:00:00Z", "0001-01-01T00:00:00+14:00", "1999-12-31T23:59:59Z"),
        *("9999-12-31T23:59:59.999999Z", "9999-12-31T23:59:59-14:00", "2200-01-01T00:00:00Z"),
    ):
        for name in ("startsAt", "endsAt"):
            body = {"kind": "discount", "codes": ["LATE"], "percent": 50, name: time}
            for refused in (
                await shop.owner.post(path, body),
                await shop.owner.patch(f"{path}/{made['id']}", {name: time}),
            ):
                problem = assert_problem(refused, 422, "validation_failed")
                assert problem["errors"][0]["type"] == "time_out_of_range"
        listed = await shop.owner.get("/api/events", **{"from": time})
        problem = assert_problem(listed, 422, "validation_failed")
        assert problem["errors"][0]["type"] == "time_out_of_range"
    exported = await shop.owner.get(f"{path}.csv")
    assert exported.text.count("\r\n") == 2
    assert (await shop.book(shop.owner, "early", P=1)).is_success
