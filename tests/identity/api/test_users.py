"""Accounts and tokens."""

from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import jwt
import pytest
from passlib.context import CryptContext
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from tests.contract import assert_problem
from tests.people import PASSWORD, Visitor
from tests.signing import SECRET
from ticketing.settings import Settings

REGISTER = "/api/users/register"
LOGIN = "/api/users/login"


def credentials(username: str = "ada", password: str = PASSWORD, **more: object) -> dict[str, Any]:
    return {"username": username, "password": password, **more}


async def test_a_new_account_shows_its_name_and_never_its_password(
    client: httpx.AsyncClient,
) -> None:
    before = datetime.now(UTC) - timedelta(minutes=1)
    made = await client.post(REGISTER, json=credentials("Ada.L-1_"))
    assert made.status_code == 201
    assert made.json().keys() == {"id", "username", "createdAt"}
    assert made.json()["username"] == "Ada.L-1_"
    assert datetime.fromisoformat(made.json()["createdAt"]) > before
    assert PASSWORD not in made.text


async def test_a_password_is_kept_as_a_hash(client: httpx.AsyncClient, engine: AsyncEngine) -> None:
    await client.post(REGISTER, json=credentials())
    async with engine.connect() as connection:
        kept = await connection.scalar(text("SELECT password_hash FROM users"))
    assert kept is not None
    assert kept.startswith("$bcrypt-sha256$")
    assert PASSWORD not in kept


async def test_a_name_is_taken_in_any_case(client: httpx.AsyncClient) -> None:
    await client.post(REGISTER, json=credentials("Ada"))
    for username in ("Ada", "ada", "ADA", "aDa"):
        answer = await client.post(REGISTER, json=credentials(username))
        assert_problem(answer, 409, "username_taken")


async def test_a_name_has_3_to_30_letters_digits_and_marks(client: httpx.AsyncClient) -> None:
    for username in ("abc", "a" * 30, "._-", "1.2"):
        assert (await client.post(REGISTER, json=credentials(username))).status_code == 201
    for username in ("ab", "a" * 31, "a b", "ada\n", "äda", "ada@x", " ada", ""):
        refused = assert_problem(
            await client.post(REGISTER, json=credentials(username)), 422, "validation_failed"
        )
        assert [error["pointer"] for error in refused["errors"]] == ["#/username"], username


async def test_a_password_of_8_to_128_characters_opens_its_account(
    client: httpx.AsyncClient,
) -> None:
    passwords = ("pqpqpqpr", "p" * 128, "ü" * 128, "  spaces  ", "🎟" * 64)
    for number, password in enumerate(passwords):
        given = credentials(f"person-{number}", password)
        assert (await client.post(REGISTER, json=given)).status_code == 201
        assert (await client.post(LOGIN, json=given)).status_code == 200
        # bcrypt alone would ignore what follows 72 bytes.
        wrong = await client.post(LOGIN, json=given | {"password": password[:-1] + "x"})
        assert_problem(wrong, 401, "invalid_credentials")


async def test_any_other_password_is_refused_and_not_repeated(client: httpx.AsyncClient) -> None:
    # The last two have 8 and 9 characters as they are sent, and 4 and 3 when normalised.
    composed = ("e\u0301" * 4, "\u1112\u1161\u11ab" * 3)
    for password in ("short12", "p" * 129, "", "\0" * 8, *composed):
        answer = await client.post(REGISTER, json=credentials(password=password))
        refused = assert_problem(answer, 422, "validation_failed")
        assert [error["pointer"] for error in refused["errors"]] == ["#/password"]
        assert not password or password not in answer.text


async def test_the_same_password_typed_in_another_encoding_opens_the_account(
    client: httpx.AsyncClient,
) -> None:
    await client.post(REGISTER, json=credentials(password="caf\u00e9 caf\u00e9"))
    answer = await client.post(LOGIN, json=credentials(password="cafe\u0301 cafe\u0301"))
    assert answer.status_code == 200


async def test_a_login_returns_a_token_for_the_person(
    client: httpx.AsyncClient, settings: Settings
) -> None:
    made = (await client.post(REGISTER, json=credentials("Ada"))).json()
    answer = await client.post(LOGIN, json=credentials("aDA"))
    assert answer.status_code == 200
    assert answer.json() == {
        "token": answer.json()["token"],
        "tokenType": "bearer",
        "expiresIn": settings.token_lifetime,
        "refreshToken": answer.json()["refreshToken"],
        "refreshExpiresIn": settings.refresh_lifetime,
        "userId": made["id"],
    }
    headers = {"Authorization": f"bearer {answer.json()['token']}"}
    assert (await client.get("/api/users/me", headers=headers)).json() == made | {
        "isAdmin": False,
        "isOrganiser": True,
    }


async def test_a_token_expires_when_the_login_said(
    client: httpx.AsyncClient, settings: Settings
) -> None:
    await client.post(REGISTER, json=credentials())
    token = (await client.post(LOGIN, json=credentials())).json()["token"]
    claims = jwt.decode(token, SECRET, ["HS256"], audience="ticketing")
    assert claims["exp"] - claims["iat"] == settings.token_lifetime


async def test_a_wrong_password_and_an_unknown_name_get_the_same_response(
    client: httpx.AsyncClient,
) -> None:
    await client.post(REGISTER, json=credentials())
    answers = [
        (await client.post(LOGIN, json=credentials(*given), headers={"X-Request-Id": "same"}))
        for given in [("ada", "wrong horse"), ("nobody", PASSWORD), ("a", "b"), ("\u212a", "")]
    ]
    for answer in answers:
        assert_problem(answer, 401, "invalid_credentials")
    assert {answer.text for answer in answers} == {answers[0].text}
    assert len({tuple(answer.headers.items()) for answer in answers}) == 1


async def test_a_name_that_nobody_has_costs_a_hash_like_any_other(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    await client.post(REGISTER, json=credentials())
    verified: list[str] = []
    verify = CryptContext.verify_and_update

    def recorded(self: CryptContext, secret: str, hashed: str) -> tuple[bool, str | None]:
        verified.append(hashed)
        return verify(self, secret, hashed)

    monkeypatch.setattr(CryptContext, "verify_and_update", recorded)
    for username in ("ada", "nobody"):
        await client.post(LOGIN, json=credentials(username, "wrong horse"))
    kept, invented = verified
    assert kept != invented
    # Algorithm and cost stand before the salt.
    assert kept.split("$")[:3] == invented.split("$")[:3]


async def test_the_docs_form_gets_a_token_too(client: httpx.AsyncClient) -> None:
    await client.post(REGISTER, json=credentials())
    answer = await client.post("/api/users/token", data=credentials(grant_type="password"))
    assert answer.status_code == 200
    headers = {"Authorization": f"Bearer {answer.json()['access_token']}"}
    assert (await client.get("/api/users/me", headers=headers)).json()["username"] == "ada"
    refused = await client.post("/api/users/token", data=credentials(password="wrong horse"))
    assert_problem(refused, 401, "invalid_credentials")


async def test_a_person_whose_account_is_deleted_is_not_found(
    visitor: Visitor, engine: AsyncEngine
) -> None:
    ada = await visitor.register()
    async with engine.begin() as connection:
        await connection.execute(text("TRUNCATE users CASCADE"))
    assert_problem(await ada.get("/api/users/me"), 404, "user_not_found")
    event = {"name": "A concert", "totalTickets": 1}
    assert_problem(await ada.post("/api/events/initialize", event), 404, "user_not_found")
    assert (await ada.get("/api/users/me/bookings")).json() == {"items": [], "nextCursor": None}
