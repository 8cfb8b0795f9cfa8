"""The API of events with dates, a venue, and a sale that opens and closes."""

from datetime import UTC, datetime, timedelta
from typing import Any

from fastapi import FastAPI
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from tests.contract import assert_problem
from tests.people import Person, Visitor
from ticketing.sale.part import Sale

CONCERT: dict[str, Any] = {"name": "Chamber music", "capacity": 2}


async def make(person: Person, **more: object) -> dict[str, Any]:
    made = await person.post("/api/events", CONCERT | more)
    assert made.status_code == 201, made.text
    document: dict[str, Any] = made.json()
    return document


async def test_an_event_has_dates_in_both_forms(visitor: Visitor) -> None:
    ada = await visitor.register()
    event = await make(
        ada,
        timezone="Europe/Berlin",
        startsAt="2027-06-01T19:30",
        endsAt="2027-06-01T20:00:00Z",
        venue={"name": "Town hall", "latitude": 52.5, "longitude": 13},
        description="Two quartets,\none interval.",
        url="https://example.org/",
    )
    assert event["startsAt"] == "2027-06-01T17:30:00Z"
    assert event["local"]["startsAt"] == "2027-06-01T19:30:00"
    assert event["local"]["endsAt"] == "2027-06-01T22:00:00"
    assert event["venue"] == {
        "name": "Town hall",
        "address": None,
        "latitude": 52.5,
        "longitude": 13.0,
    }
    assert event["sale"]["state"] == "open"
    assert await visitor.event(event["id"]) == event


async def test_times_that_cannot_be_understood_are_refused_by_field(visitor: Visitor) -> None:
    ada = await visitor.register()
    for more, field, kind in (
        ({"startsAt": "2027-06-01T19:30"}, "startsAt", "timezone_missing"),
        ({"timezone": "EST"}, "timezone", "timezone_unknown"),
        ({"timezone": "GMT+2"}, "timezone", "timezone_unknown"),
        ({"timezone": "Etc/GMT+2"}, "timezone", "timezone_unknown"),
        ({"timezone": "Europe/Berln"}, "timezone", "timezone_unknown"),
        (
            {"timezone": "Europe/Berlin", "startsAt": "2027-03-28T02:30"},
            "startsAt",
            "time_skipped",
        ),
        (
            {"timezone": "Europe/Berlin", "salesOpenAt": "2026-10-25T02:30"},
            "salesOpenAt",
            "time_repeated",
        ),
        ({"startsAt": "0001-01-01T00:00:00+14:00"}, "startsAt", "time_out_of_range"),
        ({"startsAt": "2027-06-01"}, "startsAt", "time_format"),
        ({"startsAt": 1_800_000_000}, "startsAt", "time_format"),
        (
            {"startsAt": "2027-06-01T10:00:00Z", "endsAt": "2027-06-01T09:00:00Z"},
            "endsAt",
            "times_out_of_order",
        ),
    ):
        refused = await ada.post("/api/events", CONCERT | more)
        (error,) = assert_problem(refused, 422, "validation_failed")["errors"]
        assert (error["pointer"], error["type"]) == (f"#/{field}", kind)
    assert (await ada.get("/api/users/me/events")).json()["items"] == []


async def test_a_time_that_exists_twice_is_told_apart_by_its_offset(visitor: Visitor) -> None:
    ada = await visitor.register()
    times = [
        (await make(ada, timezone="Europe/Berlin", startsAt=f"2026-10-25T02:30:00{offset}"))[
            "startsAt"
        ]
        for offset in ("+02:00", "+01:00")
    ]
    assert times == ["2026-10-25T00:30:00Z", "2026-10-25T01:30:00Z"]


