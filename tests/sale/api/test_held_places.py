"""What happens to holds and offers when people leave, and when the event or its sale changes."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from fastapi import FastAPI
from sqlalchemy.ext.asyncio import AsyncEngine

from tests.contract import assert_problem
from tests.holding import (
    OFFERS,
    PRICED,
    confirm,
    end,
    held,
    hold,
    people,
    status,
)
from tests.people import PASSWORD, Person, Visitor
from tests.sales import assert_recounted, left, sale
from ticketing.sale.part import Sale
from ticketing.sale.repositories.bookings import BookingRepository

SOON = {"expiresAt": (datetime.now(UTC) + timedelta(days=3)).isoformat()}
PAST = "2026-01-01T00:00:00Z"


async def waiting(person: Person, event: int) -> str:
    asked = await person.book(event)
    assert asked.status_code == 202, asked.text
    return str(asked.json()["id"])


async def delete(person: Person) -> None:
    gone = await person.post("/api/users/me/delete", {"password": PASSWORD})
    assert gone.status_code == 204, gone.text


async def patch(person: Person, event: int, **changes: object) -> dict[str, Any]:
    changed = await person.patch(f"/api/events/{event}", changes)
    assert changed.status_code == 200, changed.text
    document: dict[str, Any] = changed.json()
    return document


def bookings_of(app: FastAPI) -> BookingRepository:
    repository: BookingRepository = app.state.provided[Sale].bookings
    return repository


async def test_a_deleted_account_gives_back_what_it_holds_and_what_it_was_offered(
    visitor: Visitor, engine: AsyncEngine
) -> None:
    ada, bob, cleo, dan = await people(visitor, 4)
    event, _ = await sale(ada, capacity=2, **PRICED, **OFFERS)
    made = await held(bob, event, quantity=2)
    first, second = await waiting(cleo, event), await waiting(dan, event)
    await delete(bob)
    assert [await status(ada, each) for each in (made["id"], first, second)] == [
        *("cancelled", "offered", "offered")
    ]
    await delete(cleo)
    assert await status(ada, first) == "cancelled"
    assert await left(visitor, event) == {"": (1, 1, 0), "Seat": (1, 1, 0)}
    await assert_recounted(engine)


async def test_a_deleted_account_gives_an_offer_to_the_next_who_waits(
    visitor: Visitor, engine: AsyncEngine
) -> None:
    ada, bob, cleo = await people(visitor, 3)
    event, _ = await sale(ada, capacity=1, **PRICED, **OFFERS)
    assert (await ada.book(event)).status_code == 201
    first, second = await waiting(bob, event), await waiting(cleo, event)
    await ada.cancel(event)
    assert await status(bob, first) == "offered"
    await delete(bob)
    assert [await status(ada, each) for each in (first, second)] == ["cancelled", "offered"]
    assert_problem(await confirm(ada, first), 410, "hold_expired")
    await assert_recounted(engine)


async def test_an_erased_customer_gives_back_what_is_held(
    visitor: Visitor, engine: AsyncEngine
) -> None:
    (ada,) = await people(visitor, 1)
    event = await ada.organise(total=3)
    made = await hold(ada, event, userId=None, customer={"externalId": "c-1"}, quantity=2)
    assert made.status_code == 422
    asked = {"eventId": event, "customer": {"externalId": "c-1"}, "quantity": 2}
    made = await ada.post("/api/holds", asked)
    assert made.status_code == 201, made.text
    assert (await left(visitor, event))[""] == (1, 2, 0)
    gone = await ada.delete(f"/api/customers/{made.json()['userId']}")
    assert gone.status_code == 204, gone.text
    assert (await left(visitor, event))[""] == (3, 0, 0)
    await assert_recounted(engine)


async def test_a_cancelled_event_cancels_its_holds_and_offers(
    visitor: Visitor, engine: AsyncEngine, app: FastAPI
) -> None:
    ada, bob, cleo, dan = await people(visitor, 4)
    event, _ = await sale(ada, capacity=3, **OFFERS)
    made = await held(bob, event, quantity=2)
    assert (await ada.book(event)).status_code == 201
    offer, waits = await waiting(cleo, event), await waiting(dan, event)
    await ada.cancel(event)
    assert await status(cleo, offer) == "offered"
    assert (await ada.post(f"/api/events/{event}/cancel", None)).status_code == 200
    for booking in (made["id"], offer):
        assert_problem(await confirm(ada, booking), 409, "sale_closed")
        assert_problem(await ada.delete(f"/api/holds/{booking}"), 409, "sale_closed")
        assert_problem(await ada.post(f"/api/holds/{booking}/extend", SOON), 409, "sale_closed")
    assert_problem(await hold(ada, event, **SOON), 409, "sale_closed")
    await bookings_of(app).finish_cancellations()
    for booking in (made["id"], offer, waits):
        assert await status(ada, booking) == "cancelled"
    assert (await left(visitor, event))[""] == (3, 0, 0)
    await assert_recounted(engine)


async def test_a_hold_that_ends_at_a_cancelled_event_promotes_nobody(
    visitor: Visitor, engine: AsyncEngine, app: FastAPI
) -> None:
    ada, bob, cleo = await people(visitor, 3)
    event = await ada.organise(total=1)
    made = await held(bob, event)
    waits = await waiting(cleo, event)
    assert (await ada.post(f"/api/events/{event}/cancel", None)).status_code == 200
    await end(engine, made["id"])
    await bookings_of(app).finish_cancellations()
    await bookings_of(app).expire()
    assert await status(cleo, waits) == "cancelled"
    assert await status(bob, made["id"]) in {"cancelled", "expired"}
    assert (await left(visitor, event))[""] == (1, 0, 0)
    await assert_recounted(engine)


async def test_a_paused_sale_keeps_holds_and_confirms_them(
    visitor: Visitor, engine: AsyncEngine
) -> None:
    ada, bob, cleo = await people(visitor, 3)
    event = await ada.organise(total=3)
    made, other = await held(bob, event), await held(cleo, event)
    assert (await ada.post(f"/api/events/{event}/pause", None)).status_code == 200
    assert_problem(await hold(ada, event), 409, "sale_not_open")
    assert (await hold(ada, event, **SOON)).status_code == 201
    assert (await bob.post(f"/api/holds/{made['id']}/extend", {})).status_code == 200
    assert (await confirm(bob, made["id"])).json()["status"] == "booked"
    await end(engine, other["id"])
    problem = assert_problem(await confirm(cleo, other["id"]), 410, "hold_expired")
    assert problem["reason"] == "sale"
    await assert_recounted(engine)


async def test_an_offer_ends_with_the_sale_and_a_hold_outlives_it(
    visitor: Visitor, engine: AsyncEngine
) -> None:
    ada, bob, cleo, dan = await people(visitor, 4)
    close = (datetime.now(UTC) + timedelta(minutes=10)).isoformat()
    event, _ = await sale(ada, capacity=2, salesCloseAt=close, **OFFERS)
    made = await held(bob, event)
    assert (await ada.book(event)).status_code == 201
    offer, last = await waiting(cleo, event), await waiting(dan, event)
    await ada.cancel(event)
    found = (await cleo.get(f"/api/bookings/{offer}")).json()
    assert datetime.fromisoformat(found["expiresAt"]) == datetime.fromisoformat(close)
    await patch(ada, event, salesCloseAt=PAST)
    assert (await confirm(bob, made["id"])).json()["status"] == "booked"
    assert (await cleo.delete(f"/api/holds/{offer}")).json()["promoted"] == 0
    assert await status(dan, last) == "waiting"
    for mode, expected in (("offer", "waiting"), ("auto", "booked"), ("offer", "booked")):
        await patch(ada, event, waitingList={"mode": mode})
        assert await status(dan, last) == expected
    assert (await left(visitor, event))[""] == (0, 2, 0)
    await assert_recounted(engine)


async def test_a_raised_capacity_is_offered_in_the_order_of_the_waiting_list(
    visitor: Visitor, engine: AsyncEngine
) -> None:
    ada, bob, cleo, dan, eve = await people(visitor, 5)
    event = await ada.organise(total=1)
    await ada.book(event)
    line = [await waiting(each, event) for each in (bob, cleo, dan)]
    # A plain event, whose waiting list makes offers from now on.
    await patch(ada, event, waitingList={"mode": "offer"})
    await patch(ada, event, capacity=3)
    assert [await status(ada, each) for each in line] == ["offered", "offered", "waiting"]
    lower = await ada.patch(f"/api/events/{event}", {"capacity": 2})
    assert_problem(lower, 409, "capacity_below_taken")
    await patch(ada, event, capacity=5)
    assert [await status(ada, each) for each in line] == ["offered"] * 3
    assert (await left(visitor, event))[""] == (1, 4, 0)
    assert (await eve.book(event)).status_code == 201
    # Those who have an offer in the other mode keep it.
    await patch(ada, event, waitingList={"mode": "auto"})
    assert (await confirm(bob, line[0])).json()["status"] == "booked"
    assert (await cleo.delete(f"/api/holds/{line[1]}")).status_code == 200
    await end(engine, line[2])
    assert (await left(visitor, event))[""] == (1, 4, 0)
    assert (await confirm(dan, line[2])).json()["status"] == "booked"
    await assert_recounted(engine)


async def test_nobody_but_the_person_and_the_team_may_touch_a_hold(
    visitor: Visitor, engine: AsyncEngine
) -> None:
    ada, bob, eve, staff = await people(visitor, 4)
    event = await ada.organise()
    await ada.appoint(event, staff, "staff")
    made = await held(bob, event)
    path = f"/api/holds/{made['id']}"
    reader = await ada.make_key("bookings:read")
    seller = await ada.make_key("bookings:write")
    for person, code in ((eve, "forbidden"), (staff, "forbidden"), (reader, "insufficient_scope")):
        for answer in (
            await person.post(f"{path}/confirm", {}),
            await person.post(f"{path}/extend", {}),
            await person.post(f"{path}/extend", SOON),
            await person.delete(path),
        ):
            assert_problem(answer, 403, code)
    for answer in (
        await staff.post("/api/holds", {"eventId": event} | SOON),
        await eve.post("/api/holds", {"eventId": event, "userId": bob.id}),
        await bob.post(f"{path}/extend", SOON),
    ):
        assert_problem(answer, 403, "forbidden")
    for booking in (UUID(int=0), UUID("019938a5-7d10-7b3c-8a44-0e5b6f9c2d11")):
        refused = await eve.post(f"/api/holds/{booking}/confirm", {})
        assert_problem(refused, 404, "booking_not_found")
    for name in ("none", made["id"] + "x", "%00", "-1"):
        refused = await bob.post(f"/api/holds/{name}/confirm", {})
        assert refused.status_code in {404, 422}, refused.text
    assert (await confirm(seller, made["id"])).json()["status"] == "booked"
    await assert_recounted(engine)


@pytest.mark.parametrize("types", [[], [{"name": "A"}, {"name": "B"}]])
async def test_no_end_of_a_hold_is_an_internal_error(
    visitor: Visitor, engine: AsyncEngine, types: list[dict[str, str]]
) -> None:
    ada, *_ = await people(visitor, 1)
    event, kinds = await sale(ada, capacity=1_000, ticketTypes=types)
    lines = {"lines": [{"ticketTypeId": next(iter(kinds.values())), "quantity": 1_000}]}
    made = await held(ada, event, **lines, expiresAt="2199-12-31T23:59:59.999999+23:59")
    assert made["expiresAt"] == "2199-12-31T00:00:59.999999Z"
    wrong: list[Any] = [
        *("9999-12-31T23:59:59Z", "9999-12-31T23:59:59-23:59", "0001-01-01T00:00:00+23:59"),
        *("infinity", "", 0, 1e300, [], {}, True, "2031-01-01T00:00:00", PAST),
        "2199-12-31T23:59:59-23:59x",
    ]
    for given in wrong:
        for path, body in (
            ("/api/holds", {"eventId": event}),
            (f"/api/holds/{made['id']}/extend", {}),
        ):
            refused = await ada.post(path, body | {"expiresAt": given})
            problem = assert_problem(refused, 422, "validation_failed")
            assert problem["errors"][0]["pointer"] == "#/expiresAt", given
    last = await ada.post(
        f"/api/holds/{made['id']}/extend", {"expiresAt": "2199-12-31T23:59:59-23:59"}
    )
    assert (last.status_code, last.json()["expiresAt"]) == (200, "2200-01-01T23:58:59Z")
    # Null and an absent field are the usual time.
    same = await ada.post(f"/api/holds/{made['id']}/extend", {"expiresAt": None})
    assert_problem(same, 409, "hold_limit_reached")
    booked = await confirm(ada, made["id"])
    assert (booked.status_code, booked.json()["quantity"]) == (200, 1_000)
    await assert_recounted(engine)


async def test_a_hold_of_the_team_keeps_its_end_whatever_the_usual_time_is(
    visitor: Visitor, engine: AsyncEngine
) -> None:
    ada, bob = await people(visitor, 2)
    event = await ada.organise(total=1)
    made = await held(ada, event, userId=bob.id, **SOON)
    await patch(ada, event, holdMinutes=5)
    found = (await bob.get(f"/api/bookings/{made['id']}")).json()
    assert found["expiresAt"] == made["expiresAt"]
    assert_problem(await bob.post(f"/api/holds/{made['id']}/extend", {}), 409, "hold_limit_reached")
    assert (await ada.delete(f"/api/holds/{made['id']}")).status_code == 200
    assert (await bob.book(event)).status_code == 201
    await assert_recounted(engine)


async def test_a_price_is_fixed_for_the_life_of_a_hold_and_no_longer(
    visitor: Visitor, engine: AsyncEngine
) -> None:
    ada, bob = await people(visitor, 2)
    event, types = await sale(ada, **PRICED)
    made = await held(bob, event)
    raised = {"price": {"amount": 5000, "currency": "EUR"}}
    path = f"/api/events/{event}/ticket-types/{types['Seat']}"
    assert (await ada.patch(path, raised)).status_code == 200
    assert (await bob.post(f"/api/holds/{made['id']}/extend", {})).status_code in {200, 409}
    assert (await bob.get(f"/api/bookings/{made['id']}")).json()["amount"] == 2500
    await end(engine, made["id"])
    again = await held(bob, event)
    assert again["amount"] == 5000
    # The first hold may not come back beside the second.
    problem = assert_problem(await confirm(ada, made["id"]), 410, "hold_expired")
    assert problem["reason"] == "limit"
    assert (await confirm(ada, again["id"])).json()["amount"] == 5000
    await assert_recounted(engine)


async def test_a_type_that_is_closed_while_it_is_held_sells_no_more(
    visitor: Visitor, engine: AsyncEngine, app: FastAPI
) -> None:
    ada, bob, cleo = await people(visitor, 3)
    event, types = await sale(
        ada, capacity=20, ticketTypes=[{"name": "A", "capacity": 10}, {"name": "B"}]
    )
    lines = {"lines": [{"ticketTypeId": types["A"], "quantity": 2}]}
    kept = [await held(person, event, **lines) for person in (bob, cleo)]
    path = f"/api/events/{event}/ticket-types/{types['A']}"
    assert_problem(await ada.delete(path, etag="*"), 409, "ticket_type_sold")
    assert (await ada.patch(path, {"closed": True})).status_code == 200
    for asked in (lines, lines | SOON):
        assert_problem(await hold(ada, event, **asked), 409, "sale_closed")
    assert (await confirm(bob, kept[0]["id"])).json()["status"] == "booked"
    assert (await left(visitor, event))["A"][1] == 4
    await end(engine, kept[1]["id"])
    await bookings_of(app).expire()
    assert (await left(visitor, event))["A"][1] == 2
    problem = assert_problem(await confirm(cleo, kept[1]["id"]), 410, "hold_expired")
    assert problem["reason"] == "sale"
    await assert_recounted(engine)


async def test_a_confirmation_is_replayed_with_its_key_also_if_it_changed_nothing(
    visitor: Visitor,
) -> None:
    (ada,) = await people(visitor, 1)
    event = await ada.organise()
    made = await held(ada, event)
    path = f"/api/holds/{made['id']}"
    first = await ada.post(f"{path}/confirm", {}, key="one")
    second = await ada.post(f"{path}/confirm", {}, key="two")
    assert (first.status_code, second.status_code) == (200, 200)
    await ada.cancel(event)
    for key, before in (("one", first), ("two", second)):
        again = await ada.post(f"{path}/confirm", {}, key=key)
        assert (again.status_code, again.content) == (200, before.content)
        assert again.headers["idempotency-replayed"] == "true"
        other = await ada.post(f"{path}/extend", {}, key=key)
        assert_problem(other, 422, "idempotency_key_reused")
    assert_problem(await confirm(ada, made["id"]), 410, "hold_expired")
