"""Calendars of an event and of a person."""

from typing import Any

import httpx
from icalendar import Calendar

from tests.contract import assert_problem
from tests.people import Visitor

DETAILS = {
    "name": "Chamber music",
    "capacity": 10,
    "timezone": "Europe/Berlin",
    "startsAt": "2037-11-02T19:30",
    "endsAt": "2037-11-02T22:00",
    "venue": {"name": "Town hall", "address": "Market square 1"},
}


def entry(response: httpx.Response) -> Any:  # noqa: ANN401 - each property has many types
    assert response.status_code == 200, response.text
    (found,) = Calendar.from_ical(response.content).events
    return found


async def test_a_change_of_an_event_replaces_its_entry_in_calendars(visitor: Visitor) -> None:
    ada = await visitor.register()
    event = (await ada.post("/api/events", DETAILS | {"visibility": "unlisted"})).json()["id"]
    path = f"/api/events/{event}.ics"
    first = await visitor.client.get(path)
    assert first.headers["content-type"] == "text/calendar; charset=utf-8"
    before = entry(first)
    assert str(before["location"]) == "Town hall, Market square 1"
    assert before.start.isoformat() == "2037-11-02T19:30:00+01:00"
    known = {"If-None-Match": first.headers["etag"]}
    await ada.book(event)  # A booking changes nothing in the calendar.
    again = await visitor.client.get(path, headers=known)
    assert (again.status_code, again.content) == (304, b"")
    await ada.patch(f"/api/events/{event}", {"startsAt": "2037-11-02T20:00"})
    moved = entry(await visitor.client.get(path, headers=known))
    assert moved["uid"] == before["uid"]
    assert moved["sequence"] > before["sequence"]
    assert moved.start.isoformat() == "2037-11-02T20:00:00+01:00"
    await ada.post(f"/api/events/{event}/cancel", None)
    cancelled = entry(await visitor.client.get(path))
    assert (cancelled["uid"], str(cancelled["status"])) == (before["uid"], "CANCELLED")
    assert cancelled["sequence"] > moved["sequence"]


async def test_a_calendar_shows_what_the_event_shows(visitor: Visitor) -> None:
    ada, eve = await visitor.register(), await visitor.register()
    draft = (await ada.post("/api/events", DETAILS | {"status": "draft"})).json()["id"]
    for person in (visitor, eve):
        headers = getattr(person, "headers", {})
        refused = await visitor.client.get(f"/api/events/{draft}.ics", headers=headers)
        assert_problem(refused, 404, "event_not_found")
    assert str(entry(await ada.get(f"/api/events/{draft}.ics"))["status"]) == "TENTATIVE"
    undated = await visitor.client.get(f"/api/events/{await ada.organise()}.ics")
    assert_problem(undated, 409, "event_undated")
    for unknown in ("999999", "x", ""):
        answer = await visitor.client.get(f"/api/events/{unknown}.ics")
        assert answer.status_code in {404, 422}
    assert_problem(await visitor.client.post(f"/api/events/{draft}.ics"), 405, "method_not_allowed")


async def test_a_persons_calendar_has_the_events_that_they_have_places_at(
    visitor: Visitor,
) -> None:
    ada, bob = await visitor.register(), await visitor.register()
    path = "/api/users/me/calendar.ics"
    bodies = [DETAILS | {"name": name, "capacity": 1} for name in ("One", "Two", "Left", "Full")]
    one, two, left, full = [(await ada.post("/api/events", body)).json()["id"] for body in bodies]
    await ada.book(full)
    for event in (one, two, left, full, await ada.organise()):
        assert (await bob.book(event)).is_success
    await bob.cancel(left)
    await ada.post(f"/api/events/{two}/cancel", None)
    program = await bob.make_key("bookings:read")
    found = await program.get(path)
    shown = {str(each["summary"]): each for each in Calendar.from_ical(found.content).events}
    assert {name: str(each["status"]) for name, each in shown.items()} == {
        "One": "CONFIRMED",
        "Two": "CANCELLED",
    }
    # So programs that have both show one.
    assert shown["One"]["uid"] == entry(await bob.get(f"/api/events/{one}.ics"))["uid"]
    headers = bob.headers | {"If-None-Match": found.headers["etag"]}
    assert (await bob.client.get(path, headers=headers)).status_code == 304
    assert_problem(await visitor.client.get(path), 401, "not_authenticated")
    stranger = await bob.make_key("events:write")
    assert_problem(await stranger.get(path), 403, "insufficient_scope")
    assert Calendar.from_ical((await (await visitor.register()).get(path)).content).events == []