async def test_nothing_is_sold_before_the_sale_opens(visitor: Visitor) -> None:
    ada, bob = await visitor.register(), await visitor.register()
    opens = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    event = await make(ada, salesOpenAt=opens)
    assert event["sale"]["state"] == "scheduled"
    told = assert_problem(await bob.book(event["id"]), 409, "sale_not_open")
    assert told["state"] == "scheduled"
    assert told["opensAt"] == event["salesOpenAt"]
    assert 3590 < told["retryAfter"] <= 3600
    # The database's clock decides, so the new opening is a second in the past.
    changed = await ada.patch(
        f"/api/events/{event['id']}",
        {"salesOpenAt": (datetime.now(UTC) - timedelta(seconds=1)).isoformat()},
    )
    assert changed.json()["sale"]["state"] == "open"
    assert (await bob.book(event["id"])).status_code == 201


async def test_a_sale_that_is_paused_sells_nothing_until_it_goes_on(visitor: Visitor) -> None:
    ada, bob, eve = [await visitor.register() for _ in range(3)]
    event = await make(ada, capacity=1)
    path = f"/api/events/{event['id']}"
    assert (await bob.book(event["id"])).status_code == 201
    assert (await ada.post(f"{path}/pause", None)).json()["sale"]["state"] == "paused"
    told = assert_problem(await eve.book(event["id"]), 409, "sale_not_open")
    assert told == {"state": "paused"}
    assert (await bob.cancel(event["id"])).json()["status"] == "cancelled"
    assert (await ada.post(f"{path}/resume", None)).json()["sale"]["state"] == "open"
    assert (await eve.book(event["id"])).status_code == 201
    assert_problem(await bob.post(f"{path}/pause", None), 403, "forbidden")


async def test_a_draft_exists_for_its_team_alone(visitor: Visitor) -> None:
    ada, bob, eve = [await visitor.register() for _ in range(3)]
    event = await make(ada, status="draft")
    path = f"/api/events/{event['id']}"
    await ada.appoint(event["id"], bob, "staff")
    for person in (ada, bob):
        assert (await person.get(path)).json()["sale"]["state"] == "draft"
        mine = (await person.get("/api/users/me/events")).json()["items"]
        assert [each["id"] for each in mine] == [event["id"]]
    assert_problem(await eve.get(path), 404, "event_not_found")
    assert_problem(await visitor.client.get(path), 404, "event_not_found")
    assert (await eve.get("/api/events")).json()["items"] == []
    assert_problem(await eve.book(event["id"]), 409, "sale_not_open")
    published = await ada.post(f"{path}/publish", None)
    assert published.json()["status"] == "published"
    assert (await eve.book(event["id"])).status_code == 201


async def test_a_change_says_which_version_it_was_made_from(visitor: Visitor) -> None:
    ada, bob = await visitor.register(), await visitor.register()
    event = await make(ada)
    path = f"/api/events/{event['id']}"
    etag = (await ada.get(path)).headers["etag"]
    assert (await bob.book(event["id"])).status_code == 201
    # A booking does not change the ETag's revision.
    changed = await ada.patch(path, {"name": "Jazz"}, etag=etag)
    assert changed.status_code == 200
    assert changed.json()["name"] == "Jazz"
    assert_problem(await ada.patch(path, {"name": "Blues"}, etag=etag), 412, "precondition_failed")
    assert_problem(
        await ada.patch(path, {"name": "Blues"}, etag="W/" + changed.headers["etag"]),
        412,
        "precondition_failed",
    )
    assert_problem(
        await ada.patch(path, {"name": "Blues"}, etag=None), 428, "precondition_required"
    )
    assert (await visitor.event(event["id"]))["name"] == "Jazz"
    again = await ada.patch(path, {"name": "Blues"}, etag=f'"{changed.json()["revision"]}"')
    assert again.json()["name"] == "Blues"


async def test_what_was_read_already_is_not_sent_again(visitor: Visitor) -> None:
    ada, bob = await visitor.register(), await visitor.register()
    event = await make(ada)
    path = f"/api/events/{event['id']}"
    etag = (await visitor.client.get(path)).headers["etag"]
    known = await visitor.client.get(path, headers={"If-None-Match": etag})
    assert (known.status_code, known.content, known.headers["etag"]) == (304, b"", etag)
    await bob.book(event["id"])
    assert (await visitor.client.get(path, headers={"If-None-Match": etag})).status_code == 200


