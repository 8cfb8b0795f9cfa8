"""The operator's tokens, which set a password once."""

import asyncio

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from tests.calls import MIN_ROUNDS
from tests.contract import assert_problem
from tests.logs import content
from tests.people import PASSWORD, Person, Visitor
from ticketing.errors import PasswordTooCommon, UsernameTaken, UserNotFound
from ticketing.identity.credentials import digest
from ticketing.identity.operator import Operator
from ticketing.identity.part import Identity
from ticketing.identity.repositories.password_tokens import LIFETIME, Owner
from ticketing.settings import Settings

ME = "/api/users/me"
NEW = "another horse"


@pytest.fixture
def operator(engine: AsyncEngine) -> Operator:
    return Operator(engine, MIN_ROUNDS)


async def token_of(operator: Operator, person: Person) -> str:
    return (await operator.make_token(person.username)).token


async def use(
    client: httpx.AsyncClient, token: str, password: str = NEW, key: str | None = None
) -> httpx.Response:
    headers = {} if key is None else {"Idempotency-Key": key}
    body = {"token": token, "newPassword": password}
    return await client.post("/api/users/password", json=body, headers=headers)


async def login(client: httpx.AsyncClient, username: str, password: str) -> httpx.Response:
    body = {"username": username, "password": password}
    return await client.post("/api/users/login", json=body)


async def assert_worthless(visitor: Visitor, token: str) -> None:
    refused = await use(visitor.client, token, "a third horse")
    assert_problem(refused, 401, "invalid_password_token")
    assert refused.headers["www-authenticate"] == "Bearer"


async def test_a_token_sets_the_password_once_and_logs_out_everywhere(
    visitor: Visitor, operator: Operator
) -> None:
    ada, bob = [await visitor.register() for _ in range(2)]
    also_ada = await ada.again()
    program = await ada.make_key("bookings:read")
    token = await token_of(operator, ada)
    # Nothing changes until the token is used.
    assert (await ada.get(ME)).status_code == 200
    assert (await login(visitor.client, ada.username, PASSWORD)).status_code == 200
    assert (await use(visitor.client, token)).status_code == 204
    for person in (ada, also_ada):
        assert_problem(await person.get(ME), 401, "not_authenticated")
        body = {"refreshToken": person.refresh_token}
        refused = await visitor.client.post("/api/users/refresh", json=body)
        assert_problem(refused, 401, "invalid_refresh_token")
    for person in (bob, program):
        assert (await person.get(ME)).status_code == 200
    refused = await login(visitor.client, ada.username, PASSWORD)
    assert_problem(refused, 401, "invalid_credentials")
    assert (await login(visitor.client, ada.username, NEW)).status_code == 200
    await assert_worthless(visitor, token)
    assert (await login(visitor.client, ada.username, NEW)).status_code == 200


async def test_a_token_opens_an_account_that_the_operator_added(
    visitor: Visitor, operator: Operator, engine: AsyncEngine, settings: Settings
) -> None:
    made = await operator.add("Ada.L-1_")
    for guess in ("", "None", made.token):
        refused = await login(visitor.client, "ada.l-1_", guess)
        assert_problem(refused, 401, "invalid_credentials")
    assert (await use(visitor.client, made.token)).status_code == 204
    opened = await login(visitor.client, "ada.l-1_", NEW)
    assert opened.status_code == 200
    async with engine.connect() as connection:
        query = text(
            "SELECT action, CAST(actor AS text), CAST(subject AS text) FROM audit_records"
            " ORDER BY seq"
        )
        found = [tuple(row) for row in await connection.execute(query)]
    ada = opened.json()["userId"]
    assert found == [
        ("user.registered", None, ada),
        ("user.password_token_made", None, ada),
        ("user.password_changed", ada, ada),
    ]
    log = content(settings.log_dir)
    for secret in (made.token, NEW):
        assert secret not in log


