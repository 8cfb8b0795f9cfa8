"""Passwords that are refused, changed and upgraded; admins; and accounts that are deleted."""

import asyncio
from typing import Any
from uuid import UUID

import httpx
import pytest
from fastapi import FastAPI
from passlib.context import CryptContext
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from tests.contract import assert_problem
from tests.logs import content
from tests.people import PASSWORD, Person, Visitor
from ticketing.app import create_app
from ticketing.db.facts import COMMAND_LINE
from ticketing.errors import UserNotFound
from ticketing.identity.callers import AccessList, Caller
from ticketing.identity.part import Identity
from ticketing.identity.passwords import password_threads
from ticketing.identity.repositories.access import AccessRepository
from ticketing.settings import Settings

REGISTER = "/api/users/register"
LOGIN = "/api/users/login"
CHANGE = "/api/users/me/password"
ME = "/api/users/me"


async def login(
    client: httpx.AsyncClient, username: str, password: str = PASSWORD
) -> httpx.Response:
    return await client.post(LOGIN, json={"username": username, "password": password})


async def hash_of(engine: AsyncEngine, person: Person) -> str | None:
    async with engine.connect() as connection:
        query = text("SELECT password_hash FROM users WHERE id = CAST(:id AS uuid)")
        kept: str | None = await connection.scalar(query, {"id": person.id})
        return kept


@pytest.mark.parametrize(
    "password",
    [
        *("password", "PASSWORD", "Password1", "12345678", "iloveyou", "qwertyuiop", "00000000"),
        *("grace-hopper", "Grace-Hopper", "grace-hopper1234567", "grace-hoppergrace-hopper"),
        *("passwordgrace-hopper", "iloveyougrace-hopper"),
        *("ticketing", "Ticketing1234567", "iloveyouticketing", "ticketing-Grace-Hopper"),
    ],
)
async def test_a_password_that_anybody_would_try_first_is_refused(
    client: httpx.AsyncClient, visitor: Visitor, password: str
) -> None:
    given = {"username": "grace-hopper", "password": password}
    assert_problem(await client.post(REGISTER, json=given), 422, "password_too_common")
    grace = await visitor.register("Grace-Hopper")
    change = {"currentPassword": PASSWORD, "newPassword": password}
    assert_problem(await grace.post(CHANGE, change), 422, "password_too_common")
    assert (await login(client, "grace-hopper")).status_code == 200


async def test_a_long_password_may_have_the_name_in_it(client: httpx.AsyncClient) -> None:
    for username, password in (("ada", "canada is big"), ("bob", "no ticketing without me")):
        given = {"username": username, "password": password}
        assert (await client.post(REGISTER, json=given)).status_code == 201


async def test_a_changed_password_opens_the_account_and_ends_all_other_sessions(
    visitor: Visitor,
) -> None:
    here, bob = await visitor.register(), await visitor.register()
    there = await here.again()
    change = {"currentPassword": PASSWORD, "newPassword": "another horse"}
    assert (await here.post(CHANGE, change)).status_code == 204
    assert (await here.get(ME)).status_code == 200
    assert (await bob.get(ME)).status_code == 200
    assert_problem(await there.get(ME), 401, "not_authenticated")
    body = {"refreshToken": there.refresh_token}
    refused = await visitor.client.post("/api/users/refresh", json=body)
    assert_problem(refused, 401, "invalid_refresh_token")
    body = {"refreshToken": here.refresh_token}
    assert (await visitor.client.post("/api/users/refresh", json=body)).status_code == 200
    assert_problem(await login(visitor.client, here.username), 401, "invalid_credentials")
    assert (await login(visitor.client, here.username, "another horse")).status_code == 200


async def test_without_the_password_nothing_is_changed_or_deleted(
    visitor: Visitor,
) -> None:
    ada = await visitor.register()
    for wrong in ("wrong horse", "", PASSWORD.upper()):
        change = {"currentPassword": wrong, "newPassword": "another horse"}
        assert_problem(await ada.post(CHANGE, change), 403, "wrong_password")
        assert_problem(await ada.post(f"{ME}/delete", {"password": wrong}), 403, "wrong_password")
    assert (await login(visitor.client, ada.username)).status_code == 200


