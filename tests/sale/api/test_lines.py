"""Bookings of ticket types and of several places, their tickets, and the lines of the types."""

from collections import Counter

from fastapi import FastAPI
from sqlalchemy.ext.asyncio import AsyncEngine

from tests.contract import assert_problem
from tests.people import Visitor
from tests.sales import EUR, assert_recounted, book, left, sale, tickets
from ticketing.sale.part import Sale

TWO_OF_ONE = {
    "ticketTypes": [{"name": "A"}, {"name": "B"}],
    "quotas": [{"name": "Hall", "capacity": 1, "ticketTypes": ["A", "B"]}],
}


async def test_two_types_of_one_quota_are_booked_together_or_not_at_all(
    visitor: Visitor, engine: AsyncEngine
) -> None:
    ada, bob = await visitor.register(), await visitor.register()
    event, types = await sale(ada, **TWO_OF_ONE)
    assert await left(visitor, event) == {"": (10, 0, 0), "A": (1, 0, 0), "B": (1, 0, 0)}
    refused = assert_problem(
        await book(bob, event, {types["A"]: 1, types["B"]: 1}), 409, "sold_out"
    )
    quota = (await visitor.event(event))["quotas"][0]["id"]
    told = {name: refused[name] for name in ("requested", "available", "ticketTypeId", "quotaId")}
    assert told == {"requested": 1, "available": 0, "ticketTypeId": types["B"], "quotaId": quota}
    assert await left(visitor, event) == {"": (10, 0, 0), "A": (1, 0, 0), "B": (1, 0, 0)}
    assert (await book(bob, event, {types["A"]: 1})).status_code == 201
    assert await left(visitor, event) == {"": (9, 1, 0), "A": (0, 1, 0), "B": (0, 0, 0)}
    await assert_recounted(engine)


async def test_a_raised_quota_serves_the_line_first_and_the_rest_is_on_sale(
    visitor: Visitor, engine: AsyncEngine
) -> None:
    organiser, *people = [await visitor.register() for _ in range(6)]
    event, types = await sale(organiser, ticketTypes=[{"name": "A", "capacity": 2}, {"name": "B"}])
    for place, person in enumerate(people):
        booked = await book(person, event, {types["A"]: 1})
        assert booked.status_code == (201 if place < 2 else 202)
    path = f"/api/events/{event}/ticket-types/{types['A']}"
    for capacity, expected in ((4, (0, 4, 1)), (6, (1, 5, 0))):
        changed = await organiser.patch(path, {"capacity": capacity}, etag="*")
        assert changed.status_code == 200, changed.text
        assert (await left(visitor, event))["A"] == expected
    refused = await organiser.patch(path, {"capacity": 4}, etag="*")
    assert_problem(refused, 409, "capacity_below_taken")
    await assert_recounted(engine)


async def test_a_group_waits_together_and_is_not_passed(
    visitor: Visitor, engine: AsyncEngine
) -> None:
    organiser, *people = [await visitor.register() for _ in range(6)]
    event = await organiser.organise(total=4)
    first, second, group, single, late = people
    for person, quantity in ((first, 2), (second, 2)):
        booked = await person.post("/api/events/book", {"eventId": event, "quantity": quantity})
        assert (booked.status_code, booked.json()["quantity"]) == (201, quantity)
    larger = await group.post("/api/events/book", {"eventId": event, "quantity": 5})
    problem = assert_problem(larger, 422, "group_too_large")
    assert (problem["requested"], problem["capacity"]) == (5, 4)
    asked = await group.post("/api/events/book", {"eventId": event, "quantity": 3})
    assert (asked.status_code, asked.json()["position"]) == (202, 1)
    assert (await single.book(event)).json()["position"] == 2

    assert (await first.cancel(event)).json()["promoted"] == 0
    # Two places are kept for the group of three, also from newcomers.
    assert (await late.book(event)).json()["position"] == 3
    assert (await left(visitor, event))[""] == (2, 2, 3)
    assert (await second.cancel(event)).json()["promoted"] == 2
    assert (await left(visitor, event))[""] == (0, 4, 1)
    assert len(await tickets(group, asked.json()["id"])) == 3
    (mine,) = (await single.get("/api/users/me/bookings")).json()["items"]
    assert mine["status"] == "booked"
    await assert_recounted(engine)


