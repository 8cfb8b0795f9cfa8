"""Holds: places that are kept for a while, and offers of a waiting list."""

from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy.ext.asyncio import AsyncEngine

from tests.contract import assert_problem
from tests.holding import OFFERS, PRICED, confirm, end, held, hold, people, status
from tests.people import Person, Visitor
from tests.sales import assert_recounted, left, sale, tickets


async def test_a_hold_keeps_places_until_it_is_confirmed(
    visitor: Visitor, engine: AsyncEngine
) -> None:
    ada, bob = await people(visitor, 2)
    event, types = await sale(
        ada, ticketTypes=[{"name": "Seat"}, {"name": "Standing", "capacity": 3}], holdMinutes=15
    )
    made = await held(
        bob,
        event,
        lines=[
            {"ticketTypeId": types["Seat"], "quantity": 2},
            {"ticketTypeId": types["Standing"], "quantity": 1},
        ],
    )
    start, until = (datetime.fromisoformat(made[name]) for name in ("serverTime", "expiresAt"))
    assert until - start == timedelta(minutes=15)
    assert (made["quantity"], made["position"], made["promoted"]) == (3, None, None)
    assert await left(visitor, event) == {"": (7, 3, 0), "Seat": (7, 2, 0), "Standing": (2, 1, 0)}
    assert await tickets(bob, made["id"]) == []
    found = (await bob.get(f"/api/bookings/{made['id']}")).json()
    assert (found["status"], found["expiresAt"]) == ("held", made["expiresAt"])
    assert found["lines"] == [
        {"ticketTypeId": types["Seat"], "quantity": 2},
        {"ticketTypeId": types["Standing"], "quantity": 1},
    ]
    for _ in range(2):
        booked = await confirm(bob, made["id"])
        assert (booked.status_code, booked.json()["status"]) == (200, "booked"), booked.text
        assert (booked.json()["id"], booked.json()["expiresAt"]) == (made["id"], None)
    # Some generated clients send null for a body that is left out.
    headers = bob.headers | {"Content-Type": "application/json"}
    path = f"/api/holds/{made['id']}/confirm"
    again = await bob.client.post(path, content=b" null ", headers=headers)
    assert (again.status_code, again.json()["status"]) == (200, "booked")
    kinds = [ticket["ticketTypeId"] for ticket in await tickets(bob, made["id"])]
    assert kinds == [types["Seat"], types["Seat"], types["Standing"]]
    assert await left(visitor, event) == {"": (7, 3, 0), "Seat": (7, 2, 0), "Standing": (2, 1, 0)}
    await assert_recounted(engine)


async def test_a_hold_at_a_plain_event_becomes_its_only_place(
    visitor: Visitor, engine: AsyncEngine
) -> None:
    ada, bob, cleo = await people(visitor, 3)
    event = await ada.organise(total=1)
    made = await held(bob, event)
    assert_problem(await hold(bob, event), 409, "already_held")
    assert (await bob.post("/api/events/book", {"eventId": event})).status_code == 409
    assert (await cleo.post("/api/events/book", {"eventId": event})).status_code == 202
    assert (await confirm(bob, made["id"])).json()["status"] == "booked"
    assert [each["id"] for each in await tickets(bob, made["id"])] == [made["id"]]
    await assert_recounted(engine)


async def test_the_places_of_an_expired_hold_are_free_for_the_next_request(
    visitor: Visitor, engine: AsyncEngine
) -> None:
    ada, bob, cleo, dan = await people(visitor, 4)
    event = await ada.organise(total=2)
    made = await held(bob, event, quantity=2)
    await end(engine, made["id"])
    assert (await cleo.post("/api/events/book", {"eventId": event})).status_code == 201
    assert await status(bob, made["id"]) == "expired"
    assert_problem(await confirm(bob, made["id"]), 410, "hold_expired")
    assert (await dan.post("/api/events/book", {"eventId": event})).status_code == 201
    assert await left(visitor, event) == {"": (0, 2, 0), "General admission": (0, 2, 0)}
    await assert_recounted(engine)


async def test_a_late_confirmation_succeeds_while_the_places_are_free_and_nobody_waits(
    visitor: Visitor, engine: AsyncEngine
) -> None:
    ada, bob = await people(visitor, 2)
    event, _ = await sale(ada, capacity=3, **PRICED)
    made = await held(bob, event, quantity=3)
    await end(engine, made["id"])
    for _ in range(3):
        paid = await confirm(ada, made["id"])
        assert (paid.status_code, paid.json()["status"]) == (200, "booked"), paid.text
    assert [each["amount"] for each in await tickets(bob, made["id"])] == [2500] * 3
    # Another one, at an event where somebody has already looked.
    other, _ = await sale(ada, capacity=2)
    made = await held(bob, other, quantity=2)
    await end(engine, made["id"])
    assert (await confirm(bob, made["id"])).status_code == 200
    await assert_recounted(engine)


