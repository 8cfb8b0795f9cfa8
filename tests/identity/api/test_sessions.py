"""Sessions: refreshing, logging out, and the tokens that end with them."""

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import replace

import httpx
import jwt
import pytest
from fastapi import FastAPI
from pydantic import SecretStr
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from tests.contract import assert_problem
from tests.logs import content, lines
from tests.people import PASSWORD, Person, Visitor
from tests.signing import SECRET
from ticketing.app import create_app
from ticketing.identity.part import Identity
from ticketing.settings import Settings

NEW_SECRET = "the next secret of the tests, long enough too"


@pytest.fixture(autouse=True)
def _learn_quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ticketing.identity.compose.LEARN_EVERY", 0.05)


@pytest.fixture
async def elsewhere(app: FastAPI, settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    """Another worker of the same service."""
    assert app
    other = create_app(settings)
    async with (
        other.router.lifespan_context(other),
        httpx.AsyncClient(transport=httpx.ASGITransport(other), base_url="http://test") as client,
    ):
        yield client


async def refresh(person: Person) -> httpx.Response:
    body = {"refreshToken": person.refresh_token}
    return await person.client.post("/api/users/refresh", json=body)


async def refreshed(person: Person) -> Person:
    answer = await refresh(person)
    assert answer.status_code == 200, answer.text
    given = answer.json()
    return replace(person, token=given["token"], refresh_token=given["refreshToken"])


async def is_in(person: Person) -> bool:
    answer = await person.get("/api/users/me")
    if answer.status_code != 200:
        assert_problem(answer, 401, "not_authenticated")
    return answer.status_code == 200


async def is_out_soon(person: Person, client: httpx.AsyncClient) -> None:
    """Wait until another worker refuses the person. The time limit of the test ends the wait."""
    async with asyncio.timeout(10):
        while await is_in(replace(person, client=client)):  # noqa: ASYNC110 - over the API
            await asyncio.sleep(0.01)


async def test_a_refresh_returns_new_tokens_each_time(visitor: Visitor) -> None:
    first = await visitor.register()
    second = await refreshed(first)
    third = await refreshed(second)
    assert len({each.token for each in (first, second, third)}) == 3
    assert len({each.refresh_token for each in (first, second, third)}) == 3
    for each in (first, second, third):  # An access token stays valid until it expires.
        assert await is_in(each)
    claims = [jwt.decode(p.token, options={"verify_signature": False}) for p in (first, third)]
    assert claims[0]["sid"] == claims[1]["sid"]
    assert claims[0]["jti"] != claims[1]["jti"]


async def test_a_refresh_token_is_kept_as_a_hash(visitor: Visitor, engine: AsyncEngine) -> None:
    ada = await visitor.register()
    async with engine.connect() as connection:
        kept = await connection.scalar(text("SELECT hash FROM refresh_tokens"))
    assert kept is not None
    assert len(kept) == 32
    assert ada.refresh_token.encode() not in kept


async def test_a_refresh_token_that_is_used_again_ends_the_session(
    visitor: Visitor, elsewhere: httpx.AsyncClient, settings: Settings
) -> None:
    stolen = await visitor.register()
    other_device = await stolen.again()
    current = await refreshed(stolen)
    assert_problem(await refresh(stolen), 401, "invalid_refresh_token")
    assert_problem(await refresh(current), 401, "invalid_refresh_token")
    assert not await is_in(stolen)
    assert not await is_in(current)
    await is_out_soon(current, elsewhere)
    assert await is_in(other_device)
    await refreshed(other_device)
    (reused,) = lines(settings.log_dir, "session.reused")
    assert (reused["userId"], reused["level"]) == (stolen.id, "warning")
    (ended,) = lines(settings.log_dir, "session.ended")
    assert ended["sessionId"] == reused["sessionId"]


async def test_two_refreshes_at_once_with_one_token_end_the_session(
    visitor: Visitor, elsewhere: httpx.AsyncClient
) -> None:
    for _ in range(10):
        ada = await visitor.register()
        answers = await asyncio.gather(refresh(ada), refresh(replace(ada, client=elsewhere)))
        assert sorted(answer.status_code for answer in answers) == [200, 401]
        (won,) = [answer.json() for answer in answers if answer.status_code == 200]
        again = replace(ada, refresh_token=won["refreshToken"])
        assert_problem(await refresh(again), 401, "invalid_refresh_token")


async def test_logging_out_ends_this_session_everywhere_and_no_other(
    visitor: Visitor, elsewhere: httpx.AsyncClient
) -> None:
    phone = await visitor.register()
    laptop = await phone.again()
    assert await is_in(replace(phone, client=elsewhere))  # so that it is remembered there
    assert (await phone.post("/api/users/logout", {})).status_code == 204
    assert not await is_in(phone)
    await is_out_soon(phone, elsewhere)
    assert_problem(await refresh(phone), 401, "invalid_refresh_token")
    event = {"eventId": 1, "userId": phone.id}
    for path in ("/api/events/book", "/api/users/logout"):
        assert_problem(await phone.post(path, event), 401, "not_authenticated")
    assert await is_in(laptop)
    assert await is_in(replace(laptop, client=elsewhere))


@pytest.mark.parametrize("key", [None, "a-key"])
@pytest.mark.parametrize("body", [{}, {"everywhere": True}])
async def test_a_token_of_a_machine_whose_clock_is_far_ahead_logs_out(
    visitor: Visitor, monkeypatch: pytest.MonkeyPatch, body: object, key: str | None
) -> None:
    ada = await visitor.register()
    ahead = time.time() + 600
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr("ticketing.identity.tokens.time.time", lambda: ahead)
        phone = await ada.again()
    assert (await phone.get("/api/users/me")).status_code == 401
    assert (await phone.post("/api/users/logout", body, key=key)).status_code == 204
    over = await phone.client.post("/api/users/refresh", json={"refreshToken": phone.refresh_token})
    assert over.status_code == 401
    again = await phone.post("/api/users/logout", body, key=key)
    assert again.status_code == (401 if key is None else 204)
    monkeypatch.setattr("ticketing.identity.tokens.time.time", lambda: ahead)
    assert (await phone.get("/api/users/me")).status_code == 401


@pytest.mark.parametrize("length", ["0", None])
async def test_logging_out_needs_no_body(visitor: Visitor, length: str | None) -> None:
    laptop = await visitor.register()
    phone = await laptop.again()
    request = phone.client.build_request("POST", "/api/users/logout", headers=phone.headers)
    assert request.headers["Content-Length"] == "0"
    if length is None:
        del request.headers["Content-Length"]
    assert (await phone.client.send(request)).status_code == 204
    assert not await is_in(phone)
    assert await is_in(laptop)


async def test_a_body_without_a_length_is_read_on_a_route_with_an_optional_body(
    visitor: Visitor,
) -> None:
    laptop = await visitor.register()
    phone = await laptop.again()

    async def body() -> AsyncIterator[bytes]:
        yield b'{"everywhere": '
        yield b"true}"

    for kind, status in (("text/plain", 415), ("application/json", 204)):
        headers = phone.headers | {"Content-Type": kind}
        answer = await phone.client.post("/api/users/logout", headers=headers, content=body())
        assert answer.request.headers["Transfer-Encoding"] == "chunked"
        assert answer.status_code == status
    assert not await is_in(laptop)


async def test_logging_out_everywhere_ends_all_sessions_of_only_that_person(
    visitor: Visitor, elsewhere: httpx.AsyncClient
) -> None:
    bob = await visitor.register()
    phone = await visitor.register()
    laptop = await phone.again()
    assert (await phone.post("/api/users/logout", {"everywhere": True})).status_code == 204
    for each in (phone, laptop):
        assert not await is_in(each)
        await is_out_soon(each, elsewhere)
    assert await is_in(bob)


async def test_a_new_worker_knows_the_sessions_that_were_revoked_before(
    visitor: Visitor, settings: Settings
) -> None:
    ada = await visitor.register()
    await ada.post("/api/users/logout", {})
    late = create_app(settings)
    async with (
        late.router.lifespan_context(late),
        httpx.AsyncClient(transport=httpx.ASGITransport(late), base_url="http://test") as client,
    ):
        assert not await is_in(replace(ada, client=client))


async def test_a_session_that_expired_is_not_continued_and_is_removed(
    visitor: Visitor, engine: AsyncEngine, app: FastAPI, settings: Settings
) -> None:
    ada = await visitor.register()
    async with engine.begin() as connection:
        await connection.execute(
            text("UPDATE sessions SET expires_at = now() - interval '2 minutes'")
        )
        await connection.execute(
            text("INSERT INTO revocations SELECT gen_random_uuid(), 1, now() - interval '1 second'")
        )
    assert_problem(await refresh(ada), 401, "invalid_refresh_token")
    assert lines(settings.log_dir, "session.reused") == []
    cleaning = create_app(settings)
    async with cleaning.router.lifespan_context(cleaning), engine.connect() as connection:
        for table in ("sessions", "refresh_tokens", "revocations"):
            assert await connection.scalar(text(f"SELECT count(*) FROM {table}")) == 0
    assert app


async def test_no_session_outlives_its_longest_time_however_often_it_is_refreshed(
    visitor: Visitor, engine: AsyncEngine, settings: Settings
) -> None:
    ada = await visitor.register()
    async with engine.begin() as connection:
        await connection.execute(
            text("UPDATE sessions SET created_at = now() - :age * interval '1 second'"),
            {"age": settings.session_lifetime - 100},
        )
    given = (await refresh(ada)).json()
    assert 95 <= given["refreshExpiresIn"] <= 100
    # The access token ends with the session.
    assert given["expiresIn"] == given["refreshExpiresIn"]
    claims = jwt.decode(given["token"], options={"verify_signature": False})
    assert claims["exp"] - claims["iat"] == given["expiresIn"]


async def test_the_secret_is_changed_without_logging_anybody_out(
    visitor: Visitor, settings: Settings
) -> None:
    ada = await visitor.register()
    changes: list[tuple[str, tuple[str, ...], bool]] = [
        (NEW_SECRET, (SECRET,), True),
        (NEW_SECRET, (), False),
    ]
    for secret, previous, expected in changes:
        rotated = settings.model_copy(
            update={
                "jwt_secret": SecretStr(secret),
                "jwt_previous_secrets": tuple(map(SecretStr, previous)),
            }
        )
        other = create_app(rotated)
        transport = httpx.ASGITransport(other)
        async with (
            other.router.lifespan_context(other),
            httpx.AsyncClient(transport=transport, base_url="http://test") as client,
        ):
            assert await is_in(replace(ada, client=client)) is expected
            fresh = await replace(ada, client=client).again()
            assert jwt.decode(fresh.token, secret, ["HS256"], audience="ticketing")
            assert await is_in(fresh)


async def test_a_login_that_overlaps_a_change_of_password_starts_no_session_by_the_old_one(
    visitor: Visitor, app: FastAPI, engine: AsyncEngine
) -> None:
    ada = await visitor.register()
    async with engine.connect() as connection:
        verified = await connection.scalar(text("SELECT password_hash FROM users"))
    assert verified is not None
    change = {"currentPassword": PASSWORD, "newPassword": "another horse"}
    assert (await ada.post("/api/users/me/password", change)).status_code == 204
    user = await app.state.provided[Identity].users.find_by_name(ada.username)
    assert await app.state.provided[Identity].sessions.start(user.id, verified) is None


async def test_an_outage_of_the_database_is_logged_once_and_survived(
    visitor: Visitor, elsewhere: httpx.AsyncClient, engine: AsyncEngine, settings: Settings
) -> None:
    ada = await visitor.register()
    async with engine.begin() as connection:
        await connection.execute(text("ALTER TABLE revocations RENAME TO gone"))
    async with asyncio.timeout(10):
        while len(lines(settings.log_dir, "loop.failing")) < 2:  # noqa: ASYNC110 - of loops
            await asyncio.sleep(0.01)
    await asyncio.sleep(0.3)  # They fail again, and log nothing more.
    async with engine.begin() as connection:
        await connection.execute(text("ALTER TABLE gone RENAME TO revocations"))
    await ada.post("/api/users/logout", {})
    await is_out_soon(ada, elsewhere)
    failing = lines(settings.log_dir, "loop.failing")
    assert [line["loop"] for line in failing] == ["access"] * 2  # one for each worker
    assert failing[0]["exception"][0]["exc_type"] == "UndefinedTableError"


async def test_the_facts_are_logged_without_a_secret(visitor: Visitor, settings: Settings) -> None:
    first = await visitor.register()
    second = await refreshed(first)
    key = await second.make_key("bookings:read")
    credentials = {"username": first.username, "password": "wrong horse"}
    await visitor.client.post("/api/users/login", json=credentials)
    await visitor.client.post("/api/users/login", json=credentials | {"username": "wrong horse"})
    (listed,) = (await second.get("/api/users/me/keys")).json()["items"]
    await second.delete(f"/api/users/me/keys/{listed['id']}")
    change = {"currentPassword": PASSWORD, "newPassword": "another horse"}
    await second.post("/api/users/me/password", change)
    await second.post("/api/users/me/delete", {"password": "another horse"})
    logged = content(settings.log_dir)
    for secret in (first.refresh_token, second.refresh_token, key.token, "horse", "$bcrypt"):
        assert secret not in logged
    names = [
        line["event"]
        for prefix in ("user.", "session.", "key.")
        for line in lines(settings.log_dir, prefix)
    ]
    assert sorted(names) == sorted(
        [
            *("user.registered", "user.password_changed", "user.deleted"),
            *("session.started", "session.refreshed", "session.refused", "session.refused"),
            *("session.ended", "key.made", "key.revoked"),
        ]
    )
    refused = lines(settings.log_dir, "session.refused")
    assert {line["userId"] for line in refused} == {first.id, None}


@pytest.mark.parametrize("typed", ["ada ", " ada", "\tada\n", "ada\u00a0"])
async def test_spaces_around_a_name_do_not_count_at_a_login(visitor: Visitor, typed: str) -> None:
    await visitor.register("ada")
    credentials = {"username": typed, "password": PASSWORD}
    answer = await visitor.client.post("/api/users/login", json=credentials)
    assert answer.status_code == 200
    answer = await visitor.client.post("/api/users/token", data=credentials)
    assert answer.status_code == 200