async def test_a_group_that_leaves_lets_those_behind_it_have_the_places(
    visitor: Visitor, engine: AsyncEngine
) -> None:
    organiser, first, group, single = [await visitor.register() for _ in range(4)]
    event = await organiser.organise(total=4)
    await organiser.post("/api/events/book", {"eventId": event, "quantity": 3})
    await first.book(event)
    await group.post("/api/events/book", {"eventId": event, "quantity": 2})
    await single.book(event)
    assert (await first.cancel(event)).json()["promoted"] == 0
    assert (await group.cancel(event)).json()["promoted"] == 1
    assert (await left(visitor, event))[""] == (0, 4, 0)
    await assert_recounted(engine)


async def test_a_line_whose_own_quota_is_full_holds_up_no_other_type(
    visitor: Visitor, engine: AsyncEngine
) -> None:
    organiser, *people = [await visitor.register() for _ in range(6)]
    event, types = await sale(organiser, ticketTypes=[{"name": "A", "capacity": 1}, {"name": "B"}])
    for person, status in zip(people[:3], (201, 202, 202), strict=True):
        assert (await book(person, event, {types["A"]: 1})).status_code == status
    assert (await book(people[3], event, {types["B"]: 2})).status_code == 201
    assert await left(visitor, event) == {"": (7, 3, 2), "A": (0, 1, 2), "B": (7, 2, 0)}
    listed = (await organiser.get(f"/api/events/{event}/bookings", status="waiting")).json()
    assert [each["position"] for each in listed["items"]] == [1, 2]
    # The person asked for a type that is no longer sold, and is left out until it is again.
    path = f"/api/events/{event}/ticket-types/{types['A']}"
    assert (await organiser.patch(path, {"closed": True}, etag="*")).status_code == 200
    assert (await people[0].cancel(event)).json()["promoted"] == 0
    assert_problem(await book(people[4], event, {types["A"]: 1}), 409, "sale_closed")
    assert (await organiser.patch(path, {"closed": False}, etag="*")).status_code == 200
    assert await left(visitor, event) == {"": (7, 3, 1), "A": (0, 1, 1), "B": (7, 2, 0)}
    await assert_recounted(engine)


async def test_tickets_are_cancelled_one_by_one_and_the_others_stay_as_they_were(
    visitor: Visitor, engine: AsyncEngine
) -> None:
    organiser, ada, bob = [await visitor.register() for _ in range(3)]
    types_in = [{"name": "A", "price": EUR, "capacity": 3}, {"name": "B", "capacity": 2}]
    event, types = await sale(organiser, ticketTypes=types_in)
    booked = await book(organiser, event, {types["A"]: 3, types["B"]: 2}, for_=ada)
    assert (booked.status_code, booked.json()["amount"]) == (201, 7500)
    booking = booked.json()["id"]
    assert (await book(bob, event, {types["B"]: 1})).status_code == 202
    before = await tickets(ada, booking)
    assert Counter(each["ticketTypeId"] for each in before) == {types["A"]: 3, types["B"]: 2}

    path = f"/api/bookings/{booking}/cancel"
    unknown = {"ticketIds": [before[0]["id"], booking]}
    assert_problem(await ada.post(path, unknown), 404, "ticket_not_found")
    assert await tickets(ada, booking) == before

    two = {"ticketIds": [before[0]["id"], before[4]["id"]]}
    for promoted in (1, 0):
        cancelled = await ada.post(path, two)
        assert cancelled.status_code == 200, cancelled.text
        assert cancelled.json()["promoted"] == promoted
        assert (cancelled.json()["quantity"], cancelled.json()["amount"]) == (3, 5000)
        assert cancelled.json()["status"] == "booked"
    after = await tickets(ada, booking)
    assert after[1:4] == before[1:4]
    assert [each["status"] for each in after] == ["cancelled", *["valid"] * 3, "cancelled"]
    detailed = (await ada.get(f"/api/bookings/{booking}")).json()
    lines = {line["ticketTypeId"]: line["quantity"] for line in detailed["lines"]}
    assert lines == {types["A"]: 2, types["B"]: 1}
    assert await left(visitor, event) == {"": (6, 4, 0), "A": (1, 2, 0), "B": (0, 2, 0)}
    await assert_recounted(engine)

    rest = {"ticketIds": [each["id"] for each in after[1:4]]}
    assert (await ada.post(path, rest)).json()["status"] == "cancelled"
    assert {each["status"] for each in await tickets(ada, booking)} == {"cancelled"}
    assert (await ada.post(path, {})).json()["promoted"] == 0
    assert await left(visitor, event) == {"": (9, 1, 0), "A": (3, 0, 0), "B": (1, 1, 0)}
    await assert_recounted(engine)


