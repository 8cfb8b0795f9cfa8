"""Changes of accounts, sessions and API keys are made once, however often a request is sent."""

import asyncio
import base64
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from pydantic import SecretStr
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from tests.contract import assert_problem
from tests.logs import lines
from tests.people import PASSWORD, Person, Visitor
from tests.signing import SECRET
from ticketing.app import create_app
from ticketing.db.statements import driver
from ticketing.errors import DatabaseUnavailable, IdempotencyKeyReused
from ticketing.identity.part import Identity
from ticketing.settings import Settings
from ticketing.web.replay import KeyedRequest, nothing, owner_of
from ticketing.web.repositories import stored_responses

KEY = "8e03978e-40d5-43dd-bc93-6894a57f9324"
NEW = "another horse"
ADA = {"username": "ada", "password": PASSWORD}
CHANGE = {"currentPassword": PASSWORD, "newPassword": NEW}
PROGRAM = {"name": "A program", "scopes": ["bookings:read"]}


async def send(
    client: httpx.AsyncClient, name: str, body: dict[str, Any], key: str | None = KEY
) -> httpx.Response:
    headers = {} if key is None else {"Idempotency-Key": key}
    return await client.post(f"/api/users/{name}", headers=headers, json=body)


async def refresh(person: Person, key: str | None = KEY) -> httpx.Response:
    return await send(person.client, "refresh", {"refreshToken": person.refresh_token}, key)


async def count(engine: AsyncEngine, table: str) -> int:
    async with engine.connect() as connection:
        return int((await connection.execute(text(f"SELECT count(*) FROM {table}"))).scalar_one())


def facts(settings: Settings, fact: str) -> int:
    return len(lines(settings.log_dir, fact))


def assert_again(first: httpx.Response, again: httpx.Response) -> None:
    assert first.is_success
    assert "Idempotency-Replayed" not in first.headers
    assert (again.status_code, again.content) == (first.status_code, first.content)
    assert again.headers["Idempotency-Replayed"] == "true"


async def is_in(person: Person) -> bool:
    return (await person.get("/api/users/me")).status_code == 200


@asynccontextmanager
async def served_with(settings: Settings, **changes: object) -> AsyncIterator[httpx.AsyncClient]:
    app = create_app(settings.model_copy(update=changes))
    transport = httpx.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://test") as client,
    ):
        yield client


async def test_an_account_is_made_once(
    client: httpx.AsyncClient, engine: AsyncEngine, settings: Settings
) -> None:
    first, again = [await send(client, "register", ADA) for _ in "12"]
    assert_again(first, again)
    assert first.status_code == 201
    for table in ("users", "audit_records"):
        assert await count(engine, table) == 1
    assert facts(settings, "user.registered") == 1
    assert_problem(await send(client, "register", ADA, "other"), 409, "username_taken")


async def test_a_name_has_its_own_keys_and_each_stands_for_one_account(
    client: httpx.AsyncClient,
) -> None:
    reused = "idempotency_key_reused"
    assert (await send(client, "register", ADA)).status_code == 201
    other = ADA | {"password": "correct horse too"}
    assert_problem(await send(client, "register", other), 422, reused)
    # The same name in another case.
    assert_problem(await send(client, "register", ADA | {"username": "ADA"}), 422, reused)
    bob = await send(client, "register", ADA | {"username": "bob"})
    assert bob.json()["username"] == "bob"
    assert "Idempotency-Replayed" not in bob.headers


async def test_a_login_starts_one_session(
    visitor: Visitor, engine: AsyncEngine, settings: Settings
) -> None:
    await visitor.register("ada")
    first, again = [await send(visitor.client, "login", ADA) for _ in "12"]
    assert_again(first, again)
    assert await count(engine, "sessions") == 2  # With the key of `register`.
    assert facts(settings, "session.started") == 2
    wrong = ADA | {"password": "wrong"}
    assert_problem(await send(visitor.client, "login", wrong), 401, "invalid_credentials")
    capital = ADA | {"username": "ADA"}
    assert_problem(await send(visitor.client, "login", capital), 422, "idempotency_key_reused")