async def test_a_token_is_stored_as_a_hash_and_expires_after_a_day(
    visitor: Visitor, operator: Operator, engine: AsyncEngine
) -> None:
    made = await operator.make_token((await visitor.register()).username)
    async with engine.connect() as connection:
        rows = await connection.execute(text("SELECT * FROM password_tokens"))
        (row,) = rows.mappings()
    assert row["hash"] == digest(made.token)
    assert row["expires_at"] == made.expires_at
    assert (row["expires_at"] - row["created_at"]).total_seconds() == LIFETIME == 86_400


async def test_an_expired_token_sets_nothing_and_is_removed(
    visitor: Visitor, operator: Operator, engine: AsyncEngine
) -> None:
    ada = await visitor.register()
    token = await token_of(operator, ada)
    async with engine.begin() as connection:
        await connection.execute(text("UPDATE password_tokens SET expires_at = now()"))
    await assert_worthless(visitor, token)
    assert (await login(visitor.client, ada.username, PASSWORD)).status_code == 200
    await operator.access.clean()
    async with engine.connect() as connection:
        assert await connection.scalar(text("SELECT count(*) FROM password_tokens")) == 0


async def test_a_newer_token_replaces_the_previous_one(
    visitor: Visitor, operator: Operator
) -> None:
    ada = await visitor.register()
    older, newer = [await token_of(operator, ada) for _ in "12"]
    await assert_worthless(visitor, older)
    assert (await use(visitor.client, newer)).status_code == 204


async def test_a_changed_password_makes_the_token_worthless(
    visitor: Visitor, operator: Operator
) -> None:
    ada, bob = [await visitor.register() for _ in range(2)]
    token, of_bob = [await token_of(operator, person) for person in (ada, bob)]
    change = {"currentPassword": PASSWORD, "newPassword": NEW}
    assert (await ada.post("/api/users/me/password", change)).status_code == 204
    await assert_worthless(visitor, token)
    assert (await use(visitor.client, of_bob)).status_code == 204
    token = await token_of(operator, ada)
    await operator.set_password(ada.username, "a third horse")
    await assert_worthless(visitor, token)


async def test_a_deleted_account_loses_its_token_and_gets_no_other(
    visitor: Visitor, operator: Operator, engine: AsyncEngine
) -> None:
    ada = await visitor.register()
    token = await token_of(operator, ada)
    assert (await ada.post(f"{ME}/delete", {"password": PASSWORD})).status_code == 204
    async with engine.connect() as connection:
        assert await connection.scalar(text("SELECT count(*) FROM password_tokens")) == 0
    await assert_worthless(visitor, token)
    for name in (ada.username, "~" + ada.id.replace("-", "")[3:], "nobody"):
        with pytest.raises(UserNotFound):
            await operator.make_token(name)
        with pytest.raises(UserNotFound):
            await operator.set_password(name, NEW)
    # Another person may register the name.
    again = await visitor.register(ada.username)
    await assert_worthless(visitor, token)
    assert (await again.get(ME)).status_code == 200


async def test_a_token_that_is_used_several_times_at_once_works_once(
    visitor: Visitor, operator: Operator
) -> None:
    ada = await visitor.register()
    token = await token_of(operator, ada)
    passwords = [f"another horse {number}" for number in range(4)]
    change = {"currentPassword": PASSWORD, "newPassword": NEW}
    answers = await asyncio.gather(
        *(use(visitor.client, token, each) for each in passwords),
        ada.post("/api/users/me/password", change),
    )
    assert [answer.status_code for answer in answers].count(204) == 1
    assert {answer.status_code for answer in answers} <= {204, 401, 403}
    opened = [await login(visitor.client, ada.username, each) for each in (*passwords, NEW)]
    assert [answer.status_code for answer in opened].count(200) == 1


