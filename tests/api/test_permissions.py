"""Every route, called as every role and as nobody, does what the table of permissions says."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import httpx
import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute
from sqlalchemy.ext.asyncio import AsyncEngine

from tests.api.contract import assert_problem, operations
from tests.people import PASSWORD, Person, Visitor
from ticketing.permissions import RULES, Action, Role
from ticketing.repositories.access import AccessRepository
from ticketing.security import Scope

UNDOCUMENTED = {
    # 405 in the place of a route that would take the word for an event's id.
    ("GET", "/api/events/initialize"),
    ("PATCH", "/api/events/initialize"),
    ("GET", "/api/events/book"),
    ("PATCH", "/api/events/book"),
    ("GET", "/api/events/cancel"),
    ("PATCH", "/api/events/cancel"),
    ("POST", "/api/users/token"),  # `login`, for the page of the documentation
    ("GET", "/docs"),
    ("GET", "/redoc"),
}
"""They are for everybody."""

REFUSALS = {"not_authenticated", "forbidden", "insufficient_scope"}


@dataclass(frozen=True)
class Scene:
    """Somebody who calls, an event, and the person whom the call is about."""

    caller: Person
    event: int
    about: Person
    key: str

    @property
    def subject(self) -> dict[str, object]:
        return {"eventId": self.event, "userId": self.about.id}


Request = tuple[str, str, object]

CALLS: dict[Action, Callable[[Scene], Request]] = {
    Action.WELCOME: lambda _: ("GET", "/", None),
    Action.LIVEZ: lambda _: ("GET", "/livez", None),
    Action.READYZ: lambda _: ("GET", "/readyz", None),
    Action.REGISTER: lambda scene: (
        "POST",
        "/api/users/register",
        {"username": f"new-{scene.caller.username}", "password": PASSWORD},
    ),
    Action.LOGIN: lambda scene: (
        "POST",
        "/api/users/login",
        {"username": scene.caller.username, "password": PASSWORD},
    ),
    Action.REFRESH: lambda scene: (
        "POST",
        "/api/users/refresh",
        {"refreshToken": scene.caller.refresh_token},
    ),
    Action.LOGOUT: lambda _: ("POST", "/api/users/logout", {}),
    Action.GET_ME: lambda _: ("GET", "/api/users/me", None),
    Action.DELETE_ME: lambda _: ("DELETE", "/api/users/me", {"password": PASSWORD}),
    Action.CHANGE_PASSWORD: lambda _: (
        "POST",
        "/api/users/me/password",
        {"currentPassword": PASSWORD, "newPassword": "another horse"},
    ),
    Action.LIST_MY_BOOKINGS: lambda _: ("GET", "/api/users/me/bookings", None),
    Action.MAKE_KEY: lambda _: (
        "POST",
        "/api/users/me/keys",
        {"name": "A program", "scopes": ["bookings:read"]},
    ),
    Action.LIST_KEYS: lambda _: ("GET", "/api/users/me/keys", None),
    Action.REVOKE_KEY: lambda scene: ("DELETE", f"/api/users/me/keys/{scene.key}", None),
    Action.INITIALIZE_EVENT: lambda _: (
        "POST",
        "/api/events/initialize",
        {"name": "Another concert", "totalTickets": 1},
    ),
    Action.GET_EVENT: lambda scene: ("GET", f"/api/events/{scene.event}", None),
    Action.LIST_EVENTS: lambda _: ("GET", "/api/events", None),
    Action.RENAME_EVENT: lambda scene: (
        "PATCH",
        f"/api/events/{scene.event}",
        {"name": "Renamed"},
    ),
    Action.BOOK_TICKET: lambda scene: ("POST", "/api/events/book", scene.subject),
    Action.CANCEL_TICKET: lambda scene: ("POST", "/api/events/cancel", scene.subject),
    Action.LIST_EVENT_BOOKINGS: lambda scene: (
        "GET",
        f"/api/events/{scene.event}/bookings",
        None,
    ),
    Action.LIST_TEAM: lambda scene: ("GET", f"/api/events/{scene.event}/team", None),
    Action.GRANT_ROLE: lambda scene: (
        "PUT",
        f"/api/events/{scene.event}/team/{scene.about.id}",
        {"role": "staff"},
    ),
    Action.REVOKE_ROLE: lambda scene: (
        "DELETE",
        f"/api/events/{scene.event}/team/{scene.about.id}",
        None,
    ),
    Action.LIST_TRAIL: lambda scene: ("GET", f"/api/events/{scene.event}/trail", None),
}

PREPARED = {
    Action.CANCEL_TICKET: Action.BOOK_TICKET,
    Action.REVOKE_ROLE: Action.GRANT_ROLE,
}
"""What an admin does first, so that there is something to do."""


async def promote(app: FastAPI, engine: AsyncEngine, person: Person) -> None:
    known = AccessRepository(engine, app.state.parts.access)
    await known.promote(person.username)
    await known.refresh()


async def scene(app: FastAPI, engine: AsyncEngine, visitor: Visitor, role: Role) -> Scene:
    """Make a person who is this to a fresh event, and to a person."""
    owner = await visitor.register()
    event = await owner.organise()
    caller = owner if role is Role.OWNER else await visitor.register()
    about = caller if role is Role.SELF else await visitor.register()
    if role in {Role.MANAGER, Role.STAFF}:
        await owner.appoint(event, caller, role)
    if role is Role.ADMIN:
        await promote(app, engine, caller)
    await caller.make_key("bookings:read")
    (key,) = (await caller.get("/api/users/me/keys")).json()["items"]
    return Scene(caller, event, about, key["id"])


async def call(
    action: Action, on: Scene, headers: dict[str, str], visitor: Visitor
) -> httpx.Response:
    method, path, body = CALLS[action](on)
    return await visitor.client.request(method, path, headers=headers, json=body)


async def prepare(
    action: Action, on: Scene, app: FastAPI, engine: AsyncEngine, visitor: Visitor
) -> None:
    if action in PREPARED:
        admin = await visitor.register()
        await promote(app, engine, admin)
        assert (await call(PREPARED[action], on, admin.headers, visitor)).is_success


def refused(answer: httpx.Response) -> str | None:
    if answer.is_success:
        return None
    code = str(answer.json()["code"])
    assert code in REFUSALS, answer.text
    return code


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
async def test_a_route_lets_in_whom_the_table_lets_in(
    app: FastAPI, engine: AsyncEngine, visitor: Visitor, role: Role
) -> None:
    for action, rule in RULES.items():
        on = await scene(app, engine, visitor, role)
        await prepare(action, on, app, engine, visitor)
        headers = {} if role is Role.NOBODY else on.caller.headers
        found = refused(await call(action, on, headers, visitor))
        if role in rule.roles:
            assert found is None, action
        else:
            expected = "not_authenticated" if role is Role.NOBODY else "forbidden"
            assert found == expected, action


@pytest.mark.parametrize("scope", list(Scope))
async def test_a_key_is_let_in_where_the_table_names_its_scope(
    app: FastAPI, engine: AsyncEngine, visitor: Visitor, scope: Scope
) -> None:
    for role in (Role.OWNER, Role.ANYBODY):
        on = await scene(app, engine, visitor, role)
        program = await on.caller.make_key(scope)
        for action, rule in RULES.items():
            if Role.NOBODY in rule.roles:
                continue
            found = refused(await call(action, on, program.headers, visitor))
            if scope not in rule.scopes:
                assert found == "insufficient_scope", action
            elif role in rule.roles:
                assert found is None, action
            else:
                assert found == "forbidden", action


async def test_an_event_that_is_not_there_is_not_found_by_anybody(
    app: FastAPI, engine: AsyncEngine, visitor: Visitor
) -> None:
    for role in (Role.ANYBODY, Role.ADMIN):
        on = replace(await scene(app, engine, visitor, role), event=404)
        for action in (
            *(Action.RENAME_EVENT, Action.LIST_EVENT_BOOKINGS, Action.LIST_TEAM),
            *(Action.GRANT_ROLE, Action.REVOKE_ROLE, Action.LIST_TRAIL),
            *(Action.BOOK_TICKET, Action.CANCEL_TICKET),
        ):
            answer = await call(action, on, on.caller.headers, visitor)
            assert_problem(answer, 404, "event_not_found")