async def test_a_price_is_confirmed_by_the_team_alone_and_stays_as_it_was_held(
    visitor: Visitor, engine: AsyncEngine
) -> None:
    ada, bob = await people(visitor, 2)
    event, types = await sale(ada, **PRICED)
    made = await held(bob, event)
    assert (made["amount"], made["currency"]) == (2500, "EUR")
    raised = await ada.patch(
        f"/api/events/{event}/ticket-types/{types['Seat']}",
        {"price": {"amount": 5000, "currency": "EUR"}},
    )
    assert raised.status_code == 200, raised.text
    problem = assert_problem(await confirm(bob, made["id"]), 409, "payment_required")
    assert (problem["amount"], problem["currency"]) == (2500, "EUR")
    booked = await confirm(ada, made["id"])
    assert (booked.json()["status"], booked.json()["amount"]) == ("booked", 2500)
    assert [each["amount"] for each in await tickets(bob, made["id"])] == [2500]
    await assert_recounted(engine)


async def test_what_a_hold_took_is_given_back_once(visitor: Visitor, engine: AsyncEngine) -> None:
    ada, bob, cleo = await people(visitor, 3)
    event, types = await sale(
        ada, ticketTypes=[{"name": "A"}, {"name": "B", "capacity": 2}], capacity=6
    )
    lines = [
        {"ticketTypeId": types["A"], "quantity": 4},
        {"ticketTypeId": types["B"], "quantity": 2},
    ]
    made = await held(bob, event, lines=lines)
    waits = await cleo.post(
        "/api/events/book", {"eventId": event, "lines": [{"ticketTypeId": types["B"]}]}
    )
    assert waits.status_code == 202
    promoted = []
    for _ in range(2):
        released = await bob.delete(f"/api/holds/{made['id']}")
        assert (released.status_code, released.json()["status"]) == (200, "cancelled")
        promoted.append(released.json()["promoted"])
    assert promoted == [1, 0]
    assert_problem(await confirm(bob, made["id"]), 410, "hold_expired")
    assert await left(visitor, event) == {"": (5, 1, 0), "A": (5, 0, 0), "B": (1, 1, 0)}
    await assert_recounted(engine)


async def test_a_hold_is_extended_up_to_three_times_its_length(visitor: Visitor) -> None:
    ada, bob = await people(visitor, 2)
    event, _ = await sale(ada, holdMinutes=1)
    made = await held(bob, event)
    more = await bob.post(f"/api/holds/{made['id']}/extend", {})
    assert more.status_code == 200, more.text
    assert more.json()["expiresAt"] > made["expiresAt"]
    later = (datetime.now(UTC) + timedelta(days=3)).isoformat()
    theirs = {"expiresAt": later}
    assert_problem(await bob.post(f"/api/holds/{made['id']}/extend", theirs), 403, "forbidden")
    longer = await ada.post(f"/api/holds/{made['id']}/extend", theirs)
    assert datetime.fromisoformat(longer.json()["expiresAt"]) == datetime.fromisoformat(later)
    problem = assert_problem(
        await bob.post(f"/api/holds/{made['id']}/extend", {}), 409, "hold_limit_reached"
    )
    assert problem["expiresAt"] == longer.json()["expiresAt"]
    past = {"expiresAt": "2026-01-01T00:00:00Z"}
    assert_problem(
        await ada.post(f"/api/holds/{made['id']}/extend", past), 422, "validation_failed"
    )


async def test_the_team_holds_more_than_a_person_may_until_a_time_of_its_own(
    visitor: Visitor, engine: AsyncEngine
) -> None:
    ada, bob = await people(visitor, 2)
    event, _ = await sale(ada, capacity=40, status="draft")
    later = (datetime.now(UTC) + timedelta(days=3)).isoformat()
    assert_problem(await hold(bob, event, expiresAt=later), 403, "forbidden")
    sponsors = [await held(ada, event, quantity=20, expiresAt=later) for _ in range(2)]
    assert_problem(await hold(ada, event, expiresAt=later), 409, "sold_out")
    shorter = await ada.patch(f"/api/events/{event}", {"holdMinutes": 5})
    assert shorter.status_code == 200, shorter.text
    found = (await ada.get(f"/api/bookings/{sponsors[0]['id']}")).json()
    assert found["expiresAt"] == sponsors[0]["expiresAt"]
    assert (await ada.delete(f"/api/holds/{sponsors[0]['id']}")).status_code == 200
    assert (await visitor.client.get(f"/api/events/{event}")).status_code == 404
    await assert_recounted(engine)


