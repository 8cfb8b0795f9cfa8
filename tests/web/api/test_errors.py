"""Every error: its status, its code, its headers and its problem document."""

import asyncio
import re
import socket
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

import httpx
import pytest
from fastapi import FastAPI
from pydantic import SecretStr
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from tests.calls import MIN_ROUNDS, promote
from tests.contract import Operation, assert_problem, operation_of, operations
from tests.logs import lines
from tests.people import PASSWORD, Person, Visitor
from tests.web.code_errors import about_codes
from tests.web.door_errors import about_the_door, about_tickets
from tests.web.hold_errors import about_holds
from tests.web.payment_errors import about_payments
from tests.web.ticket_type_errors import about_ticket_types
from tests.web.webhook_errors import about_webhooks
from ticketing.app import create_app
from ticketing.db import engine as pools
from ticketing.db import sessions
from ticketing.db.tables import Base
from ticketing.identity.credentials import digest
from ticketing.identity.operator import Operator
from ticketing.identity.part import Identity
from ticketing.identity.repositories.keys import MAX_KEYS
from ticketing.settings import Settings
from ticketing.web.bodies import MAX_BODY
from ticketing.web.problems import SHED
from ticketing.web.replay import KeyedRequest, nothing, owner_of
from ticketing.web.repositories import stored_responses
from ticketing.web.service import Service

Answers = list[httpx.Response]

