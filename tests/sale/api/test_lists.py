"""The lists: their order, their pages and their cursors."""

from typing import Any

import pytest
from fastapi import FastAPI
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from tests.contract import assert_problem
from tests.people import PASSWORD, Person, Visitor
from ticketing.sale.part import Sale

EVENTS = "/api/events"
MINE = "/api/users/me/bookings"
LISTS = [EVENTS, MINE, *(f"/api/events/{{event}}/{of}" for of in ("bookings", "team", "trail"))]


async def pages(person: Person, path: str, **parameters: str | int) -> list[list[dict[str, Any]]]:
    """Yield every page of a list."""
    found = []
    cursor: dict[str, str] = {}
    while True:
        answer = await person.get(path, **parameters, **cursor)
        assert answer.status_code == 200, answer.text
        assert answer.json().keys() == {"items", "nextCursor"}
        found.append(answer.json()["items"])
        if answer.json()["nextCursor"] is None:
            return found
        cursor = {"cursor": answer.json()["nextCursor"]}


async def crowd(visitor: Visitor, size: int) -> list[Person]:
    return [await visitor.register() for _ in range(size)]


@pytest.mark.parametrize(("limit", "sizes"), [(1, [1] * 5), (2, [2, 2, 1]), (5, [5]), (100, [5])])
async def test_events_come_newest_first_and_once(
    visitor: Visitor, limit: int, sizes: list[int]
) -> None:
    ada = await visitor.register()
    made = [await ada.organise() for _ in range(5)]
    found = await pages(ada, EVENTS, limit=limit)
    assert [len(page) for page in found] == sizes
    assert [item["id"] for page in found for item in page] == made[::-1]


async def test_an_event_that_is_made_between_two_pages_moves_nothing(visitor: Visitor) -> None:
    ada = await visitor.register()
    made = [await ada.organise() for _ in range(4)]
    first = (await ada.get(EVENTS, limit=2)).json()
    await ada.organise()
    second = (await ada.get(EVENTS, limit=2, cursor=first["nextCursor"])).json()
    assert [item["id"] for item in first["items"] + second["items"]] == made[::-1]
    assert second["nextCursor"] is None


async def test_a_search_goes_on_from_page_to_page(visitor: Visitor) -> None:
    ada = await visitor.register()
    names = ["Jazz 1", "Rock 1", "Jazz 2", "Rock 2", "Jazz 3"]
    for name in names:
        await ada.organise(name=name)
    found = await pages(ada, EVENTS, q="jazz", limit=1)
    assert [item["name"] for page in found for item in page] == ["Jazz 3", "Jazz 2", "Jazz 1"]


async def test_an_empty_list_is_one_empty_page(visitor: Visitor) -> None:
    ada = await visitor.register()
    assert await pages(ada, EVENTS) == [[]]
    assert await pages(ada, MINE) == [[]]
    assert await pages(ada, f"/api/events/{await ada.organise()}/bookings") == [[]]


@pytest.mark.parametrize("limit", [1, 2, 3, 100])
async def test_my_bookings_come_newest_first_with_my_position(visitor: Visitor, limit: int) -> None:
    ada, bob = await crowd(visitor, 2)
    full = await ada.organise(total=1)
    await ada.book(full)
    events = [await ada.organise(), full, await ada.organise()]
    for event in events:
        await bob.book(event)
    await bob.cancel(events[2])
    await bob.book(events[2])
    found = [item for page in await pages(bob, MINE, limit=limit) for item in page]
    assert [(item["eventId"], item["status"], item["position"]) for item in found] == [
        (events[2], "booked", None),
        (events[2], "cancelled", None),
        (full, "waiting", 1),
        (events[0], "booked", None),
    ]
    assert len({item["id"] for item in found}) == 4
    assert {item["userId"] for item in found} == {bob.id}


