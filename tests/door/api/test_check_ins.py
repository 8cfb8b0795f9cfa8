"""Scans at the door: who comes in, once."""

import asyncio
from collections import Counter
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from tests.contract import assert_problem
from tests.door.scenes import Gala, pass_on, put_lists, scan
from tests.people import Visitor
from ticketing.door import base45, codes
from ticketing.door.part import Door


async def test_a_ticket_comes_in_once_and_a_second_scan_says_when_and_where(
    visitor: Visitor,
) -> None:
    gala = await Gala.open(visitor)
    staff = await visitor.register()
    await gala.owner.appoint(gala.event, staff, "staff")
    key = await gala.owner.make_key("door")
    (ticket,) = await gala.sell()
    code = (await gala.ticket(ticket))["code"]
    body = {"scanId": str(uuid4()), "code": code, "gate": "North"}
    first = await scan(gala, staff, **body)
    assert (first["verdict"], first["ticketId"], first["first"]) == ("admitted", ticket, None)
    assert first["say"] == "Welcome. Let them in."
    assert first["name"]
    # The same scan again, from any device, is the same answer.
    assert await scan(gala, key, **body) == first
    again = await scan(gala, key, code=code, gate="South")
    assert again["verdict"] == "already_used"
    assert again["first"] == {"at": first["happenedAt"], "gate": "North"}
    by_name = await scan(gala, ticketId=ticket)
    assert by_name["first"] == again["first"]
    other = await gala.owner.post(
        f"/api/events/{gala.event}/check-ins", body | {"direction": "out"}
    )
    assert_problem(other, 409, "scan_reused")
    trail = (await gala.owner.get(f"/api/events/{gala.event}/trail", limit=3)).json()["items"]
    assert [each["details"]["verdict"] for each in trail] == [
        *("already_used", "already_used", "admitted"),
    ]


async def test_each_refusal_says_what_to_do(visitor: Visitor, app: FastAPI) -> None:
    gala, other = await Gala.open(visitor), await Gala.open(visitor)
    bob, eve = [await visitor.register() for _ in range(2)]
    gone, passed_on, used = await gala.sell(bob, 3)
    (lounge,) = await gala.sell(kind=1)
    (elsewhere,) = await other.sell()
    await put_lists(
        gala,
        {"name": "hall", "ticketTypeIds": [gala.types[0]]},
        {"name": "lounge", "ticketTypeIds": [gala.types[1]]},
    )
    shown = {
        each: (await of.ticket(each))["code"]
        for of, tickets in ((gala, (gone, passed_on, used, lounge)), (other, (elsewhere,)))
        for each in tickets
    }
    booking = (await gala.ticket(gone))["bookingId"]
    await bob.post(f"/api/bookings/{booking}/cancel", {"ticketIds": [gone]})
    await pass_on(passed_on, bob, eve)
    await scan(gala, code=shown[used])
    assert await verdicts(
        gala,
        ({"code": shown[gone]}, "cancelled"),
        ({"ticketId": gone}, "cancelled"),
        ({"code": shown[passed_on]}, "revoked"),
        ({"code": shown[used]}, "already_used"),
        ({"code": shown[elsewhere]}, "wrong_event"),
        ({"ticketId": elsewhere}, "unknown_ticket"),
        ({"ticketId": str(uuid4())}, "unknown_ticket"),
        ({"code": shown[lounge]}, "wrong_type_for_gate"),
        ({"code": shown[lounge], "list": "lounge"}, "admitted"),
        ({"code": "TKT1:nonsense"}, "invalid_code"),
        ({"code": shown[used], "direction": "out"}, "left"),
        ({"code": shown[used], "direction": "out"}, "not_inside"),
        # The new holder comes in with the new code.
        ({"code": (await gala.ticket(passed_on))["code"]}, "admitted"),
    )
    # A code that is signed, but by nobody's ticket.
    keys = await app.state.provided[Door].keys.current()
    forged = codes.write(codes.Claims(keys.signing_id, gala.event, uuid4(), 1), keys.signing)
    assert await verdicts(gala, ({"code": forged}, "unknown_ticket"))
    path = f"/api/events/{gala.event}/check-ins"
    nowhere = await gala.owner.post(path, {"scanId": str(uuid4()), "ticketId": gone, "list": "x"})
    assert_problem(nowhere, 404, "door_list_not_found")
    for body in ({}, {"code": "x", "ticketId": gone}):
        refused = await gala.owner.post(path, {"scanId": str(uuid4())} | body)
        assert_problem(refused, 422, "validation_failed")


