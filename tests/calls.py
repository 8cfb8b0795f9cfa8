"""A call of every route that changes or returns something, for any caller."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import httpx
from fastapi import FastAPI
from sqlalchemy.ext.asyncio import AsyncEngine

from tests.people import PASSWORD, Person, Visitor
from ticketing.identity.operator import Operator
from ticketing.identity.part import Identity
from ticketing.identity.permissions import Action, Role
from ticketing.identity.repositories.access import AccessRepository


@dataclass(frozen=True)
class Scene:
    """A caller, an event, and the person the call is about."""

    caller: Person
    about: Person
    event: int
    organiser: str
    draft: int = 0
    admission: int = 0
    ticket_type: int = 0
    gallery: int = 0
    """The types of the event. The last has a price, so `prepare` books it for what is paid."""
    quota: int = 0
    code: int = 0
    reduces: str = ""
    """The text of another code."""
    key: str = ""
    session: str = ""
    password_token: str = ""
    """A credential of the person the call is about."""
    customer: str = ""
    """A customer of the organiser."""
    webhook: str = ""
    """A webhook of the caller."""
    booking: str = ""
    """A booking of that person, if `prepare` made it."""
    ticket: str = ""
    """A ticket of it."""
    transfer_token: str = ""
    """It passes on a ticket of the booking."""

    @property
    def subject(self) -> dict[str, object]:
        return {"eventId": self.event, "userId": self.about.id}

    @property
    def one_place(self) -> dict[str, object]:
        return {"lines": [{"ticketTypeId": self.admission, "quantity": 1}]}


Request = tuple[str, str, object]
SCAN = "019938a5-c5d1-7a40-9a1b-2c3d4e5f6071"
"""The id of every scan."""

NOT_PUBLIC = "http://127.0.0.1:9/hook"
"""An address that is refused without a look-up."""
MIN_ROUNDS = 4
"""The cheapest hash of a password."""

CALLS: dict[Action, Callable[[Scene], Request]] = {
    Action.WELCOME: lambda _: ("GET", "/", None),
    Action.LIVEZ: lambda _: ("GET", "/livez", None),
    Action.READYZ: lambda _: ("GET", "/readyz", None),
    Action.REGISTER: lambda scene: (
        "POST",
        "/api/users/register",
        {"username": f"new-{scene.caller.username}", "password": PASSWORD},
    ),
    Action.SET_PASSWORD: lambda scene: (
        "POST",
        "/api/users/password",
        {"token": scene.password_token, "newPassword": "another horse"},
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
    Action.DELETE_ME: lambda _: ("POST", "/api/users/me/delete", {"password": PASSWORD}),
    Action.CHANGE_PASSWORD: lambda _: (
        "POST",
        "/api/users/me/password",
        {"currentPassword": PASSWORD, "newPassword": "another horse"},
    ),
    Action.LIST_SESSIONS: lambda _: ("GET", "/api/users/me/sessions", None),
    Action.END_SESSION: lambda scene: (
        "POST",
        f"/api/users/me/sessions/{scene.session}/end",
        {"password": PASSWORD},
    ),
    Action.LIST_MY_BOOKINGS: lambda _: ("GET", "/api/users/me/bookings", None),
    Action.GET_MY_CALENDAR: lambda _: ("GET", "/api/users/me/calendar.ics", None),
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
    Action.GET_EVENT_CALENDAR: lambda scene: ("GET", f"/api/events/{scene.event}.ics", None),
    Action.FOLLOW_EVENT: lambda scene: ("GET", f"/api/events/{scene.event}/live", None),
    Action.GET_STATS: lambda scene: ("GET", f"/api/events/{scene.event}/stats", None),
    Action.LIST_EVENTS: lambda _: ("GET", "/api/events", None),
    Action.CREATE_EVENT: lambda _: (
        "POST",
        "/api/events",
        {"name": "Another concert", "capacity": 1},
    ),
    Action.LIST_MY_EVENTS: lambda _: ("GET", "/api/users/me/events", None),
    Action.UPDATE_EVENT: lambda scene: (
        "PATCH",
        f"/api/events/{scene.event}",
        {"name": "Renamed", "startsAt": "2037-11-02T19:30:00Z"},
    ),
    Action.PUBLISH_EVENT: lambda scene: ("POST", f"/api/events/{scene.event}/publish", None),
    Action.PAUSE_SALE: lambda scene: ("POST", f"/api/events/{scene.event}/pause", None),
    Action.RESUME_SALE: lambda scene: ("POST", f"/api/events/{scene.event}/resume", None),
    Action.CANCEL_EVENT: lambda scene: ("POST", f"/api/events/{scene.event}/cancel", None),
    Action.DELETE_EVENT: lambda scene: ("DELETE", f"/api/events/{scene.draft}", None),
    Action.COPY_EVENT: lambda scene: (
        "POST",
        f"/api/events/{scene.event}/copies",
        {"startsAt": ["2027-06-01T19:30:00Z"]},
    ),
    Action.LIST_TICKET_TYPES: lambda scene: (
        "GET",
        f"/api/events/{scene.event}/ticket-types",
        None,
    ),
    Action.CREATE_TICKET_TYPE: lambda scene: (
        "POST",
        f"/api/events/{scene.event}/ticket-types",
        {"name": "Box"},
    ),
    Action.GET_TICKET_TYPE: lambda scene: (
        "GET",
        f"/api/events/{scene.event}/ticket-types/{scene.ticket_type}",
        None,
    ),
    Action.UPDATE_TICKET_TYPE: lambda scene: (
        "PATCH",
        f"/api/events/{scene.event}/ticket-types/{scene.ticket_type}",
        {"capacity": 5},
    ),
    Action.DELETE_TICKET_TYPE: lambda scene: (
        "DELETE",
        f"/api/events/{scene.event}/ticket-types/{scene.ticket_type}",
        None,
    ),
    Action.LIST_QUOTAS: lambda scene: ("GET", f"/api/events/{scene.event}/quotas", None),
    Action.CREATE_QUOTA: lambda scene: (
        "POST",
        f"/api/events/{scene.event}/quotas",
        {"name": "Chairs", "capacity": 5},
    ),
    Action.GET_QUOTA: lambda scene: (
        "GET",
        f"/api/events/{scene.event}/quotas/{scene.quota}",
        None,
    ),
    Action.UPDATE_QUOTA: lambda scene: (
        "PATCH",
        f"/api/events/{scene.event}/quotas/{scene.quota}",
        {"capacity": 5},
    ),
    Action.DELETE_QUOTA: lambda scene: (
        "DELETE",
        f"/api/events/{scene.event}/quotas/{scene.quota}",
        None,
    ),
    Action.CREATE_CODES: lambda scene: (
        "POST",
        f"/api/events/{scene.event}/codes",
        {"kind": "discount", "percent": 20, "draw": {"count": 2}},
    ),
    Action.LIST_CODES: lambda scene: ("GET", f"/api/events/{scene.event}/codes", None),
    Action.CHECK_CODE: lambda scene: (
        "POST",
        f"/api/events/{scene.event}/codes/check",
        {"code": scene.reduces},
    ),
    Action.GET_CODE: lambda scene: (
        "GET",
        f"/api/events/{scene.event}/codes/{scene.code}",
        None,
    ),
    Action.UPDATE_CODE: lambda scene: (
        "PATCH",
        f"/api/events/{scene.event}/codes/{scene.code}",
        {"maxUses": 5},
    ),
    Action.DELETE_CODE: lambda scene: (
        "DELETE",
        f"/api/events/{scene.event}/codes/{scene.code}",
        None,
    ),
    Action.EXPORT_CODES: lambda scene: ("GET", f"/api/events/{scene.event}/codes.csv", None),
    Action.EXPORT_ATTENDEES: lambda scene: (
        "GET",
        f"/api/events/{scene.event}/attendees.csv",
        None,
    ),
    Action.LIST_ATTENDEES: lambda scene: (
        "GET",
        f"/api/events/{scene.event}/attendees.json",
        None,
    ),
    Action.CHANGE_OWNER: lambda scene: (
        "PUT",
        f"/api/events/{scene.event}/owner",
        {"userId": scene.about.id},
    ),
    Action.BOOK_TICKET: lambda scene: (
        "POST",
        "/api/events/book",
        scene.subject | scene.one_place,
    ),
    Action.CANCEL_TICKET: lambda scene: ("POST", "/api/events/cancel", scene.subject),
    Action.CREATE_HOLD: lambda scene: ("POST", "/api/holds", scene.subject | scene.one_place),
    Action.CONFIRM_HOLD: lambda scene: ("POST", f"/api/holds/{scene.booking}/confirm", None),
    Action.EXTEND_HOLD: lambda scene: ("POST", f"/api/holds/{scene.booking}/extend", None),
    Action.RELEASE_HOLD: lambda scene: ("DELETE", f"/api/holds/{scene.booking}", None),
    Action.GET_BOOKING: lambda scene: ("GET", f"/api/bookings/{scene.booking}", None),
    Action.FOLLOW_BOOKING: lambda scene: ("GET", f"/api/bookings/{scene.booking}/live", None),
    Action.LIST_TICKETS: lambda scene: ("GET", f"/api/bookings/{scene.booking}/tickets", None),
    Action.CANCEL_BOOKING: lambda scene: ("POST", f"/api/bookings/{scene.booking}/cancel", None),
    Action.RECORD_PAYMENT: lambda scene: (
        "POST",
        f"/api/bookings/{scene.booking}/payments",
        {"reference": "order-18", "amount": 2500, "paidAt": "2026-11-02T19:30:00Z"},
    ),
    Action.LIST_PAYMENTS: lambda scene: ("GET", f"/api/bookings/{scene.booking}/payments", None),
    Action.RECORD_REFUND: lambda scene: (
        "POST",
        f"/api/bookings/{scene.booking}/refunds",
        {"reference": "refund-18", "amount": 1},
    ),
    Action.LIST_REFUNDS: lambda scene: ("GET", f"/api/bookings/{scene.booking}/refunds", None),
    Action.GET_SETTLEMENT: lambda scene: ("GET", f"/api/events/{scene.event}/settlement", None),
    Action.LIST_EVENT_BOOKINGS: lambda scene: (
        "GET",
        f"/api/events/{scene.event}/bookings",
        None,
    ),
    Action.GET_TICKET: lambda scene: ("GET", f"/api/tickets/{scene.ticket}", None),
    Action.UPDATE_TICKET: lambda scene: (
        "PATCH",
        f"/api/tickets/{scene.ticket}",
        {"name": "Ada King"},
    ),
    Action.REISSUE_TICKET: lambda scene: ("POST", f"/api/tickets/{scene.ticket}/reissue", None),
    Action.CREATE_TRANSFER: lambda scene: ("POST", f"/api/tickets/{scene.ticket}/transfers", None),
    Action.ACCEPT_TRANSFER: lambda scene: (
        "POST",
        "/api/tickets/accept",
        {"token": scene.transfer_token}
        | ({} if scene.caller == scene.about else {"customer": {"externalId": "customer-2"}}),
    ),
    Action.GET_TICKET_SVG: lambda scene: ("GET", f"/api/tickets/{scene.ticket}/code.svg", None),
    Action.GET_TICKET_PNG: lambda scene: ("GET", f"/api/tickets/{scene.ticket}/code.png", None),
    Action.GET_TICKETS_PDF: lambda scene: (
        "GET",
        f"/api/bookings/{scene.booking}/tickets.pdf",
        None,
    ),
    Action.LIST_TICKET_KEYS: lambda _: ("GET", "/.well-known/ticketing/keys.json", None),
    Action.GET_DOOR: lambda scene: ("GET", f"/api/events/{scene.event}/door", None),
    Action.UPDATE_DOOR: lambda scene: (
        "PUT",
        f"/api/events/{scene.event}/door",
        {"lists": [{"name": "main"}]},
    ),
    Action.CHECK_IN: lambda scene: (
        "POST",
        f"/api/events/{scene.event}/check-ins",
        {"scanId": SCAN, "code": "unknown"},
    ),
    Action.UPLOAD_CHECK_INS: lambda scene: (
        "POST",
        f"/api/events/{scene.event}/check-ins/bulk",
        {"sentAt": "2026-11-02T19:30:00Z", "items": [{}]},
    ),
    Action.UNDO_CHECK_IN: lambda scene: (
        "POST",
        f"/api/events/{scene.event}/check-ins/{SCAN}/undo",
        {"reason": "Wrong person"},
    ),
    Action.LIST_CHECK_INS: lambda scene: ("GET", f"/api/events/{scene.event}/check-ins", None),
    Action.GET_DOOR_MANIFEST: lambda scene: (
        "GET",
        f"/api/events/{scene.event}/door-manifest",
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
    Action.READ_EVENT_FEED: lambda scene: ("GET", f"/api/events/{scene.event}/feed", None),
    Action.READ_FEED: lambda _: ("GET", "/api/feed", None),
    Action.CREATE_WEBHOOK: lambda _: ("POST", "/api/webhooks", {"url": NOT_PUBLIC}),
    Action.LIST_WEBHOOKS: lambda _: ("GET", "/api/webhooks", None),
    Action.GET_WEBHOOK: lambda scene: ("GET", f"/api/webhooks/{scene.webhook}", None),
    Action.UPDATE_WEBHOOK: lambda scene: (
        "PATCH",
        f"/api/webhooks/{scene.webhook}",
        {"types": ["booking.booked"]},
    ),
    Action.ROTATE_SECRET: lambda scene: ("POST", f"/api/webhooks/{scene.webhook}/secret", None),
    Action.REPLAY_WEBHOOK: lambda scene: (
        "POST",
        f"/api/webhooks/{scene.webhook}/replay",
        {"cursor": "1"},
    ),
    Action.TEST_WEBHOOK: lambda scene: ("POST", f"/api/webhooks/{scene.webhook}/test", None),
    Action.LIST_DELIVERIES: lambda scene: (
        "GET",
        f"/api/webhooks/{scene.webhook}/deliveries",
        None,
    ),
    Action.DELETE_WEBHOOK: lambda scene: ("DELETE", f"/api/webhooks/{scene.webhook}", None),
    Action.GRANT_ORGANISER: lambda scene: (
        "PUT",
        f"/api/users/{scene.about.id}/organiser",
        None,
    ),
    Action.REVOKE_ORGANISER: lambda scene: (
        "DELETE",
        f"/api/users/{scene.about.id}/organiser",
        None,
    ),
    Action.LIST_CUSTOMERS: lambda scene: (
        "GET",
        f"/api/customers?organiserId={scene.organiser}",
        None,
    ),
    Action.GET_CUSTOMER: lambda scene: ("GET", f"/api/customers/{scene.customer}", None),
    Action.UPDATE_CUSTOMER: lambda scene: (
        "PATCH",
        f"/api/customers/{scene.customer}",
        {"name": "Ada King"},
    ),
    Action.MAKE_LOGIN_TOKEN: lambda scene: (
        "POST",
        f"/api/customers/{scene.customer}/login-token",
        None,
    ),
    Action.ERASE_CUSTOMER: lambda scene: ("DELETE", f"/api/customers/{scene.customer}", None),
}

OF_MONEY = (
    *(Action.RECORD_PAYMENT, Action.LIST_PAYMENTS, Action.RECORD_REFUND, Action.LIST_REFUNDS),
)
OF_TICKETS = (
    *(Action.GET_TICKET, Action.UPDATE_TICKET, Action.REISSUE_TICKET, Action.CREATE_TRANSFER),
    *(Action.ACCEPT_TRANSFER, Action.GET_TICKET_SVG, Action.GET_TICKET_PNG, Action.GET_TICKETS_PDF),
)
PREPARED = {
    Action.CANCEL_TICKET: Action.BOOK_TICKET,
    Action.GET_EVENT_CALENDAR: Action.UPDATE_EVENT,
    Action.UNDO_CHECK_IN: Action.CHECK_IN,
    **dict.fromkeys(OF_TICKETS, Action.BOOK_TICKET),
    **dict.fromkeys(
        (Action.GET_BOOKING, Action.FOLLOW_BOOKING, Action.LIST_TICKETS, Action.CANCEL_BOOKING),
        Action.BOOK_TICKET,
    ),
    **dict.fromkeys(OF_MONEY, Action.BOOK_TICKET),
    **dict.fromkeys(
        (Action.CONFIRM_HOLD, Action.EXTEND_HOLD, Action.RELEASE_HOLD), Action.CREATE_HOLD
    ),
    Action.REVOKE_ROLE: Action.GRANT_ROLE,
    Action.REVOKE_ORGANISER: Action.GRANT_ORGANISER,
}
"""Calls that an admin makes first, so that the call itself has something to change."""
MAKES = {Action.BOOK_TICKET: "booked", Action.CREATE_HOLD: "held"}
"""Calls that make a booking, which the action is about, and the status of that booking."""


async def promote(app: FastAPI, engine: AsyncEngine, person: Person) -> None:
    known = AccessRepository(engine, app.state.provided[Identity].access)
    await known.promote(person.username)
    await known.refresh()


async def scene(
    app: FastAPI, engine: AsyncEngine, visitor: Visitor, role: Role, action: Action | None = None
) -> Scene:
    """Make a caller who has this role at a new event, or for a person.

    With an action, make only what its call names, because making everything takes 25 requests.
    """
    named = frozenset(Scene.__dataclass_fields__) if action is None else named_by(action)
    owner = await visitor.register()
    event = await owner.organise()
    made = await _parts_of(owner, event, named)
    caller = owner if role is Role.OWNER else await visitor.register()
    is_about = named & {"about", "password_token"} and role is not Role.SELF
    about = await visitor.register() if is_about else caller
    if role in {Role.MANAGER, Role.STAFF}:
        for each in {event, made.get("draft", event)}:
            await owner.appoint(each, caller, role)
    if role is Role.ADMIN:
        await promote(app, engine, caller)
    made |= await _credentials_of(caller, named)
    if "password_token" in named:
        token = await Operator(engine, MIN_ROUNDS).make_token(about.username)
        made["password_token"] = token.token
    return Scene(caller=caller, about=about, event=event, organiser=owner.id, **made)


async def _parts_of(owner: Person, event: int, named: frozenset[str]) -> dict[str, Any]:
    """Make what is named of an event and its owner."""
    path = f"/api/events/{event}"
    made: dict[str, Any] = {}
    if "draft" in named:
        made["draft"] = await owner.draft()
    if "customer" in named:
        made["customer"] = customer = await owner.book_for(event, "customer-1")
        # Otherwise the owner could not delete their account.
        await owner.post("/api/events/cancel", {"eventId": event, "userId": customer})
    if "admission" in named:
        (admission,) = (await owner.event(event))["ticketTypes"]
        made["admission"] = admission["id"]
    price = {"amount": 2500, "currency": "EUR"}
    for name, of, body in (
        ("quota", "quotas", {"name": "Seats", "capacity": 9}),
        ("ticket_type", "ticket-types", {"name": "Balcony"}),
        ("gallery", "ticket-types", {"name": "Gallery", "price": price}),
    ):
        if name in named:
            made[name] = (await owner.post(f"{path}/{of}", body)).json()["id"]
    if named & {"code", "reduces"}:
        made["reduces"] = "SPRING26"
        for code in (made["reduces"], "TEAM"):
            discount = {"codes": [code], "kind": "discount", "percent": 20}
            codes = await owner.post(f"{path}/codes", discount)
            made["code"] = codes.json()["items"][0]["id"]
    return made


async def _credentials_of(caller: Person, named: frozenset[str]) -> dict[str, str]:
    """Make what is named of a key, a session and a webhook of the caller, and return their ids."""
    made = {}
    if "key" in named:
        await caller.make_key("bookings:read")
        (key,) = (await caller.get("/api/users/me/keys")).json()["items"]
        made["key"] = key["id"]
    if "session" in named:
        await caller.again()
        sessions = (await caller.get("/api/users/me/sessions")).json()["items"]
        made["session"] = next(each["id"] for each in sessions if not each["isCurrent"])
    if "webhook" in named:
        webhook = await caller.post("/api/webhooks", {"url": NOT_PUBLIC})
        made["webhook"] = webhook.json()["id"]
    return made


@cache  # Each client that is made here reads all certificates of the machine.
def named_by(action: Action) -> frozenset[str]:
    """Return the fields of a scene that the call of the action, and those before it, read."""
    read: set[str] = {"gallery"} if action in OF_MONEY else set()

    class Reading(Scene):
        def __getattribute__(self, name: str) -> object:
            read.add(name)
            found: object = super().__getattribute__(name)
            return found

    somebody = Person(httpx.AsyncClient(), "somebody", "", "")
    for each in {action, PREPARED.get(action, action)}:
        CALLS[each](Reading(caller=somebody, about=somebody, event=0, organiser=""))
    return frozenset(read)


async def call(
    action: Action, on: Scene, headers: dict[str, str], visitor: Visitor
) -> httpx.Response:
    method, path, body = CALLS[action](on)
    condition = {"If-Match": "*"} if method in {"PATCH", "DELETE"} else {}
    return await visitor.client.request(method, path, headers=headers | condition, json=body)


async def an_admin(app: FastAPI, engine: AsyncEngine, visitor: Visitor) -> Person:
    """Make somebody an admin."""
    admin = await visitor.register()
    await promote(app, engine, admin)
    return admin


async def prepare(action: Action, on: Scene, admin: Person) -> Scene:
    """Let an admin make the calls that come before the action. Return the scene after them."""
    if action not in PREPARED:
        return on
    if action in OF_MONEY:
        lines = [{"ticketTypeId": on.gallery, "quantity": 1}]
        sold = await admin.post("/api/events/book", on.subject | {"lines": lines})
        booking = sold.json()["id"]
        paid = {"reference": "order-17", "amount": 2500}
        made = await admin.post(f"/api/bookings/{booking}/payments", paid)
        assert made.status_code == 201, made.text
        return replace(on, booking=booking)
    made = await call(PREPARED[action], on, admin.headers, admin)
    if PREPARED[action] not in MAKES:
        assert made.is_success
        return on
    # An earlier call may have deleted the type, or booked.
    assert made.is_success or made.json()["code"] == "already_booked", made.text
    status = MAKES[PREPARED[action]]
    listed = await admin.get(f"/api/events/{on.event}/bookings", status=status)
    (booking,) = listed.json()["items"]
    on = replace(on, booking=booking["id"])
    if action not in OF_TICKETS:
        return on
    listed = await admin.get(f"/api/bookings/{on.booking}/tickets")
    ticket = listed.json()["items"][0]["id"]
    offered = await admin.post(f"/api/tickets/{ticket}/transfers", None)
    return replace(on, ticket=ticket, transfer_token=offered.json()["token"])
