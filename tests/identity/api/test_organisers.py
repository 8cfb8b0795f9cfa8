"""The right to create events, if not everybody has it."""

import asyncio
from collections.abc import Callable
from uuid import UUID

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from tests.calls import MIN_ROUNDS, promote
from tests.contract import assert_problem
from tests.logs import content
from tests.people import PASSWORD, Person, Visitor
from ticketing.errors import UserNotFound
from ticketing.identity.callers import AccessList
from ticketing.identity.operator import Operator
from ticketing.identity.part import Identity
from ticketing.settings import Settings

ME = "/api/users/me"
EVENT = {"name": "A concert", "totalTickets": 1}


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"organisers": "granted"})


@pytest.fixture
def operator(engine: AsyncEngine) -> Operator:
    """The command line. It is another process, so this one has to read its changes."""
    return Operator(engine, MIN_ROUNDS)


@pytest.fixture
def known(app: FastAPI) -> AccessList:
    access: AccessList = app.state.provided[Identity].access
    return access


async def create(person: Person) -> httpx.Response:
    return await person.post("/api/events/initialize", EVENT)


async def grant(admin: Person, to: Person) -> httpx.Response:
    return await admin.put(f"/api/users/{to.id}/organiser", None)


async def revoke(admin: Person, of: Person) -> httpx.Response:
    return await admin.delete(f"/api/users/{of.id}/organiser")


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - the loop sends no event
            await asyncio.sleep(0.01)


async def test_only_organisers_and_admins_create_events_until_it_is_revoked(
    visitor: Visitor, app: FastAPI, engine: AsyncEngine, operator: Operator, known: AccessList
) -> None:
    ada, bob, eve = [await visitor.register() for _ in range(3)]
    program = await ada.make_key("events:write")
    await promote(app, engine, eve)
    for person in (ada, program, bob):
        assert_problem(await create(person), 403, "organiser_required")
        assert (await person.get(ME)).json()["isOrganiser"] is False
    assert (await create(eve)).status_code == 201
    await operator.organisers.grant_by_name(ada.username.upper())
    await until(lambda: UUID(ada.id) in known.organisers)
    events = []
    for person in (ada, program):
        made = await create(person)
        assert made.status_code == 201
        assert (await person.get(ME)).json()["isOrganiser"] is True
        events.append(made.json()["id"])
    assert_problem(await create(bob), 403, "organiser_required")
    await operator.organisers.revoke_by_name(ada.username)
    await until(lambda: not known.organisers)
    for person in (ada, program):
        assert_problem(await create(person), 403, "organiser_required")
        assert (await person.get(ME)).json()["isOrganiser"] is False
    # She keeps the event that she created.
    for event in events:
        assert (await visitor.event(event))["organiserId"] == ada.id
        renamed = await ada.patch(f"/api/events/{event}", {"name": "Jazz"})
        assert renamed.status_code == 200
        await ada.appoint(event, bob, "manager")


async def test_an_admin_grants_and_revokes_the_right_and_this_worker_knows_at_once(
    visitor: Visitor, app: FastAPI, engine: AsyncEngine, settings: Settings
) -> None:
    ada, eve = [await visitor.register() for _ in range(2)]
    await promote(app, engine, eve)
    for _ in "12":  # a second call changes nothing
        assert (await grant(eve, ada)).status_code == 204
        assert (await create(ada)).status_code == 201
    for _ in "12":
        assert (await revoke(eve, ada)).status_code == 204
        assert_problem(await create(ada), 403, "organiser_required")
    log = content(settings.log_dir)
    assert (log.count('"organiser.granted"'), log.count('"organiser.revoked"')) == (1, 1)
    async with engine.connect() as connection:
        query = text(
            "SELECT action, actor, subject, address FROM audit_records"
            " WHERE action LIKE 'organiser.%' ORDER BY seq"
        )
        found = [tuple(map(str, row)) for row in await connection.execute(query)]
    assert found == [
        ("organiser.granted", eve.id, ada.id, "127.0.0.1"),
        ("organiser.revoked", eve.id, ada.id, "127.0.0.1"),
    ]