async def test_a_hold_of_the_team_counts_for_the_limits_of_its_person(
    visitor: Visitor, engine: AsyncEngine
) -> None:
    ada, bob = await people(visitor, 2)
    event = await ada.organise(total=5)
    booked = await bob.post("/api/events/book", {"eventId": event})
    until = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    made = await held(ada, event, userId=bob.id, expiresAt=until)
    await bob.post(f"/api/bookings/{booked.json()['id']}/cancel", {})
    assert_problem(await bob.post("/api/events/book", {"eventId": event}), 409, "already_held")
    assert (await confirm(bob, made["id"])).json()["status"] == "booked"
    assert_problem(await hold(bob, event), 409, "already_booked")
    await assert_recounted(engine)


async def test_free_places_are_offered_to_the_head_of_the_line_and_pass_on(
    visitor: Visitor, engine: AsyncEngine
) -> None:
    ada, bob, cleo, dan, eve = await people(visitor, 5)
    event, _ = await sale(ada, capacity=1, **PRICED, **OFFERS)
    first = await held(bob, event)
    waiting = []
    for each in (cleo, dan, eve):
        asked = await each.post("/api/events/book", {"eventId": event})
        assert (asked.status_code, asked.json()["status"]) == (202, "waiting"), asked.text
        waiting.append(asked.json()["id"])
    of_cleo, of_dan, of_eve = waiting
    await end(engine, first["id"])
    # Anybody's next request moves the line.
    assert (await hold(bob, event)).status_code == 202
    assert await status(cleo, of_cleo) == "offered"
    offered = (await cleo.get(f"/api/bookings/{of_cleo}")).json()
    assert (offered["amount"], offered["position"]) == (2500, None)
    assert_problem(await confirm(cleo, of_cleo), 409, "payment_required")
    assert (await cleo.delete(f"/api/holds/{of_cleo}")).json()["promoted"] == 1
    assert await status(dan, of_dan) == "offered"
    await end(engine, of_dan)
    assert_problem(await confirm(ada, of_dan), 410, "hold_expired")
    assert await status(eve, of_eve) == "offered"
    assert (await confirm(ada, of_eve)).json()["status"] == "booked"
    assert_problem(await confirm(ada, of_dan), 410, "hold_expired")
    assert (await left(visitor, event))[""] == (0, 1, 1)
    await assert_recounted(engine)


async def test_a_booking_that_waits_says_why_and_how_many_places_come_first(
    visitor: Visitor,
) -> None:
    ada, bob, cleo, dan = await people(visitor, 4)
    event, types = await sale(
        ada,
        capacity=10,
        ticketTypes=[{"name": "A"}, {"name": "B", "capacity": 1}],
        quotas=[{"name": "Hall", "capacity": 2, "ticketTypes": ["A"]}],
    )
    quota = (await visitor.event(event))["quotas"][0]["id"]

    async def ask(person: Person, kind: str, quantity: int) -> dict[str, Any]:
        lines = [{"ticketTypeId": types[kind], "quantity": quantity}]
        booked = await person.post("/api/events/book", {"eventId": event, "lines": lines})
        found: dict[str, Any] = (await person.get(f"/api/bookings/{booked.json()['id']}")).json()
        return found

    booked = await ask(ada, "A", 2)
    assert (booked["placesAhead"], booked["waitingFor"]) == (None, None)
    first = await ask(bob, "A", 2)
    assert (first["placesAhead"], first["waitingFor"]) == (0, {"reason": "quota", "quotaId": quota})
    second = await ask(cleo, "A", 1)
    assert (second["position"], second["placesAhead"]) == (2, 2)
    await ask(dan, "B", 1)
    path = f"/api/events/{event}/ticket-types/{types['A']}"
    assert (await ada.patch(path, {"closed": True})).status_code == 200
    found = (await cleo.get(f"/api/bookings/{second['id']}")).json()
    assert found["waitingFor"] == {"reason": "closed", "quotaId": None}