async def test_a_resent_login_revives_no_session(visitor: Visitor) -> None:
    ada = await visitor.register("ada")
    given = (await send(visitor.client, "login", ADA)).json()
    phone = replace(ada, token=given["token"], refresh_token=given["refreshToken"])
    assert (await phone.post("/api/users/logout", {})).status_code == 204
    again = await send(visitor.client, "login", ADA)
    assert again.json() == given
    assert not await is_in(phone)
    assert_problem(await refresh(phone, None), 401, "invalid_refresh_token")
    await ada.post("/api/users/me/password", CHANGE)
    assert_problem(await send(visitor.client, "login", ADA), 401, "invalid_credentials")


async def test_a_refresh_whose_response_was_lost_may_be_resent(
    visitor: Visitor, settings: Settings
) -> None:
    ada = await visitor.register()
    first, again = [await refresh(ada) for _ in "12"]
    assert_again(first, again)
    assert facts(settings, "session.refreshed") == 1
    assert facts(settings, "session.reused") == 0
    current = replace(ada, token=first.json()["token"], refresh_token=first.json()["refreshToken"])
    assert await is_in(current)
    # The session's next token is another request, so it has another key.
    assert_problem(await refresh(current), 422, "idempotency_key_reused")
    assert (await refresh(current, "next")).status_code == 200
    assert_again(first, await refresh(ada))
    # With another key, or none, it is a used token.
    assert_problem(await refresh(ada, "another"), 401, "invalid_refresh_token")
    assert not await is_in(current)
    assert facts(settings, "session.reused") == 1
    assert_problem(await refresh(ada), 401, "invalid_refresh_token")


async def test_a_resent_logout_gets_its_response_though_the_session_is_over(
    visitor: Visitor,
) -> None:
    phone = await visitor.register()
    laptop, tablet = await phone.again(), await phone.again()
    first, again = [await phone.post("/api/users/logout", {}, key=KEY) for _ in "12"]
    assert_again(first, again)
    assert first.status_code == 204
    assert not first.content
    assert not await is_in(phone)
    # The same request from another session ends that session.
    other = await laptop.post("/api/users/logout", {}, key=KEY)
    assert (other.status_code, "Idempotency-Replayed" in other.headers) == (204, False)
    assert not await is_in(laptop)
    # A session that is over can't end another.
    everywhere = {"everywhere": True}
    reused = await phone.post("/api/users/logout", everywhere, key=KEY)
    assert_problem(reused, 422, "idempotency_key_reused")
    for key in ("fresh", None):
        answer = await phone.post("/api/users/logout", everywhere, key=key)
        assert_problem(answer, 401, "not_authenticated")
    answer = await replace(phone, token=phone.token[:-3]).post("/api/users/logout", {}, key=KEY)
    assert_problem(answer, 401, "not_authenticated")
    assert await is_in(tablet)
    assert_again(*[await tablet.post("/api/users/logout", everywhere, key="last") for _ in "12"])


async def test_an_expired_token_can_not_resend_a_logout(
    visitor: Visitor, monkeypatch: pytest.MonkeyPatch, app: FastAPI
) -> None:
    ada = await visitor.register()
    assert (await ada.post("/api/users/logout", {}, key=KEY)).status_code == 204
    ends = app.state.provided[Identity].tokens.named(ada.token, ended=True).expires_at
    monkeypatch.setattr("ticketing.identity.tokens.time.time", lambda: ends)
    answer = await ada.post("/api/users/logout", {}, key=KEY)
    assert_problem(answer, 401, "not_authenticated")


async def test_a_password_is_changed_once(
    visitor: Visitor, engine: AsyncEngine, settings: Settings
) -> None:
    ada = await visitor.register("ada")
    path = "/api/users/me/password"
    first, again = [await ada.post(path, CHANGE, key=KEY) for _ in "12"]
    assert_again(first, again)
    assert facts(settings, "user.password_changed") == 1
    async with engine.connect() as connection:
        changes = text("SELECT count(*) FROM audit_records WHERE action = 'user.password_changed'")
        assert await connection.scalar(changes) == 1
    assert_problem(await ada.post(path, CHANGE, key="other"), 403, "wrong_password")
    back = {"currentPassword": NEW, "newPassword": PASSWORD}
    assert_problem(await ada.post(path, back, key=KEY), 422, "idempotency_key_reused")
    assert (await send(visitor.client, "login", ADA | {"password": NEW}, None)).is_success
    # Another person's change with the same key and body is a separate one.
    bob = await visitor.register()
    changed = await bob.post(path, CHANGE, key=KEY)
    assert (changed.status_code, "Idempotency-Replayed" in changed.headers) == (204, False)


