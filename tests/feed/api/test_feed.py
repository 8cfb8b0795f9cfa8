"""The feed: everything that happened, once, in an order that never changes, from any cursor."""

import asyncio
import re
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import httpx
from fastapi import FastAPI
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from tests.calls import promote
from tests.contract import assert_problem
from tests.people import Person, Visitor
from tests.plans import statements
from ticketing.feed.part import Feed
from ticketing.feed.told import STATUS, FeedEventType
from ticketing.sale.inventory import decision
from ticketing.sale.inventory.model import BookingStatus
from ticketing.web.service import Service

T = TypeVar("T")
PATIENCE = 20.0
NAMED = (
    *(decision.PROMOTED, decision.REDUCED, decision.OFFERED, decision.CONFIRMED),
    *(decision.EXTENDED, decision.EXPIRED, decision.PASSED),
)


async def read(person: Person, path: str, **parameters: str | int) -> dict[str, Any]:
    answer = await person.get(path, **parameters)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def eventually(read: Callable[[], Awaitable[T]], expected: T) -> None:
    """Check that reading returns this once transactions that write now have ended.

    The feed of several events waits for those of any loop of the application.
    """
    ends = time.monotonic() + PATIENCE
    while (found := await read()) != expected and time.monotonic() < ends:  # noqa: ASYNC110 - others
        await asyncio.sleep(0.01)
    assert found == expected


async def everything(person: Person, path: str, limit: int = 2) -> list[dict[str, Any]]:
    """Return all items, page by page."""
    found: list[dict[str, Any]] = []
    cursor: dict[str, str] = {}
    while True:
        page = await read(person, path, limit=limit, **cursor)
        found += page["items"]
        if not page["items"]:
            return found
        cursor = {"cursor": page["nextCursor"]}


async def test_the_feed_has_each_change_once_in_order_with_the_object_as_it_was(
    visitor: Visitor,
) -> None:
    ada, bob, eve = [await visitor.register() for _ in range(3)]
    event = await ada.organise(total=1)
    path = f"/api/events/{event}"
    booked = (await bob.book(event)).json()
    waiting = (await eve.book(event)).json()
    await bob.cancel(event)
    await ada.patch(path, {"name": "Jazz"})
    price = {"amount": 2500, "currency": "EUR"}
    await ada.patch(path, {"capacity": 10})
    balcony = (await ada.post(f"{path}/ticket-types", {"name": "Balcony", "price": price})).json()
    group = await ada.sell(event, balcony["id"], places=3)
    tickets = await ada.get(f"/api/bookings/{group['id']}/tickets")
    (first, *_) = tickets.json()["items"]
    await ada.post(f"/api/bookings/{group['id']}/cancel", {"ticketIds": [first["id"]]})
    paid = {"reference": "order-1", "amount": 5000}
    await ada.post(f"/api/bookings/{group['id']}/payments", paid)
    await ada.post(f"/api/bookings/{group['id']}/refunds", {**paid, "amount": 100})
    await ada.appoint(event, bob, "manager")
    found = await everything(bob, f"{path}/feed")
    assert [(each["type"], each["bookingId"], each["bookingSequence"]) for each in found] == [
        ("event.created", None, None),
        ("booking.booked", booked["id"], 1),
        ("booking.waiting", waiting["id"], 1),
        ("booking.cancelled", booked["id"], 2),
        ("booking.promoted", waiting["id"], 2),
        ("event.revised", None, None),
        ("event.revised", None, None),
        ("ticket_type.created", None, None),
        ("booking.booked", group["id"], 1),
        ("booking.reduced", group["id"], 2),
        ("payment.recorded", group["id"], 3),
        ("refund.recorded", group["id"], 4),
        ("role.granted", None, None),
    ]
    assert [each["id"] for each in found] == sorted({each["id"] for each in found})
    assert {each["eventId"] for each in found} == {event}
    plain = {name: booked[name] for name in ("id", "eventId", "userId", "createdAt")}
    plain |= {"quantity": 1, "ticketTypeId": None, "amount": 0, "currency": None, "codeId": None}
    plain |= {"expiresAt": None}
    assert found[1]["data"] == {
        "booking": {**plain, "status": "booked"},
        "cancelledTicketIds": [],
    }
    assert found[3]["data"]["booking"] == {**plain, "status": "cancelled"}
    assert found[4]["data"]["booking"]["status"] == "booked"
    assert found[0]["data"]["event"]["name"] == "A concert"
    assert found[5]["data"]["event"] | {"name": "A concert"} == found[0]["data"]["event"]
    assert found[5]["data"]["changes"] == {"name": {"from": "A concert", "to": "Jazz"}}
    assert found[6]["data"]["event"]["capacity"] == 10
    assert found[7]["data"]["ticketType"]["id"] == balcony["id"]
    assert found[7]["data"]["ticketType"]["price"] == price
    before, after = (each["data"]["booking"] for each in found[8:10])
    assert (before["quantity"], before["amount"], before["currency"]) == (3, 7500, "EUR")
    assert (after["quantity"], after["amount"], after["status"]) == (2, 5000, "booked")
    assert after["ticketTypeId"] == balcony["id"]
    assert found[9]["data"]["cancelledTicketIds"] == [first["id"]]
    assert found[10]["data"] == {**paid, "currency": "EUR"}
    assert found[12]["data"] == {"userId": bob.id, "role": "manager"}
    await eventually(lambda: everything(bob, "/api/feed", limit=100), found)


