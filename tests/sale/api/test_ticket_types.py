"""The API of ticket types and shared quotas: what is on sale at an event."""

from typing import Any

import httpx
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from tests.contract import assert_problem
from tests.people import Person, Visitor
from ticketing.sale.definitions import MAX_QUOTAS, MAX_TYPES

EUR = {"amount": 2500, "currency": "EUR"}
CONCERT: dict[str, Any] = {"name": "Music", "capacity": 10, "maxTicketsPerPerson": 1_000}
NOTHING = {"minPerBooking": 1, "hidden": False, "closed": False}
"""What a type has unless it is given. All other limits are null."""


async def make(person: Person, **more: object) -> dict[str, Any]:
    made = await person.post("/api/events", CONCERT | more)
    assert made.status_code == 201, made.text
    document: dict[str, Any] = made.json()
    return document


async def add_type(person: Person, event: int, **fields: object) -> dict[str, Any]:
    made = await person.post(f"/api/events/{event}/ticket-types", fields)
    assert made.status_code == 201, made.text
    document: dict[str, Any] = made.json()
    return document


async def add_quota(person: Person, event: int, **fields: object) -> dict[str, Any]:
    made = await person.post(f"/api/events/{event}/quotas", fields)
    assert made.status_code == 201, made.text
    document: dict[str, Any] = made.json()
    return document


def numbers(event: dict[str, Any]) -> dict[str, tuple[int, int, int]]:
    return {
        each["name"]: (each["available"], each["taken"], each["waiting"])
        for each in event["ticketTypes"]
    }


async def is_plain(engine: AsyncEngine, event: int) -> bool:
    async with engine.connect() as connection:
        rows = await connection.execute(
            text(
                "SELECT quota_capacity, quota_available, type_taken, type_waiting FROM events"
                " WHERE id = :event"
            ),
            {"event": event},
        )
        counters = tuple(rows.one())
    assert len({each is None for each in counters}) == 1
    return counters[0] is None


async def test_an_event_is_created_with_its_types_and_quotas(visitor: Visitor) -> None:
    ada = await visitor.register()
    event = await make(
        ada,
        timezone="Europe/Berlin",
        maxBookingsPerPerson=3,
        maxTicketsPerPerson=20,
        ticketTypes=[
            {
                "name": "Early",
                "description": "While they last.",
                "price": EUR,
                "capacity": 3,
                "minPerBooking": 2,
                "maxPerBooking": 4,
                "salesOpenAt": "2027-06-01T09:00",
                "salesCloseAt": "2027-06-02T09:00:00Z",
            },
            {"name": "Regular", "price": {"amount": 4000, "currency": "EUR"}},
            {"name": "Balcony", "price": EUR, "position": 1},
        ],
        quotas=[{"name": "Floor", "capacity": 5, "ticketTypes": ["Early", "Regular"]}],
    )
    early, regular, balcony = event["ticketTypes"]
    (floor,) = event["quotas"]
    assert early == {
        "id": early["id"],
        "name": "Early",
        "description": "While they last.",
        "price": {**EUR, "exponent": 2, "tax": 0},
        "capacity": 3,
        "available": 3,
        "taken": 0,
        "waiting": 0,
        "minPerBooking": 2,
        "maxPerBooking": 4,
        "salesOpenAt": "2027-06-01T07:00:00Z",
        "salesCloseAt": "2027-06-02T09:00:00Z",
        "local": {"salesOpenAt": "2027-06-01T09:00:00", "salesCloseAt": "2027-06-02T11:00:00"},
        "position": 0,
        "quotas": [floor["id"]],
        "hidden": False,
        "closed": False,
        "taxRate": None,
    }
    assert floor == {
        "id": floor["id"],
        "name": "Floor",
        "capacity": 5,
        "available": 5,
        "ticketTypes": [early["id"], regular["id"]],
    }
    assert numbers(event) == {"Early": (3, 0, 0), "Regular": (5, 0, 0), "Balcony": (10, 0, 0)}
    assert early["id"] < regular["id"] < balcony["id"]
    assert (event["maxBookingsPerPerson"], event["maxTicketsPerPerson"]) == (3, 20)
    assert event["revision"] == 1
    path = f"/api/events/{event['id']}"
    # The first body is written by hand, the second from the documented model.
    assert await visitor.event(event["id"]) == event
    assert (await visitor.client.get("/api/events")).json()["items"] == [event]
    assert (await ada.get("/api/users/me/events")).json()["items"] == [event]
    types = await visitor.client.get(f"{path}/ticket-types")
    assert types.json() == {"items": event["ticketTypes"]}
    assert (await visitor.client.get(f"{path}/quotas")).json() == {"items": event["quotas"]}
    one = await visitor.client.get(f"{path}/ticket-types/{early['id']}")
    assert one.json() == early
    assert one.headers["etag"] == types.headers["etag"] == '"1-1-open"'
    assert (await visitor.client.get(f"{path}/quotas/{floor['id']}")).json() == floor