METHODS = {"GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "HEAD", "QUERY", "BREW"}
NOBODY = UUID("019938a5-3c6b-7f0e-b7a2-53f0c9d1e6aa")
OURS = {"internal_error", "database_unavailable", "busy", "not_ready", "outcome_unknown"}
# Raised before the application: test_limits.py and test_http.py of tests/races provoke them.
OF_THE_SERVER = {
    *("malformed_request", "request_timeout", "url_too_long", "headers_too_large"),
    *("http_version_not_supported", "transfer_coding_not_implemented", "expectation_failed"),
}
COMBINED = {
    *("bookTicket", "cancelTicket", "cancelBooking"),
    *("createHold", "confirmHold", "extendHold", "releaseHold"),
}
"""Requests that share commits. Of those with one key, one is under way."""
# Needs a low limit: tests/limits/api/test_rates.py provokes it.
OF_LIMITS = {"too_many_requests"}


@dataclass(frozen=True)
class Call:
    """A valid request of a route."""

    operation: Operation
    path: str
    body: dict[str, Any] | None
    headers: dict[str, str]

    async def send(self, client: httpx.AsyncClient) -> httpx.Response:
        return await client.request(
            self.operation.method, self.path, headers=self.headers, json=self.body
        )

    def keyed(self, key: str) -> "Call":
        """Return the request with this `Idempotency-Key`."""
        return replace(self, headers=self.headers | {"Idempotency-Key": key})


def credentials(person: Person) -> dict[str, str]:
    return {"username": person.username, "password": PASSWORD}


def calls(  # noqa: PLR0913, PLR0917 - what the requests are about
    app: FastAPI,
    person: Person,
    event: int = 1,
    opened_by: str = "unknown",
    held: str = str(NOBODY),
    customer: object = NOBODY,
) -> list[Call]:
    """Return a request for every route. The token `opened_by` sets a password.

    `held` is a booking.
    """
    booking = {"eventId": event, "userId": person.id}
    bodies: dict[str, dict[str, Any]] = {
        "register": credentials(person),
        "login": credentials(person),
        "initializeEvent": {"name": "A concert", "totalTickets": 1},
        "bookTicket": booking,
        "cancelTicket": booking,
        "cancelBooking": {"ticketIds": [held]},
        "recordPayment": {"reference": "order-18", "amount": 2500},
        "recordRefund": {"reference": "refund-18", "amount": 2500},
        "createHold": booking,
        "confirmHold": {},
        "extendHold": {"expiresAt": "2031-01-01T00:00:00Z"},
        "refresh": {"refreshToken": person.refresh_token},
        "logout": {"everywhere": False},
        "setPassword": {"token": opened_by, "newPassword": "another horse"},
        "changePassword": {"currentPassword": PASSWORD, "newPassword": "another horse"},
        "deleteMe": {"password": PASSWORD},
        "endSession": {"password": PASSWORD},
        "makeKey": {"name": "A program", "scopes": ["bookings:read"]},
        "createEvent": {"name": "A concert", "capacity": 1},
        "updateEvent": {"name": "Another concert"},
        "copyEvent": {"startsAt": ["2027-06-01T19:30:00Z"]},
        "createTicketType": {"name": "Balcony"},
        "updateTicketType": {"name": "Balcony"},
        "createQuota": {"name": "Seats", "capacity": 1},
        "updateQuota": {"name": "Seats"},
        "createCodes": {"kind": "discount", "percent": 20, "codes": ["SUMMER26"]},
        "checkCode": {"code": "SUMMER26"},
        "updateCode": {"active": False},
        "changeOwner": {"userId": person.id},
        "grantRole": {"role": "staff"},
        "updateCustomer": {"name": "Ada King"},
        "createWebhook": {"url": "http://127.0.0.1:9/hook"},
        "updateWebhook": {"state": "disabled"},
        "replayWebhook": {"cursor": "1"},
        "updateTicket": {"name": "Ada King"},
        "acceptTransfer": {"token": "unknown"},
        "updateDoor": {"lists": [{"name": "main"}]},
        "checkIn": {"scanId": str(NOBODY), "code": "unknown"},
        "uploadCheckIns": {"sentAt": "2026-11-02T19:30:00Z", "items": [{}]},
        "undoCheckIn": {"reason": "Wrong person"},
    }
    names: dict[str, object] = dict.fromkeys(("keyId", "sessionId", "userId", "scanId"), NOBODY)
    names |= {"eventId": event, "bookingId": held, "ticketTypeId": 1, "quotaId": 1, "codeId": 1}
    names |= {"customerId": customer, "webhookId": NOBODY, "ticketId": held}
    return [
        Call(
            each,
            each.path.format(**names),
            bodies.get(each.id),
            person.headers | ({"If-Match": "*"} if each.method in {"PATCH", "DELETE"} else {}),
        )
        for each in operations(app)
    ]


def that_may_answer(code: str, of: Iterable[Call]) -> list[Call]:
    found = [call for call in of if code in call.operation.codes]
    assert found
    return found


def logged(settings: Settings, request_id: str) -> list[dict[str, Any]]:
    # The client logs too, because it runs in the same process here.
    return [
        line
        for line in lines(settings.log_dir)
        if line.get("requestId") == request_id and line.get("logger") != "httpx"
    ]


@asynccontextmanager
async def serving(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client,
    ):
        yield client


async def _about_keys(app: FastAPI, event: int, eve: Person, engine: AsyncEngine) -> Answers:
    session = app.state.provided[Identity].tokens.verify(eve.token).credential
    made = await Operator(engine, MIN_ROUNDS).add("newcomer")
    owners = {
        "register": owner_of(eve.username),
        "refresh": session,
        "logout": session,
        "setPassword": UUID(bytes=digest(made.token)[:16]),
    }
    keep = text(
        "INSERT INTO idempotency_keys (owner, key, digest, status, body)"
        " VALUES (:owner, 'other', 'x', 200, ''), (:owner, 'lost', '', 200, '') "
        "ON CONFLICT DO NOTHING"
    )
    answers = []
    held = (await eve.book(await eve.organise())).json()["id"]
    customer = await eve.book_for(event, "customer-1")
    every = calls(app, eve, event, made.token, held, customer)
    for call in that_may_answer("idempotency_key_reused", every):
        owner = owners.get(call.operation.id, UUID(eve.id))
        async with engine.begin() as connection:
            await connection.execute(keep, {"owner": owner})
        named = ("other", "lost", "not one")
        answers += [await call.keyed(key).send(eve.client) for key in named]
        if call.operation.id in COMBINED:
            often = (call.keyed(call.operation.id).send(eve.client) for _ in range(8))
            answers += await asyncio.gather(*often)
        else:
            async with stored_responses.once(
                engine, KeyedRequest(owner, "under-way", b"", nothing)
            ):
                answers.append(await call.keyed("under-way").send(eve.client))
    return answers


async def _about_accounts(
    settings: Settings, engine: AsyncEngine, ada: Person, eve: Person
) -> Answers:
    right = f"/api/users/{eve.id}/organiser"
    answers = [await eve.put(right, None), await eve.delete(right)]
    operator = Operator(engine, MIN_ROUNDS)
    password = {
        "token": (await operator.make_token(eve.username)).token,
        "newPassword": "Password1",
    }
    answers += [
        await eve.post("/api/users/password", password),
        await eve.post("/api/users/password", password | {"token": "unknown"}),
    ]
    await operator.access.promote(ada.username)
    changes = {"registration": "closed", "organisers": "granted"}
    async with serving(create_app(settings.model_copy(update=changes))) as client:
        admin, nobody = replace(ada, client=client), replace(eve, client=client)
        for member in (NOBODY, "none"):
            right = f"/api/users/{member}/organiser"
            answers += [await admin.put(right, None), await admin.delete(right)]
        answers += [
            await client.post("/api/users/register", json=credentials(ada)),
            await nobody.post("/api/events/initialize", {"name": "A concert", "totalTickets": 1}),
            await nobody.post("/api/events", {"name": "A concert", "capacity": 1}),
            await nobody.post("/api/events/1/copies", {"startsAt": ["2027-01-01T10:00:00Z"]}),
        ]
    return answers


async def _about_events(event: int, ada: Person, eve: Person) -> Answers:
    answers = []
    later = {"startsAt": "2027-01-01T10:00"}
    for number in (event, 999, "none"):
        path = f"/api/events/{number}"
        moves = [f"{path}/{move}" for move in ("publish", "pause", "resume", "cancel")]
        answers += [
            *[await eve.post(move, None) for move in moves],
            await eve.patch(path, {"name": "Another concert"}),
            await eve.delete(path),
            await eve.put(f"{path}/owner", {"userId": eve.id}),
            await eve.post(f"{path}/copies", {"startsAt": ["2027-01-01T10:00:00Z"]}),
        ]
    path = f"/api/events/{event}"
    answers += [
        await ada.patch(path, later),
        await ada.patch(path, later, etag=None),
        await ada.patch(path, later, etag='"999"'),
        await ada.patch(path, later | {"startsAt": "2027-01-01"}),
        await ada.delete(path),
        await ada.put(f"{path}/owner", {"userId": str(NOBODY)}),
        await ada.put(f"{path}/owner", {}),
        await ada.post(f"{path}/copies", {"startsAt": []}),
        await ada.post("/api/users/me/delete", {"password": PASSWORD}),
        await ada.post(f"{path}/pause", None),
        await eve.book(event),
    ]
    other = (await ada.post("/api/events", {"name": "Jazz", "capacity": 2})).json()["id"]
    path = f"/api/events/{other}"
    await ada.book(other)
    await eve.book(other)
    answers += [
        await ada.patch(path, {"capacity": 1}),
        await ada.post(f"{path}/cancel", None),
        *[await ada.post(f"{path}/{move}", None) for move in ("publish", "pause", "resume")],
        await ada.patch(path, {"name": "Blues"}),
        await eve.book(other),
        await eve.cancel(other),
    ]
    # What is over can't be cancelled any more.
    past = {"name": "Jazz", "capacity": 1, "endsAt": "2020-01-01T10:00:00Z"}
    over = (await ada.post("/api/events", past)).json()["id"]
    answers.append(await ada.post(f"/api/events/{over}/cancel", None))
    return answers


async def _about_bookings(bob: Person, eve: Person) -> Answers:
    (booking,) = (await bob.get("/api/users/me/bookings")).json()["items"]
    answers = []
    for person in (bob, eve):
        for path in (f"/api/bookings/{each}" for each in (booking["id"], NOBODY, "none")):
            answers += [
                await person.get(path),
                await person.get(f"{path}/live"),
                await person.get(f"{path}/tickets"),
                await person.post(f"{path}/cancel", {"ticketIds": [str(NOBODY)]}),
            ]
    book: dict[str, object] = {"eventId": await bob.organise(1)}
    over = {"name": "Over", "salesCloseAt": "2020-01-01T10:00:00Z"}
    eur = {"amount": 1, "currency": "EUR"}
    types = [{"name": "A", "price": eur}, {"name": "B", "maxPerBooking": 1}, over]
    body = {"name": "Jazz", "capacity": 9, "maxBookingsPerPerson": 2, "ticketTypes": types}
    jazz = (await bob.post("/api/events", body)).json()
    a, b, c = [each["id"] for each in jazz["ticketTypes"]]
    answers.append(await eve.book(jazz["id"]))
    for kind, places in ((a, 1), (b, 2), (c, 1), (b, 1), (b, 1), (b, 1)):
        asked = [{"ticketTypeId": kind, "quantity": places}]
        answers.append(await eve.post("/api/events/book", {"eventId": jazz["id"], "lines": asked}))
    asked = [{"ticketTypeId": a, "quantity": 9}]
    answers += [
        await eve.cancel(jazz["id"]),
        await bob.post("/api/events/book", {"eventId": jazz["id"], "lines": asked}),
    ]
    held = (await eve.get("/api/users/me/bookings")).json()["items"][0]["id"]
    await bob.post(f"/api/events/{jazz['id']}/cancel", None)
    answers.append(await eve.post(f"/api/bookings/{held}/cancel", None))
    answers += [
        await eve.post("/api/events/book", book | {"quantity": 2}),
        await eve.post("/api/events/book", book | {"quantity": 11}),
        await eve.post("/api/events/book", book | {"quantity": 1, "lines": [{"ticketTypeId": 1}]}),
        await eve.post("/api/events/book", book | {"lines": [{"ticketTypeId": 999}]}),
    ]
    return answers


async def _about_customers(event: int, ada: Person, eve: Person) -> Answers:
    customer = await ada.book_for(event, "customer-1")
    path = f"/api/customers/{customer}"
    token = (await ada.post(f"{path}/login-token", None)).json()["token"]
    account = {"username": "customer-1", "password": PASSWORD}
    register = "/api/users/register"
    answers = [
        await eve.get("/api/customers", organiserId=ada.id),
        await ada.get("/api/customers", organiserId="none"),
        await ada.post(register, account | {"token": "unknown"}),
        await ada.post(register, account | {"token": token}),
        await ada.post(f"{path}/login-token", None),
    ]
    for by, whom in ((eve, customer), (ada, NOBODY), (ada, "none")):
        path = f"/api/customers/{whom}"
        answers += [
            await by.get(path),
            await by.patch(path, {"name": "Ada King"}),
            await by.post(f"{path}/login-token", None),
            await by.delete(path),
        ]
    return answers


async def _about_teams(event: int, ada: Person, eve: Person) -> Answers:
    answers = []
    for number, to in ((event, NOBODY), (event, ada.id), (999, NOBODY), ("none", "none")):
        member = f"/api/events/{number}/team/{to}"
        answers += [
            *(await eve.put(member, {"role": "staff"}), await eve.delete(member)),
            *(await ada.put(member, {"role": "staff"}), await ada.delete(member)),
            await eve.patch(f"/api/events/{number}", {"name": "Another concert"}),
            await eve.get(f"/api/events/{number}/team"),
            await eve.get(f"/api/events/{number}/trail"),
        ]
    return answers


async def test_every_documented_error_of_the_caller_can_be_provoked(
    visitor: Visitor, app: FastAPI, engine: AsyncEngine, settings: Settings
) -> None:
    client = visitor.client
    ada, bob, eve = [await visitor.register() for _ in range(3)]
    event = await ada.organise(total=1)
    await ada.book(event)
    await bob.book(event)
    token = app.state.provided[Identity].tokens.issue(NOBODY, NOBODY)
    gone = Person(client, "gone", str(NOBODY), token)
    common, wrong = {"newPassword": "Password1"}, {"currentPassword": "wrong horse"}
    change = {"currentPassword": PASSWORD, "newPassword": "another horse"}
    key = {"name": "A program", "scopes": ["bookings:read"]}
    scopes = ("bookings:read", "bookings:write", "events:write")
    programs = [await eve.make_key(scope) for scope in scopes]
    for _ in range(MAX_KEYS):
        await ada.make_key("bookings:read")
    answers = [
        await client.post("/api/users/register", json=credentials(ada)),
        await client.post("/api/users/login", json=credentials(gone)),
        await gone.get("/api/users/me"),
        await gone.post("/api/events/initialize", {"name": "A concert", "totalTickets": 1}),
        await gone.post("/api/events", {"name": "A concert", "capacity": 1}),
        await ada.book(event),
        await bob.book(event),
        await eve.book(event, for_=ada),
        await eve.book(999),
        await ada.book(event, for_=gone),
        await eve.cancel(event, for_=ada),
        await eve.cancel(event),
        await eve.cancel(999),
        await eve.get(f"/api/events/{event}/bookings"),
        await eve.get("/api/events/999/bookings"),
        await eve.get("/api/events/999"),
        await eve.get("/api/events/none"),
        await eve.get("/api/events/999/live"),
        await eve.get("/api/events/none/live"),
        *[await eve.get(f"/api/events/{number}/stats") for number in (event, 999, "none")],
        *[await eve.get(f"/api/events/{number}.ics") for number in (event, 999, "none")],
        await eve.get("/api/users/me/calendar.ics", unknown=1),
        await eve.get("/api/events/none/bookings"),
        await client.post("/api/users/register", json={"username": "fay", "password": "Password1"}),
        await client.post("/api/users/refresh", json={"refreshToken": "none"}),
        await eve.post("/api/users/me/password", change | common),
        await eve.post("/api/users/me/password", change | wrong),
        await eve.post("/api/users/me/delete", {"password": "wrong horse"}),
        await gone.post("/api/users/me/password", change),
        await gone.post("/api/users/me/delete", {"password": PASSWORD}),
        await gone.post("/api/users/me/keys", key),
        await ada.post("/api/users/me/keys", key),
        await ada.delete(f"/api/users/me/keys/{NOBODY}"),
        await ada.delete("/api/users/me/keys/none"),
        await ada.get("/api/users/me", unknown=0),
        *[
            await person.post(f"/api/users/me/sessions/{NOBODY}/end", {"password": password})
            for person, password in ((ada, PASSWORD), (ada, "wrong horse"), (gone, PASSWORD))
        ],
    ]
    answers += await _about_keys(app, await eve.organise(), eve, engine)
    answers += await _about_teams(event, ada, eve)
    answers += await _about_customers(event, ada, eve)
    answers += await _about_events(event, ada, eve)
    answers += await _about_bookings(bob, eve)
    answers += await about_holds(bob, eve)
    answers += await about_ticket_types(ada, eve)
    answers += await about_payments(ada, eve)
    answers += await about_codes(ada, eve)
    answers += await about_webhooks(event, ada, eve, gone)
    answers += await about_tickets(ada, eve, gone)
    answers += await about_the_door(ada, eve)
    answers += await _about_accounts(settings, engine, bob, eve)
    lists = [
        *("/api/events", "/api/customers", "/api/feed", "/api/webhooks"),
        *(f"/api/users/me/{of}" for of in ("bookings", "events", "keys", "sessions")),
    ]
    of_event = [f"/api/events/{event}/{name}" for name in ("bookings", "team", "trail", "feed")]
    for path in lists + of_event:
        answers += [await ada.get(path, limit=0), await ada.get(path, cursor="none")]
    for call in calls(app, ada, event):
        anonymous = Call(call.operation, call.path, call.body, {})
        answers.append(await anonymous.send(client))
        for program in programs:
            by_key = Call(call.operation, call.path, call.body, program.headers)
            if "insufficient_scope" in call.operation.codes:
                answers.append(await by_key.send(client))
        if call.body is not None:
            answers += [
                await client.request(
                    call.operation.method, call.path, headers=call.headers | sent, content=content
                )
                for sent, content in [
                    ({"Content-Type": "application/json"}, b'{"unknown": 0}'),
                    ({"Content-Type": "application/json"}, b"{"),
                    ({"Content-Type": "application/json"}, b" " * (MAX_BODY + 1)),
                    ({"Content-Type": "text/plain"}, b"{}"),
                ]
            ]
    provoked = set()
    for answer in answers:
        operation = operation_of(app, answer.request)
        assert operation is not None
        if answer.is_error:
            provoked.add((operation.id, answer.json()["code"]))
    assert provoked == {
        (operation.id, code)
        for operation in operations(app)
        for code in operation.codes.keys() - OURS - OF_THE_SERVER - OF_LIMITS
    }


async def test_a_refused_field_is_named_by_its_json_pointer(visitor: Visitor) -> None:
    ada = await visitor.register()
    body = {"name": "ab", "a/b~c": 1}
    refused = assert_problem(
        await ada.post("/api/events/initialize", body), 422, "validation_failed"
    )
    named = {error["pointer"]: error["type"] for error in refused["errors"]}
    assert named == {
        "#/name": "string_too_short",
        "#/totalTickets": "missing",
        "#/a~1b~0c": "extra_forbidden",
    }
    for error in refused["errors"]:
        assert error.keys() == {"in", "pointer", "type", "detail"}
        assert error["in"] == "body"
    assert "no such field" in refused["errors"][-1]["detail"]


async def test_no_more_than_20_failing_fields_are_named(visitor: Visitor) -> None:
    ada = await visitor.register()
    body = {f"f{number}": 1 for number in range(3_000)}
    refused = assert_problem(
        await ada.post("/api/events/initialize", body), 422, "validation_failed"
    )
    assert len(refused["errors"]) == 20


async def test_a_response_without_a_valid_token_says_how_to_get_one(
    visitor: Visitor, app: FastAPI
) -> None:
    ada = await visitor.register()
    for call in that_may_answer("not_authenticated", calls(app, ada)):
        for given, challenge in (
            (None, "Bearer"),
            ("Basic YTpi", "Bearer"),
            ("Bearer x", 'Bearer error="invalid_token"'),
            ("Bearer tkt_x", 'Bearer error="invalid_token"'),
            (f"Bearer {ada.token[:-3]}", 'Bearer error="invalid_token"'),
        ):
            headers = {"Authorization": given} if given else {}
            anonymous = Call(call.operation, call.path, call.body, headers)
            refused = await anonymous.send(visitor.client)
            assert_problem(refused, 401, "not_authenticated")
            assert refused.headers["www-authenticate"] == challenge


async def test_a_parameter_that_no_route_of_the_api_has_is_refused(
    visitor: Visitor, app: FastAPI
) -> None:
    ada = await visitor.register()
    for call in calls(app, ada, await ada.organise()):
        if not call.path.startswith("/api"):
            continue
        asked = Call(
            call.operation, f"{call.path}?statsu=a&&b/%ff&statsu=", call.body, call.headers
        )
        refused = await asked.send(visitor.client)
        named = assert_problem(refused, 422, "validation_failed")["errors"]
        assert [(each["in"], each["pointer"], each["type"]) for each in named] == [
            ("query", "#/statsu", "extra_forbidden"),
            ("query", "#/b~1\ufffd", "extra_forbidden"),
        ]
    assert (await visitor.client.get("/livez", params={"at": "noon"})).status_code == 200
    # Here the method is wrong.
    refused = await visitor.client.get("/api/events/book", params={"eventId": 1})
    assert_problem(refused, 405, "method_not_allowed")


async def test_a_wrong_password_is_a_401_with_its_header(client: httpx.AsyncClient) -> None:
    given = {"username": "nobody", "password": PASSWORD}
    refused = await client.post("/api/users/login", json=given)
    assert_problem(refused, 401, "invalid_credentials")
    assert refused.headers["www-authenticate"] == "Bearer"


async def test_a_path_that_no_route_has_is_not_found(client: httpx.AsyncClient) -> None:
    for path in ("/nope", "/api", "/api/", "/api/events/", "/api/events/1/", "/API/events"):
        for method in ("GET", "POST"):
            assert_problem(await client.request(method, path), 404, "not_found")


async def test_a_wrong_method_is_refused_with_the_allowed_ones(
    client: httpx.AsyncClient, app: FastAPI
) -> None:
    served: dict[str, set[str]] = defaultdict(set)
    for operation in operations(app):
        served[operation.path].add(operation.method)
    for path, methods in served.items():
        for other in METHODS - methods - {"HEAD"}:
            refused = await client.request(other, re.sub(r"\{\w+\}", "1", path))
            assert refused.status_code == 405, f"{other} {path}"
            allowed = methods | {"HEAD"} if "GET" in methods else methods
            assert refused.headers["allow"] == ", ".join(sorted(allowed))
            assert_problem(refused, 405, "method_not_allowed")


async def test_every_get_route_has_head(client: httpx.AsyncClient) -> None:
    for path in ("/", "/livez", "/readyz", "/docs", "/api/events", "/static/docs.js"):
        assert (await client.head(path)).status_code == 200, path
    assert (await client.head("/api/events/1")).status_code == 404
    assert (await client.head("/api/users/me")).status_code == 401
    refused = await client.head("/api/events/book")
    assert (refused.status_code, refused.headers["allow"]) == (405, "POST")


async def test_a_request_keeps_the_id_it_came_with(client: httpx.AsyncClient) -> None:
    refused = await client.get("/nope", headers={"X-Request-Id": "Of-the.caller_1"})
    assert_problem(refused, 404, "not_found")
    assert refused.json()["requestId"] == "Of-the.caller_1"


async def test_an_internal_error_names_only_the_request_and_is_logged_in_full(
    visitor: Visitor, app: FastAPI, engine: AsyncEngine, settings: Settings
) -> None:
    ada = await visitor.register()
    await promote(app, engine, ada)
    async with engine.begin() as connection:
        await connection.execute(text(f"DROP TABLE {', '.join(Base.metadata.tables)}"))
        await connection.execute(text("ALTER TABLE alembic_version RENAME TO gone"))
        await connection.execute(text("CREATE TABLE alembic_version (broken text)"))
    for call in that_may_answer("internal_error", calls(app, ada)):
        failed = await call.send(visitor.client)
        assert assert_problem(failed, 500, "internal_error") == {}
        for word in ("SELECT", "INSERT", "relation", "column", "asyncpg", "Traceback", ".py"):
            assert word not in failed.text
        await asyncio.sleep(0)  # Log lines are written at the end of the loop's turn.
        lines = logged(settings, failed.headers["x-request-id"])
        assert [line["event"] for line in lines] == ["request.failed", "request.completed"]
        exception = lines[0]["exception"][0]
        driver = {"UndefinedColumnError", "UndefinedTableError"}
        assert exception["exc_type"] in driver | {
            "ProgrammingError"
        }  # SQLAlchemy's word for parameters
        assert exception["frames"]
        assert lines[1]["status"] == 500


async def test_an_unreachable_database_is_a_503_that_says_when_to_try_again(
    visitor: Visitor, app: FastAPI, settings: Settings
) -> None:
    ada = await visitor.register()
    nowhere = SecretStr("postgresql://nobody@127.0.0.1:1/nothing")
    cut_off = create_app(settings.model_copy(update={"database_url": nowhere}))
    async with serving(cut_off) as client:
        # It can't read that from its database.
        cut_off.state.provided[Identity].access.admins = frozenset({UUID(ada.id)})
        for call in that_may_answer("database_unavailable", calls(app, ada)):
            refused = await call.send(client)
            assert assert_problem(refused, 503, "database_unavailable") == {"retryAfter": 1}
            assert refused.headers["retry-after"] == "1"
        assert (await client.get("/livez")).status_code == 200


async def until_locked_out(connection: AsyncConnection, count: int) -> None:
    """Return when this many connections wait for a lock."""
    waiting = text("SELECT count(*) FROM pg_locks WHERE NOT granted")
    while await connection.scalar(waiting) != count:  # noqa: ASYNC110 - PostgreSQL sends no event
        await asyncio.sleep(0.01)


APART = {
    *("bookTicket", "cancelTicket", "createHold", "getEvent", "followEvent", "getEventCalendar"),
    *("listTicketTypes", "getTicketType", "listQuotas", "getQuota", "checkCode"),
}
"""They have separate connections."""


async def test_too_much_at_once_is_a_503_that_says_when_to_try_again(
    visitor: Visitor,
    app: FastAPI,
    engine: AsyncEngine,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ada = await visitor.register()
    event = await ada.organise()
    await promote(app, engine, ada)
    monkeypatch.setattr(pools, "POOL_TIMEOUT", 0.05)
    monkeypatch.setattr(sessions, "LOCK_TIMEOUT", "30s")
    small = create_app(settings.model_copy(update={"pool_size": 2}))
    async with serving(small) as client, engine.connect() as connection:
        await connection.execute(text("LOCK TABLE events"))
        waiting = [asyncio.create_task(client.get("/api/events")) for _ in range(2)]
        await until_locked_out(connection, 2)
        for call in that_may_answer("busy", calls(app, ada, event)):
            if call.operation.id in APART:
                continue
            refused = await call.send(client)
            assert assert_problem(refused, 503, "busy") == {"retryAfter": 1}
            assert refused.headers["retry-after"] == "1"
        await connection.rollback()
        assert [answer.status_code for answer in await asyncio.gather(*waiting)] == [200, 200]
        booked = await Person(client, ada.username, ada.id, ada.token).book(event)
        assert booked.status_code == 201


async def test_an_event_can_be_looked_at_while_every_pooled_connection_is_in_use(
    visitor: Visitor, settings: Settings, engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    ada = await visitor.register()
    event = await ada.organise()
    monkeypatch.setattr(sessions, "LOCK_TIMEOUT", "30s")
    small = create_app(settings.model_copy(update={"pool_size": 2}))
    async with serving(small) as client, engine.connect() as connection:
        await connection.execute(text("LOCK TABLE users"))
        person = Person(client, ada.username, ada.id, ada.token)
        waiting = [asyncio.create_task(person.get("/api/users/me")) for _ in range(2)]
        await until_locked_out(connection, 2)
        assert (await client.get(f"/api/events/{event}")).status_code == 200
        assert not any(each.done() for each in waiting)
        await connection.rollback()
        assert [answer.status_code for answer in await asyncio.gather(*waiting)] == [200, 200]


async def test_a_lock_that_is_held_for_long_causes_a_503_that_changed_nothing(
    visitor: Visitor, engine: AsyncEngine
) -> None:
    ada = await visitor.register()
    event = await ada.organise()
    async with engine.connect() as connection:
        await connection.execute(text("LOCK TABLE events"))
        for refused in (await ada.book(event), await ada.cancel(event)):
            assert assert_problem(refused, 503, "busy") == {"retryAfter": 1}
            assert refused.headers["retry-after"] == "1"
        await connection.rollback()
    assert (await ada.book(event)).status_code == 201


async def test_a_database_that_is_not_migrated_is_not_ready(
    client: httpx.AsyncClient, engine: AsyncEngine
) -> None:
    async with engine.begin() as connection:
        await connection.execute(text("DELETE FROM alembic_version"))
    refused = await client.get("/readyz")
    assert assert_problem(refused, 503, "not_ready") == {"reason": "database", "retryAfter": 1}
    assert refused.headers["retry-after"] == "1"
    assert (await client.get("/livez")).status_code == 200


async def test_shed_requests_are_counted_by_reason(settings: Settings) -> None:
    app = create_app(settings)
    app.state.provided[Service].stop()
    before = SHED.labels("not_ready")._value.get()
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        assert (await client.get("/readyz")).json()["code"] == "not_ready"
    assert SHED.labels("not_ready")._value.get() == before + 1


async def test_a_health_check_responds_within_a_second_though_the_database_hangs(
    settings: Settings,
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        url = SecretStr(f"postgresql://127.0.0.1:{deaf.getsockname()[1]}/tickets")
        app = create_app(settings.model_copy(update={"database_url": url}))
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            began = time.monotonic()
            refused = await client.get("/readyz")
            assert time.monotonic() - began < 0.9
    assert_problem(refused, 503, "database_unavailable")