async def test_an_api_key_is_made_once(
    visitor: Visitor, engine: AsyncEngine, settings: Settings
) -> None:
    ada = await visitor.register()
    first, again = [await ada.post("/api/users/me/keys", PROGRAM, key=KEY) for _ in "12"]
    assert_again(first, again)
    assert await count(engine, "api_keys") == 1
    assert facts(settings, "key.made") == 1
    assert await is_in(replace(ada, token=again.json()["key"]))
    other = PROGRAM | {"scopes": ["bookings:write"]}
    answer = await ada.post("/api/users/me/keys", other, key=KEY)
    assert_problem(answer, 422, "idempotency_key_reused")


async def test_no_secret_is_stored_in_the_clear_with_the_responses(
    visitor: Visitor, engine: AsyncEngine
) -> None:
    await send(visitor.client, "register", ADA)
    given = (await send(visitor.client, "login", ADA)).json()
    ada = Person(visitor.client, "ada", given["userId"], given["token"], given["refreshToken"])
    fresh = (await refresh(ada)).json()
    key = (await ada.post("/api/users/me/keys", PROGRAM, key="key")).json()["key"]
    assert (await ada.post("/api/users/me/password", CHANGE, key="new")).status_code == 204
    secrets = [PASSWORD, NEW, key]
    secrets += [each[name] for each in (given, fresh) for name in ("token", "refreshToken")]
    async with engine.connect() as connection:
        rows = (await connection.execute(text("SELECT digest, body FROM idempotency_keys"))).all()
    assert len(rows) == 5
    for digest, body in rows:
        # No digest that could be compared with a list of passwords.
        assert digest == b""
        kept = body + base64.urlsafe_b64decode(body)
        for secret in secrets:
            assert secret.encode() not in kept
        asked = "Register(username='ada', password='correct horse')"
        assert hashlib.sha256(asked.encode()).digest() not in kept


async def test_stored_responses_can_be_read_until_the_previous_secret_is_removed(
    visitor: Visitor, settings: Settings
) -> None:
    first = await send(visitor.client, "register", ADA)
    tokens = await send(visitor.client, "login", ADA)
    fresh = {"jwt_secret": SecretStr("the next secret of the tests, long enough too")}
    rotated = fresh | {"jwt_previous_secrets": (SecretStr(SECRET),)}
    async with served_with(settings, **rotated) as client:
        assert_again(first, await send(client, "register", ADA))
        assert_again(tokens, await send(client, "login", ADA))
    async with served_with(settings, **fresh) as client:
        for name in ("register", "login"):
            assert_problem(await send(client, name, ADA), 410, "answer_lost")
        assert (await send(client, "login", ADA, "other")).status_code == 200


async def test_a_key_does_not_help_to_guess_a_password(settings: Settings) -> None:
    async with served_with(settings, rate_limits="on") as client:
        await send(client, "register", ADA)
        for number in range(3):
            wrong = ADA | {"password": f"wrong horse {number}"}
            answer = await send(client, "register", wrong)
            assert_problem(answer, 422, "idempotency_key_reused")
        # As after as many wrong logins: even the right password is refused.
        for name in ("register", "login"):
            assert_problem(await send(client, name, ADA), 429, "too_many_requests")


async def test_a_borrowed_token_and_a_key_do_not_help_to_guess_a_password(
    settings: Settings,
) -> None:
    async with served_with(settings, rate_limits="on") as client:
        ada = await Visitor(client).register()
        path = "/api/users/me/password"
        assert (await ada.post(path, CHANGE, key=KEY)).status_code == 204
        for number in range(3):
            wrong = CHANGE | {"newPassword": f"wrong horse {number}"}
            answer = await ada.post(path, wrong, key=KEY)
            assert_problem(answer, 422, "idempotency_key_reused")
        assert_problem(await ada.post(path, CHANGE, key=KEY), 429, "too_many_requests")