async def test_one_of_several_changes_of_a_password_at_once_is_made(visitor: Visitor) -> None:
    ada = await visitor.register()
    new = [f"another horse {number}" for number in range(4)]
    bodies = [{"currentPassword": PASSWORD, "newPassword": each} for each in new]
    answers = await asyncio.gather(
        *(ada.post(CHANGE, body) for body in bodies),
        ada.post(f"{ME}/delete", {"password": PASSWORD}),
    )
    codes = [answer.status_code for answer in answers]
    # After the deletion nobody is there, and after a change the password is another.
    refusal = 404 if codes[-1] == 204 else 403
    assert sorted(codes) == [204, *[refusal] * 4]


@pytest.mark.parametrize(
    "former",
    [
        CryptContext(["bcrypt"], bcrypt__rounds=4),
        CryptContext(["bcrypt"], bcrypt__rounds=6, bcrypt__ident="2a"),
        CryptContext(["bcrypt_sha256"], bcrypt_sha256__rounds=4),
    ],
    ids=["bcrypt", "an old bcrypt", "a cheap one"],
)
async def test_an_old_or_cheap_hash_is_upgraded_at_login(
    visitor: Visitor, engine: AsyncEngine, settings: Settings, former: CryptContext
) -> None:
    weak = former.hash(PASSWORD)
    ada = await visitor.register()
    async with engine.begin() as connection:
        await connection.execute(text("UPDATE users SET password_hash = :weak"), {"weak": weak})
    dearer = create_app(settings.model_copy(update={"bcrypt_rounds": 5}))
    transport = httpx.ASGITransport(dearer)
    async with (
        dearer.router.lifespan_context(dearer),
        httpx.AsyncClient(transport=transport, base_url="http://test") as client,
    ):
        assert_problem(await login(client, ada.username, "wrong horse"), 401, "invalid_credentials")
        assert await hash_of(engine, ada) == weak
        # At once: a login that finds the hash changed reads it again.
        answers = await asyncio.gather(*(login(client, ada.username) for _ in range(4)))
        assert {answer.status_code for answer in answers} == {200}
        kept = await hash_of(engine, ada)
        assert kept is not None
        assert kept.startswith("$bcrypt-sha256$v=2,t=2b,r=5$")
        assert (await login(client, ada.username)).status_code == 200
        assert await hash_of(engine, ada) == kept
    # A more expensive hash stays as it is.
    assert (await login(visitor.client, ada.username)).status_code == 200
    assert await hash_of(engine, ada) == kept