async def verdicts(gala: Gala, *cases: tuple[dict[str, object], str]) -> bool:
    for body, expected in cases:
        found = await scan(gala, **body)
        assert found["verdict"] == expected, body
        assert found["say"]
    return True


async def test_no_code_that_was_not_given_out_for_this_ticket_comes_in(visitor: Visitor) -> None:
    gala, other = await Gala.open(visitor), await Gala.open(visitor)
    (ticket,) = await gala.sell()
    (elsewhere,) = await other.sell()
    old = (await gala.ticket(ticket))["code"]
    await gala.owner.post(f"/api/tickets/{ticket}/reissue", None)
    code = (await gala.ticket(ticket))["code"]
    alphabet = base45.ALPHABET
    attacks = [old, (await other.ticket(elsewhere))["code"]]
    attacks += [
        code[:place] + alphabet[(alphabet.index(code[place]) + 1) % 45] + code[place + 1 :]
        for place in range(5, len(code))
    ]
    found = [await scan(gala, code=each) for each in attacks]
    assert {each["verdict"] for each in found} == {"revoked", "wrong_event", "invalid_code"}
    assert (await scan(gala, code=code))["verdict"] == "admitted"


async def test_lists_have_their_own_entries_and_may_let_people_out_and_in_again(
    visitor: Visitor,
) -> None:
    gala = await Gala.open(visitor)
    await put_lists(gala, {"name": "day 1", "reentry": True}, {"name": "day 2"})
    (ticket,) = await gala.sell()
    assert await verdicts(
        gala,
        ({"ticketId": ticket, "direction": "out"}, "not_inside"),
        ({"ticketId": ticket}, "admitted"),
        ({"ticketId": ticket}, "already_used"),
        ({"ticketId": ticket, "direction": "out"}, "left"),
        ({"ticketId": ticket}, "admitted"),
        ({"ticketId": ticket, "list": "day 2"}, "admitted"),
        ({"ticketId": ticket, "list": "day 2", "direction": "out"}, "left"),
        ({"ticketId": ticket, "list": "day 2"}, "already_used"),
    )


async def test_a_list_can_refuse_what_is_not_paid(visitor: Visitor) -> None:
    price = {"name": "Seat", "price": {"amount": 1000, "currency": "EUR"}}
    gala = await Gala.open(visitor, ticketTypes=[price])
    await put_lists(gala, {"name": "main", "needsPayment": True})
    (ticket,) = await gala.sell()
    assert await verdicts(gala, ({"ticketId": ticket}, "unpaid"))
    booking = (await gala.ticket(ticket))["bookingId"]
    paid = {"reference": "order-1", "amount": 1000}
    await gala.owner.post(f"/api/bookings/{booking}/payments", paid)
    assert await verdicts(gala, ({"ticketId": ticket}, "admitted"))


