"""Exports of everybody who has a ticket."""

import asyncio
import csv
import re
from io import StringIO
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from tests.contract import assert_problem
from tests.door.scenes import Gala, pass_on, scan
from tests.holding import held
from tests.people import Visitor
from tests.workers import serving
from ticketing.door.part import Door
from ticketing.door.repositories import attendees
from ticketing.settings import Settings
from ticketing.web import spool
from ticketing.web.sheets import original


def rows_of(response: httpx.Response) -> list[dict[str, str]]:
    assert response.status_code == 200, response.text
    return list(csv.DictReader(StringIO(response.text, newline="")))


async def test_the_export_has_each_ticket_once_with_what_became_of_it(
    visitor: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attendees, "AT_ONCE", 3)  # Pages end in the midst of a booking.
    monkeypatch.setattr(attendees, "NAMES_AT_ONCE", 2)
    gala = await Gala.open(visitor)
    ada, bob, eve = [await visitor.register() for _ in range(3)]
    many = await gala.sell(ada, 5)
    await held(eve, gala.event, lines=[{"ticketTypeId": gala.types[0], "quantity": 1}])
    lounge = await gala.sell(bob, 4, kind=1)
    (alone,) = await gala.sell()
    assert (await pass_on(many[0], ada, eve)).is_success
    await scan(gala, ticketId=many[1])
    booking = (await gala.ticket(lounge[0]))["bookingId"]
    await gala.owner.post(f"/api/bookings/{booking}/cancel", {"ticketIds": lounge[:1]})
    await gala.owner.post(f"/api/bookings/{(await gala.ticket(alone))['bookingId']}/cancel", {})
    assert (await ada.patch(f"/api/tickets/{many[2]}", {"name": "Zoë Ångström"})).is_success
    path = f"/api/events/{gala.event}/attendees"
    program = await gala.owner.make_key("bookings:read")
    exported = await program.get(f"{path}.csv")
    assert exported.headers["content-type"] == "text/csv; charset=utf-8"
    assert exported.text.endswith("\r\n")
    rows = rows_of(exported)
    assert [row["ticketId"] for row in rows] == [*many, *lounge, alone]
    # The same eight that are sold everywhere else.
    valid = [row for row in rows if row["status"] == "valid"]
    sold = sum(each["taken"] for each in (await visitor.event(gala.event))["ticketTypes"])
    assert (len(valid), sold - 1) == (8, 8)  # One is held.
    assert [rows[0][name] for name in ("username", "holderId")] == [eve.username, eve.id]
    assert [bool(row["checkedInAt"]) for row in rows] == [False, True, *[False] * 8]
    document = (await program.get(f"{path}.json")).json()
    assert (document["count"], document["eventId"]) == (10, gala.event)
    as_text = [
        {name: "" if value is None else str(value) for name, value in each.items()}
        for each in document["items"]
    ]
    assert as_text == rows
    for parameters, tickets in (
        ({"type": gala.types[1]}, lounge),
        ({"status": "cancelled"}, [lounge[0], alone]),
        ({"status": "valid", "type": gala.types[1]}, lounge[1:]),
        ({"q": f" {ada.username.upper()} "}, many[1:]),
        ({"q": eve.username}, many[:1]),
        ({"q": "zoe  ANG"}, [many[2]]),
        ({"q": "nobody", "status": "valid"}, []),
    ):
        found = await gala.owner.get(f"{path}.csv", **parameters)
        assert [row["ticketId"] for row in rows_of(found)] == tickets
        found = await gala.owner.get(f"{path}.json", **parameters)
        assert [each["ticketId"] for each in found.json()["items"]] == tickets
        assert found.json()["count"] == len(tickets)
    await gala.owner.appoint(gala.event, bob, "staff")
    assert_problem(await bob.get(f"{path}.csv"), 403, "forbidden")
    await gala.owner.appoint(gala.event, bob, "manager")
    assert (await bob.get(f"{path}.csv", bom=1)).content == b"\xef\xbb\xbf" + exported.content
    door = await gala.owner.make_key("door")
    assert_problem(await door.get(f"{path}.json"), 403, "insufficient_scope")