async def test_null_removes_and_what_is_left_out_stays(visitor: Visitor) -> None:
    ada = await visitor.register()
    event = await make(
        ada, timezone="Europe/Berlin", startsAt="2027-06-01T19:30", description="Long"
    )
    path = f"/api/events/{event['id']}"
    changed = (await ada.patch(path, {"description": None})).json()
    assert changed["description"] is None
    assert changed["startsAt"] == event["startsAt"]
    moved = (await ada.patch(path, {"timezone": "Asia/Singapore"})).json()
    assert moved["local"]["startsAt"] == event["local"]["startsAt"]
    assert moved["startsAt"] == "2027-06-01T11:30:00Z"
    refused = assert_problem(await ada.patch(path, {"timezone": None}), 422, "validation_failed")
    assert refused["errors"][0]["type"] == "timezone_missing"


async def test_more_places_go_to_the_waiting_list_first(visitor: Visitor) -> None:
    people = [await visitor.register() for _ in range(5)]
    ada = await visitor.register()
    event = await make(ada, capacity=2)
    for person in people:
        await person.book(event["id"])
    path = f"/api/events/{event['id']}"
    grown = (await ada.patch(path, {"capacity": 4})).json()
    assert (grown["totalTickets"], grown["availableTickets"]) == (4, 0)
    assert grown["waitingListCount"] == 1
    grown = (await ada.patch(path, {"capacity": 6})).json()
    assert (grown["availableTickets"], grown["waitingListCount"]) == (1, 0)
    held = (await ada.get(f"{path}/bookings", status="booked")).json()["items"]
    assert [each["userId"] for each in held] == [person.id for person in people]


async def test_fewer_places_than_are_taken_are_refused(visitor: Visitor) -> None:
    people = [await visitor.register() for _ in range(3)]
    ada = await visitor.register()
    event = await make(ada, capacity=5)
    for person in people:
        await person.book(event["id"])
    path = f"/api/events/{event['id']}"
    before = await visitor.event(event["id"])
    told = assert_problem(
        await ada.patch(path, {"capacity": 2, "name": "Jazz"}), 409, "capacity_below_taken"
    )
    assert told == {"requested": 2, "taken": 3}
    assert await visitor.event(event["id"]) == before
    lowered = (await ada.patch(path, {"capacity": 3})).json()
    assert (lowered["totalTickets"], lowered["availableTickets"]) == (3, 0)
    dave = await visitor.register()
    assert (await dave.book(event["id"])).status_code == 202


async def test_a_cancelled_event_cancels_its_bookings_and_promotes_nobody(
    visitor: Visitor, engine: AsyncEngine, app: FastAPI
) -> None:
    people = [await visitor.register() for _ in range(4)]
    ada = await visitor.register()
    event = await make(ada, capacity=2)
    for person in people:
        await person.book(event["id"])
    path = f"/api/events/{event['id']}"
    assert (await ada.post(f"{path}/cancel", None)).json()["sale"]["state"] == "cancelled"
    assert_problem(await people[0].cancel(event["id"]), 409, "sale_closed")
    sale: Sale = app.state.provided[Sale]
    await sale.bookings.finish_cancellations()
    after = await visitor.event(event["id"])
    assert (after["availableTickets"], after["waitingListCount"]) == (2, 0)
    listed = (await ada.get(f"{path}/bookings")).json()["items"]
    assert {each["status"] for each in listed} == {"cancelled"}
    trail = (await ada.get(f"{path}/trail", limit=100)).json()["items"]
    assert [each["action"] for each in trail].count("booking.cancelled") == 4
    assert "booking.promoted" not in {each["action"] for each in trail}
    async with engine.connect() as connection:
        assert await connection.scalar(text("SELECT count(*) FROM cancellations")) == 0
    assert_problem(await ada.patch(path, {"name": "Jazz"}), 409, "event_state")
    assert_problem(await ada.post(f"{path}/publish", None), 409, "event_state")