async def test_the_window_follows_the_event_unless_it_was_set_for_the_ticket(
    visitor: Visitor,
) -> None:
    now = datetime.now(UTC)

    def at(**more: int) -> str:
        return (now + timedelta(**more)).isoformat()

    # It starts in two hours, and is then moved to have begun.
    gala = await Gala.open(visitor, startsAt=at(hours=2), endsAt=at(hours=10))
    await put_lists(gala, {"name": "main", "opensBefore": 0})
    follows, own = await gala.sell(places=2)
    code = (await gala.ticket(follows))["code"]
    await gala.owner.patch(f"/api/tickets/{own}", {"validFrom": at(hours=1)})
    early = await scan(gala, code=code)
    assert (early["verdict"], early["window"]["source"]) == ("too_early", "event")
    event = (await gala.owner.get(f"/api/events/{gala.event}")).json()
    for told, of in (("since", "startsAt"), ("until", "endsAt")):
        # Devices count in whole seconds, and the service decides as they do.
        exact = datetime.fromisoformat(event[of])
        assert datetime.fromisoformat(early["window"][told]) == exact.replace(microsecond=0)
    await gala.owner.patch(f"/api/events/{gala.event}", {"startsAt": at(minutes=-5)})
    assert (await scan(gala, code=code))["verdict"] == "admitted"
    still = await scan(gala, ticketId=own)
    assert (still["verdict"], still["window"]["source"]) == ("too_early", "ticket")
    await gala.owner.patch(f"/api/tickets/{own}", {"validFrom": None, "validUntil": at(hours=-1)})
    assert (await scan(gala, ticketId=own))["verdict"] == "too_late"


async def test_a_ticket_with_which_somebody_came_in_is_not_passed_on(visitor: Visitor) -> None:
    gala = await Gala.open(visitor)
    bob, eve = [await visitor.register() for _ in range(2)]
    (ticket,) = await gala.sell(bob)
    token = (await bob.post(f"/api/tickets/{ticket}/transfers", None)).json()["token"]
    entry = await scan(gala, ticketId=ticket)
    accept = await eve.post("/api/tickets/accept", {"token": token})
    assert_problem(accept, 409, "ticket_used")
    assert_problem(await bob.post(f"/api/tickets/{ticket}/transfers", None), 409, "ticket_used")
    # A scan that was taken back let nobody in.
    undo = f"/api/events/{gala.event}/check-ins/{entry['scanId']}/undo"
    undone = await gala.owner.post(undo, {"reason": "Wrong person"})
    assert undone.json()["undoneReason"] == "Wrong person"
    again = await gala.owner.post(undo, {"reason": "Twice"})
    assert again.json()["undoneReason"] == "Wrong person"
    repeated = await scan(gala, ticketId=ticket, scanId=entry["scanId"])
    assert (repeated["verdict"], repeated["undoneAt"]) == ("admitted", again.json()["undoneAt"])
    for each in (undone.json(), repeated):
        assert each["say"] == "This scan was taken back. Scan the ticket again."
    assert (await eve.post("/api/tickets/accept", {"token": token})).status_code == 200
    code = (await gala.ticket(ticket))["code"]
    assert (await scan(gala, code=code))["verdict"] == "admitted"
    nothing = f"/api/events/{gala.event}/check-ins/{uuid4()}/undo"
    assert_problem(await gala.owner.post(nothing, {"reason": "x"}), 404, "scan_not_found")


async def test_a_transfer_and_an_entry_at_once_are_never_both_done(visitor: Visitor) -> None:
    gala = await Gala.open(visitor)
    bob, eve = [await visitor.register() for _ in range(2)]
    lines = [{"ticketTypeId": gala.types[0], "quantity": 60}]
    await gala.owner.patch(f"/api/events/{gala.event}", {"maxTicketsPerPerson": 100})
    body = {"eventId": gala.event, "userId": bob.id, "lines": lines}
    booking = (await gala.owner.post("/api/events/book", body)).json()["id"]
    for ticket in await gala.tickets(booking):
        old = (await gala.ticket(ticket))["code"]
        token = (await bob.post(f"/api/tickets/{ticket}/transfers", None)).json()["token"]
        accepted, entry = await asyncio.gather(
            eve.post("/api/tickets/accept", {"token": token}), scan(gala, code=old)
        )
        assert (accepted.status_code, entry["verdict"]) in {(200, "revoked"), (409, "admitted")}