async def test_what_is_left_of_a_type_is_the_least_that_its_quotas_have(visitor: Visitor) -> None:
    # HiEventsDev/Hi.Events#215: shared 1, types A and B -> A 1, B 1, event 1, never 2.
    ada = await visitor.register()
    event = await make(
        ada,
        capacity=10,
        ticketTypes=[{"name": "A", "capacity": 4}, {"name": "B"}, {"name": "C"}],
        quotas=[{"name": "Shared", "capacity": 1, "ticketTypes": ["A", "B"]}],
    )
    assert numbers(event) == {"A": (1, 0, 0), "B": (1, 0, 0), "C": (10, 0, 0)}
    await ada.sell(event["id"], event["ticketTypes"][0]["id"])
    after = await visitor.event(event["id"])
    assert numbers(after) == {"A": (0, 1, 0), "B": (0, 0, 0), "C": (9, 0, 0)}
    assert after["quotas"][0]["available"] == 0
    assert (after["availableTickets"], after["sale"]["state"]) == (9, "open")
    listed = (await visitor.client.get("/api/events")).json()["items"]
    assert listed == [after]


async def test_an_event_stays_plain_until_something_needs_its_own_numbers(
    visitor: Visitor, engine: AsyncEngine
) -> None:
    ada, bob, eve = [await visitor.register() for _ in range(3)]
    for change in (
        {"price": EUR},
        {"capacity": 5},
        {"minPerBooking": 2},
        {"maxPerBooking": 2},
        {"salesOpenAt": "2027-01-01T00:00:00Z"},
        {"salesCloseAt": "2027-01-01T00:00:00Z"},
        {"hidden": True},
        {"closed": True},
    ):
        event = await make(ada, capacity=1, maxBookingsPerPerson=2)
        path = f"/api/events/{event['id']}/ticket-types/{event['ticketTypes'][0]['id']}"
        await bob.book(event["id"])
        await eve.book(event["id"])
        simple = {"name": "Ticket", "description": "One place.", "position": 3, "price": None}
        revised = await ada.patch(path, simple | {"minPerBooking": 1})
        assert revised.status_code == 200
        assert (revised.json()["name"], revised.json()["position"]) == ("Ticket", 3)
        assert await is_plain(engine, event["id"])
        assert (await ada.patch(path, change)).status_code == 200
        assert not await is_plain(engine, event["id"])
        after = (await ada.get(f"/api/events/{event['id']}")).json()
        assert numbers(after) == {"Ticket": (0, 1, 1)}
        # It does not become plain again.
        undone = {name: NOTHING.get(name) for name in change}
        assert (await ada.patch(path, undone)).status_code == 200
        assert not await is_plain(engine, event["id"])


async def test_a_type_and_a_quota_are_added_changed_and_deleted(
    visitor: Visitor, engine: AsyncEngine
) -> None:
    ada, bob = await visitor.register(), await visitor.register()
    event = await ada.organise(total=10)
    await bob.book(event)
    path = f"/api/events/{event}"
    vip = await add_type(ada, event, name="VIP", price=EUR, capacity=4)
    assert not await is_plain(engine, event)
    seats = await add_quota(ada, event, name="Seats", capacity=3, ticketTypes=[vip["id"]])
    assert seats["ticketTypes"] == [vip["id"]]
    now = await visitor.event(event)
    general, vip = now["ticketTypes"]
    assert numbers(now) == {"General admission": (9, 1, 0), "VIP": (3, 0, 0)}
    changed = await ada.patch(
        f"{path}/quotas/{seats['id']}",
        {"name": "Chairs", "capacity": 5, "ticketTypes": [general["id"], vip["id"]]},
    )
    assert changed.json() == {
        "id": seats["id"],
        "name": "Chairs",
        "capacity": 5,
        "available": 4,
        "ticketTypes": [general["id"], vip["id"]],
    }
    standing = await add_type(ada, event, name="Standing", quotas=[seats["id"]])
    assert (standing["available"], standing["quotas"]) == (4, [seats["id"]])
    revised = await ada.patch(
        f"{path}/ticket-types/{standing['id']}", {"quotas": [], "capacity": 2}
    )
    assert (revised.json()["available"], revised.json()["quotas"]) == (2, [])
    assert revised.headers["etag"] == (await ada.get(path)).headers["etag"]
    gone = await ada.delete(f"{path}/ticket-types/{vip['id']}", etag="*")
    assert gone.status_code == 204
    assert (await ada.get(f"{path}/quotas/{seats['id']}")).json()["ticketTypes"] == [general["id"]]
    assert (await ada.delete(f"{path}/quotas/{seats['id']}", etag="*")).status_code == 204
    now = await visitor.event(event)
    assert numbers(now) == {"General admission": (9, 1, 0), "Standing": (2, 0, 0)}
    assert now["quotas"] == []
    # The slots are free again.
    again = await add_type(ada, event, name="Again", capacity=1)
    shared = await add_quota(ada, event, name="Again", capacity=6, ticketTypes=[again["id"]])
    assert numbers(await visitor.event(event))["Again"] == (1, 0, 0)
    async with engine.connect() as connection:
        counters = await connection.execute(
            text("SELECT quota_capacity, quota_available, type_taken FROM events")
        )
        assert tuple(counters.one()) == ([1, 6, 2], [1, 6, 2], [1, 0, 0])
    assert shared["available"] == 6