async def test_too_many_logins_at_once_are_refused_at_once(
    visitor: Visitor, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    ada = await visitor.register()
    monkeypatch.setattr("ticketing.identity.passwords.MAX_WAITING", 2)
    small = create_app(settings)
    transport = httpx.ASGITransport(small)
    async with (
        small.router.lifespan_context(small),
        httpx.AsyncClient(transport=transport, base_url="http://test") as client,
    ):
        answers = await asyncio.gather(*(login(client, ada.username) for _ in range(30)))
        served = [answer for answer in answers if answer.status_code == 200]
        assert 2 * password_threads() <= len(served) < len(answers)
        for answer in answers:
            if answer not in served:
                assert assert_problem(answer, 503, "busy") == {"retryAfter": 1}
        assert (await login(client, ada.username)).status_code == 200


async def test_a_deleted_account_leaves_no_personal_data_and_all_its_bookings(
    visitor: Visitor, engine: AsyncEngine
) -> None:
    organiser, ada, bob = [await visitor.register() for _ in range(3)]
    theirs, hers = await organiser.organise(total=1), await ada.organise()
    booking = (await ada.book(theirs)).json()
    await bob.book(theirs)
    await ada.make_key("bookings:read")
    assert (await ada.post(f"{ME}/delete", {"password": PASSWORD})).status_code == 204
    assert_problem(await ada.get(ME), 401, "not_authenticated")
    assert_problem(await login(visitor.client, ada.username), 401, "invalid_credentials")
    event = await visitor.event(theirs)
    assert (event["availableTickets"], event["waitingListCount"]) == (0, 1)
    listed = (await organiser.get(f"/api/events/{theirs}/bookings")).json()["items"]
    assert [item["status"] for item in listed] == ["booked", "waiting"]
    assert listed[0]["userId"] == booking["userId"]
    assert (await visitor.event(hers))["organiserId"] == ada.id
    # The box office can cancel her booking, so that the waiting list gets the place.
    assert (await organiser.cancel(theirs, for_=ada)).json()["promoted"] == 1
    async with engine.connect() as connection:
        query = text("SELECT * FROM users WHERE id = CAST(:id AS uuid)")
        row = (await connection.execute(query, {"id": ada.id})).mappings().one()
        for table in ("sessions", "api_keys"):
            count = text(f"SELECT count(*) FROM {table} WHERE user_id = CAST(:id AS uuid)")
            assert await connection.scalar(count, {"id": ada.id}) == 0
    assert row["password_hash"] is None
    assert row["username"] == "~" + ada.id.replace("-", "")[3:]
    for password in (PASSWORD, "", "!"):
        answer = await login(visitor.client, row["username"], password)
        assert_problem(answer, 401, "invalid_credentials")
    # Another person may register the name.
    again = await visitor.register(ada.username)
    assert again.id != ada.id
    assert (await again.get("/api/users/me/bookings")).json()["items"] == []


async def test_an_admin_does_what_any_organiser_may_until_demoted(
    visitor: Visitor, app: FastAPI, engine: AsyncEngine, settings: Settings
) -> None:
    organiser, eve, bob = [await visitor.register() for _ in range(3)]
    event = await organiser.organise()
    program = await eve.make_key("bookings:read")

    async def tried(who: Person) -> list[Any]:
        return [
            (await who.book(event, for_=bob)).status_code,
            (await who.cancel(event, for_=bob)).status_code,
            (await who.get(f"/api/events/{event}/bookings")).status_code,
        ]

    assert await tried(eve) == [403, 403, 403]
    assert (await eve.get(ME)).json()["isAdmin"] is False
    access = AccessRepository(engine, AccessList())
    for _ in "12":  # a second call changes nothing
        await access.promote(eve.username.upper())
    known: AccessList = app.state.provided[Identity].access
    async with asyncio.timeout(10):
        while not known.admins:  # noqa: ASYNC110 - the loop sends no event
            await asyncio.sleep(0.01)
    assert await tried(eve) == [201, 200, 200]
    assert (await eve.get(ME)).json()["isAdmin"] is True
    assert (await bob.get(ME)).json()["isAdmin"] is False
    assert await tried(program) == [403, 403, 200]
    assert await tried(bob) == [201, 200, 403]
    for answer in (
        await eve.book(999, for_=bob),
        await eve.cancel(999, for_=bob),
        await eve.get("/api/events/999/bookings"),
    ):
        assert_problem(answer, 404, "event_not_found")
    for _ in "12":
        await access.demote(eve.username)
    async with asyncio.timeout(10):
        while known.admins:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    assert await tried(eve) == [403, 403, 403]
    assert (await eve.get(ME)).json()["isAdmin"] is False
    log = content(settings.log_dir)
    assert (log.count('"user.promoted"'), log.count('"user.demoted"')) == (1, 1)


async def test_a_deleted_admin_loses_the_rights(visitor: Visitor, engine: AsyncEngine) -> None:
    eve = await visitor.register()
    await AccessRepository(engine, AccessList()).promote(eve.username)
    await eve.post(f"{ME}/delete", {"password": PASSWORD})
    async with engine.connect() as connection:
        assert await connection.scalar(text("SELECT count(*) FROM admins")) == 0


async def test_no_right_password_is_called_wrong_because_the_account_was_deleted_meanwhile(
    visitor: Visitor, app: FastAPI
) -> None:
    ada = await visitor.register()
    users = app.state.provided[Identity].users
    user = await users.get(UUID(ada.id))
    deletions = [ada.post(f"{ME}/delete", {"password": PASSWORD}) for _ in range(4)]
    statuses = [answer.status_code for answer in await asyncio.gather(*deletions)]
    assert statuses.count(204) == 1
    assert set(statuses) <= {204, 401, 404}
    # Both had verified the password before.
    with pytest.raises(UserNotFound):
        await users.delete(user, user.password_hash, COMMAND_LINE)
    caller = Caller(user.id, user.id, 0)
    with pytest.raises(UserNotFound):
        await users.change_password(caller, user.password_hash, "new hash", COMMAND_LINE)