async def test_a_request_that_is_resent_while_it_runs_is_not_told_that_its_token_is_used(
    visitor: Visitor, operator: Operator, app: FastAPI, monkeypatch: pytest.MonkeyPatch
) -> None:
    ada = await visitor.register()
    token = await token_of(operator, ada)
    tokens = app.state.provided[Identity].password_tokens
    find = tokens.owner

    async def find_late(given: str) -> Owner:
        monkeypatch.undo()
        assert (await use(visitor.client, token, key="once")).status_code == 204
        return await find(given)  # type: ignore[no-any-return]

    monkeypatch.setattr(tokens, "owner", find_late)
    again = await use(visitor.client, token, key="once")
    assert (again.status_code, again.headers.get("idempotency-replayed")) == (204, "true")


async def test_using_a_token_does_not_deadlock_with_a_change_of_the_password(
    visitor: Visitor, operator: Operator, engine: AsyncEngine
) -> None:
    ada = await visitor.register()
    token = await token_of(operator, ada)
    async with engine.begin() as connection:
        # Like a change of the password: first the person's row, then the token's.
        await connection.execute(text("UPDATE users SET password_hash = password_hash"))
        using = asyncio.create_task(use(visitor.client, token))
        waiting = text("SELECT count(*) FROM pg_locks WHERE NOT granted")
        async with asyncio.timeout(10):
            while not await connection.scalar(waiting):
                assert not using.done()
                await asyncio.sleep(0.01)
        await connection.execute(text("SELECT FROM password_tokens FOR UPDATE NOWAIT"))
        await connection.execute(text("DELETE FROM password_tokens"))
    assert_problem(await using, 401, "invalid_password_token")


async def test_no_login_by_the_old_password_outlives_the_token(
    visitor: Visitor, operator: Operator
) -> None:
    ada = await visitor.register()
    token = await token_of(operator, ada)
    answers = await asyncio.gather(
        *(login(visitor.client, ada.username, PASSWORD) for _ in range(4)),
        use(visitor.client, token),
    )
    assert answers[-1].status_code == 204
    for answer in answers[:-1]:
        if answer.status_code == 200:
            opened = Person(visitor.client, ada.username, ada.id, answer.json()["token"])
            assert_problem(await opened.get(ME), 401, "not_authenticated")


async def test_a_common_password_is_refused_and_the_token_stays_valid(
    visitor: Visitor, operator: Operator
) -> None:
    ada = await visitor.register("grace-hopper")
    token = await token_of(operator, ada)
    for common in ("Password1", "grace-hopper1"):
        refused = await use(visitor.client, token, common)
        assert_problem(refused, 422, "password_too_common")
        with pytest.raises(PasswordTooCommon):
            await operator.set_password(ada.username, common)
    assert (await use(visitor.client, token)).status_code == 204


async def test_a_resent_request_with_its_key_gets_the_stored_response(
    visitor: Visitor, operator: Operator
) -> None:
    ada = await visitor.register()
    token = await token_of(operator, ada)
    first, again = [await use(visitor.client, token, key="mine") for _ in "12"]
    assert (first.status_code, again.status_code) == (204, 204)
    assert again.headers["Idempotency-Replayed"] == "true"
    other = await use(visitor.client, token, "a third horse", key="mine")
    assert_problem(other, 422, "idempotency_key_reused")
    assert (await login(visitor.client, ada.username, NEW)).status_code == 200


async def test_the_operator_sets_a_password_and_ends_all_sessions(
    visitor: Visitor, operator: Operator
) -> None:
    ada = await visitor.register()
    await operator.set_password(ada.username.upper(), NEW)
    body = {"refreshToken": ada.refresh_token}
    refused = await visitor.client.post("/api/users/refresh", json=body)
    assert_problem(refused, 401, "invalid_refresh_token")
    assert (await login(visitor.client, ada.username, NEW)).status_code == 200
    with pytest.raises(UsernameTaken):
        await operator.add(ada.username.upper())
    with pytest.raises(UsernameTaken):
        await operator.add_with_password(ada.username.upper(), NEW)