async def test_a_change_needs_the_revision_that_was_read(visitor: Visitor) -> None:
    ada = await visitor.register()
    event = await make(ada, ticketTypes=[{"name": "A"}, {"name": "B"}])
    quota = await add_quota(ada, event["id"], name="Q", capacity=1)
    path = f"/api/events/{event['id']}"
    (etag,) = {
        (await ada.get(f"{path}{each}")).headers["etag"]
        for each in ("", "/ticket-types", f"/quotas/{quota['id']}")
    }
    of_type = f"{path}/ticket-types/{event['ticketTypes'][1]['id']}"
    of_quota = f"{path}/quotas/{quota['id']}"
    for one in (of_type, of_quota):
        assert_problem(await ada.patch(one, {"name": "C"}, etag=None), 428, "precondition_required")
        assert_problem(await ada.delete(one), 428, "precondition_required")
        assert_problem(await ada.patch(one, {"name": "C"}, etag='"1"'), 412, "precondition_failed")
        assert_problem(await ada.delete(one, etag='"1"'), 412, "precondition_failed")
    for many in ("ticket-types", "quotas"):
        stale = await visitor.client.post(
            f"{path}/{many}",
            json={"name": "C", **({"capacity": 1} if many == "quotas" else {})},
            headers=ada.headers | {"If-Match": '"1"'},
        )
        assert_problem(stale, 412, "precondition_failed")
    changed = await ada.patch(of_type, {"name": "C"}, etag=etag)
    assert changed.status_code == 200
    # What changes nothing leaves the revision.
    same = await ada.patch(of_type, {"name": "C"}, etag=changed.headers["etag"])
    assert same.headers["etag"] == changed.headers["etag"]
    assert_problem(await ada.delete(of_quota, etag=etag), 412, "precondition_failed")
    assert (await ada.delete(of_quota, etag=same.headers["etag"])).status_code == 204
    known = await visitor.client.get(path, headers={"If-None-Match": etag})
    assert known.status_code == 200
    known = await visitor.client.get(path, headers={"If-None-Match": known.headers["etag"]})
    assert known.status_code == 304


async def test_a_capacity_below_what_is_taken_is_refused_and_changes_nothing(
    visitor: Visitor,
) -> None:
    # verbb/events#32: a lowered capacity made every page fail.
    ada = await visitor.register()
    event = await make(
        ada,
        capacity=64,
        ticketTypes=[{"name": "A", "capacity": 50}, {"name": "B"}],
        quotas=[{"name": "Q", "capacity": 60, "ticketTypes": ["A"]}],
    )
    a, b = [each["id"] for each in event["ticketTypes"]]
    quota = event["quotas"][0]["id"]
    await ada.sell(event["id"], a, places=44)
    await ada.sell(event["id"], b, places=4)
    before = await visitor.event(event["id"])
    path = f"/api/events/{event['id']}"
    for at, change, told in (
        (path, {"capacity": 47}, {"requested": 47, "taken": 48}),
        (
            f"{path}/ticket-types/{a}",
            {"capacity": 43},
            {"requested": 43, "taken": 44, "ticketTypeId": a},
        ),
        (
            f"{path}/quotas/{quota}",
            {"capacity": 43},
            {"requested": 43, "taken": 44, "quotaId": quota},
        ),
        (
            f"{path}/quotas/{quota}",
            {"capacity": 47, "ticketTypes": [a, b]},
            {"requested": 47, "taken": 48, "quotaId": quota},
        ),
    ):
        assert assert_problem(await ada.patch(at, change), 409, "capacity_below_taken") == told
    made = await ada.post(f"{path}/quotas", {"name": "R", "capacity": 3, "ticketTypes": [b]})
    told = assert_problem(made, 409, "capacity_below_taken")
    assert told == {"requested": 3, "taken": 4}
    assert await visitor.event(event["id"]) == before
    assert (await ada.patch(path, {"capacity": 48})).status_code == 200
    assert (await ada.patch(f"{path}/ticket-types/{a}", {"capacity": 44})).status_code == 200
    now = await visitor.event(event["id"])
    assert numbers(now) == {"A": (0, 44, 0), "B": (0, 4, 0)}
    assert (now["availableTickets"], now["sale"]["state"]) == (0, "soldOut")
    more = await ada.patch(path, {"capacity": 100})
    assert numbers(more.json()) == {"A": (0, 44, 0), "B": (52, 4, 0)}
    assert more.json()["availableTickets"] == 52


async def test_what_has_been_sold_is_closed_and_not_deleted(visitor: Visitor) -> None:
    # big-neon/bn-api#881: a deleted type stayed in the totals.
    ada = await visitor.register()
    event = await make(ada, capacity=2, ticketTypes=[{"name": name} for name in "ABCD"])
    a, b, c, d = [each["id"] for each in event["ticketTypes"]]
    path = f"/api/events/{event['id']}/ticket-types"
    cancelled = await ada.sell(event["id"], c)
    assert (await ada.post(f"/api/bookings/{cancelled['id']}/cancel", {})).status_code == 200
    await ada.sell(event["id"], a, places=2)
    assert (await ada.sell(event["id"], b))["status"] == "waiting"
    for sold in (a, b, c):
        assert_problem(await ada.delete(f"{path}/{sold}", etag="*"), 409, "ticket_type_sold")
    assert (await ada.delete(f"{path}/{d}", etag="*")).status_code == 204
    closed = await ada.patch(f"{path}/{a}", {"closed": True})
    assert closed.json()["closed"] is True
    assert (await ada.patch(f"{path}/{a}", {"closed": False})).json()["closed"] is False