async def test_only_a_draft_without_bookings_is_deleted(visitor: Visitor) -> None:
    ada = await visitor.register()
    draft, event = await make(ada, status="draft", description="Soon"), await make(ada)
    assert (await ada.delete(f"/api/events/{draft['id']}")).status_code == 204
    assert_problem(await ada.get(f"/api/events/{draft['id']}"), 404, "event_not_found")
    assert_problem(await ada.delete(f"/api/events/{event['id']}"), 409, "event_has_bookings")


async def test_copies_keep_the_distances_between_their_times(visitor: Visitor) -> None:
    ada = await visitor.register()
    event = await make(
        ada,
        timezone="America/Denver",
        startsAt="2027-01-15T10:00",
        endsAt="2027-01-15T12:00",
        salesOpenAt="2027-01-01T10:00",
    )
    path = f"/api/events/{event['id']}/copies"
    body = {"startsAt": ["2027-07-15T10:00", "2027-07-16T10:00"]}
    made = await ada.post(path, body, key="series")
    assert made.status_code == 201, made.text
    first, second = made.json()["items"]
    assert first["local"]["endsAt"] == "2027-07-15T12:00:00"
    assert first["startsAt"] == "2027-07-15T16:00:00Z"
    assert first["local"]["salesOpenAt"] == "2027-07-01T10:00:00"
    assert second["local"]["startsAt"] == "2027-07-16T10:00:00"
    assert (first["status"], first["totalTickets"]) == ("draft", 2)
    assert (await ada.post(path, body, key="series")).json() == made.json()
    assert len((await ada.get("/api/users/me/events")).json()["items"]) == 3


async def test_an_event_gets_another_owner(visitor: Visitor) -> None:
    ada, bob = await visitor.register(), await visitor.register()
    event = await make(ada)
    path = f"/api/events/{event['id']}"
    given = await ada.put(f"{path}/owner", {"userId": bob.id})
    assert given.json()["organiserId"] == bob.id
    assert_problem(await ada.patch(path, {"name": "Jazz"}), 403, "forbidden")
    assert (await bob.patch(path, {"name": "Jazz"})).status_code == 200


async def test_lists_are_filtered_and_sorted_by_start(visitor: Visitor) -> None:
    ada, bob = await visitor.register(), await visitor.register()
    starts = ["2027-03-01T10:00:00Z", "2027-01-01T10:00:00Z", "2027-02-01T10:00:00Z"]
    ids = [(await make(ada, startsAt=start))["id"] for start in starts]
    paused = await make(bob, startsAt=starts[0])
    await bob.post(f"/api/events/{paused['id']}/pause", None)
    await make(bob, visibility="unlisted")

    async def found(**wanted: str | int) -> list[int]:
        answer = await ada.get("/api/events", **wanted)
        assert answer.status_code == 200, answer.text
        return [each["id"] for each in answer.json()["items"]]

    assert await found() == [paused["id"], ids[2], ids[1], ids[0]]
    assert await found(sort="startsAt") == [ids[1], ids[2], ids[0], paused["id"]]
    assert await found(onSale="true") == [ids[2], ids[1], ids[0]]
    assert await found(organiserId=bob.id) == [paused["id"]]
    assert await found(**{"from": starts[2], "to": starts[0]}) == [ids[2]]
    pages, cursor = [], ""
    while cursor is not None:
        more = {"cursor": cursor} if cursor else {}
        answer = (await ada.get("/api/events", sort="startsAt", limit=1, **more)).json()
        pages += [each["id"] for each in answer["items"]]
        cursor = answer["nextCursor"]
    assert pages == [ids[1], ids[2], ids[0], paused["id"]]
    for wrong in ({"sort": "startsAt", "cursor": "2a"}, {"cursor": "2a-1"}):
        assert_problem(await ada.get("/api/events", **wrong), 422, "invalid_cursor")