@pytest.mark.parametrize("limit", [1, 2, 100])
@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (None, [(0, "cancelled"), (1, "booked"), (2, "booked"), (3, "waiting"), (4, "waiting")]),
        ("booked", [(1, "booked"), (2, "booked")]),
        ("waiting", [(3, "waiting"), (4, "waiting")]),
        ("cancelled", [(0, "cancelled")]),
    ],
)
async def test_the_organiser_lists_bookings_in_their_order_and_by_status(
    visitor: Visitor, limit: int, status: str | None, expected: list[tuple[int, str]]
) -> None:
    ada, *people = await crowd(visitor, 6)
    event = await ada.organise(total=2)
    for person in people:
        await person.book(event)
    await people[0].cancel(event)
    asked = {} if status is None else {"status": status}
    found = await pages(ada, f"/api/events/{event}/bookings", limit=limit, **asked)
    assert all(len(page) <= limit for page in found)
    listed = [item for page in found for item in page]
    assert [(item["userId"], item["status"]) for item in listed] == [
        (people[number].id, status) for number, status in expected
    ]
    positions = [item["position"] for item in listed if item["status"] == "waiting"]
    assert positions == list(range(1, len(positions) + 1))
    assert [item["username"] for item in listed] == [
        people[number].username for number, _ in expected
    ]


async def test_a_list_that_is_read_while_people_book_and_cancel_has_each_booking_once(
    visitor: Visitor,
) -> None:
    ada, *people = await crowd(visitor, 7)
    event = await ada.organise(total=3)
    there = [(await each.book(event)).json()["id"] for each in people]
    path = f"/api/events/{event}/bookings"
    found = []
    cursor: dict[str, str] = {}
    for each in people[:3]:
        page = (await ada.get(path, limit=2, **cursor)).json()
        found += page["items"]
        cursor = {"cursor": page["nextCursor"]}
        await each.cancel(
            event
        )  # The head of the waiting list gets the place, on this page or another.
        there.append((await each.book(event)).json()["id"])
    found += (await ada.get(path, **cursor)).json()["items"]
    assert [each["id"] for each in found] == there


async def test_my_bookings_come_once_while_i_book_and_cancel(visitor: Visitor) -> None:
    ada = await visitor.register()
    events = [await ada.organise() for _ in range(5)]
    there = [(await ada.book(event)).json()["id"] for event in events[:4]]
    first = (await ada.get(MINE, limit=2)).json()
    await ada.book(events[4])
    await ada.cancel(events[0])
    await ada.cancel(events[3])
    second = (await ada.get(MINE, limit=2, cursor=first["nextCursor"])).json()
    assert [each["id"] for each in first["items"] + second["items"]] == there[::-1]
    assert second["nextCursor"] is None


async def test_a_booking_of_a_deleted_account_has_no_name(visitor: Visitor) -> None:
    ada, bob = await crowd(visitor, 2)
    event = await ada.organise()
    await bob.book(event)
    await bob.post("/api/users/me/delete", {"password": PASSWORD})
    ((item,),) = await pages(ada, f"/api/events/{event}/bookings", limit=5)
    assert (item["userId"], item["status"], item["username"]) == (bob.id, "booked", None)


async def test_a_list_has_20_items_by_default_and_at_most_100(
    visitor: Visitor, engine: AsyncEngine
) -> None:
    ada = await visitor.register()
    async with engine.begin() as connection:
        await connection.execute(
            text(
                "INSERT INTO events (name, organiser_id, total_tickets, available_tickets)"
                " SELECT 'Event', id, 1, 1 FROM users, generate_series(1, 230)"
            )
        )
    assert len((await ada.get(EVENTS)).json()["items"]) == 20
    found = await pages(ada, EVENTS, limit=100)
    assert [len(page) for page in found] == [100, 100, 30]
    assert len({item["id"] for page in found for item in page}) == 230


@pytest.mark.parametrize("path", LISTS)
async def test_any_other_limit_is_refused(visitor: Visitor, path: str) -> None:
    ada = await visitor.register()
    path = path.format(event=await ada.organise())
    for limit in ("0", "-1", "101", "1.5", "ten", "", "9" * 5000, "\u0663x", "null", "NaN"):
        refused = assert_problem(await ada.get(path, limit=limit), 422, "validation_failed")
        assert [(error["in"], error["pointer"]) for error in refused["errors"]] == [
            ("query", "#/limit")
        ], limit