async def test_a_booking_from_before_there_were_types_is_of_the_first(visitor: Visitor) -> None:
    ada, bob = await visitor.register(), await visitor.register()
    event = await ada.organise()
    await bob.book(event)
    await bob.cancel(event)
    added = await add_type(ada, event, name="B")
    first, _ = (await visitor.event(event))["ticketTypes"]
    path = f"/api/events/{event}/ticket-types"
    assert_problem(await ada.delete(f"{path}/{first['id']}", etag="*"), 409, "ticket_type_sold")
    assert (await ada.delete(f"{path}/{added['id']}", etag="*")).status_code == 204


async def test_a_type_of_several_in_one_booking_is_not_deleted(visitor: Visitor) -> None:
    ada = await visitor.register()
    event = await make(ada, ticketTypes=[{"name": name} for name in "ABC"])
    a, b, c = [each["id"] for each in event["ticketTypes"]]
    path = f"/api/events/{event['id']}/ticket-types"
    booking = await ada.sell(event["id"], b, c)
    assert (await ada.post(f"/api/bookings/{booking['id']}/cancel", {})).status_code == 200
    for sold in (b, c):
        assert_problem(await ada.delete(f"{path}/{sold}", etag="*"), 409, "ticket_type_sold")
    # The booking has no ticket of the first type.
    assert (await ada.delete(f"{path}/{a}", etag="*")).status_code == 204


@pytest.mark.parametrize("limit", ["event", "type", "quota"])
async def test_what_becomes_free_goes_to_the_waiting_list_first(
    visitor: Visitor, limit: str
) -> None:
    # fossasia/open-event-server#3366: capacity was raised, and the page went on saying sold out.
    ada = await visitor.register()
    capacity = {"event": 10, "type": 10, "quota": 10, limit: 2}
    event = await make(
        ada,
        capacity=capacity["event"],
        ticketTypes=[{"name": "A", "capacity": capacity["type"]}, {"name": "B"}],
        quotas=[{"name": "Q", "capacity": capacity["quota"], "ticketTypes": ["A"]}],
    )
    a, q = event["ticketTypes"][0]["id"], event["quotas"][0]["id"]
    path = f"/api/events/{event['id']}"
    limited = {"event": path, "type": f"{path}/ticket-types/{a}", "quota": f"{path}/quotas/{q}"}
    for _ in range(5):
        await ada.sell(event["id"], a)
    assert numbers(await visitor.event(event["id"]))["A"] == (0, 2, 3)
    for more, left in ((4, (0, 4, 1)), (6, (1, 5, 0))):
        assert (await ada.patch(limited[limit], {"capacity": more})).status_code == 200
        assert numbers(await visitor.event(event["id"]))["A"] == left
    waiting = await ada.get(f"{path}/bookings", status="waiting")
    assert waiting.json()["items"] == []


async def test_the_waiting_list_is_served_when_a_limit_is_taken_away(visitor: Visitor) -> None:
    ada = await visitor.register()
    event = await make(
        ada,
        ticketTypes=[{"name": "A", "capacity": 3}, {"name": "B"}],
        quotas=[{"name": "Q", "capacity": 1, "ticketTypes": ["A", "B"]}],
    )
    a, b = [each["id"] for each in event["ticketTypes"]]
    path = f"/api/events/{event['id']}"
    of_a, quota = f"{path}/ticket-types/{a}", f"{path}/quotas/{event['quotas'][0]['id']}"
    for one in (a, a, a, a, b):
        await ada.sell(event["id"], one)
    assert numbers(await visitor.event(event["id"])) == {"A": (0, 1, 3), "B": (0, 0, 1)}
    assert (await ada.delete(quota, etag="*")).status_code == 204
    assert numbers(await visitor.event(event["id"])) == {"A": (0, 3, 1), "B": (6, 1, 0)}
    # A closed type keeps its line, which goes on when it opens again.
    assert (await ada.patch(of_a, {"closed": True, "capacity": None})).status_code == 200
    assert numbers(await visitor.event(event["id"]))["A"] == (6, 3, 1)
    assert (await ada.patch(of_a, {"closed": False})).json()["taken"] == 4
    found = (await ada.get(f"{path}/trail")).json()["items"]
    assert [each["action"] for each in found[:2]] == ["booking.promoted", "ticket_type.revised"]


