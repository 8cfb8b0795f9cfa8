"""Creating and finding events, and access to bookings."""

from typing import Any

import httpx

from tests.contract import assert_problem
from tests.people import Visitor

INITIALIZE = "/api/events/initialize"


def event(name: object = "A concert", total: object = 10, **more: object) -> dict[str, Any]:
    return {"name": name, "totalTickets": total, **more}


async def test_a_new_event_has_every_place_free_and_an_address(visitor: Visitor) -> None:
    ada = await visitor.register()
    made = await ada.post(INITIALIZE, event("An evening", 200))
    assert made.status_code == 201
    assert made.json() == {
        "id": made.json()["id"],
        "name": "An evening",
        "totalTickets": 200,
        "availableTickets": 200,
        "waitingListCount": 0,
        "version": 1,
        "organiserId": ada.id,
        "createdAt": made.json()["createdAt"],
        "revision": 1,
        "status": "published",
        "visibility": "public",
        "sale": {"state": "open", "opensAt": None, "closesAt": None},
        **dict.fromkeys(("description", "venue", "url", "timezone", "local")),
        **dict.fromkeys(("startsAt", "endsAt", "salesOpenAt", "salesCloseAt")),
        "maxBookingsPerPerson": 1,
        "maxTicketsPerPerson": 10,
        "refundPolicy": {"kind": "none", "until": None, "percent": None, "fee": None},
        "holdMinutes": 10,
        "waitingList": {"mode": "auto", "offerMinutes": 60, "groupPatienceMinutes": None},
        "ticketTypes": [
            {
                "id": made.json()["ticketTypes"][0]["id"],
                "name": "General admission",
                "description": None,
                "price": {"amount": 0, "currency": None, "exponent": None, "tax": 0},
                "minPerBooking": 1,
                "available": 200,
                "taken": 0,
                "waiting": 0,
                "position": 0,
                "quotas": [],
                "hidden": False,
                "closed": False,
                "taxRate": None,
                **dict.fromkeys(("capacity", "maxPerBooking", "local")),
                **dict.fromkeys(("salesOpenAt", "salesCloseAt")),
            }
        ],
        "quotas": [],
    }
    assert made.headers["location"] == f"/api/events/{made.json()['id']}"
    assert (await visitor.client.get(made.headers["location"])).json() == made.json()
    # The first body is written by hand, the second from the documented model.
    assert (await visitor.client.get("/api/events")).json()["items"] == [made.json()]


async def test_a_name_of_3_to_100_characters_is_kept_without_outer_spaces(
    visitor: Visitor,
) -> None:
    ada = await visitor.register()
    kept = ("abc", "a" * 100, "Ünïcödé 🎟", "e\u0301" * 100, "<script>'; --")
    for name in kept:
        for given in (name, f"  {name}\n", " " * 200 + name + "\t"):
            made = await ada.post(INITIALIZE, event(given))
            assert made.status_code == 201
            assert made.json()["name"] == name
            assert (await visitor.event(made.json()["id"]))["name"] == name


async def test_any_other_name_is_refused(visitor: Visitor) -> None:
    ada = await visitor.register()
    for name in (
        "ab",
        "a" * 101,
        "",
        " " * 50,
        "  ab  ",
        "a\0b",
        "a\nb",
        "\u200b" * 3,
        "abc\u202e",
        123,
        None,
        ["abc"],
    ):
        refused = assert_problem(await ada.post(INITIALIZE, event(name)), 422, "validation_failed")
        assert [error["pointer"] for error in refused["errors"]] == ["#/name"], name


async def test_an_event_has_from_one_to_a_million_places(visitor: Visitor) -> None:
    ada = await visitor.register()
    for total in (1, 1_000_000, 200.0):
        made = await ada.post(INITIALIZE, event(total=total))
        assert made.status_code == 201
        assert made.json()["totalTickets"] == total


async def test_any_other_number_of_places_is_refused(visitor: Visitor) -> None:
    ada = await visitor.register()
    wrong: tuple[object, ...] = (
        0,
        -1,
        1_000_001,
        2**63,
        10**400,
        1e300,
        1.5,
        "10",
        "1",
        True,
        None,
        [],
        {},
    )
    for total in wrong:
        answer = await ada.post(INITIALIZE, event(total=total))
        refused = assert_problem(answer, 422, "validation_failed")
        assert [error["pointer"] for error in refused["errors"]] == ["#/totalTickets"], total