@pytest.mark.parametrize("path", LISTS)
async def test_a_cursor_that_no_list_gave_out_is_refused(visitor: Visitor, path: str) -> None:
    ada = await visitor.register()
    path = path.format(event=await ada.organise())
    for cursor in (
        *("", "0", "00", "01", "-1", "+1", " 1", "1 ", "1\n", "1_0", "0x1", "g", "A", "null"),
        *("\0", "f" * 16, "f" * 5000, "azE", "../..", "'; --", "\u0661", "\ufffd", "🎟"),
    ):
        assert_problem(await ada.get(path, cursor=cursor), 422, "invalid_cursor")


async def test_a_cursor_past_the_end_gives_an_empty_page(visitor: Visitor) -> None:
    ada = await visitor.register()
    event = await ada.organise()
    await ada.book(event)
    end: dict[str, object] = {"items": [], "nextCursor": None}
    assert (await ada.get(EVENTS, cursor="1")).json() == end
    assert (await ada.get(MINE, cursor="1")).json() == end
    assert (await ada.get(f"/api/events/{event}/bookings", cursor="f" * 15)).json() == end


async def test_a_status_that_no_booking_has_is_refused(visitor: Visitor) -> None:
    ada = await visitor.register()
    event = await ada.organise()
    for status in ("BOOKED", "none", "", "null", "booked,waiting"):
        refused = await ada.get(f"/api/events/{event}/bookings", status=status)
        (error,) = assert_problem(refused, 422, "validation_failed")["errors"]
        assert (error["in"], error["pointer"]) == ("query", "#/status")


NFD = "Cafe\u0301"


@pytest.mark.parametrize("name", ["Café Müller", NFD + " Müller", "CAFÉ MÜLLER"])
@pytest.mark.parametrize("q", ["café", "cafe", " café ", "CAFÉ", NFD, "Muller", "é m", "fé"])
async def test_a_search_finds_every_spelling(visitor: Visitor, name: str, q: str) -> None:
    ada = await visitor.register()
    event = await ada.organise(name=name)
    await ada.organise(name="A concert")
    found = (await ada.get("/api/events", q=q)).json()["items"]
    assert [(each["id"], each["name"]) for each in found] == [(event, name)]


@pytest.mark.parametrize("q", [" ", "\u00a0 ", "\u0301", " \u0301\u0300 "])
async def test_a_search_for_what_is_ignored_is_refused(visitor: Visitor, q: str) -> None:
    ada = await visitor.register()
    await ada.organise(name="Café")
    refused = await ada.get("/api/events", q=q)
    (error,) = assert_problem(refused, 422, "validation_failed")["errors"]
    assert (error["in"], error["pointer"], error["type"]) == ("query", "#/q", "search_empty")


@pytest.mark.parametrize("q", ["%", "_", "\\", "100%", "a_b"])
async def test_special_characters_of_a_pattern_are_searched_for_literally(
    visitor: Visitor, q: str
) -> None:
    ada = await visitor.register()
    event = await ada.organise(name="100% a_b \\ c")
    await ada.organise(name="100 acb c")
    found = (await ada.get("/api/events", q=q)).json()["items"]
    assert [each["id"] for each in found] == [event]


async def test_a_renamed_event_is_found_only_by_its_new_name(visitor: Visitor) -> None:
    ada = await visitor.register()
    event = await ada.organise(name="Konzert")
    await ada.patch(f"/api/events/{event}", {"name": "Théâtre"})
    assert (await ada.get("/api/events", q="konzert")).json()["items"] == []
    assert [e["id"] for e in (await ada.get("/api/events", q="theatre")).json()["items"]] == [event]


async def test_events_of_the_previous_version_are_found_once_their_names_are_folded(
    visitor: Visitor, app: FastAPI, engine: AsyncEngine
) -> None:
    ada = await visitor.register()
    event = await ada.organise(name="Théâtre")
    async with engine.begin() as connection:
        await connection.execute(text("UPDATE events SET name_folded = NULL"))
    assert (await ada.get("/api/events", q="theatre")).json()["items"] == []
    await app.state.provided[Sale].events.fold_names()
    assert [e["id"] for e in (await ada.get("/api/events", q="theatre")).json()["items"]] == [event]
