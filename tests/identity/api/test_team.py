"""An event's team: granting, using and revoking roles."""

import asyncio
from typing import Any

import pytest
from fastapi import FastAPI
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from tests.contract import assert_problem
from tests.people import PASSWORD, Person, Visitor


async def team(person: Person, event: int, **parameters: str | int) -> Any:  # noqa: ANN401 - JSON
    answer = await person.get(f"/api/events/{event}/team", **parameters)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def roles(person: Person, event: int) -> list[tuple[str, str]]:
    return [(each["userId"], each["role"]) for each in (await team(person, event))["items"]]


async def test_a_manager_keeps_the_box_office_and_staff_read_the_list(visitor: Visitor) -> None:
    ada, bob, cleo, dora = [await visitor.register() for _ in range(4)]
    event = await ada.organise()
    bookings = f"/api/events/{event}/bookings"
    for person in (bob, cleo):
        assert_problem(await person.book(event, for_=dora), 403, "forbidden")
        assert_problem(await person.get(bookings), 403, "forbidden")
    await ada.appoint(event, bob, "manager")
    await ada.appoint(event, cleo, "staff")
    assert (await bob.book(event, for_=dora)).status_code == 201
    assert_problem(await cleo.cancel(event, for_=dora), 403, "forbidden")
    for person in (ada, bob, cleo):
        (listed,) = (await person.get(bookings)).json()["items"]
        assert listed["userId"] == dora.id
    assert (await bob.cancel(event, for_=dora)).status_code == 200
    # At this event alone.
    other = await ada.organise()
    assert_problem(await bob.book(other, for_=dora), 403, "forbidden")
    assert_problem(await cleo.get(f"/api/events/{other}/bookings"), 403, "forbidden")


async def test_a_role_is_given_once_however_often_and_replaces_the_one_before(
    visitor: Visitor, engine: AsyncEngine
) -> None:
    ada, bob = [await visitor.register() for _ in range(2)]
    event = await ada.organise()
    for role in ("staff", "staff", "manager", "manager"):
        await ada.appoint(event, bob, role)
        assert await roles(ada, event) == [(bob.id, role)]
    async with engine.connect() as connection:
        given = await connection.scalars(
            text("SELECT details->>'role' FROM audit_records WHERE action = 'role.granted'")
        )
        assert given.all() == ["staff", "manager"]


async def test_a_revoked_role_has_no_effect(visitor: Visitor) -> None:
    ada, bob = [await visitor.register() for _ in range(2)]
    event = await ada.organise()
    member = f"/api/events/{event}/team/{bob.id}"
    for person in (ada, bob):  # anybody may leave
        await ada.appoint(event, bob, "manager")
        assert (await bob.get(f"/api/events/{event}/bookings")).status_code == 200
        assert (await person.delete(member)).status_code == 204
        assert_problem(await bob.get(f"/api/events/{event}/bookings"), 403, "forbidden")
        assert_problem(await person.delete(member), 404, "member_not_found")


async def test_only_the_owner_gives_roles(visitor: Visitor) -> None:
    ada, bob, cleo = [await visitor.register() for _ in range(3)]
    event = await ada.organise()
    await ada.appoint(event, bob, "manager")
    await ada.appoint(event, cleo, "staff")
    for person in (bob, cleo):
        for whom in (bob, cleo, ada):
            path = f"/api/events/{event}/team/{whom.id}"
            refused = await person.put(path, {"role": "manager"})
            assert_problem(refused, 403, "forbidden")
            if whom is not person:
                assert_problem(await person.delete(path), 403, "forbidden")
    assert await roles(ada, event) == [(bob.id, "manager"), (cleo.id, "staff")]


@pytest.mark.parametrize("role", ["owner", "admin", "Manager", "", None, 1, ["staff"]])
async def test_no_other_role_can_be_granted(visitor: Visitor, role: object) -> None:
    ada, bob = [await visitor.register() for _ in range(2)]
    path = f"/api/events/{await ada.organise()}/team/{bob.id}"
    assert_problem(await ada.put(path, {"role": role}), 422, "validation_failed")


async def test_the_owner_stays_the_owner(visitor: Visitor) -> None:
    ada = await visitor.register()
    event = await ada.organise()
    path = f"/api/events/{event}/team/{ada.id}"
    assert_problem(await ada.put(path, {"role": "staff"}), 409, "already_owner")
    assert_problem(await ada.delete(path), 404, "member_not_found")
    assert await roles(ada, event) == []


