"""What an event has sold, for its team."""

from datetime import UTC, datetime

from fastapi import FastAPI
from sqlalchemy.ext.asyncio import AsyncEngine

from tests.contract import assert_problem
from tests.feed.counting import count_all
from tests.holding import OFFERS, held
from tests.people import Visitor
from tests.sales import EUR, book, sale
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
        [ids["Seat"], "Seat", 1, 0, 0, 0, 0, 2500],
        [ids["Free"], "Free", 0, 1, 1, 0, 0, 0],
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