async def test_an_event_is_public_and_counts_its_places(visitor: Visitor) -> None:
    ada, bob, eve = [await visitor.register() for _ in range(3)]
    made = await ada.organise(total=1)
    for person in (bob, eve):
        await person.book(made)
    shown = await visitor.event(made)
    assert shown["totalTickets"] == 1
    assert (shown["availableTickets"], shown["waitingListCount"]) == (0, 1)
    assert shown["version"] == 3


async def test_an_unknown_event_is_not_found(client: httpx.AsyncClient) -> None:
    for number in (1, 2**31, 2**53 - 1):
        assert_problem(await client.get(f"/api/events/{number}"), 404, "event_not_found")


async def test_an_id_that_is_no_number_is_refused(client: httpx.AsyncClient) -> None:
    for number in ("0", "-1", "abc", "1.5", "9" * 30, "9" * 5000, "%00", "1;2", str(2**53)):
        refused = assert_problem(
            await client.get(f"/api/events/{number}"), 422, "validation_failed"
        )
        assert [(error["in"], error["pointer"]) for error in refused["errors"]] == [
            ("path", "#/eventId")
        ], number


async def test_the_name_of_a_route_is_not_an_event(client: httpx.AsyncClient) -> None:
    for verb in ("initialize", "book", "cancel"):
        refused = await client.get(f"/api/events/{verb}")
        assert_problem(refused, 405, "method_not_allowed")
        assert refused.headers["allow"] == "POST"


async def test_the_search_finds_a_part_of_the_name_in_any_case(visitor: Visitor) -> None:
    ada = await visitor.register()
    for name in ("Jazz at noon", "JAZZ at night", "Rock 100%", "a_b", r"back\slash", "Ärger"):
        await ada.organise(name=name)
    found = {
        q: [item["name"] for item in (await ada.get("/api/events", q=q)).json()["items"]]
        for q in ("jazz", "at n", "%", "_", "\\", "ärg", "k", "nobody", "' OR 1=1 --")
    }
    assert found == {
        "jazz": ["JAZZ at night", "Jazz at noon"],
        "at n": ["JAZZ at night", "Jazz at noon"],
        "%": ["Rock 100%"],
        "_": ["a_b"],
        "\\": [r"back\slash"],
        "ärg": ["Ärger"],
        "k": [r"back\slash", "Rock 100%"],
        "nobody": [],
        "' OR 1=1 --": [],
    }


async def test_only_the_organiser_reads_the_list_of_bookings(visitor: Visitor) -> None:
    ada, bob = [await visitor.register() for _ in range(2)]
    made = await ada.organise()
    await bob.book(made)
    path = f"/api/events/{made}/bookings"
    seen = (await ada.get(path)).json()["items"]
    assert [(item["userId"], item["status"], item["position"]) for item in seen] == [
        (bob.id, "booked", None)
    ]
    assert_problem(await bob.get(path), 403, "forbidden")
    assert_problem(await visitor.client.get(path), 401, "not_authenticated")
    assert_problem(await ada.get("/api/events/999/bookings"), 404, "event_not_found")


async def test_the_box_office_books_and_cancels_for_anybody(visitor: Visitor) -> None:
    ada, bob, eve = [await visitor.register() for _ in range(3)]
    made = await ada.organise(total=1)
    booked = await ada.book(made, for_=bob)
    assert (booked.status_code, booked.json()["userId"]) == (201, bob.id)
    assert_problem(await ada.book(made, for_=bob), 409, "already_booked")
    assert (await ada.book(made, for_=eve)).json()["position"] == 1
    assert_problem(await ada.book(made, for_=eve), 409, "already_waiting")
    cancelled = await ada.cancel(made, for_=bob)
    assert (cancelled.status_code, cancelled.json()["promoted"]) == (200, 1)


async def test_nobody_else_books_or_cancels_for_others(visitor: Visitor) -> None:
    ada, bob, eve = [await visitor.register() for _ in range(3)]
    made = await ada.organise()
    await bob.book(made)
    assert_problem(await eve.book(made, for_=ada), 403, "forbidden")
    assert_problem(await eve.cancel(made, for_=bob), 403, "forbidden")
    assert (await visitor.event(made))["availableTickets"] == 9
