"""Events: making, finding and listing them."""

from typing import Annotated

import orjson
from fastapi import APIRouter, HTTPException, Query, Request
from pydantic import Field, StringConstraints, WithJsonSchema
from pydantic.json_schema import SkipJsonSchema

from ticketing.errors import (
    EventNotFound,
    Forbidden,
    InsufficientScope,
    NotAuthenticated,
    UserNotFound,
)
from ticketing.idempotency import Answer
from ticketing.idempotency import intent as intention
from ticketing.permissions import Action
from ticketing.repositories.events import Event
from ticketing.routers.dependencies import (
    Cursor,
    EventId,
    IdempotencyKey,
    In,
    Limit,
    Out,
    PageOut,
    Text,
    Time,
    UserId,
    Whole,
    decode_cursor,
    origin,
    parts,
    problems,
    require,
    who_may,
)
from ticketing.routers.direct import DirectRoute, StrictRoute
from ticketing.security import Caller

router = APIRouter(prefix="/api/events", tags=["events"], route_class=StrictRoute)
sale = APIRouter(prefix="/api/events", tags=["events"], route_class=DirectRoute)


EventName = Annotated[
    Text,
    StringConstraints(strip_whitespace=True, min_length=3, max_length=100),
    # Lengths in the schema would count the blanks at the ends, which don't count.
    WithJsonSchema(
        {
            "type": "string",
            "pattern": r"^\s*[^\s\u0000][^\u0000]{1,98}[^\s\u0000]\s*$",
            "description": "3 to 100 characters; blanks at the ends are dropped.",
            "examples": ["An evening of chamber music"],
        }
    ),
]


class InitializeEvent(In):
    """A new event."""

    name: EventName
    total_tickets: Annotated[int, Field(ge=1, le=1_000_000, examples=[200]), Whole]


class RenameEvent(In):
    """What an event shall be called."""

    name: EventName


class EventOut(Out):
    """An event and how many places it has."""

    id: int = Field(examples=[1])
    name: str = Field(examples=["An evening of chamber music"])
    total_tickets: int = Field(examples=[200])
    available_tickets: int = Field(examples=[200])
    waiting_list_count: int = Field(examples=[0])
    version: int = Field(description="Grows with every change of the inventory.", examples=[1])
    organiser_id: UserId
    created_at: Time


@sale.post(
    "/initialize",
    operation_id="initializeEvent",
    summary="Create an event",
    status_code=201,
    response_model=EventOut,
    responses={
        201: {"headers": {"Location": {"schema": {"type": "string"}}}},
        **problems(NotAuthenticated, InsufficientScope, UserNotFound, body=True, keyed=True),
    },
)
async def initialize(
    body: InitializeEvent,
    caller: Annotated[Caller, who_may(Action.INITIALIZE_EVENT)],
    request: Request,
    idempotency_key: IdempotencyKey = None,
) -> Answer:
    """Create an event with every place free. The caller becomes its owner."""
    intent = intention(caller.id, idempotency_key, body, _made)
    event = await parts(request).events.initialize(
        caller.id, body.name, body.total_tickets, origin(request, caller), intent
    )
    return _made(event)


def _made(event: Event) -> Answer:
    return _written(201, event, f"{router.prefix}/{event.id}")


def _written(status: int, event: Event, location: str | None = None) -> Answer:
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
    return Answer(status, body, location)


@sale.api_route("/initialize", methods=["GET", "PATCH"], include_in_schema=False)
@sale.api_route("/book", methods=["GET", "PATCH"], include_in_schema=False)
@sale.api_route("/cancel", methods=["GET", "PATCH"], include_in_schema=False)
async def not_an_event() -> None:
    """Answer 405 where the next route would say that the word is no number."""
    raise HTTPException(405, headers={"Allow": "POST"})


@sale.get(
    "/{eventId}",
    operation_id="getEvent",
    summary="One event",
    response_model=EventOut,
    responses=problems(EventNotFound),
)
async def get(eventId: EventId, request: Request) -> Answer:  # noqa: N803 - the API's name
    """Return an event with its places as they are now. No token needed."""
    return _written(200, await parts(request).events.get(eventId))


@router.patch(
    "/{eventId}",
    operation_id="renameEvent",
    summary="Rename an event",
    responses=problems(NotAuthenticated, InsufficientScope, Forbidden, EventNotFound, body=True),
)
async def rename(
    eventId: EventId,  # noqa: N803 - the API's name
    body: RenameEvent,
    caller: Annotated[Caller, who_may(Action.RENAME_EVENT)],
    request: Request,
) -> EventOut:
    """Give the event another name; its owner and managers may."""
    have = parts(request)
    await require(have, caller, Action.RENAME_EVENT, eventId)
    return EventOut.model_validate(
        await have.events.rename(eventId, body.name, origin(request, caller))
    )


@router.get(
    "",
    operation_id="listEvents",
    summary="All events, newest first",
    responses=problems(listed=True),
)
async def search(
    request: Request,
    q: Annotated[
        Annotated[Text, Field(min_length=1, max_length=100)] | SkipJsonSchema[None],
        Query(description="Part of the name."),
    ] = None,
    limit: Limit = 20,
    cursor: Cursor = None,
) -> PageOut[EventOut]:
    """List events, newest first; `q` keeps those whose name contains it, in whatever case."""
    page = await parts(request).events.search(q, before=decode_cursor(cursor), limit=limit)
    return PageOut[EventOut].of(page)