async def test_a_line_at_an_event_without_types_goes_on_when_it_gets_some(
    visitor: Visitor, engine: AsyncEngine
) -> None:
    ada = await visitor.register()
    event = await ada.organise(total=1)
    people = [await visitor.register() for _ in range(4)]
    for person in people:
        await person.book(event)
    await add_type(ada, event, name="B", capacity=1)
    assert not await is_plain(engine, event)
    assert numbers(await visitor.event(event)) == {"General admission": (0, 1, 3), "B": (0, 0, 0)}
    more = await ada.patch(f"/api/events/{event}", {"capacity": 3})
    assert numbers(more.json()) == {"General admission": (0, 3, 1), "B": (0, 0, 0)}
    await people[0].cancel(event)
    assert numbers(await visitor.event(event))["General admission"] == (0, 3, 0)


async def test_the_last_type_stays(visitor: Visitor) -> None:
    ada = await visitor.register()
    event = await make(ada, ticketTypes=[{"name": "A"}, {"name": "B"}])
    a, b = [each["id"] for each in event["ticketTypes"]]
    path = f"/api/events/{event['id']}/ticket-types"
    assert (await ada.delete(f"{path}/{a}", etag="*")).status_code == 204
    assert_problem(await ada.get(f"{path}/{a}"), 404, "ticket_type_not_found")
    assert_problem(await ada.delete(f"{path}/{b}", etag="*"), 409, "last_ticket_type")


async def test_a_hidden_type_does_not_exist_for_others(visitor: Visitor) -> None:
    # fossasia/open-event-server#2961: hidden types were shown to who knew the id.
    ada, bob, eve = [await visitor.register() for _ in range(3)]
    event = await make(
        ada,
        ticketTypes=[{"name": "P"}, {"name": "H", "hidden": True}],
        quotas=[
            {"name": "Both", "capacity": 5, "ticketTypes": ["P", "H"]},
            {"name": "Guests", "capacity": 5, "ticketTypes": ["H"]},
        ],
    )
    p, h = [each["id"] for each in event["ticketTypes"]]
    both, guests = [each["id"] for each in event["quotas"]]
    path = f"/api/events/{event['id']}"
    await ada.appoint(event["id"], bob, "staff")
    tags = set()
    for person, sees in ((ada, [p, h]), (bob, [p, h]), (eve, [p]), (None, [p])):

        async def get(where: str, by: Person | None = person) -> httpx.Response:
            return await visitor.client.get(path + where, headers=by.headers if by else {})

        shown = await get("")
        tags.add(shown.headers["etag"])
        assert [each["id"] for each in shown.json()["ticketTypes"]] == sees
        assert shown.json()["quotas"][0]["ticketTypes"] == sees
        assert [each["id"] for each in shown.json()["quotas"]] == [both, guests][: len(sees)]
        listed = await get("/ticket-types")
        assert [each["id"] for each in listed.json()["items"]] == sees
        assert (await get(f"/ticket-types/{p}")).status_code == 200
        one, quota = await get(f"/ticket-types/{h}"), await get(f"/quotas/{guests}")
        if h in sees:
            assert (one.status_code, quota.status_code) == (200, 200)
        else:
            unknown = assert_problem(one, 404, "ticket_type_not_found")
            other = await get("/ticket-types/999")
            assert assert_problem(other, 404, "ticket_type_not_found") == unknown
            assert_problem(quota, 404, "quota_not_found")
    # A client that logs in must not take what it saw before for the same.
    assert len(tags) == 2
    everywhere = (await eve.get("/api/events")).json()["items"][0]
    assert [each["id"] for each in everywhere["ticketTypes"]] == [p]
    # The rest that only the team may book does not keep the event on sale.
    await ada.sell(event["id"], p, places=5)
    await ada.patch(f"{path}/quotas/{both}", {"ticketTypes": [p]})
    assert (await eve.get(path)).json()["sale"]["state"] == "soldOut"


async def test_the_state_and_the_search_agree_on_what_is_left(visitor: Visitor) -> None:
    ada = await visitor.register()
    event = await make(ada, ticketTypes=[{"name": "A", "capacity": 1}, {"name": "B"}])
    a, b = [each["id"] for each in event["ticketTypes"]]
    path = f"/api/events/{event['id']}"

    async def on_sale() -> tuple[str, int]:
        found = await visitor.client.get("/api/events", params={"onSale": True})
        return (await visitor.event(event["id"]))["sale"]["state"], len(found.json()["items"])

    assert await on_sale() == ("open", 1)
    await ada.sell(event["id"], a)
    assert await on_sale() == ("open", 1)
    await ada.patch(f"{path}/ticket-types/{b}", {"salesCloseAt": "2020-01-01T00:00:00Z"})
    assert await on_sale() == ("soldOut", 0)
    await ada.patch(
        f"{path}/ticket-types/{b}",
        {"salesOpenAt": "2090-01-01T00:00:00Z", "salesCloseAt": None},
    )
    # Its sale is to come, so the event is not sold out, but nothing is on sale now.
    assert await on_sale() == ("open", 0)
    await ada.patch(f"{path}/ticket-types/{b}", {"salesOpenAt": None})
    assert await on_sale() == ("open", 1)
    await ada.patch(f"{path}/ticket-types/{b}", {"closed": True})
    assert await on_sale() == ("soldOut", 0)