async def test_holds_and_offers_are_in_the_feed_with_their_ends(visitor: Visitor) -> None:
    ada, bob, eve = [await visitor.register() for _ in range(3)]
    event = await ada.organise(total=1)
    await ada.patch(f"/api/events/{event}", {"waitingList": {"mode": "offer"}})
    held = (await bob.post("/api/holds", {"eventId": event})).json()
    await eve.book(event)
    released = await bob.delete(f"/api/holds/{held['id']}", etag="*")
    assert released.is_success
    found = (await read(ada, f"/api/events/{event}/feed"))["items"][2:]
    assert [each["type"] for each in found] == [
        *("booking.held", "booking.waiting", "booking.cancelled", "booking.offered")
    ]
    bookings = [each["data"]["booking"] for each in found]
    assert [each["status"] for each in bookings] == ["held", "waiting", "cancelled", "offered"]
    assert bookings[0]["expiresAt"] == held["expiresAt"]
    assert bookings[1]["expiresAt"] is None
    offered = await eve.get(f"/api/bookings/{bookings[3]['id']}")
    assert bookings[3]["expiresAt"] == offered.json()["expiresAt"]


async def test_a_person_follows_the_events_that_they_own_or_manage(
    visitor: Visitor, app: FastAPI, engine: AsyncEngine
) -> None:
    ada, bob, eve = [await visitor.register() for _ in range(3)]
    managed, staffed, foreign = [await ada.organise() for _ in range(3)]
    own = await bob.organise()
    await ada.appoint(managed, bob, "manager")
    await ada.appoint(staffed, bob, "staff")

    async def events(person: Person) -> set[int]:
        return {each["eventId"] for each in await everything(person, "/api/feed")}

    await eventually(lambda: events(bob), {managed, own})
    await eventually(lambda: events(ada), {managed, staffed, foreign})
    assert await events(eve) == set()
    assert (await read(eve, "/api/feed"))["nextCursor"]
    await promote(app, engine, eve)
    await eventually(lambda: events(eve), {managed, staffed, foreign, own})
    assert (await bob.get(f"/api/events/{staffed}/feed")).status_code == 403
    assert (await bob.get("/api/events/999999/feed")).status_code == 404
    reading = await bob.make_key("bookings:read")
    assert (await reading.get(f"/api/events/{own}/feed")).status_code == 200
    writing = await bob.make_key("bookings:write")
    assert (await writing.get("/api/feed")).json()["code"] == "insufficient_scope"


async def waiting_for_news(app: FastAPI) -> None:
    """Return when a request has begun to wait."""
    while not app.state.provided[Feed].follower.is_listened_to:  # noqa: ASYNC110 - of the other side
        await asyncio.sleep(0.005)