async def test_nobody_but_an_admin_gives_the_right(
    visitor: Visitor, operator: Operator, known: AccessList
) -> None:
    ada, bob = [await visitor.register() for _ in range(2)]
    await operator.organisers.grant_by_name(ada.username)
    await until(lambda: UUID(ada.id) in known.organisers)
    for other in (ada, bob):
        assert_problem(await grant(ada, other), 403, "forbidden")
        assert_problem(await revoke(ada, other), 403, "forbidden")
    assert_problem(await create(bob), 403, "organiser_required")
    assert (await create(ada)).status_code == 201


async def test_the_command_line_leaves_a_record_without_an_actor(
    visitor: Visitor, engine: AsyncEngine, operator: Operator
) -> None:
    ada = await visitor.register()
    for _ in "12":
        await operator.organisers.grant_by_name(ada.username)
    for _ in "12":
        await operator.organisers.revoke_by_name(ada.username)
    async with engine.connect() as connection:
        query = text(
            "SELECT action, actor, CAST(subject AS text) FROM audit_records"
            " WHERE action LIKE 'organiser.%' ORDER BY seq"
        )
        found = [tuple(row) for row in await connection.execute(query)]
    assert found == [("organiser.granted", None, ada.id), ("organiser.revoked", None, ada.id)]


async def test_a_deleted_organiser_loses_the_right(
    visitor: Visitor, app: FastAPI, engine: AsyncEngine, operator: Operator
) -> None:
    ada, eve = [await visitor.register() for _ in range(2)]
    await promote(app, engine, eve)
    await operator.organisers.grant_by_name(ada.username)
    assert (await ada.post(f"{ME}/delete", {"password": PASSWORD})).status_code == 204
    async with engine.connect() as connection:
        assert await connection.scalar(text("SELECT count(*) FROM organisers")) == 0
        query = text("SELECT CAST(actor AS text) FROM audit_records WHERE action = :action")
        by = (await connection.scalars(query, {"action": "organiser.revoked"})).all()
    assert by == [ada.id]
    for answer in (await grant(eve, ada), await revoke(eve, ada)):
        assert_problem(answer, 404, "user_not_found")


async def test_the_right_is_given_to_no_account_that_is_being_deleted(
    visitor: Visitor, app: FastAPI, engine: AsyncEngine
) -> None:
    ada, eve = [await visitor.register() for _ in range(2)]
    await promote(app, engine, eve)
    async with engine.begin() as connection:
        end = text("UPDATE users SET password_hash = NULL WHERE id = CAST(:id AS uuid)")
        await connection.execute(end, {"id": ada.id})
        granting = asyncio.create_task(grant(eve, ada))
        waiting = text("SELECT count(*) FROM pg_locks WHERE NOT granted")
        async with asyncio.timeout(10):
            while not await connection.scalar(waiting):
                assert not granting.done()
                await asyncio.sleep(0.01)
    assert_problem(await granting, 404, "user_not_found")


async def test_no_account_that_is_being_deleted_becomes_an_admin(
    visitor: Visitor, operator: Operator, engine: AsyncEngine
) -> None:
    ada = await visitor.register()
    async with engine.begin() as connection:
        end = text("UPDATE users SET password_hash = NULL WHERE id = CAST(:id AS uuid)")
        await connection.execute(end, {"id": ada.id})
        promoting = asyncio.create_task(operator.access.promote(ada.username))
        waiting = text("SELECT count(*) FROM pg_locks WHERE NOT granted")
        async with asyncio.timeout(10):
            while not await connection.scalar(waiting):
                assert not promoting.done()
                await asyncio.sleep(0.01)
    with pytest.raises(UserNotFound):
        await promoting
