"""Every change leaves a record of who made it and from where. Records can't be changed."""

import asyncio
from functools import partial
from typing import Any

import asyncpg
import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine

from tests.calls import MIN_ROUNDS
from tests.people import PASSWORD, Person, Visitor
from ticketing.identity.callers import AccessList
from ticketing.identity.operator import Operator
from ticketing.identity.part import Identity
from ticketing.identity.repositories.access import AccessRepository

ADDRESS = "127.0.0.1"
"""The address that httpx calls from."""


async def records(engine: AsyncEngine) -> list[dict[str, Any]]:
    async with engine.connect() as connection:
        rows = await connection.execute(text("SELECT * FROM audit_records ORDER BY seq"))
        return [dict(row) for row in rows.mappings()]


async def trail(person: Person, event: int, **parameters: str | int) -> Any:  # noqa: ANN401 - JSON
    answer = await person.get(f"/api/events/{event}/trail", **parameters)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_every_change_is_recorded_once_and_nothing_else_is(
    visitor: Visitor, engine: AsyncEngine
) -> None:
    ada = await visitor.register()
    bob = await visitor.register()
    event = await ada.organise(name="Chamber music")
    await ada.patch(f"/api/events/{event}", {"name": "Chamber music"})
    await ada.patch(f"/api/events/{event}", {"name": "Jazz"})
    await ada.appoint(event, bob, "staff")
    await ada.delete(f"/api/events/{event}/team/{bob.id}")
    await ada.delete(f"/api/events/{event}/team/{bob.id}")
    program = await ada.make_key("events:write")
    await program.patch(f"/api/events/{event}", {"name": "Blues"})
    (key,) = (await ada.get("/api/users/me/keys")).json()["items"]
    await ada.delete(f"/api/users/me/keys/{key['id']}")
    await ada.appoint(event, bob, "manager")
    await bob.make_key("bookings:read")
    known = AccessRepository(engine, AccessList())
    for _ in "12":
        await known.promote(bob.username)
    change = {"currentPassword": PASSWORD, "newPassword": "another horse"}
    await bob.post("/api/users/me/password", change)
    await bob.post("/api/users/me/password", change)
    await bob.post("/api/users/me/delete", {"password": "another horse"})
    await known.demote(ada.username)
    found = await records(engine)
    person = {ada.id: "ada", bob.id: "bob", "None": None}
    assert [
        (
            each["action"],
            each["event_id"],
            person[str(each["actor"])],
            person[str(each["subject"])],
            {name: value for name, value in each["details"].items() if name != "keyId"},
        )
        for each in found
    ] == [
        ("user.registered", None, "ada", "ada", {}),
        ("user.registered", None, "bob", "bob", {}),
        (
            "event.created",
            event,
            "ada",
            None,
            {"name": "Chamber music", "totalTickets": 10, "status": "published"},
        ),
        ("event.revised", event, "ada", None, {"name": {"from": "Chamber music", "to": "Jazz"}}),
        ("role.granted", event, "ada", "bob", {"role": "staff"}),
        ("role.revoked", event, "ada", "bob", {"role": "staff"}),
        ("key.made", None, "ada", "ada", {"scopes": ["events:write"]}),
        ("event.revised", event, "ada", None, {"name": {"from": "Jazz", "to": "Blues"}}),
        ("key.revoked", None, "ada", "ada", {}),
        ("role.granted", event, "ada", "bob", {"role": "manager"}),
        ("key.made", None, "bob", "bob", {"scopes": ["bookings:read"]}),
        ("user.promoted", None, None, "bob", {}),
        ("user.password_changed", None, "bob", "bob", {}),
        ("user.deleted", None, "bob", "bob", {}),
        ("key.revoked", None, "bob", "bob", {}),
        ("role.revoked", event, "bob", "bob", {"role": "manager"}),
        ("user.demoted", None, "bob", "bob", {}),
    ]
    by_command_line = {"actor", "credential", "address", "request_id"}
    for each in found:
        if each["action"] == "user.promoted":
            assert all(each[name] is None for name in by_command_line)
        else:
            assert each["address"] == ADDRESS
            assert each["request_id"]
        assert (each["credential"] is None) == (
            each["action"] in {"user.registered", "user.promoted"}
        )
    assert str(found[7]["credential"]) == key["id"] == found[6]["details"]["keyId"]
    # The records of one request have its id.
    assert len({each["request_id"] for each in found[-4:]}) == 1
    kept = str(found)
    for secret in (PASSWORD, "another horse", ada.token, program.token, program.token[4:40]):
        assert secret not in kept
    for name in (ada.username, bob.username, "$bcrypt"):
        assert name not in kept


