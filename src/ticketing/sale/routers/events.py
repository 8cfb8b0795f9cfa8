"""Events: making, finding and listing them."""

from typing import Annotated

import orjson
from fastapi import Query, Request
from pydantic import Field
from pydantic.json_schema import SkipJsonSchema

from ticketing.errors import (
    EventNotFound,
    Forbidden,
    InsufficientScope,
    NotAuthenticated,
    OrganiserRequired,
    UserNotFound,
)
from ticketing.identity.permissions import Action
from ticketing.identity.routers.authentication import (
    Authenticated,
    origin,
    require,
    require_organiser,
)
from ticketing.sale.part import Sale
from ticketing.sale.repositories.events import Event
from ticketing.web.documented import headers
from ticketing.web.fields import INT32, EventId, In, Long, Out, Short, Text, Time, UserId, Whole
from ticketing.web.labels import Label
from ticketing.web.lists import Cursor, PageOut, PageSize, decode_cursor
from ticketing.web.part import of
from ticketing.web.replay import IdempotencyKey, Rendered, keyed_request
from ticketing.web.routes import Routes

routes = Routes("/api/events", "events")


EventName = Annotated[str, Label(3, 100, "An evening of chamber music")]


class InitializeEvent(In):
    """A new event."""

    name: EventName
    total_tickets: Annotated[
        int, Field(ge=1, le=1_000_000, examples=[200], json_schema_extra=INT32), Whole
    ]


class RenameEvent(In):
    """What an event shall be called."""

    name: EventName


class EventOut(Out):
    """An event and how many places it has."""

    id: Long = Field(examples=[1])
    name: str = Field(examples=["An evening of chamber music"])
    total_tickets: Short = Field(examples=[200])
    available_tickets: Short = Field(examples=[200])
    waiting_list_count: Long = Field(examples=[0])
    version: Long = Field(description="Grows with every change of the inventory.", examples=[1])
    organiser_id: UserId
    created_at: Time


@routes.post(
    "/initialize",
    Action.INITIALIZE_EVENT,
    "Create an event",
    status=201,
    model=EventOut,
    responses={201: {"headers": headers("Location")}},
    errors=(NotAuthenticated, InsufficientScope, OrganiserRequired, UserNotFound),
)
async def initialize(
    body: InitializeEvent,
    caller: Authenticated,
    request: Request,
    idempotency_key: IdempotencyKey = None,
) -> Rendered:
    """Create an event with every place free. The caller becomes its owner.

    Some sites leave this to organisers: see `isOrganiser` of `GET /api/users/me`.
    """
    require_organiser(request, caller)
    keyed = keyed_request(caller.id, idempotency_key, body, _created)
    event = await of(request, Sale).events.initialize(
        caller.id, body.name, body.total_tickets, origin(request, caller), keyed
    )
    return _created(event)


def _created(event: Event) -> Rendered:
    return _rendered(201, event, f"{routes.prefix}/{event.id}")


def _rendered(status: int, event: Event, location: str | None = None) -> Rendered:
    # By hand: EventOut and its serialisation would take five times as long.
    document = {
        "id": event.id,
        "name": event.name,
        "totalTickets": event.total_tickets,
        "availableTickets": event.available_tickets,
        "waitingListCount": event.waiting_list_count,
        "version": event.version,
        "organiserId": event.organiser_id,
        "createdAt": event.created_at,
    }
    body = orjson.dumps(document, default=str, option=orjson.OPT_UTC_Z)
    return Rendered(status, body, location)


@routes.get("/{eventId}", Action.GET_EVENT, "One event", model=EventOut, errors=(EventNotFound,))
async def get(eventId: EventId, request: Request) -> Rendered:  # noqa: N803 - the API's name
    """Return an event with its places as they are now. No token needed."""
    return _rendered(200, await of(request, Sale).events.get(eventId))


@routes.patch(
    "/{eventId}",
    Action.RENAME_EVENT,
    "Rename an event",
    errors=(NotAuthenticated, InsufficientScope, Forbidden, EventNotFound),
)
async def rename(
    eventId: EventId,  # noqa: N803 - the API's name
    body: RenameEvent,
    caller: Authenticated,
    request: Request,
) -> EventOut:
    """Give the event another name; its owner and managers may."""
    await require(request, caller, eventId)
    events, by = of(request, Sale).events, origin(request, caller)
    return EventOut.model_validate(await events.rename(eventId, body.name, by))


@routes.get("", Action.LIST_EVENTS, "All events, newest first")
async def search(
    request: Request,
    q: Annotated[
        Annotated[Text, Field(min_length=1, max_length=100)] | SkipJsonSchema[None],
        Query(description="Part of the name, whatever its case and accents."),
    ] = None,
    limit: PageSize = 20,
    cursor: Cursor = None,
) -> PageOut[EventOut]:
    """List events, newest first; `q` keeps those whose name contains it.

    Case, accents and blanks at the ends do not count: `cafe` finds "Café".
    """
    page = await of(request, Sale).events.search(q, before=decode_cursor(cursor), limit=limit)
    return PageOut[EventOut].of(page)