@pytest.mark.parametrize(
    ("price", "shown"),
    [
        (
            '{"amount": 1000, "currency": "JPY"}',
            {"amount": 1000, "currency": "JPY", "exponent": 0, "tax": 0},
        ),
        (
            '{"amount": 1234, "currency": "KWD"}',
            {"amount": 1234, "currency": "KWD", "exponent": 3, "tax": 0},
        ),
        (
            '{"amount": 2500, "currency": "EUR"}',
            {"amount": 2500, "currency": "EUR", "exponent": 2, "tax": 0},
        ),
        (
            '{"amount": 0, "currency": "EUR"}',
            {"amount": 0, "currency": None, "exponent": None, "tax": 0},
        ),
        ("null", {"amount": 0, "currency": None, "exponent": None, "tax": 0}),
        ('{"amount": 10.5, "currency": "JPY"}', "#/price/amount"),
        ('{"amount": 1e2, "currency": "EUR"}', "#/price/amount"),
        ('{"amount": "10", "currency": "EUR"}', "#/price/amount"),
        ('{"amount": 10.0, "currency": "EUR"}', "#/price/amount"),
        ('{"amount": true, "currency": "EUR"}', "#/price/amount"),
        ('{"amount": -1, "currency": "EUR"}', "#/price/amount"),
        ('{"amount": 1000000000001, "currency": "EUR"}', "#/price/amount"),
        ('{"amount": 1}', "#/price"),
        ('{"amount": 1, "currency": null}', "#/price"),
        ('{"amount": 1, "currency": "eur"}', "#/price/currency"),
        ('{"amount": 1, "currency": "XAU"}', "#/price/currency"),
        ('{"amount": 1, "currency": "ABC"}', "#/price/currency"),
    ],
)
async def test_an_amount_is_an_integer_in_the_minor_unit(
    visitor: Visitor, price: str, shown: object
) -> None:
    # Paymenter/Paymenter#1258: yen times 100.
    ada = await visitor.register()
    event = await ada.organise()
    answer = await visitor.client.post(
        f"/api/events/{event}/ticket-types",
        content=f'{{"name": "A", "price": {price}}}',
        headers=ada.headers | {"Content-Type": "application/json"},
    )
    if isinstance(shown, str):
        (error,) = assert_problem(answer, 422, "validation_failed")["errors"]
        assert error["pointer"] == shown
    else:
        assert answer.json()["price"] == shown


async def test_an_event_has_one_currency(visitor: Visitor) -> None:
    ada = await visitor.register()
    usd = {"amount": 1, "currency": "USD"}
    event = await make(ada, ticketTypes=[{"name": "A", "price": EUR}, {"name": "B"}])
    a, b = [each["id"] for each in event["ticketTypes"]]
    path = f"/api/events/{event['id']}/ticket-types"
    for refused in (
        await ada.post(path, {"name": "C", "price": usd}),
        await ada.patch(f"{path}/{b}", {"price": usd}),
        await ada.post(
            "/api/events",
            {
                "name": "Jazz",
                "capacity": 1,
                "ticketTypes": [{"name": "A", "price": EUR}, {"name": "B", "price": usd}],
            },
        ),
    ):
        assert assert_problem(refused, 409, "currency_mixed") == {"currency": "EUR"}
    # Nothing was sold yet.
    assert (await ada.patch(f"{path}/{a}", {"price": usd})).status_code == 200
    assert (await ada.patch(f"{path}/{a}", {"price": EUR})).status_code == 200
    await ada.sell(event["id"], a)
    refused = await ada.patch(f"{path}/{a}", {"price": usd})
    assert assert_problem(refused, 409, "currency_fixed") == {"currency": "EUR"}
    assert (await ada.patch(f"{path}/{a}", {"price": None})).status_code == 200
    for again in (
        await ada.patch(f"{path}/{a}", {"price": usd}),
        await ada.post(path, {"name": "C", "price": usd}),
    ):
        assert assert_problem(again, 409, "currency_fixed") == {"currency": "EUR"}
    assert (await ada.patch(f"{path}/{a}", {"price": EUR})).status_code == 200


async def test_the_times_of_a_type_are_local_to_the_event(visitor: Visitor) -> None:
    # fossasia/open-event-server#2805: a sale began at the time of the organiser's computer.
    ada = await visitor.register()
    event = await make(
        ada,
        timezone="Asia/Singapore",
        ticketTypes=[{"name": "A", "salesOpenAt": "2027-06-01T09:00"}],
    )
    (a,) = event["ticketTypes"]
    assert a["salesOpenAt"] == "2027-06-01T01:00:00Z"
    path = f"/api/events/{event['id']}"
    moved = await ada.patch(path, {"timezone": "Europe/Berlin"})
    (a,) = moved.json()["ticketTypes"]
    assert a["salesOpenAt"] == "2027-06-01T07:00:00Z"
    assert a["local"]["salesOpenAt"] == "2027-06-01T09:00:00"
    assert (await visitor.event(event["id"]))["ticketTypes"] == [a]
    refused = await ada.patch(path, {"timezone": None})
    (error,) = assert_problem(refused, 422, "validation_failed")["errors"]
    assert (error["pointer"], error["type"]) == ("#/timezone", "timezone_missing")
    of_type = f"{path}/ticket-types/{a['id']}"
    for change, pointer, kind in (
        ({"salesOpenAt": "2027-03-28T02:30"}, "#/salesOpenAt", "time_skipped"),
        ({"salesCloseAt": "2027-05-01T00:00"}, "#/salesCloseAt", "times_out_of_order"),
        ({"minPerBooking": 3, "maxPerBooking": 2}, "#/maxPerBooking", "limits_out_of_order"),
        ({"quotas": [1, 999]}, "#/quotas/0", "quota_unknown"),
    ):
        refused = await ada.patch(of_type, change)
        error = assert_problem(refused, 422, "validation_failed")["errors"][0]
        assert (error["pointer"], error["type"]) == (pointer, kind)