async def test_a_resent_cancel_of_tickets_returns_its_first_response(visitor: Visitor) -> None:
    organiser, ada, bob = [await visitor.register() for _ in range(3)]
    event = await organiser.organise(total=2)
    booked = await ada.post("/api/events/book", {"eventId": event, "quantity": 2})
    await bob.book(event)
    path = f"/api/bookings/{booked.json()['id']}/cancel"
    first, second = (each["id"] for each in await tickets(ada, booked.json()["id"]))
    cancelled = await ada.post(path, {"ticketIds": [first]}, key="cancel-1")
    assert cancelled.json()["promoted"] == 1
    resent = await ada.post(path, {"ticketIds": [first]}, key="cancel-1")
    assert resent.json() == cancelled.json()
    assert resent.headers["Idempotency-Replayed"] == "true"
    # It is stored too if nothing was left to cancel.
    late = await ada.post(path, {"ticketIds": [first]}, key="cancel-2")
    assert (late.status_code, late.json()["promoted"]) == (200, 0)
    reused = await ada.post(path, {"ticketIds": [second]}, key="cancel-2")
    assert_problem(reused, 422, "idempotency_key_reused")


async def test_a_full_type_names_a_quota_only_if_it_is_shared(visitor: Visitor) -> None:
    ada = await visitor.register()
    event, types = await sale(ada, ticketTypes=[{"name": "A", "capacity": 1, "price": EUR}])
    refused = assert_problem(await book(ada, event, {types["A"]: 2}), 409, "sold_out")
    assert (refused["ticketTypeId"], refused["quotaId"]) == (types["A"], None)


async def test_what_has_a_price_is_booked_by_a_manager_alone(visitor: Visitor) -> None:
    organiser, ada = await visitor.register(), await visitor.register()
    event, types = await sale(
        organiser, ticketTypes=[{"name": "A", "price": EUR, "capacity": 2}, {"name": "Free"}]
    )
    problem = assert_problem(await book(ada, event, {types["A"]: 2}), 409, "payment_required")
    assert (problem["amount"], problem["currency"]) == (5000, "EUR")
    assert (await book(organiser, event, {types["A"]: 1})).json()["amount"] == 2500
    booked = await book(organiser, event, {types["A"]: 1}, for_=ada)
    assert (booked.status_code, booked.json()["currency"]) == (201, "EUR")
    # A later price does not change what was agreed.
    path = f"/api/events/{event}/ticket-types/{types['A']}"
    price = {"price": {"amount": 9900, "currency": "EUR"}}
    assert (await organiser.patch(path, price, etag="*")).status_code == 200
    (ticket,) = await tickets(ada, booked.json()["id"])
    assert (ticket["amount"], ticket["currency"]) == (2500, "EUR")
    # Nobody waits for what has a price.
    carol = await visitor.register()
    refused = await book(organiser, event, {types["A"]: 1}, for_=carol)
    assert_problem(refused, 409, "sold_out")


