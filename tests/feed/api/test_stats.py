"""What an event has sold, for its team."""

from datetime import UTC, datetime

from fastapi import FastAPI
from sqlalchemy.ext.asyncio import AsyncEngine

from tests.contract import assert_problem
from tests.door.scenes import Gala, put_lists, scan
from tests.feed.counting import count_all
from tests.holding import OFFERS, held
from tests.people import Visitor
from tests.sales import EUR, assert_recounted, book, sale
from ticketing.feed.part import Feed


async def test_statistics_say_what_each_ticket_type_has_sold_and_earned(
    visitor: Visitor, app: FastAPI, engine: AsyncEngine
) -> None:
    ada, bob, eve, fay = [await visitor.register() for _ in range(4)]
    event, ids = await sale(
        ada,
        capacity=3,
        timezone="Europe/Berlin",
        ticketTypes=[{"name": "Seat", "price": EUR}, {"name": "Free"}],
        **OFFERS,
    )
    await book(ada, event, {ids["Seat"]: 1}, for_=bob)
    await held(eve, event, lines=[{"ticketTypeId": ids["Free"], "quantity": 1}])
    gone = (await book(ada, event, {ids["Seat"]: 1})).json()["id"]
    await book(fay, event, {ids["Free"]: 1})
    await ada.post(f"/api/bookings/{gone}/cancel", None)  # The place is offered to Fay.
    await count_all(engine, app.state.provided[Feed].activity)
    found = (await ada.get(f"/api/events/{event}/stats")).json()
    assert [list(each.values()) for each in found["ticketTypes"]] == [
        [ids["Seat"], "Seat", 1, 0, 0, 0, 0, 0, 2500],
        [ids["Free"], "Free", 0, 1, 1, 0, 0, 0, 0],
    ]
    offers = found["offers"]
    assert (offers["open"], offers["ending"], offers["nextEndsAt"] is None) == (1, 0, False)
    assert (found["currency"], found["timezone"]) == ("EUR", "Europe/Berlin")
    totals = [sum(step[name] for step in found["series"]) for name in ("bookings", "cancels")]
    assert (totals, found["interval"]) == ([2, 1], "minute")
    days = (await ada.get(f"/api/events/{event}/stats", interval="day")).json()["series"]
    begins = datetime.fromisoformat(days[0]["at"]).astimezone(UTC)
    assert begins.hour in {22, 23}
    await ada.appoint(event, eve, "staff")
    shown = (await eve.get(f"/api/events/{event}/stats")).json()["ticketTypes"]
    assert [(each["sold"], each["revenue"]) for each in shown] == [(1, None), (0, None)]
    await ada.appoint(event, fay, "manager")
    shown = (await fay.get(f"/api/events/{event}/stats")).json()["ticketTypes"]
    assert [each["revenue"] for each in shown] == [2500, 0]


async def test_only_bookings_that_had_their_places_count_as_cancelled(
    visitor: Visitor, app: FastAPI, engine: AsyncEngine
) -> None:
    ada, bob, eve = [await visitor.register() for _ in range(3)]
    event = await ada.organise(1)
    kept = await held(bob, event)
    await eve.book(event)  # Waits.
    await eve.cancel(event)
    await bob.delete(f"/api/holds/{kept['id']}")
    await bob.book(event)
    waits = await eve.book(event)
    assert waits.status_code == 202
    await bob.cancel(event)  # Eve gets the place.
    await eve.cancel(event)
    await count_all(engine, app.state.provided[Feed].activity)
    found = (await ada.get(f"/api/events/{event}/stats")).json()
    totals = [sum(step[n] for step in found["series"]) for n in ("bookings", "cancels", "waiting")]
    assert totals == [2, 2, 2]
    await assert_recounted(engine)
    # Those who only waited or held never had a ticket.
    exported = (await ada.get(f"/api/events/{event}/attendees.json")).json()["items"]
    assert {each["username"] for each in exported} == {bob.username, eve.username}
    assert [each["status"] for each in exported] == ["cancelled", "cancelled"]


async def test_statistics_say_with_how_many_tickets_somebody_came_in(visitor: Visitor) -> None:
    gala = await Gala.open(visitor)
    inside, again, undone, _ = await gala.sell(places=4)
    (lounge,) = await gala.sell(kind=1)
    await put_lists(gala, {"name": "main", "reentry": True})
    for ticket in (inside, again, undone, lounge):
        assert (await scan(gala, ticketId=ticket))["verdict"] == "admitted"
    await scan(gala, ticketId=again, direction="out")
    await scan(gala, ticketId=again)
    await scan(gala, code="unknown")
    scans = (await gala.owner.get(f"/api/events/{gala.event}/check-ins")).json()["items"]
    (wrong,) = [each["scanId"] for each in scans if each["ticketId"] == undone]
    await gala.owner.post(f"/api/events/{gala.event}/check-ins/{wrong}/undo", {"reason": "x"})
    found = (await gala.owner.get(f"/api/events/{gala.event}/stats")).json()
    assert [each["checkedIn"] for each in found["ticketTypes"]] == [2, 1]


async def test_a_series_that_is_too_long_or_ends_before_it_begins_is_refused(
    visitor: Visitor,
) -> None:
    ada = await visitor.register()
    path = f"/api/events/{await ada.organise()}/stats"
    for parameters, kind in (
        ({"from": "2026-11-02T19:30:00Z", "to": "2026-11-02T19:30:00Z"}, "time_order"),
        ({"from": "2026-11-01T19:30:00Z", "to": "2026-11-02T19:31:00Z"}, "series_too_long"),
        ({"from": "2026-11-01T19:30:00"}, "timezone_aware"),
        ({"to": "0001-01-01T00:00:00Z"}, "time_out_of_range"),
    ):
        refused = assert_problem(await ada.get(path, **parameters), 422, "validation_failed")
        assert [each["type"] for each in refused["errors"]] == [kind]