async def test_names_in_an_export_are_no_formulas(visitor: Visitor) -> None:
    ada = await visitor.register()
    event = await ada.organise(total=100)
    names = ["=1+1", "+49 170 1", "-5", "@SUM(A1)", "Doe, PhD", 'a"b', "'=1", "\uff1d1", "Müller"]
    for number, name in enumerate(names):
        customer = {"externalId": f"+{number}", "name": name, "email": f"+{number}@example.org"}
        made = await ada.post("/api/events/book", {"eventId": event, "customer": customer})
        assert made.is_success, made.text
    path = f"/api/events/{event}/attendees"
    rows = rows_of(await ada.get(f"{path}.csv"))
    assert [original(row["name"]) for row in rows] == names
    assert [original(row["externalId"]) for row in rows] == [f"+{n}" for n in range(len(names))]
    for row in rows:
        for cell in row.values():
            assert not re.match("[\"']*[=+\\-@\t\r\uff1d]", cell) or cell[0] == "'"
    items = (await ada.get(f"{path}.json")).json()["items"]
    assert [each["name"] for each in items] == names


async def test_an_export_is_of_one_moment_and_a_slow_reader_holds_no_transaction(
    visitor: Visitor, app: FastAPI, engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attendees, "AT_ONCE", 1)
    monkeypatch.setattr(spool, "PIECE", 100)
    gala = await Gala.open(visitor)
    tickets = await gala.sell(places=10)
    begun, goes_on = asyncio.Event(), asyncio.Event()
    body = b""

    async def send(message: Any) -> None:  # noqa: ANN401 - ASGI's own
        nonlocal body
        body += message.get("body", b"")
        if body:
            begun.set()
            await goes_on.wait()

    request = asyncio.create_task(
        app(
            {
                "type": "http",
                "method": "GET",
                "path": f"/api/events/{gala.event}/attendees.csv",
                "raw_path": b"",
                "root_path": "",
                "query_string": b"",
                "headers": [(b"authorization", f"Bearer {gala.owner.token}".encode())],
                "client": ("127.0.0.1", 1),
                "server": ("test", 80),
                "scheme": "http",
            },
            asyncio.Event().wait,  # type: ignore[arg-type] # It never leaves.
            send,
        )
    )
    await begun.wait()
    await gala.sell()  # Not of the moment of the export.
    open_ones = text(
        "SELECT count(*) FROM pg_stat_activity WHERE state LIKE 'idle in transaction%'"
        " AND datname = current_database() AND pid <> pg_backend_pid()"
    )
    async with engine.connect() as connection:
        await connection.execution_options(isolation_level="AUTOCOMMIT")
        while await connection.scalar(open_ones):  # noqa: ASYNC110 - PostgreSQL sends no event
            await asyncio.sleep(0.01)
    # Another one has its turn while the first is still read.
    again = rows_of(await gala.owner.get(f"/api/events/{gala.event}/attendees.csv"))
    assert len(again) == 11
    goes_on.set()
    await request
    rows = list(csv.DictReader(StringIO(body.decode(), newline="")))
    assert [row["ticketId"] for row in rows] == tickets


async def test_an_export_that_breaks_off_can_be_told_from_a_whole_one(
    visitor: Visitor,
    app: FastAPI,
    engine: AsyncEngine,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(attendees, "AT_ONCE", 1)
    gala = await Gala.open(visitor)
    eve = await visitor.register()
    await held(eve, gala.event, lines=[{"ticketTypeId": gala.types[0], "quantity": 1}])
    await gala.sell()
    async with serving(app, settings) as worker:

        async def export(form: str) -> bytes:
            request = (
                f"GET /api/events/{gala.event}/attendees.{form} HTTP/1.1\r\nHost: test\r\n"
                f"Authorization: Bearer {gala.owner.token}\r\nConnection: close\r\n\r\n"
            )
            reader, head = await worker.ask(request.encode())
            assert b" 200 OK" in head
            assert b"transfer-encoding: chunked" in head
            return await asyncio.wait_for(reader.read(), 10)

        for form in ("csv", "json"):
            assert (await export(form)).endswith(b"\r\n0\r\n\r\n")
        async with engine.begin() as connection:
            # The page of the hold needs no check-ins. That of the ticket waits in vain.
            await connection.execute(text("LOCK TABLE check_ins"))
            for form in ("csv", "json"):
                broken = await export(form)
                assert broken
                assert not broken.endswith(b"0\r\n\r\n")
                assert b'"count"' not in broken
        worker.close()


async def test_an_export_that_gets_no_turn_is_a_503(
    visitor: Visitor, app: FastAPI, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attendees, "PATIENCE", 0.01)
    gala = await Gala.open(visitor)
    turn = app.state.provided[Door].attendees.turn
    async with turn:
        refused = await gala.owner.get(f"/api/events/{gala.event}/attendees.csv")
        assert_problem(refused, 503, "busy")
    assert rows_of(await gala.owner.get(f"/api/events/{gala.event}/attendees.csv")) == []
