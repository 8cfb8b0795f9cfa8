"""The API of local times: both forms, the clock that decides, and changes of the clocks."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.contract import assert_problem
from tests.people import Person, Visitor

CONCERT: dict[str, Any] = {"name": "Chamber music", "capacity": 2}


async def make(person: Person, **more: object) -> dict[str, Any]:
    made = await person.post("/api/events", CONCERT | more)
    assert made.status_code == 201, made.text
    document: dict[str, Any] = made.json()
    return document


async def test_a_sale_opens_by_the_clock_of_the_place_not_of_the_organiser(
    visitor: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", "Europe/Berlin")
    ada = await visitor.register()
    event = await make(ada, timezone="Asia/Singapore", salesOpenAt="2031-01-15T09:00")
    assert event["salesOpenAt"] == "2031-01-15T01:00:00Z"
    assert event["sale"]["opensAt"] == "2031-01-15T01:00:00Z"
    assert event["local"]["salesOpenAt"] == "2031-01-15T09:00:00"


async def test_a_client_whose_clock_is_fast_is_told_how_long_to_wait(visitor: Visitor) -> None:
    ada, bob = await visitor.register(), await visitor.register()
    opens = datetime.now(UTC) + timedelta(minutes=5)
    event = await make(ada, salesOpenAt=opens.isoformat())
    fast = bob.headers | {"Date": opens.strftime("%a, %d %b %Y %H:%M:%S GMT")}
    body = {"eventId": event["id"], "userId": bob.id}
    told = assert_problem(
        await visitor.client.post("/api/events/book", headers=fast, json=body), 409, "sale_not_open"
    )
    assert told["opensAt"] == event["salesOpenAt"]
    assert 0 < told["retryAfter"] <= 300


@pytest.mark.parametrize("zone", ["EST", "GMT+2", "Etc/GMT+2", "Europe/Berln", "", "../UTC"])
async def test_a_zone_without_a_place_is_refused(visitor: Visitor, zone: str) -> None:
    ada = await visitor.register()
    refused = await ada.post("/api/events", CONCERT | {"timezone": zone})
    (error,) = assert_problem(refused, 422, "validation_failed")["errors"]
    assert (error["pointer"], error["type"]) == ("#/timezone", "timezone_unknown")


@pytest.mark.parametrize("field", ["startsAt", "endsAt", "salesOpenAt", "salesCloseAt"])
async def test_a_time_that_the_clocks_skip_or_repeat_is_refused(
    visitor: Visitor, field: str
) -> None:
    ada = await visitor.register()
    for time, kind in (
        ("2027-03-28T02:30", "time_skipped"),
        ("2026-10-25T02:30", "time_repeated"),
    ):
        refused = await ada.post(
            "/api/events", CONCERT | {"timezone": "Europe/Berlin", field: time}
        )
        (error,) = assert_problem(refused, 422, "validation_failed")["errors"]
        assert (error["pointer"], error["type"]) == (f"#/{field}", kind)


async def test_a_time_that_exists_twice_is_two_instants_an_hour_apart(visitor: Visitor) -> None:
    ada = await visitor.register()
    first, second = [
        await make(ada, timezone="Europe/Berlin", startsAt=f"2026-10-25T02:30:00{offset}")
        for offset in ("+02:00", "+01:00")
    ]
    assert first["startsAt"] == "2026-10-25T00:30:00Z"
    assert second["startsAt"] == "2026-10-25T01:30:00Z"
    assert first["local"] == second["local"]


async def test_an_event_that_is_set_in_winter_keeps_its_reading_in_summer(visitor: Visitor) -> None:
    ada = await visitor.register()
    winter = {"startsAt": "2027-01-15T10:00", "endsAt": "2027-01-15T12:00"}
    summer = {"startsAt": "2027-07-15T10:00", "endsAt": "2027-07-15T12:00"}
    event = await make(ada, timezone="America/Denver", **winter)
    assert (event["startsAt"], event["endsAt"]) == ("2027-01-15T17:00:00Z", "2027-01-15T19:00:00Z")
    path = f"/api/events/{event['id']}"
    moved = (await ada.patch(path, summer)).json()
    assert (moved["startsAt"], moved["endsAt"]) == ("2027-07-15T16:00:00Z", "2027-07-15T18:00:00Z")
    copied = (await ada.post(f"{path}/copies", {"startsAt": [winter["startsAt"]]})).json()
    for each, given in ((moved, summer), (copied["items"][0], winter)):
        assert each["local"]["startsAt"] == given["startsAt"] + ":00"
        assert each["local"]["endsAt"] == given["endsAt"] + ":00"


async def test_a_filter_by_time_finds_exactly_what_is_between(visitor: Visitor) -> None:
    ada = await visitor.register()
    # The day on which the clocks of Berlin change, in the afternoon.
    starts = ["13:00", "13:59:59.999999", "14:00", "14:04:59.999999", "14:05", "15:00"]
    ids = [
        (await make(ada, timezone="Europe/Berlin", startsAt=f"2027-03-28T{start}"))["id"]
        for start in starts
    ]
    wanted = {"from": "2027-03-28T14:00:00+02:00", "to": "2027-03-28T14:05:00+02:00"}
    found = (await visitor.client.get("/api/events", params=wanted)).json()["items"]
    assert [each["id"] for each in found] == [ids[3], ids[2]]