async def test_a_waiting_request_gets_what_happens_and_rests_otherwise(
    visitor: Visitor, app: FastAPI
) -> None:
    ada, bob = [await visitor.register() for _ in range(2)]
    event, other = await ada.organise(), await bob.organise()
    of_event = f"/api/events/{event}/feed"
    for path in (of_event, "/api/feed"):
        await eventually(lambda path=path: everything(ada, path), await everything(ada, of_event))  # type: ignore[misc]
        last = (await read(ada, path))["nextCursor"]
        waiting = asyncio.ensure_future(read(ada, path, cursor=last, wait=30))
        await waiting_for_news(app)
        await bob.book(other)
        await bob.book(event)
        page = await waiting
        assert [each["eventId"] for each in page["items"]] == [event]
        assert (await read(ada, path, cursor=last))["items"] == page["items"]
        empty = await read(ada, path, cursor=page["nextCursor"], wait=1)
        assert empty["items"] == []
        assert not app.state.provided[Feed].follower.is_listened_to
        await bob.cancel(other)
        await bob.cancel(event)


async def test_an_event_that_is_made_while_a_request_waits_is_not_skipped(
    visitor: Visitor,
) -> None:
    ada, bob = await visitor.register(), await visitor.register()
    event = await ada.organise()
    cursor = (await read(ada, "/api/feed"))["nextCursor"]
    waiting = asyncio.create_task(read(ada, "/api/feed", cursor=cursor, wait=30))
    await asyncio.sleep(0.1)
    other = await ada.organise()
    # It alone ends the wait.
    await asyncio.wait_for(asyncio.shield(waiting), 20)
    await bob.book(event)
    found = await waiting
    rest = await read(ada, "/api/feed", cursor=found["nextCursor"])
    seen = [(each["type"], each["eventId"]) for each in [*found["items"], *rest["items"]]]
    assert seen == [("event.created", other), ("booking.booked", event)]


async def test_a_cursor_from_beyond_the_end_is_refused(
    visitor: Visitor, engine: AsyncEngine
) -> None:
    """After a backup was restored, a program would wait for events that it takes for old ones."""
    ada = await visitor.register()
    event = await ada.organise()
    paths = ("/api/feed", f"/api/events/{event}/feed")
    last = [(await ada.get(path)).json()["nextCursor"] for path in paths]
    for path, cursor in zip(paths, last, strict=True):
        assert (await ada.get(path, cursor=cursor)).json() == {"items": [], "nextCursor": cursor}
    async with engine.begin() as connection:
        await connection.execute(text("ALTER SEQUENCE audit_records_seq_seq RESTART"))
    for path, cursor in zip(paths, last, strict=True):
        for wait in (0, 1):
            refused = await ada.get(path, cursor=cursor, wait=wait)
            assert_problem(refused, 422, "invalid_cursor")


async def test_a_drain_ends_waiting_requests(visitor: Visitor, app: FastAPI) -> None:
    ada = await visitor.register()
    path = f"/api/events/{await ada.organise()}/feed"
    last = (await read(ada, path))["nextCursor"]
    begun = time.monotonic()
    waiting = asyncio.ensure_future(read(ada, path, cursor=last, wait=30))
    await waiting_for_news(app)
    app.state.provided[Service].drain()
    page = await waiting
    assert page == {"items": [], "nextCursor": last}
    assert time.monotonic() - begun < 20
    assert (await ada.get(path)).json()["code"] == "busy"


async def test_the_document_has_a_webhook_for_each_type(client: httpx.AsyncClient) -> None:
    document = (await client.get("/openapi.json")).json()
    types = set(document["components"]["schemas"]["FeedEventType"]["enum"])
    assert types == set(FeedEventType) == document["webhooks"].keys()


def test_every_action_at_an_event_is_a_type_of_the_feed_but_its_deletion() -> None:
    actions = {
        action
        for each in statements().values()
        if "INSERT INTO audit_records" in each.sql and "CAST(NULL AS bigint)" not in each.sql
        for action in re.findall(r"SELECT '([a-z_.]+)',", each.sql)
    }
    assert actions > {"role.granted", "event.created"}
    # What happened at a deleted event is shown to nobody.
    assert actions - set(FeedEventType) == {"event.deleted"}
    names = {each.value for each in BookingStatus if each.is_active} | set(NAMED) | {"cancelled"}
    assert {f"booking.{name}" for name in names} == set(STATUS)