async def test_the_team_comes_page_by_page_in_the_order_of_joining(visitor: Visitor) -> None:
    ada, *people = [await visitor.register() for _ in range(6)]
    event, other = await ada.organise(), await ada.organise()
    for person in people:
        await ada.appoint(event, person, "staff")
        await ada.appoint(other, person, "manager")
    await ada.appoint(event, people[0], "manager")
    found = []
    cursor: dict[str, str] = {}
    while True:
        page = await team(ada, event, limit=2, **cursor)
        found += [(member["userId"], member["username"]) for member in page["items"]]
        if page["nextCursor"] is None:
            break
        cursor = {"cursor": page["nextCursor"]}
    assert found == [(person.id, person.username) for person in people]


async def test_a_deleted_account_loses_its_roles(visitor: Visitor, engine: AsyncEngine) -> None:
    ada, bob = [await visitor.register() for _ in range(2)]
    event = await ada.organise()
    member = f"/api/events/{event}/team/{bob.id}"
    # Whichever is first, a deleted account has no role.
    await ada.appoint(event, bob, "staff")
    await asyncio.gather(
        *(ada.put(member, {"role": role}) for role in ("manager", "staff", "manager")),
        bob.post("/api/users/me/delete", {"password": PASSWORD}),
    )
    assert await roles(ada, event) == []
    assert_problem(await ada.put(member, {"role": "staff"}), 404, "user_not_found")
    async with engine.connect() as connection:
        last = await connection.scalar(
            text("SELECT action FROM audit_records WHERE event_id IS NOT NULL ORDER BY seq DESC")
        )
    assert last == "role.revoked"


async def test_owner_and_managers_rename_an_event(visitor: Visitor) -> None:
    ada, bob, cleo = [await visitor.register() for _ in range(3)]
    event = await ada.organise(name="Chamber music")
    path = f"/api/events/{event}"
    await ada.appoint(event, bob, "manager")
    await ada.appoint(event, cleo, "staff")
    before = await visitor.event(event)
    renamed = await bob.patch(path, {"name": "  Chamber music, in the open  "})
    assert renamed.status_code == 200
    assert renamed.json() == before | {"name": "Chamber music, in the open", "revision": 2}
    assert await visitor.event(event) == renamed.json()
    for person in (cleo, await visitor.register()):
        assert_problem(await person.patch(path, {"name": "Mine"}), 403, "forbidden")
    refused = await bob.patch(path, {"name": "ab"})
    assert_problem(refused, 422, "validation_failed")
    assert_problem(await bob.patch(path, {"totalTickets": 5}), 422, "validation_failed")
    assert await visitor.event(event) == renamed.json()


async def test_a_sale_goes_on_while_the_event_is_renamed(visitor: Visitor, app: FastAPI) -> None:
    ada, *people = [await visitor.register() for _ in range(41)]
    event = await ada.organise(total=20)

    async def rename() -> None:
        for number in range(30):
            answer = await ada.patch(f"/api/events/{event}", {"name": f"Name {number}"})
            assert answer.status_code == 200

    booked, _ = await asyncio.gather(
        asyncio.gather(*(person.book(event) for person in people)), rename()
    )
    assert sorted(answer.status_code for answer in booked) == [201] * 20 + [202] * 20
    shown = await visitor.event(event)
    assert (shown["availableTickets"], shown["waitingListCount"]) == (0, 20)
    assert shown["name"] == "Name 29"
    assert app


async def test_many_requests_of_a_box_office_read_its_role_together(
    visitor: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    ada, bob, *people = [await visitor.register() for _ in range(12)]
    event = await ada.organise(total=5)
    await ada.appoint(event, bob, "manager")
    answers = await asyncio.gather(*(bob.book(event, for_=person) for person in people))
    assert sorted(answer.status_code for answer in answers) == [201] * 5 + [202] * 5
    # For their own booking, nobody's role is read.
    monkeypatch.delattr("ticketing.identity.repositories.team.TeamRepository.standing")
    assert (await bob.book(event)).status_code == 202
    assert (await bob.cancel(event)).status_code == 200


async def test_a_change_of_a_team_is_refused_while_another_holds_the_event_for_long(
    visitor: Visitor, engine: AsyncEngine
) -> None:
    ada, bob = [await visitor.register() for _ in range(2)]
    event = await ada.organise()
    await ada.appoint(event, bob, "staff")
    member = f"/api/events/{event}/team/{bob.id}"
    async with engine.begin() as connection:
        await connection.execute(text("SELECT FROM events FOR NO KEY UPDATE"))
        for answer in (
            await ada.put(member, {"role": "manager"}),
            await ada.delete(member),
            await bob.post("/api/users/me/delete", {"password": PASSWORD}),
        ):
            assert_problem(answer, 503, "busy")
    (still,) = (await ada.get(f"/api/events/{event}/team")).json()["items"]
    assert (still["userId"], still["role"]) == (bob.id, "staff")
    assert (await bob.post("/api/users/me/delete", {"password": PASSWORD})).status_code == 204