async def test_the_trail_has_only_the_events_records_newest_first_page_by_page(
    visitor: Visitor, app: FastAPI
) -> None:
    ada, bob = [await visitor.register() for _ in range(2)]
    event, _ = await ada.organise(), await ada.organise()
    headers = {**ada.headers, "X-Request-Id": "the-one"}
    for number in range(3):
        await visitor.client.patch(
            f"/api/events/{event}",
            json={"name": f"Name {number}"},
            headers=headers | {"If-Match": "*"},
        )
    await ada.appoint(event, bob, "manager")
    found = []
    cursor: dict[str, str] = {}
    while True:
        page = await trail(bob, event, limit=2, **cursor)
        found += page["items"]
        if page["nextCursor"] is None:
            break
        cursor = {"cursor": page["nextCursor"]}
    assert [each["action"] for each in found] == [
        *("role.granted", "event.revised", "event.revised", "event.revised", "event.created")
    ]
    assert found[0]["subjectId"] == bob.id
    caller = app.state.provided[Identity].tokens.known(ada.token)
    renamed = found[1]
    assert renamed.pop("at").endswith("Z")
    assert isinstance(renamed.pop("id"), int)
    assert renamed == {
        "action": "event.revised",
        "subjectId": None,
        "details": {"name": {"from": "Name 1", "to": "Name 2"}},
        "actorId": ada.id,
        "credentialId": str(caller.credential),
        "address": ADDRESS,
        "requestId": "the-one",
    }


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE audit_records SET action = 'nothing'",
        "UPDATE audit_records SET action = 'nothing' WHERE false",
        "DELETE FROM audit_records",
        "TRUNCATE audit_records",
        "TRUNCATE audit_records, users CASCADE",
        """
        INSERT INTO audit_records (seq, action, details) OVERRIDING SYSTEM VALUE
        VALUES (1, 'forged', '{}') ON CONFLICT (seq) DO UPDATE SET action = 'forged'
        """,
    ],
)
async def test_no_record_is_changed_or_removed(
    visitor: Visitor, engine: AsyncEngine, change: str
) -> None:
    await visitor.register()
    before = await records(engine)
    with pytest.raises(DBAPIError, match="append-only") as refused:
        async with engine.begin() as connection:
            await connection.execute(text(change))
    assert refused.value.orig is not None
    assert isinstance(refused.value.orig.__cause__, asyncpg.InsufficientPrivilegeError)
    assert await records(engine) == before


async def test_a_change_that_can_not_be_recorded_is_not_made(
    visitor: Visitor, engine: AsyncEngine
) -> None:
    ada, bob = [await visitor.register() for _ in range(2)]
    event = await ada.organise(name="Chamber music")
    await ada.appoint(event, bob, "staff")
    await ada.make_key("bookings:read")
    await bob.book(event)
    (key,) = await keys(ada)
    operator = Operator(engine, MIN_ROUNDS)
    tables = (
        *("users", "events", "event_roles", "api_keys", "admins", "sessions", "bookings"),
        *("organisers", "password_tokens"),
    )
    before = {table: await rows(engine, table) for table in tables}
    async with engine.begin() as connection:
        await connection.execute(
            text("ALTER TABLE audit_records ADD CONSTRAINT ck_full CHECK (false) NOT VALID")
        )
    new = {"username": "new", "password": PASSWORD}
    member = f"/api/events/{event}/team/{bob.id}"
    change = {"currentPassword": PASSWORD, "newPassword": "another horse"}
    answers: list[httpx.Response] = [
        await visitor.client.post("/api/users/register", json=new),
        await ada.post("/api/events/initialize", {"name": "Another", "totalTickets": 1}),
        await ada.patch(f"/api/events/{event}", {"name": "Jazz"}),
        await ada.book(event),
        await bob.cancel(event),
        await ada.put(member, {"role": "manager"}),
        await ada.delete(member),
        await ada.post("/api/users/me/keys", {"name": "A key", "scopes": ["bookings:read"]}),
        await ada.delete(f"/api/users/me/keys/{key['id']}"),
        await ada.post("/api/users/me/password", change),
        await ada.post("/api/users/me/delete", {"password": PASSWORD}),
    ]
    assert {answer.status_code for answer in answers} == {500}
    for by_command_line in (
        operator.access.promote,
        operator.organisers.grant_by_name,
        operator.make_token,
        partial(operator.set_password, password="another horse"),
    ):
        with pytest.raises(asyncpg.CheckViolationError):
            await by_command_line(ada.username)
    assert {table: await rows(engine, table) for table in tables} == before