async def test_a_payment_confirms_a_hold_and_is_owed_back_if_the_places_are_gone(
    visitor: Visitor, engine: AsyncEngine
) -> None:
    ada, bob, cleo = await people(visitor, 3)
    event, _ = await sale(ada, capacity=1, **PRICED)
    paid = {"paymentReference": "pay-1", "paidAt": "2026-11-30T10:00:00Z"}
    made = await held(bob, event)
    assert_problem(await confirm(bob, made["id"], **paid), 403, "forbidden")
    for _ in range(3):
        booked = await confirm(ada, made["id"], **paid)
        assert (booked.status_code, booked.json()["status"]) == (200, "booked"), booked.text
    found = (await bob.get(f"/api/bookings/{made['id']}")).json()
    assert (found["paid"], found["owed"]) == (2500, 0)
    await ada.post(f"/api/bookings/{made['id']}/cancel", {})
    late = await held(cleo, event)
    await end(engine, late["id"])
    assert (await ada.post("/api/events/book", {"eventId": event})).status_code == 201
    assert_problem(await confirm(ada, late["id"]), 410, "hold_expired")
    for _ in range(3):
        told = await confirm(ada, late["id"], paymentReference="pay-2")
        assert told.status_code == 200, told.text
        assert (told.json()["status"], told.json()["refund"]) == ("expired", 2500)
    owed = (await ada.get(f"/api/events/{event}/settlement")).json()["items"]
    # Without a refund policy nothing of the cancelled booking is owed.
    assert [(each["bookingId"], each["owed"]) for each in owed] == [(late["id"], 2500)]
    assert await tickets(cleo, late["id"]) == []
    await assert_recounted(engine)


async def test_a_grace_keeps_the_places_for_a_payment_that_is_heard_of_late(
    visitor: Visitor, engine: AsyncEngine
) -> None:
    ada, bob, cleo = await people(visitor, 3)
    event, _ = await sale(ada, capacity=1, **PRICED)
    made = await held(bob, event)
    deadline = datetime.now(UTC)
    grace = {"expiresAt": (deadline + timedelta(days=1)).isoformat()}
    extended = await ada.post(f"/api/holds/{made['id']}/extend", grace)
    assert extended.status_code == 200, extended.text
    assert_problem(await hold(cleo, event), 409, "sold_out")
    sent = (deadline - timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
    booked = await confirm(ada, made["id"], paymentReference="transfer-1", paidAt=sent)
    assert (booked.status_code, booked.json()["status"]) == (200, "booked"), booked.text
    (payment,) = (await ada.get(f"/api/bookings/{made['id']}/payments")).json()["items"]
    assert payment["paidAt"] == sent
    assert datetime.fromisoformat(payment["recordedAt"]) >= deadline
    await assert_recounted(engine)


async def test_a_payment_that_can_confirm_nothing_is_owed_back(
    visitor: Visitor, engine: AsyncEngine
) -> None:
    ada, bob, cleo = await people(visitor, 3)
    event, _ = await sale(ada, capacity=1, **PRICED, **OFFERS)
    made = await held(bob, event)
    waits = await hold(cleo, event)
    assert waits.status_code == 202
    for_nothing = await confirm(ada, waits.json()["id"], paymentReference="pay-1")
    assert for_nothing.status_code == 200, for_nothing.text
    assert (for_nothing.json()["status"], for_nothing.json()["refund"]) == ("waiting", 2500)
    assert (await ada.post(f"/api/events/{event}/cancel", {})).status_code == 200
    too_late = await confirm(ada, made["id"], paymentReference="pay-2")
    assert too_late.status_code == 200, too_late.text
    assert too_late.json()["status"] in {"held", "cancelled"}
    assert too_late.json()["refund"] == 2500
    paid = await ada.get(f"/api/bookings/{waits.json()['id']}")
    assert (paid.json()["paid"], paid.json()["owed"]) == (2500, 2500)
    await assert_recounted(engine)


async def test_the_trail_names_the_waiting_list_as_the_event_does(visitor: Visitor) -> None:
    ada = await visitor.register()
    event, _ = await sale(ada)
    before = (await visitor.event(event))["waitingList"]
    changed = await ada.patch(f"/api/events/{event}", OFFERS)
    after = changed.json()["waitingList"]
    assert after == {"mode": "offer", "offerMinutes": 30, "groupPatienceMinutes": None}
    newest = (await ada.get(f"/api/events/{event}/trail")).json()["items"][0]
    assert newest["details"] == {"waitingList": {"from": before, "to": after}}
