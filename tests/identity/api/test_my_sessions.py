"""A person lists their sessions, and ends one from another device."""

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from tests.contract import assert_problem
from tests.people import PASSWORD, Person, Visitor

SESSIONS = "/api/users/me/sessions"


async def sessions(person: Person) -> list[dict[str, str | bool | None]]:
    listed: list[dict[str, str | bool | None]] = (await person.get(SESSIONS)).json()["items"]
    return listed


async def end(person: Person, session: object, password: str = PASSWORD) -> int:
    return (await person.post(f"{SESSIONS}/{session}/end", {"password": password})).status_code


async def test_a_person_sees_where_they_are_logged_in(visitor: Visitor) -> None:
    there, bob = await visitor.register(), await visitor.register()
    here = await there.again()
    refreshed = await there.client.post(
        "/api/users/refresh", json={"refreshToken": there.refresh_token}
    )
    assert refreshed.status_code == 200
    ours, theirs = await sessions(here)
    assert (ours["isCurrent"], ours["refreshedAt"]) == (True, None)
    assert theirs["isCurrent"] is False
    assert str(theirs["createdAt"]) < str(theirs["refreshedAt"]) < str(theirs["expiresAt"])
    assert len(await sessions(bob)) == 1


async def test_sessions_come_newest_first_page_by_page(visitor: Visitor) -> None:
    ada = await visitor.register()
    for _ in range(4):
        await ada.again()
    found = []
    page = (await ada.get(SESSIONS, limit=2)).json()
    while True:
        found += [session["id"] for session in page["items"]]
        if page["nextCursor"] is None:
            break
        page = (await ada.get(SESSIONS, limit=2, cursor=page["nextCursor"])).json()
    assert found == sorted(found, reverse=True)
    assert found == [session["id"] for session in await sessions(ada)]
    assert len(found) == 5


async def test_a_session_is_ended_from_another_device(visitor: Visitor) -> None:
    lost = await visitor.register()
    here = await lost.again()
    (other,) = [each["id"] for each in await sessions(here) if not each["isCurrent"]]
    assert await end(here, other) == 204
    assert_problem(await lost.get("/api/users/me"), 401, "not_authenticated")
    refresh = {"refreshToken": lost.refresh_token}
    refused = await lost.client.post("/api/users/refresh", json=refresh)
    assert_problem(refused, 401, "invalid_refresh_token")
    assert len(await sessions(here)) == 1
    gone = await here.post(f"{SESSIONS}/{other}/end", {"password": PASSWORD})
    assert_problem(gone, 404, "session_not_found")


async def test_the_current_session_can_end_itself(visitor: Visitor) -> None:
    ada = await visitor.register()
    (session,) = await sessions(ada)
    assert await end(ada, session["id"]) == 204
    assert_problem(await ada.get(SESSIONS), 401, "not_authenticated")


async def test_nobody_ends_another_persons_session_or_one_without_the_password(
    visitor: Visitor,
) -> None:
    ada, eve = await visitor.register(), await visitor.register()
    (session,) = await sessions(ada)
    assert await end(eve, session["id"]) == 404
    wrong = await ada.post(f"{SESSIONS}/{session['id']}/end", {"password": "a guess of mine"})
    assert_problem(wrong, 403, "wrong_password")
    assert await sessions(ada) == [session]


@pytest.mark.usefixtures("client")
async def test_a_session_that_has_ended_is_not_listed(
    visitor: Visitor, engine: AsyncEngine
) -> None:
    ada = await visitor.register()
    here = await ada.again()
    (old,) = [each["id"] for each in await sessions(here) if not each["isCurrent"]]
    async with engine.begin() as connection:
        await connection.execute(
            text("UPDATE sessions SET expires_at = now() WHERE id = CAST(:id AS uuid)"), {"id": old}
        )
    assert [each["isCurrent"] for each in await sessions(here)] == [True]