async def test_a_resent_request_is_not_slowed(settings: Settings) -> None:
    async with served_with(settings, rate_limits="on") as client:
        first, *again = [await send(client, "register", ADA) for _ in range(10)]
        for answer in again:
            assert_again(first, answer)


async def test_an_error_is_not_stored(client: httpx.AsyncClient, engine: AsyncEngine) -> None:
    async def rename(table: str, to: str) -> None:
        async with engine.begin() as connection:
            await connection.execute(text(f"ALTER TABLE {table} RENAME TO {to}"))

    await rename("audit_records", "away")
    assert (await send(client, "register", ADA)).status_code == 500
    await rename("away", "audit_records")
    answer = await send(client, "register", ADA)
    assert answer.status_code == 201
    assert "Idempotency-Replayed" not in answer.headers


async def test_one_of_many_equal_requests_at_many_workers_is_done(
    client: httpx.AsyncClient, engine: AsyncEngine, settings: Settings
) -> None:
    async with served_with(settings) as elsewhere:
        sent = (send(each, "register", ADA) for _ in range(5) for each in (client, elsewhere))
        answers = await asyncio.gather(*sent)
    (made,) = {answer.content for answer in answers if answer.status_code == 201}
    for answer in answers:
        if answer.status_code != 201:
            assert_problem(answer, 409, "request_in_progress")
            assert answer.headers["Retry-After"] == "1"
    assert sum("Idempotency-Replayed" not in a.headers for a in answers if a.is_success) == 1
    assert (await send(client, "register", ADA)).content == made
    assert await count(engine, "users") == 1


async def test_a_key_of_a_request_that_died_is_free_at_once(
    client: httpx.AsyncClient, engine: AsyncEngine
) -> None:
    intent = KeyedRequest(owner_of("ada"), KEY, b"", nothing)
    kill = text("SELECT pg_terminate_backend(:pid, 5000)")

    async def die() -> None:
        async with stored_responses.once(engine, intent) as (connection, _):
            assert_problem(await send(client, "register", ADA), 409, "request_in_progress")
            async with engine.begin() as other:
                assert await other.scalar(kill, {"pid": connection.get_server_pid()})
            assert (await send(client, "register", ADA)).status_code == 201

    with pytest.raises(DatabaseUnavailable):
        await die()


async def test_a_sale_under_the_same_key_at_the_same_time_keeps_it(engine: AsyncEngine) -> None:
    intent = KeyedRequest(owner_of("ada"), KEY, b"mine", nothing)
    theirs = {"owner": intent.owner, "key": KEY, "digest": b"theirs", "status": 201, "body": b""}

    async def meet() -> None:
        async with stored_responses.once(engine, intent) as (_, keep):
            async with driver(engine) as other:
                await stored_responses.KEEP.fetch(other, location=None, **theirs)
            await keep(None)

    with pytest.raises(IdempotencyKeyReused):
        await meet()


async def test_stored_responses_of_an_account_are_deleted_with_it(
    visitor: Visitor, engine: AsyncEngine
) -> None:
    credentials = {"username": "ada", "password": PASSWORD}
    key = {"Idempotency-Key": "mine"}
    paths = ("/api/users/register", "/api/users/login")
    first = [await visitor.client.post(path, json=credentials, headers=key) for path in paths]
    ada = first[0].json()
    token = {"Authorization": f"Bearer {first[1].json()['token']}"}
    body = {"refreshToken": first[1].json()["refreshToken"]}
    again = await visitor.client.post("/api/users/refresh", json=body, headers=key)
    assert again.status_code == 200
    gone = await visitor.client.post(
        "/api/users/me/delete", json={"password": PASSWORD}, headers=token
    )
    assert gone.status_code == 204
    async with engine.connect() as connection:
        assert await connection.scalar(text("SELECT count(*) FROM idempotency_keys")) == 0
    # Another person has the name now. The old request makes no account, and shows none.
    other = await visitor.client.post("/api/users/register", json=credentials, headers=key)
    assert (other.status_code, "idempotency-replayed" in other.headers) == (201, False)
    assert other.json()["id"] != ada["id"]