async def test_wrong_definitions_of_a_new_event_are_refused_by_field(visitor: Visitor) -> None:
    ada = await visitor.register()
    for more, pointer, kind in (
        (
            {"ticketTypes": [{"name": "A"}, {"name": "B", "salesOpenAt": "2027-06-01T09:00"}]},
            "#/ticketTypes/1/salesOpenAt",
            "timezone_missing",
        ),
        (
            {"quotas": [{"name": "Q", "capacity": 1, "ticketTypes": ["Nothing"]}]},
            "#/quotas/0/ticketTypes/0",
            "ticket_type_unknown",
        ),
        ({"maxBookingsPerPerson": 101}, "#/maxBookingsPerPerson", "less_than_equal"),
        ({"maxTicketsPerPerson": 0}, "#/maxTicketsPerPerson", "greater_than_equal"),
    ):
        refused = await ada.post("/api/events", {"name": "Jazz", "capacity": 1} | more)
        (error,) = assert_problem(refused, 422, "validation_failed")["errors"]
        assert (error["pointer"], error["type"]) == (pointer, kind)
    twice = {"ticketTypes": [{"name": "Balcony"}, {"name": "balcony"}]}
    refused = await ada.post("/api/events", {"name": "Jazz", "capacity": 1} | twice)
    assert assert_problem(refused, 409, "name_taken") == {"name": "balcony"}
    assert (await ada.get("/api/users/me/events")).json()["items"] == []


async def test_names_are_unique_within_an_event(visitor: Visitor) -> None:
    ada = await visitor.register()
    event = await ada.organise()
    a = await add_type(ada, event, name="A")
    q = await add_quota(ada, event, name="A", capacity=1)
    await add_quota(ada, event, name="B", capacity=1)
    path = f"/api/events/{event}"
    for refused in (
        await ada.post(f"{path}/ticket-types", {"name": "a"}),
        await ada.patch(f"{path}/ticket-types/{a['id']}", {"name": "General admission"}),
        await ada.post(f"{path}/quotas", {"name": "a", "capacity": 1}),
        await ada.patch(f"{path}/quotas/{q['id']}", {"name": "b"}),
    ):
        assert_problem(refused, 409, "name_taken")
    assert (await ada.patch(f"{path}/ticket-types/{a['id']}", {"name": "a"})).status_code == 200


async def test_an_event_has_up_to_100_types_and_100_quotas(visitor: Visitor) -> None:
    ada = await visitor.register()
    names = [f"Type {number}" for number in range(MAX_TYPES)]
    event = await make(
        ada,
        ticketTypes=[{"name": name, "capacity": 5} for name in names],
        quotas=[
            {"name": f"Quota {number}", "capacity": number + 1, "ticketTypes": names[number:]}
            for number in range(MAX_QUOTAS)
        ],
    )
    shown = await visitor.event(event["id"])
    assert shown == event
    assert {each["available"] for each in shown["ticketTypes"]} == {1}
    path = f"/api/events/{event['id']}"
    refused = await ada.post(f"{path}/ticket-types", {"name": "One more"})
    assert_problem(refused, 409, "too_many_ticket_types")
    refused = await ada.post(f"{path}/quotas", {"name": "One more", "capacity": 1})
    assert_problem(refused, 409, "too_many_quotas")