async def test_a_free_booking_that_waits_stays_free_if_its_type_gets_a_price(
    visitor: Visitor,
) -> None:
    ada, bea, cyd = [await visitor.register() for _ in range(3)]
    event, types = await sale(ada, capacity=2, ticketTypes=[{"name": "A"}])
    await book(bea, event, {types["A"]: 2})
    waiting = (await book(cyd, event, {types["A"]: 2})).json()
    path = f"/api/events/{event}/ticket-types/{types['A']}"
    assert (await ada.patch(path, {"price": EUR})).status_code == 200
    assert (await bea.cancel(event)).json()["promoted"] == 1
    found = (await cyd.get(f"/api/bookings/{waiting['id']}")).json()
    assert (found["status"], found["amount"], found["currency"]) == ("booked", 0, None)
    held = await tickets(cyd, waiting["id"])
    assert [(each["amount"], each["currency"]) for each in held] == [(0, None)] * 2
    left_over = await cyd.post(
        f"/api/bookings/{waiting['id']}/cancel", {"ticketIds": [held[0]["id"]]}
    )
    assert left_over.json()["amount"] == 0


async def test_the_examples_of_the_documentation_can_be_sent_as_they_are(
    app: FastAPI, visitor: Visitor
) -> None:
    schemas = app.openapi()["components"]["schemas"]
    (event, change, more, changed, quota) = (
        schemas[name]["examples"][0]
        for name in (
            *("CreateEvent", "UpdateEvent", "CreateTicketType"),
            *("UpdateTicketType", "UpdateQuota"),
        )
    )
    ada = await visitor.register()
    made = (await ada.post("/api/events", event)).json()
    path = f"/api/events/{made['id']}"
    assert (await ada.patch(path, change)).json()["totalTickets"] == change["capacity"]
    added = await ada.post(f"{path}/ticket-types", more)
    assert added.status_code == 201, added.text
    kind = f"{path}/ticket-types/{added.json()['id']}"
    assert (await ada.patch(kind, changed)).json()["capacity"] == changed["capacity"]
    shared = f"{path}/quotas/{made['quotas'][0]['id']}"
    assert (await ada.patch(shared, quota)).json()["capacity"] == quota["capacity"]


async def test_a_hidden_type_can_be_booked_by_the_team_alone(visitor: Visitor) -> None:
    organiser, ada = await visitor.register(), await visitor.register()
    event, _ = await sale(
        organiser, ticketTypes=[{"name": "Public"}, {"name": "Crew", "hidden": True}]
    )
    found = (await organiser.get(f"/api/events/{event}")).json()["ticketTypes"]
    crew = next(each["id"] for each in found if each["name"] == "Crew")
    hidden, unknown = [await book(ada, event, {kind: 1}) for kind in (crew, 999)]
    for refused in (hidden, unknown):
        assert_problem(refused, 404, "ticket_type_not_found")
    assert (await book(organiser, event, {crew: 1})).status_code == 201
    # Without a type it is the only one that everybody sees.
    assert (await ada.book(event)).status_code == 201
    assert (await left(visitor, event))["Public"] == (8, 1, 0)


async def test_a_type_limits_its_quantity_and_its_time(visitor: Visitor) -> None:
    organiser, ada = await visitor.register(), await visitor.register()
    event, types = await sale(
        organiser,
        ticketTypes=[
            {"name": "Pair", "minPerBooking": 2, "maxPerBooking": 4},
            {"name": "Later", "salesOpenAt": "2199-01-01T10:00:00Z"},
            {"name": "Over", "salesCloseAt": "2020-01-01T10:00:00Z"},
        ],
    )
    for quantity in (1, 5):
        problem = assert_problem(
            await book(ada, event, {types["Pair"]: quantity}), 422, "quantity_not_allowed"
        )
        assert (problem["min"], problem["max"]) == (2, 4)
    problem = assert_problem(await book(ada, event, {types["Later"]: 1}), 409, "sale_not_open")
    assert problem["opensAt"] == "2199-01-01T10:00:00Z"
    assert problem["ticketTypeId"] == types["Later"]
    problem = assert_problem(await book(ada, event, {types["Over"]: 1}), 409, "sale_closed")
    assert problem["ticketTypeId"] == types["Over"]
    assert_problem(await ada.book(event), 422, "ticket_type_required")
    assert (await book(ada, event, {types["Pair"]: 2})).status_code == 201


