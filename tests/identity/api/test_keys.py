"""API keys: making, using, listing and revoking them."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from tests.contract import assert_problem
from tests.people import PASSWORD, Person, Visitor
from ticketing.identity.credentials import is_api_key
from ticketing.identity.part import Identity
from ticketing.identity.permissions import Scope
from ticketing.identity.repositories.keys import MAX_KEYS
from ticketing.identity.tokens import Tokens

KEYS = "/api/users/me/keys"


async def keys(person: Person, **parameters: str | int) -> Any:  # noqa: ANN401 - JSON
    return (await person.get(KEYS, **parameters)).json()


async def test_a_key_is_shown_once_and_kept_as_a_hash(
    visitor: Visitor, engine: AsyncEngine
) -> None:
    ada = await visitor.register()
    ends = (datetime.now(UTC) + timedelta(days=1)).replace(microsecond=0)
    body = {
        "name": "Box office",
        "scopes": ["bookings:write", "bookings:read", "bookings:read"],
        "expiresAt": ends.isoformat(),
    }
    made = await ada.post(KEYS, body)
    assert made.status_code == 201
    given = made.json()
    key = given.pop("key")
    assert is_api_key(key)
    assert given["name"] == "Box office"
    assert given["scopes"] == ["bookings:read", "bookings:write"]
    assert datetime.fromisoformat(given["expiresAt"]) == ends
    assert given["lastUsedAt"] is None
    listed = await keys(ada)
    assert listed == {"items": [given], "nextCursor": None}
    async with engine.connect() as connection:
        kept = await connection.scalar(text("SELECT api_keys::text FROM api_keys"))
    assert kept is not None
    assert key[4:68] not in kept


async def test_a_key_does_what_its_scopes_say_and_nothing_else(visitor: Visitor) -> None:
    ada = await visitor.register()
    event = await ada.organise()
    customer = await ada.book_for(await ada.organise(), "customer-1")
    calls: dict[str, list[tuple[str, str, object]]] = {
        "customers:read": [
            ("GET", "/api/customers", None),
            ("GET", f"/api/customers/{customer}", None),
        ],
        "customers:write": [
            ("PATCH", f"/api/customers/{customer}", {"name": "Ada"}),
            ("POST", f"/api/customers/{customer}/login-token", None),
        ],
        "events:write": [
            ("POST", "/api/events/initialize", {"name": "A concert", "totalTickets": 1})
        ],
        "bookings:write": [
            ("POST", "/api/events/book", {"eventId": event, "userId": ada.id}),
            ("POST", "/api/events/cancel", {"eventId": event, "userId": ada.id}),
        ],
        "bookings:read": [
            ("GET", f"/api/events/{event}/bookings", None),
            ("GET", "/api/users/me/bookings", None),
        ],
        "webhooks:write": [
            ("GET", "/api/webhooks", None),
            ("POST", "/api/webhooks", {"url": "http://127.0.0.1:9/hook"}),
        ],
        "door": [
            ("GET", f"/api/events/{event}/door-manifest", None),
            ("POST", f"/api/events/{event}/check-ins", {"scanId": ada.id, "code": "unknown"}),
        ],
        "": [
            ("GET", KEYS, None),
            ("POST", KEYS, {"name": "More", "scopes": ["events:write"]}),
            ("DELETE", f"{KEYS}/{ada.id}", None),
            ("POST", "/api/users/logout", {}),
            (
                "POST",
                "/api/users/me/password",
                {"currentPassword": PASSWORD, "newPassword": "another horse"},
            ),
            ("POST", "/api/users/me/delete", {"password": PASSWORD}),
        ],
    }
    assert calls.keys() - {""} == set(Scope)
    for scope in Scope:
        program = await ada.make_key(scope)
        for _ in "12":  # from memory, the second time
            assert (await program.get("/api/users/me")).json()["id"] == ada.id
            for wanted, of_scope in calls.items():
                for method, path, body in of_scope:
                    answer = await ada.client.request(
                        method, path, json=body, headers=program.headers
                    )
                    if wanted == scope:
                        assert answer.is_success or answer.json()["code"] == "already_booked"
                        continue
                    refused = assert_problem(answer, 403, "insufficient_scope")
                    assert refused == {"scopes": [wanted] if wanted else []}
                    challenge = answer.headers["www-authenticate"]
                    assert challenge == 'Bearer error="insufficient_scope"'


async def test_a_key_that_would_have_ended_is_refused_and_why(visitor: Visitor) -> None:
    ada = await visitor.register()
    for given, why in (
        ("2020-01-01T00:00:00Z", "must be in the next ten years"),
        (4102444800, "must be a time in the form of RFC 3339"),
    ):
        body = {"name": "Late", "scopes": ["bookings:read"], "expiresAt": given}
        (error,) = assert_problem(await ada.post(KEYS, body), 422, "validation_failed")["errors"]
        assert error == {
            "in": "body",
            "pointer": "#/expiresAt",
            "type": "value_error",
            "detail": why,
        }
    assert (await keys(ada))["items"] == []


async def test_a_key_is_looked_up_once_a_minute_and_its_use_recorded(
    visitor: Visitor, app: FastAPI, engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    ada = await visitor.register()
    program = await ada.make_key("bookings:read")
    before = datetime.now(UTC)
    await program.get("/api/users/me")
    (listed,) = (await keys(ada))["items"]
    used = datetime.fromisoformat(listed["lastUsedAt"])
    assert used - before < timedelta(minutes=1)
    async with engine.begin() as connection:
        await connection.execute(text("ALTER TABLE api_keys RENAME TO away"))
    assert (await program.get("/api/users/me")).status_code == 200
    async with engine.begin() as connection:
        await connection.execute(text("ALTER TABLE away RENAME TO api_keys"))
    # Looked up again within a minute of the last record: it is not recorded again.
    tokens: Tokens = app.state.provided[Identity].tokens
    tokens._verified.clear()
    assert (await program.get("/api/users/me")).status_code == 200
    assert (await keys(ada))["items"][0]["lastUsedAt"] == listed["lastUsedAt"]
    async with engine.begin() as connection:
        await connection.execute(
            text("UPDATE api_keys SET last_used_at = now() - interval '61 seconds'")
        )
    tokens._verified.clear()
    assert (await program.get("/api/users/me")).status_code == 200
    assert datetime.fromisoformat((await keys(ada))["items"][0]["lastUsedAt"]) > used
    # The cached key expires.
    (caller,) = [c for c in tokens._verified.values() if c.scopes is not None]
    monkeypatch.setattr("ticketing.identity.tokens.time.time", lambda: caller.expires_at)
    assert tokens.known(program.token) is None


async def test_many_requests_with_one_key_look_it_up_together(
    visitor: Visitor, app: FastAPI
) -> None:
    ada = await visitor.register()
    program = await ada.make_key("bookings:read")
    answers = await asyncio.gather(*(program.get("/api/users/me") for _ in range(50)))
    assert {answer.status_code for answer in answers} == {200}
    assert app


async def test_an_expired_key_opens_nothing(visitor: Visitor, engine: AsyncEngine) -> None:
    ada = await visitor.register()
    ends = datetime.now(UTC) + timedelta(seconds=30)
    program = await ada.make_key("bookings:read", expiresAt=ends.isoformat())
    assert (await program.get("/api/users/me")).status_code == 200
    late = await ada.make_key("bookings:read", expiresAt=ends.isoformat())
    async with engine.begin() as connection:
        await connection.execute(text("UPDATE api_keys SET expires_at = now()"))
    assert_problem(await late.get("/api/users/me"), 401, "not_authenticated")
    assert len((await keys(ada))["items"]) == 2


async def test_a_revoked_key_opens_nothing(visitor: Visitor) -> None:
    ada, bob = [await visitor.register() for _ in range(2)]
    used, unused = [await ada.make_key("bookings:read") for _ in range(2)]
    assert (await used.get("/api/users/me")).status_code == 200
    for key in (await keys(ada))["items"]:
        path = f"{KEYS}/{key['id']}"
        assert_problem(await bob.delete(path), 404, "key_not_found")
        assert (await ada.delete(path)).status_code == 204
        assert_problem(await ada.delete(path), 404, "key_not_found")
    for program in (used, unused):
        assert_problem(await program.get("/api/users/me"), 401, "not_authenticated")
    assert (await keys(ada))["items"] == []


async def test_a_person_lists_only_their_own_keys_newest_first_page_by_page(
    visitor: Visitor,
) -> None:
    ada, bob = [await visitor.register() for _ in range(2)]
    for number in range(5):
        await ada.make_key("bookings:read", name=f"key {number}")
        await bob.make_key("bookings:read")
    found = []
    cursor: dict[str, Any] = {}
    while True:
        page = await keys(ada, limit=2, **cursor)
        found += [item["name"] for item in page["items"]]
        if page["nextCursor"] is None:
            break
        cursor = {"cursor": page["nextCursor"]}
    assert found == [f"key {number}" for number in (4, 3, 2, 1, 0)]


async def test_a_person_never_has_more_than_50_keys_however_fast_they_are_made(
    visitor: Visitor,
) -> None:
    ada = await visitor.register()
    for _ in range(MAX_KEYS - 1):
        await ada.make_key("bookings:read")
    body = {"name": "One more", "scopes": ["bookings:read"]}
    answers: list[httpx.Response] = await asyncio.gather(*(ada.post(KEYS, body) for _ in range(4)))
    assert sorted(answer.status_code for answer in answers) == [201, 409, 409, 409]
    for answer in answers:
        if answer.is_error:
            assert_problem(answer, 409, "too_many_keys")


async def test_keys_survive_a_change_of_password_and_end_with_the_account(
    visitor: Visitor,
) -> None:
    ada = await visitor.register()
    program = await ada.make_key("bookings:read")
    change = {"currentPassword": PASSWORD, "newPassword": "another horse"}
    assert (await ada.post("/api/users/me/password", change)).status_code == 204
    assert (await program.get("/api/users/me")).status_code == 200
    deleted = await ada.post("/api/users/me/delete", {"password": "another horse"})
    assert deleted.status_code == 204
    for each in (program, ada, replace(program, token=program.token[:-1])):
        assert_problem(await each.get("/api/users/me"), 401, "not_authenticated")


@pytest.mark.parametrize("name", ["\u2800", "a\nb", "abc\u202e", "\u200b\u200b"])
async def test_a_key_has_a_name_that_can_be_read(visitor: Visitor, name: str) -> None:
    ada = await visitor.register()
    body = {"name": name, "scopes": ["bookings:read"]}
    assert_problem(await ada.post("/api/users/me/keys", body), 422, "validation_failed")
    assert (await ada.get("/api/users/me/keys")).json()["items"] == []