async def test_a_copy_has_the_same_types_and_quotas(visitor: Visitor, engine: AsyncEngine) -> None:
    ada = await visitor.register()
    event = await make(
        ada,
        timezone="Europe/Berlin",
        startsAt="2027-06-01T20:00",
        maxTicketsPerPerson=4,
        ticketTypes=[
            {"name": "Gone"},
            {"name": "A", "price": EUR, "capacity": 3, "salesCloseAt": "2027-06-01T18:00"},
            {"name": "B", "hidden": True},
        ],
        quotas=[{"name": "Q", "capacity": 2, "ticketTypes": ["A", "B"]}],
    )
    gone, a, _ = [each["id"] for each in event["ticketTypes"]]
    path = f"/api/events/{event['id']}"
    assert (await ada.delete(f"{path}/ticket-types/{gone}", etag="*")).status_code == 204
    await ada.sell(event["id"], a)
    made = await ada.post(f"{path}/copies", {"startsAt": ["2027-12-01T20:00"]})
    (copy,) = made.json()["items"]
    assert copy == (await ada.get(f"/api/events/{copy['id']}")).json()
    assert numbers(copy) == {"A": (2, 0, 0), "B": (2, 0, 0)}
    first, second = copy["ticketTypes"]
    (quota,) = copy["quotas"]
    assert quota["ticketTypes"] == [first["id"], second["id"]]
    assert first["id"] < second["id"]
    assert (first["capacity"], first["price"]) == (3, {**EUR, "exponent": 2, "tax": 0})
    assert first["local"]["salesCloseAt"] == "2027-12-01T18:00:00"
    assert (second["hidden"], copy["maxTicketsPerPerson"]) == (True, 4)
    assert {first["id"], second["id"]}.isdisjoint({each["id"] for each in event["ticketTypes"]})
    assert (await ada.delete(f"/api/events/{copy['id']}")).status_code == 204
    async with engine.connect() as connection:
        for table in ("ticket_types", "quotas"):
            left = await connection.execute(
                text(f"SELECT count(*) FROM {table} WHERE event_id = :copy"),
                {"copy": copy["id"]},
            )
            assert left.scalar_one() == 0


async def test_only_the_team_changes_what_is_on_sale(visitor: Visitor) -> None:
    ada, bob, eve = [await visitor.register() for _ in range(3)]
    event = await make(ada, ticketTypes=[{"name": "A"}])
    await ada.appoint(event["id"], bob, "manager")
    path = f"/api/events/{event['id']}/ticket-types"
    assert (await bob.post(path, {"name": "B"})).status_code == 201
    assert_problem(await eve.post(path, {"name": "C"}), 403, "forbidden")
    await ada.post(f"/api/events/{event['id']}/cancel", None)
    assert_problem(await ada.post(path, {"name": "C"}), 409, "event_state")


async def test_a_resent_request_adds_one_type(visitor: Visitor) -> None:
    ada = await visitor.register()
    event = await ada.organise()
    for many, body in (("ticket-types", {"name": "B"}), ("quotas", {"name": "B", "capacity": 1})):
        path = f"/api/events/{event}/{many}"
        first, again = [await ada.post(path, body, key=many) for _ in range(2)]
        assert first.json() == again.json()
        assert first.headers["location"] == again.headers["location"]
        assert first.headers["location"] == f"{path}/{first.json()['id']}"
        assert (await ada.get(first.headers["location"])).json() == first.json()
    now = await visitor.event(event)
    assert (len(now["ticketTypes"]), len(now["quotas"])) == (2, 1)


async def test_more_than_one_booking_per_person_is_remembered(
    visitor: Visitor, engine: AsyncEngine
) -> None:
    ada = await visitor.register()
    event = await make(ada)
    several = await make(ada, maxBookingsPerPerson=2)
    path = f"/api/events/{event['id']}"

    async def had_several() -> list[bool]:
        async with engine.connect() as connection:
            rows = await connection.execute(
                text("SELECT had_several_bookings FROM events ORDER BY id")
            )
            return [row[0] for row in rows]

    assert await had_several() == [False, True]
    for allowed in (2, 1):
        changed = await ada.patch(path, {"maxBookingsPerPerson": allowed})
        assert changed.json()["maxBookingsPerPerson"] == allowed
        assert await had_several() == [True, True]
    assert several["maxBookingsPerPerson"] == 2


async def test_every_change_is_in_the_trail(visitor: Visitor) -> None:
    ada = await visitor.register()
    event = await ada.organise()
    a = await add_type(ada, event, name="A", price=EUR, capacity=4)
    q = await add_quota(ada, event, name="Q", capacity=3, ticketTypes=[a["id"]])
    path = f"/api/events/{event}"
    of_type, of_quota = f"{path}/ticket-types/{a['id']}", f"{path}/quotas/{q['id']}"
    await ada.patch(of_type, {"capacity": 5, "price": {"amount": 9, "currency": "EUR"}})
    await ada.patch(of_quota, {"capacity": 9, "ticketTypes": []})
    await ada.delete(of_type, etag="*")
    await ada.delete(of_quota, etag="*")
    found = (await ada.get(f"{path}/trail")).json()["items"]
    assert [(each["action"], each["details"]) for each in reversed(found)][1:] == [
        (
            "ticket_type.created",
            {"ticketTypeId": a["id"], "name": "A", "price": EUR, "capacity": 4},
        ),
        (
            "quota.created",
            {"quotaId": q["id"], "name": "Q", "capacity": 3, "ticketTypes": [a["id"]]},
        ),
        (
            "ticket_type.revised",
            {
                "ticketTypeId": a["id"],
                "capacity": {"from": 4, "to": 5},
                "price": {"from": EUR, "to": {"amount": 9, "currency": "EUR"}},
            },
        ),
        (
            "quota.revised",
            {
                "quotaId": q["id"],
                "capacity": {"from": 3, "to": 9},
                "ticketTypes": {"from": [a["id"]], "to": []},
            },
        ),
        ("ticket_type.deleted", {"ticketTypeId": a["id"], "name": "A"}),
        ("quota.deleted", {"quotaId": q["id"], "name": "Q"}),
    ]
