"""Devices without network: what they are given, and what they upload."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from fastapi import FastAPI
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.contract import assert_problem
from tests.door.scenes import Gala, pass_on, put_lists, scan
from tests.people import Visitor
from ticketing.door import codes
from ticketing.door.part import Door
from ticketing.door.rules import Case, Verdict, judge


class Device:
    """A device at the door that keeps what it was given, and judges by it."""

    def __init__(self, gala: Gala, app: FastAPI) -> None:
        self.gala = gala
        self.app = app
        self.tickets: dict[str, dict[str, Any]] = {}
        self.about: dict[str, Any] = {}

    async def load(self, limit: int = 1_000) -> "Device":
        """Load everything, page by page."""
        self.tickets = {}
        page: dict[str, Any] = {}
        while True:
            self._take(await self._get(limit=limit, **page))
            if self.about["isComplete"]:
                return self
            page = {"page": self.about["nextPage"]}

    async def update(self) -> "Device":
        """Load what changed."""
        while True:
            self._take(await self._get(since=self.about["version"]))
            if self.about["isComplete"]:
                return self

    async def _get(self, **asked: Any) -> dict[str, Any]:  # noqa: ANN401 - parameters
        path = f"/api/events/{self.gala.event}/door-manifest"
        answer = await self.gala.owner.get(path, **asked)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def _take(self, given: dict[str, Any]) -> None:
        self.about = {name: value for name, value in given.items() if name != "items"}
        self.tickets |= {each["id"]: each for each in given["items"]}

    async def judge(
        self, code: str, *, name: str | None = None, at: datetime | None = None
    ) -> Verdict:
        """Return what the device shows without network."""
        read = codes.read(code, (await self.app.state.provided[Door].keys.current()).public)
        if read is None:
            return Verdict.INVALID_CODE
        rules = next(e for e in self.about["lists"] if name in {None, e["name"]})
        said = {"event": read.event_id, "generation": read.generation}
        ticket = self.tickets.get(str(read.ticket_id))
        when = (at or datetime.now(UTC)).timestamp()
        return judge(Case(self.about["event"], rules, ticket, said, "in", when, offline=True))


async def upload(gala: Gala, *items: dict[str, object], sent_at: datetime) -> list[dict[str, Any]]:
    path = f"/api/events/{gala.event}/check-ins/bulk"
    made = await gala.owner.post(path, {"sentAt": sent_at.isoformat(), "items": items})
    assert made.status_code == 200, made.text
    found: list[dict[str, Any]] = made.json()["items"]
    return found


def offline(ticket: str, at: datetime, **more: object) -> dict[str, object]:
    scanned = {"scanId": str(uuid4()), "ticketId": ticket, "scannedAt": at.isoformat()}
    return scanned | {"verdict": "admitted"} | more


async def test_a_device_without_network_says_what_the_service_says(
    visitor: Visitor, app: FastAPI
) -> None:
    price = {"amount": 1000, "currency": "EUR"}
    types = [{"name": "A", "price": price}, {"name": "B", "price": price}]
    gala, other = await Gala.open(visitor, ticketTypes=types), await Gala.open(visitor)
    bob, eve = [await visitor.register() for _ in range(2)]
    await put_lists(
        gala,
        {"name": "A", "ticketTypeIds": [gala.types[0]]},
        {"name": "B", "ticketTypeIds": [gala.types[1]], "reentry": True, "needsPayment": True},
    )
    sold = {kind: await gala.sell(bob if kind == 0 else eve, 5, kind=kind) for kind in range(2)}
    shown = {
        ticket: (await gala.ticket(ticket))["code"] for those in sold.values() for ticket in those
    }
    elsewhere = (await other.sell())[0]
    shown[elsewhere] = (await other.ticket(elsewhere))["code"]
    for those, person in ((sold[0], bob), (sold[1], eve)):
        booking = (await gala.ticket(those[0]))["bookingId"]
        await person.post(f"/api/bookings/{booking}/cancel", {"ticketIds": [those[0]]})
        await gala.owner.post(f"/api/tickets/{those[1]}/reissue", None)
        await gala.owner.patch(f"/api/tickets/{those[2]}", {"validFrom": "2100-01-01T00:00:00Z"})
        await gala.owner.patch(f"/api/tickets/{those[3]}", {"validUntil": "2020-01-01T00:00:00Z"})
    device = await Device(gala, app).load()
    codes_of = [*shown.values(), "TKT1:nonsense"]
    seen = set()
    for payment in (False, True):
        if payment:
            booking = (await gala.ticket(sold[1][0]))["bookingId"]
            paid = {"reference": "order-1", "amount": 5000}
            await gala.owner.post(f"/api/bookings/{booking}/payments", paid)
            await device.update()
        for name in ("A", "B"):
            for code in codes_of:
                expected = await device.judge(code, name=name)
                assert (await scan(gala, code=code, list=name))["verdict"] == expected
                seen.add(str(expected))
                await device.update()
                # After it was used, too.
                expected = await device.judge(code, name=name)
                assert (await scan(gala, code=code, list=name))["verdict"] == expected
                seen.add(str(expected))
    assert seen == {
        *("cancelled", "revoked", "wrong_type_for_gate", "too_early", "too_late"),
        *("already_used", "wrong_event", "invalid_code", "admitted", "unpaid"),
    }
    # What it can't judge it names.
    (late,) = await gala.sell()
    assert await device.judge((await gala.ticket(late))["code"]) is Verdict.ASK_ONLINE
    assert "tickets that were booked after `version`" in device.about["notJudgedOffline"]


@pytest.mark.parametrize("late_first", [False, True])
async def test_the_first_entry_is_the_one_that_happened_first_whatever_the_clocks_say(
    visitor: Visitor, *, late_first: bool
) -> None:
    gala = await Gala.open(visitor)
    (ticket,) = await gala.sell()
    now = datetime.now(UTC)
    ahead = timedelta(hours=2)
    # The clock of the first is two hours fast. It happened an hour ago, the second half an hour.
    fast = offline(ticket, now - timedelta(hours=1) + ahead, gate="N")
    right = offline(ticket, now - timedelta(minutes=30), gate="S")
    uploads = [(fast, now + ahead), (right, now)]
    for item, sent_at in reversed(uploads) if late_first else uploads:
        for _ in range(2):  # To upload it again changes nothing.
            (made,) = await upload(gala, item, sent_at=sent_at)
            assert made["error"] is None
    found = (await gala.owner.get(f"/api/events/{gala.event}/check-ins")).json()
    by_gate = {each["gate"]: each for each in found["items"]}
    assert found["counts"]["all"]["entries"] == len(found["items"]) == 2
    assert (by_gate["N"]["conflict"], by_gate["S"]["conflict"]) == (False, True)
    assert {each["verdict"] for each in by_gate.values()} == {"admitted"}
    # Both times are kept.
    assert datetime.fromisoformat(by_gate["N"]["scannedAt"]) == now - timedelta(hours=1) + ahead
    happened = datetime.fromisoformat(by_gate["N"]["happenedAt"])
    assert abs(happened - (now - timedelta(hours=1))) < timedelta(minutes=1)
    assert datetime.fromisoformat(by_gate["N"]["receivedAt"]) >= now
    conflicts = await gala.owner.get(f"/api/events/{gala.event}/check-ins", conflict="true")
    assert [each["gate"] for each in conflicts.json()["items"]] == ["S"]
    later = await scan(gala, ticketId=ticket)
    assert (later["verdict"], later["first"]["gate"]) == ("already_used", "N")
    # If the first entry is taken back, the other is the first.
    undo = f"/api/events/{gala.event}/check-ins/{fast['scanId']}/undo"
    await gala.owner.post(undo, {"reason": "Somebody else's"})
    conflicts = await gala.owner.get(f"/api/events/{gala.event}/check-ins", conflict="true")
    assert conflicts.json()["items"] == []


async def test_an_entry_that_is_uploaded_late_shows_the_conflict_at_the_service(
    visitor: Visitor,
) -> None:
    gala = await Gala.open(visitor)
    bob, eve = [await visitor.register() for _ in range(2)]
    used, passed_on = await gala.sell(bob, 2)
    code = (await gala.ticket(passed_on))["code"]
    online = await scan(gala, ticketId=used, gate="online")
    await pass_on(passed_on, bob, eve)
    now = datetime.now(UTC)
    before = now - timedelta(minutes=10)
    first, old = await upload(
        gala,
        offline(used, before, gate="offline"),
        {k: v for k, v in offline("", now, code=code).items() if k != "ticketId"},
        sent_at=now,
    )
    assert (first["checkIn"]["judged"], first["checkIn"]["conflict"]) == ("admitted", False)
    assert (old["checkIn"]["judged"], old["checkIn"]["conflict"]) == ("revoked", True)
    found = (await gala.owner.get(f"/api/events/{gala.event}/check-ins", conflict="true")).json()
    assert {each["scanId"] for each in found["items"]} == {
        online["scanId"],
        old["checkIn"]["scanId"],
    }
    # What the person at the gate was told stays as it was.
    assert {each["verdict"] for each in found["items"]} == {"admitted"}


async def test_a_person_who_passed_without_a_ticket_of_the_event_is_a_conflict(
    visitor: Visitor,
) -> None:
    gala, other = await Gala.open(visitor), await Gala.open(visitor)
    (ticket,) = await gala.sell()
    (elsewhere,) = await other.sell()
    now = datetime.now(UTC)
    code = (await other.ticket(elsewhere))["code"]
    scans = [
        offline(str(uuid4()), now),
        offline("", now, code="TKT1:FORGED") | {"ticketId": None},
        offline("", now, code=code) | {"ticketId": None},
        offline(elsewhere, now),
        offline(str(uuid4()), now, verdict="unknown_ticket"),
        offline(ticket, now),
    ]
    found = [each["checkIn"] for each in await upload(gala, *scans, sent_at=now)]
    assert [(each["judged"], each["conflict"]) for each in found] == [
        ("unknown_ticket", True),
        ("invalid_code", True),
        ("wrong_event", True),
        ("unknown_ticket", True),
        ("unknown_ticket", False),
        ("admitted", False),
    ]
    again = [each["checkIn"] for each in await upload(gala, *scans, sent_at=now)]
    assert again == found
    path = f"/api/events/{gala.event}/check-ins"
    listed = (await gala.owner.get(path, conflict="true")).json()
    assert [each["scanId"] for each in reversed(listed["items"])] == [
        each["scanId"] for each in scans[:4]
    ]
    assert listed["counts"]["all"]["conflicts"] == 4


async def test_one_broken_scan_of_an_upload_fails_alone(visitor: Visitor) -> None:
    gala = await Gala.open(visitor)
    (ticket,) = await gala.sell()
    now = datetime.now(UTC)
    good = offline(ticket, now)
    found = await upload(
        gala,
        {"scanId": "none"},
        good,
        good | {"direction": "out"},
        offline(ticket, now, list="nowhere"),
        offline(ticket, now, unknown=1),
        offline(ticket, now, code="x"),
        offline(ticket, now, verdict="perhaps"),
        offline(ticket, now, verdict="already_used"),
        sent_at=now,
    )
    codes_of = [each["error"] and each["error"]["code"] for each in found]
    wrong = "validation_failed"
    assert codes_of == [
        *(wrong, None, "scan_reused", "door_list_not_found"),
        *(wrong, wrong, wrong, None),
    ]
    assert found[0]["scanId"] == "none"
    assert found[1]["checkIn"]["scanId"] == good["scanId"]
    counts = (await gala.owner.get(f"/api/events/{gala.event}/check-ins")).json()["counts"]
    assert (counts["all"]["entries"], counts["all"]["refused"]) == (1, 1)


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["sell", "scan", "out", "undo", "cancel", "reissue", "name", "offline"]),
        st.integers(0, 5),
    ),
    max_size=14,
)


async def test_all_that_changed_is_the_same_as_all_anew(  # noqa: C901 - a branch for each step
    visitor: Visitor, app: FastAPI
) -> None:
    gala = await Gala.open(visitor, maxBookingsPerPerson=100, capacity=1_000)
    await put_lists(gala, {"name": "main", "reentry": True}, {"name": "other"})
    sold = await gala.sell(places=2)
    device = await Device(gala, app).load()
    scans: list[str] = []

    async def do(step: str, number: int) -> None:
        ticket = sold[number % len(sold)]
        if step == "sell":
            sold.extend(await gala.sell(places=number + 1, kind=number % 2))
        elif step in {"scan", "out"}:
            direction = "in" if step == "scan" else "out"
            name = "main" if number % 3 else "other"
            made = await scan(gala, ticketId=ticket, direction=direction, list=name)
            scans.append(made["scanId"])
        elif step == "undo" and scans:
            path = f"/api/events/{gala.event}/check-ins/{scans[number % len(scans)]}/undo"
            await gala.owner.post(path, {"reason": "x"})
        elif step == "cancel":
            booking = (await gala.ticket(ticket))["bookingId"]
            await gala.owner.post(f"/api/bookings/{booking}/cancel", {"ticketIds": [ticket]})
        elif step == "reissue":
            await gala.owner.post(f"/api/tickets/{ticket}/reissue", None)
        elif step == "name":
            await gala.owner.patch(f"/api/tickets/{ticket}", {"name": f"Name {number}"})
        elif step == "offline":
            now = datetime.now(UTC)
            at = now - timedelta(minutes=number)
            await upload(gala, offline(ticket, at), sent_at=now)

    histories: list[list[tuple[str, int]]] = []

    @settings(
        max_examples=12,
        database=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
        deadline=None,
    )
    @given(STEPS)
    def remember(history: list[tuple[str, int]]) -> None:
        histories.append(history)

    remember()
    for number, history in enumerate(histories):
        for step, which in history:
            await do(step, which)
        await device.update()
        fresh = await Device(gala, app).load(limit=1 + number)
        assert device.tickets == fresh.tickets, history
        # All else is sent whole, and only the time differs.
        rest = ("event", "lists", "ticketTypes", "keys", "say", "notJudgedOffline")
        assert all(device.about[each] == fresh.about[each] for each in rest)
        assert device.about["version"] == fresh.about["version"]


async def test_pages_that_are_read_while_tickets_change_are_brought_up_to_date(
    visitor: Visitor, app: FastAPI
) -> None:
    gala = await Gala.open(visitor)
    sold = [(await gala.sell())[0] for _ in range(4)]
    device = Device(gala, app)
    first = await device._get(limit=2)
    device._take(first)
    await gala.owner.post(f"/api/tickets/{sold[0]}/reissue", None)
    await gala.sell()
    await scan(gala, ticketId=sold[3])
    device._take(await device._get(limit=2, page=first["nextPage"]))
    while not device.about["isComplete"]:
        device._take(await device._get(limit=2, page=device.about["nextPage"]))
    # Every page has the version of the first.
    assert device.about["version"] == first["version"]
    await device.update()
    fresh = await Device(gala, app).load()
    assert device.tickets == fresh.tickets
    assert UUID(sold[0])
    assert device.tickets[sold[0]]["generation"] == 2
    assert device.tickets[sold[3]]["uses"]["main"]["inside"]


async def test_a_device_that_knows_more_than_the_service_must_load_all_anew(
    visitor: Visitor,
) -> None:
    """After a backup was restored, it would take new changes for old ones."""
    gala = await Gala.open(visitor)
    path = f"/api/events/{gala.event}/door-manifest"
    known = (await gala.owner.get(path)).json()["version"]
    same = await gala.owner.get(path, since=known)
    assert (same.status_code, same.json()["version"], same.json()["isComplete"]) == (
        200,
        known,
        True,
    )
    assert_problem(await gala.owner.get(path, since=known + 1), 422, "invalid_cursor")