async def test_of_many_scans_at_once_one_is_admitted(visitor: Visitor) -> None:
    gala = await Gala.open(visitor)
    tickets = await gala.sell(places=5)
    answers = await asyncio.gather(
        *[scan(gala, ticketId=each, gate=str(gate)) for each in tickets for gate in range(20)]
    )
    told = Counter((each["ticketId"], each["verdict"]) for each in answers)
    assert told == {
        **{(each, "admitted"): 1 for each in tickets},
        **{(each, "already_used"): 19 for each in tickets},
    }
    # A scan that is sent twice at the same moment is one.
    (ticket,) = await gala.sell()
    body = {"scanId": str(uuid4()), "ticketId": ticket}
    twice = await asyncio.gather(*[scan(gala, **body) for _ in range(10)])
    assert twice == [twice[0]] * 10
    assert twice[0]["verdict"] == "admitted"


async def test_an_entry_counts_although_the_clock_of_the_database_was_ahead(
    visitor: Visitor, engine: AsyncEngine
) -> None:
    gala = await Gala.open(visitor)
    await put_lists(gala, {"name": "main", "reentry": True})
    (ticket,) = await gala.sell()
    await scan(gala, ticketId=ticket)
    async with engine.begin() as connection:
        ahead = "UPDATE check_ins SET happened_at = happened_at + interval '1 hour'"
        await connection.execute(text(ahead))
    assert await verdicts(
        gala,
        ({"ticketId": ticket}, "already_used"),
        ({"ticketId": ticket, "direction": "out"}, "left"),
        ({"ticketId": ticket}, "admitted"),
        ({"ticketId": ticket}, "already_used"),
    )


async def test_scans_are_counted_by_type_gate_and_minute(visitor: Visitor) -> None:
    gala = await Gala.open(visitor)
    hall, lounge = await gala.sell(places=2), await gala.sell(kind=1)
    for ticket, gate in ((hall[0], "N"), (hall[0], "S"), (hall[1], "S"), (lounge[0], "N")):
        last = await scan(gala, ticketId=ticket, gate=gate)
    await scan(gala, code="unknown", gate="S")
    await gala.owner.post(
        f"/api/events/{gala.event}/check-ins/{last['scanId']}/undo", {"reason": "Mistake"}
    )
    found = (await gala.owner.get(f"/api/events/{gala.event}/check-ins", limit=2)).json()
    assert [each["verdict"] for each in found["items"]] == ["invalid_code", "admitted"]
    counts = found["counts"]
    assert (counts["all"]["entries"], counts["all"]["refused"]) == (2, 2)
    by_type = {each["ticketTypeId"]: each["entries"] for each in counts["byType"]}
    assert by_type == {gala.types[0]: 2, None: 0}
    by_gate = {(each["list"], each["gate"]): each["entries"] for each in counts["byGate"]}
    assert by_gate == {("main", "N"): 1, ("main", "S"): 1}
    assert sum(each["entries"] for each in counts["byMinute"]) == 2
    path = f"/api/events/{gala.event}/check-ins"
    rest = await gala.owner.get(path, limit=100, cursor=found["nextCursor"])
    assert len(rest.json()["items"]) == 3
    nothing = (await gala.owner.get(f"/api/events/{await gala.owner.organise()}/check-ins")).json()
    assert nothing["items"] == []
    assert nothing["counts"]["all"]["entries"] == 0


@pytest.mark.parametrize("role", ["manager", "staff", None])
async def test_only_the_team_scans(visitor: Visitor, role: str | None) -> None:
    gala = await Gala.open(visitor)
    person = await visitor.register()
    if role:
        await gala.owner.appoint(gala.event, person, role)
    (ticket,) = await gala.sell()
    path = f"/api/events/{gala.event}/check-ins"
    answer: httpx.Response = await person.post(path, {"scanId": str(uuid4()), "ticketId": ticket})
    assert answer.status_code == (200 if role else 403)