async def keys(person: Person) -> Any:  # noqa: ANN401 - JSON
    return (await person.get("/api/users/me/keys")).json()["items"]


async def rows(engine: AsyncEngine, table: str) -> list[str]:
    async with engine.connect() as connection:
        found = await connection.scalars(text(f"SELECT t::text FROM {table} AS t ORDER BY 1"))
        return list(found)


async def test_every_change_of_a_booking_is_recorded_with_who_made_it(
    visitor: Visitor, engine: AsyncEngine
) -> None:
    ada, bob, cleo = [await visitor.register() for _ in range(3)]
    event = await ada.organise(total=1)
    program = await ada.make_key("bookings:write")
    (key,) = (await ada.get("/api/users/me/keys")).json()["items"]
    booked = await bob.book(event)
    await bob.book(event)  # refused
    await program.book(event, for_=cleo)
    await cleo.cancel(event, for_=bob)  # refused
    await bob.cancel(event)
    await bob.cancel(event)  # changes nothing
    await ada.cancel(event, for_=cleo)
    person = {ada.id: "ada", bob.id: "bob", cleo.id: "cleo"}
    found = [each for each in await records(engine) if each["action"].startswith("booking.")]
    assert [
        (each["action"], each["event_id"], person[str(each["actor"])], person[str(each["subject"])])
        for each in found
    ] == [
        ("booking.booked", event, "bob", "bob"),
        ("booking.waiting", event, "ada", "cleo"),
        ("booking.cancelled", event, "bob", "bob"),
        ("booking.promoted", event, "bob", "cleo"),
        ("booking.cancelled", event, "ada", "cleo"),
    ]
    first, waiting, cancelled, promoted, _ = found
    assert first["details"] == cancelled["details"] == {"bookingId": booked.json()["id"]}
    assert promoted["details"] == waiting["details"] != first["details"]
    assert str(waiting["credential"]) == key["id"]
    assert {each["address"] for each in found} == {ADDRESS}
    assert cancelled["request_id"] == promoted["request_id"] != first["request_id"]
    assert first["request_id"] == booked.headers["x-request-id"]
    seen = (await trail(ada, event, limit=5))["items"]
    assert [each["action"] for each in seen] == [each["action"] for each in reversed(found)]


async def test_a_batch_is_recorded_in_order_with_each_ones_own_origin(
    visitor: Visitor, engine: AsyncEngine
) -> None:
    people = [await visitor.register() for _ in range(6)]
    events = [await people[0].organise(total=2) for _ in range(2)]
    answers = await asyncio.gather(*(each.book(event) for each in people for event in events))
    assert [each.status_code for each in answers] == [201] * 4 + [202] * 8
    found = [each for each in await records(engine) if each["action"].startswith("booking.")]
    expected = {
        (each.headers["x-request-id"], each.json()["userId"], each.json()["eventId"])
        for each in answers
    }
    assert {
        (each["request_id"], str(each["subject"]), each["event_id"]) for each in found
    } == expected
    assert all(each["actor"] == each["subject"] for each in found)
    async with engine.connect() as connection:
        rows = await connection.execute(text("SELECT id FROM bookings ORDER BY event_id, seq"))
        in_order = [str(row.id) for row in rows]
    by_event = sorted(found, key=lambda each: (each["event_id"], each["seq"]))
    assert [each["details"]["bookingId"] for each in by_event] == in_order
