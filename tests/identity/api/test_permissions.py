"""Every route allows each role, and callers without a credential, what the table says."""

from dataclasses import replace

import httpx
import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute
from sqlalchemy.ext.asyncio import AsyncEngine

from tests.calls import CALLS, PREPARED, Scene, an_admin, call, prepare, scene
from tests.contract import assert_problem, operations
from tests.people import Visitor
from ticketing.identity.permissions import RULES, Action, Role, Scope

pytestmark = pytest.mark.usefixtures("unmeasured")

UNDOCUMENTED = {
    ("POST", "/api/users/token"),  # `login`, for the page of the documentation
    ("GET", "/openapi.json"),
    ("GET", "/docs"),
    ("GET", "/redoc"),
    ("GET", "/board"),
    ("GET", "/board/"),
    ("GET", "/board/{eventId}"),
    ("GET", "/door/{eventId}"),
    ("GET", "/door/worker.js"),
}
"""Routes for everybody."""

NOTHING = "019938a5-7d10-7b3c-8a44-0e5b6f9c2d11"
"""The id of no booking and no ticket."""

REFUSALS = {"not_authenticated", "forbidden", "insufficient_scope"}


def refused(answer: httpx.Response) -> str | None:
    if answer.is_success:
        return None
    code = str(answer.json()["code"])
    assert code in REFUSALS, answer.text
    return code


def reads(action: Action, on: Scene) -> bool:
    """Whether the call changes nothing, although it is allowed."""
    return CALLS[action](on)[0] == "GET"


async def test_every_documented_route_is_in_the_table(app: FastAPI) -> None:
    assert {operation.id for operation in operations(app)} == set(RULES) == set(CALLS)


async def test_every_other_route_is_known_to_be_for_everybody(app: FastAPI) -> None:
    hidden = {
        (method, route.path)
        for route in app.routes
        if isinstance(route, APIRoute) and not route.include_in_schema
        for method in route.methods or ()
    }
    assert hidden == UNDOCUMENTED


@pytest.mark.parametrize("role", list(Role))
async def test_a_route_allows_the_roles_that_the_table_allows(
    app: FastAPI, engine: AsyncEngine, visitor: Visitor, role: Role
) -> None:
    unchanged = await missing(app, engine, visitor, role)
    admin = await an_admin(app, engine, visitor)
    for action, rule in RULES.items():
        allowed = role in rule.roles
        on = unchanged
        # Without a credential, a call is refused before anything is looked up.
        if (action in PREPARED and (allowed or role is not Role.NOBODY)) or (
            allowed and not reads(action, unchanged)
        ):
            on = await scene(app, engine, visitor, role, action)
            on = await prepare(action, on, admin)
        headers = {} if role is Role.NOBODY else on.caller.headers
        found = refused(await call(action, on, headers, visitor))
        if allowed:
            assert found is None, action
        else:
            expected = "not_authenticated" if role is Role.NOBODY else "forbidden"
            assert found == expected, action


@pytest.mark.parametrize("scope", list(Scope))
async def test_a_key_is_allowed_if_the_table_has_its_scope(
    app: FastAPI, engine: AsyncEngine, visitor: Visitor, scope: Scope
) -> None:
    admin = await an_admin(app, engine, visitor)
    for role in (Role.OWNER, Role.ANYBODY):
        on = await missing(app, engine, visitor, role)
        program = await on.caller.make_key(scope)
        for action, rule in RULES.items():
            if Role.NOBODY in rule.roles:
                continue
            if scope not in rule.scopes:  # It is refused before anything is looked up.
                found = refused(await call(action, on, program.headers, visitor))
                assert found == "insufficient_scope", action
                continue
            if action in PREPARED or action is Action.CREATE_HOLD:
                # An earlier call may have ended what this one is about, or booked.
                fresh = await scene(app, engine, visitor, role, action)
                prepared = await prepare(action, fresh, admin)
                key = await fresh.caller.make_key(scope)
                found = refused(await call(action, prepared, key.headers, visitor))
            else:
                found = refused(await call(action, on, program.headers, visitor))
            assert found == (None if role in rule.roles else "forbidden"), action


async def missing(app: FastAPI, engine: AsyncEngine, visitor: Visitor, role: Role) -> Scene:
    """Make a scene whose booking and ticket do not exist."""
    return replace(await scene(app, engine, visitor, role), booking=NOTHING, ticket=NOTHING)


async def test_an_event_that_does_not_exist_is_not_found_by_any_role(
    app: FastAPI, engine: AsyncEngine, visitor: Visitor
) -> None:
    for role in (Role.ANYBODY, Role.ADMIN):
        on = replace(await scene(app, engine, visitor, role), event=404)
        for action in (
            *(Action.UPDATE_EVENT, Action.LIST_EVENT_BOOKINGS, Action.LIST_TEAM),
            *(Action.GRANT_ROLE, Action.REVOKE_ROLE, Action.LIST_TRAIL),
            *(Action.BOOK_TICKET, Action.CANCEL_TICKET, Action.CREATE_HOLD),
        ):
            answer = await call(action, on, on.caller.headers, visitor)
            assert_problem(answer, 404, "event_not_found")