async def test_a_person_has_as_many_bookings_and_tickets_as_the_event_allows(
    visitor: Visitor, engine: AsyncEngine
) -> None:
    organiser, ada = await visitor.register(), await visitor.register()
    event, _ = await sale(organiser, maxBookingsPerPerson=2, maxTicketsPerPerson=5)
    first = await ada.post("/api/events/book", {"eventId": event, "quantity": 3})
    assert first.status_code == 201
    problem = assert_problem(
        await ada.post("/api/events/book", {"eventId": event, "quantity": 3}), 409, "limit_reached"
    )
    told = {name: problem[name] for name in ("limits", "limit", "has", "requested")}
    assert told == {"limits": "tickets", "limit": 5, "has": 3, "requested": 3}
    second = await ada.post("/api/events/book", {"eventId": event, "quantity": 2})
    assert second.status_code == 201
    problem = assert_problem(await ada.book(event), 409, "limit_reached")
    assert (problem["limits"], problem["has"]) == ("bookings", 2)
    problem = assert_problem(await ada.cancel(event), 409, "booking_ambiguous")
    assert set(problem["bookingIds"]) == {first.json()["id"], second.json()["id"]}
    cancelled = await ada.post(f"/api/bookings/{first.json()['id']}/cancel", None)
    assert cancelled.json()["status"] == "cancelled"
    assert (await ada.post("/api/events/book", {"eventId": event, "quantity": 3})).is_success
    await assert_recounted(engine)


async def test_the_tickets_of_a_plain_booking_are_as_those_of_others(
    visitor: Visitor, engine: AsyncEngine
) -> None:
    organiser, ada = await visitor.register(), await visitor.register()
    event = await organiser.organise(total=1)
    booking = (await ada.book(event)).json()["id"]
    kind = (await visitor.event(event))["ticketTypes"][0]["id"]
    (ticket,) = await tickets(ada, booking)
    assert ticket == {
        "id": booking,
        "ticketTypeId": kind,
        "ordinal": 1,
        "amount": 0,
        "currency": None,
        "tax": 0,
        "status": "valid",
    }
    waiting = (await organiser.book(event)).json()["id"]
    assert await tickets(organiser, waiting) == []
    cancelled = await ada.post(f"/api/bookings/{booking}/cancel", {"ticketIds": [booking]})
    assert (cancelled.json()["status"], cancelled.json()["promoted"]) == ("cancelled", 1)
    (ticket,) = await tickets(ada, booking)
    assert ticket["status"] == "cancelled"
    # A type of its own changes nothing about what was booked before.
    added = await organiser.post(f"/api/events/{event}/ticket-types", {"name": "More"})
    assert added.status_code == 201
    assert (await organiser.cancel(event)).json()["status"] == "cancelled"
    assert await left(visitor, event) == {
        "": (1, 0, 0),
        "General admission": (1, 0, 0),
        "More": (1, 0, 0),
    }
    await assert_recounted(engine)


async def test_a_cancelled_event_cancels_every_ticket(
    visitor: Visitor, engine: AsyncEngine, app: FastAPI
) -> None:
    organiser, ada, bob = [await visitor.register() for _ in range(3)]
    event, types = await sale(
        organiser, maxBookingsPerPerson=2, ticketTypes=[{"name": "A", "capacity": 3}, {"name": "B"}]
    )
    bookings = [
        (await book(ada, event, {types["A"]: 2, types["B"]: 1})).json()["id"],
        (await book(ada, event, {types["B"]: 2})).json()["id"],
    ]
    assert (await book(bob, event, {types["A"]: 2})).status_code == 202
    assert (await organiser.post(f"/api/events/{event}/cancel", None)).status_code == 200
    await app.state.provided[Sale].bookings.finish_cancellations()
    for booking in bookings:
        assert {each["status"] for each in await tickets(ada, booking)} == {"cancelled"}
    assert await left(visitor, event) == {"": (10, 0, 0), "A": (3, 0, 0), "B": (10, 0, 0)}
    await assert_recounted(engine)
