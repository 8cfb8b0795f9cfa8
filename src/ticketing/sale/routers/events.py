"""Events: create, read, search and list them."""

from enum import StrEnum
from typing import Annotated, Any, Final, Literal

from fastapi import Query, Request
from pydantic import AfterValidator, Field
from pydantic.json_schema import SkipJsonSchema
from pydantic_core import PydanticCustomError

from ticketing.errors import (
    CurrencyMixed,
    EventNotFound,
    InsufficientScope,
    NameTaken,
    NotAuthenticated,
    OrganiserRequired,
    UserNotFound,
)
from ticketing.identity.permissions import Action
from ticketing.identity.routers.authentication import (
    Authenticated,
    origin,
    require_organiser,
    works_on,
)
from ticketing.sale.definitions import MAX_QUOTAS, MAX_TYPES, Definitions, defined
from ticketing.sale.details import Details, revised
from ticketing.sale.folding import folded
from ticketing.sale.inventory.terms import EventStatus
from ticketing.sale.part import Sale
from ticketing.sale.repositories.events import Wanted
from ticketing.sale.routers.fields import (
    ETAGGED,
    EventIn,
    EventName,
    EventOut,
    HoldMinutes,
    MaxBookings,
    MaxTickets,
    SetWaitingList,
    Visibility,
    listed,
    listed_by_start,
    rendered,
)
from ticketing.sale.routers.ticket_type_fields import Capacity, InitialQuota, InitialTicketType
from ticketing.sale.routers.times import SentInstant
from ticketing.sale.rows import Event
from ticketing.web.documented import headers
from ticketing.web.fields import EventId, In, Text, UserId
from ticketing.web.lists import Cursor, PageOut, PageSize, SortedCursor, decode_cursor, decode_pair
from ticketing.web.part import of
from ticketing.web.replay import IdempotencyKey, Rendered, keyed_request
from ticketing.web.routes import Routes

routes = Routes("/api/events", "events")
mine = Routes("/api/users/me", "users")


class InitializeEvent(In):
    """A new event without details. It is published and on sale at once."""

    name: EventName
    total_tickets: Capacity


_TO_CREATE: Final = {
    "name": "An evening of chamber music",
    "capacity": 200,
    "timezone": "Europe/Berlin",
    "startsAt": "2037-11-02T19:30",
    "ticketTypes": [
        {"name": "Adult", "price": {"amount": 2500, "currency": "EUR"}},
        {"name": "Student", "price": {"amount": 1000, "currency": "EUR"}},
        {"name": "Standing"},
    ],
    "quotas": [{"name": "Chairs", "capacity": 150, "ticketTypes": ["Adult", "Student"]}],
}


class InitialEventStatus(StrEnum):
    """The status that an event can have when it is created."""

    DRAFT = "draft"
    PUBLISHED = "published"


class CreateEvent(EventIn, json_schema_extra={"examples": [_TO_CREATE]}):
    """A new event."""

    name: EventName
    capacity: Capacity
    visibility: Visibility = "public"
    status: InitialEventStatus = Field(
        default=InitialEventStatus.PUBLISHED,
        strict=False,
        description="Only its team sees a draft, and nobody can book it.",
    )
    max_bookings_per_person: MaxBookings = 1
    max_tickets_per_person: MaxTickets = 10
    hold_minutes: HoldMinutes = 10
    waiting_list: SetWaitingList = Field(default_factory=SetWaitingList)
    ticket_types: Annotated[
        list[InitialTicketType],
        Field(
            max_length=MAX_TYPES,
            description="Without any, the event has one that is free: General admission.",
        ),
    ] = Field(default=[])
    quotas: Annotated[
        list[InitialQuota],
        Field(
            max_length=MAX_QUOTAS,
            description="Capacities that several of these ticket types share.",
        ),
    ] = Field(default=[])

    def definitions(self) -> Definitions | None:
        """Return the ticket types and quotas, or None if the request has none.

        Raises NameTaken, CurrencyMixed, ValidationFailed.
        """
        if not self.ticket_types and not self.quotas:
            return None
        types = [each.changes() for each in self.ticket_types]
        return defined(types, [each.changes() for each in self.quotas], self.timezone)


_MADE: Final[dict[int | str, dict[str, Any]]] = {201: {"headers": headers("Location")}}


@routes.post(
    "/initialize",
    Action.INITIALIZE_EVENT,
    "Create an event with a name and a number of places",
    status=201,
    model=EventOut,
    responses=_MADE,
    errors=(NotAuthenticated, InsufficientScope, OrganiserRequired, UserNotFound),
)
async def initialize(
    body: InitializeEvent,
    caller: Authenticated,
    request: Request,
    idempotency_key: IdempotencyKey = None,
) -> Rendered:
    """Create an event with all places free. The caller becomes its owner.

    On some sites only organisers may do this: see `isOrganiser` in `GET /api/users/me`.
    """
    require_organiser(request, caller)
    keyed = keyed_request(caller.id, idempotency_key, body, _created)
    details, by = Details(body.name), origin(request, caller)
    return _created(
        await of(request, Sale).events.make(caller.id, details, body.total_tickets, by, keyed)
    )


@routes.post(
    "",
    Action.CREATE_EVENT,
    "Create an event",
    status=201,
    model=EventOut,
    responses=_MADE,
    errors=(
        NotAuthenticated,
        InsufficientScope,
        OrganiserRequired,
        UserNotFound,
        NameTaken,
        CurrencyMixed,
    ),
)
async def create(
    body: CreateEvent,
    caller: Authenticated,
    request: Request,
    idempotency_key: IdempotencyKey = None,
) -> Rendered:
    """Create an event with details: its dates, its venue, and when its sale opens and closes.

    The caller becomes its owner. A time without an offset is local to the event's `timezone`.
    Returns 422 if the clocks skip this time there, or if it exists twice. Quotas name the ticket
    types that draw from them. On some sites only organisers may do this: see `isOrganiser` in
    `GET /api/users/me`.
    """
    require_organiser(request, caller)
    keyed = keyed_request(caller.id, idempotency_key, body, _created)
    details, by = revised(Details(body.name), body.changes()), origin(request, caller)
    event = await of(request, Sale).events.make(
        caller.id,
        details,
        body.capacity,
        by,
        keyed,
        status=EventStatus(body.status),
        definitions=body.definitions(),
    )
    return _created(event)


async def seen(request: Request, event_id: int) -> tuple[Event, bool]:
    """Return the event, and whether the caller may see what is hidden. Raises EventNotFound."""
    event = await of(request, Sale).events.get(event_id)
    team = (event.is_draft or event.definitions.hides) and await works_on(request, event_id)
    if event.is_draft and not team:
        raise EventNotFound
    return event, team


def _created(event: Event) -> Rendered:
    return rendered(201, event, f"{routes.prefix}/{event.id}")


@routes.get(
    "/{eventId}",
    Action.GET_EVENT,
    "Read an event",
    model=EventOut,
    responses=ETAGGED,
    errors=(EventNotFound,),
)
async def get(eventId: EventId, request: Request) -> Rendered:  # noqa: N803 - the API's name
    """Return an event with its current places.

    Drafts and hidden ticket types are shown to the event's team alone.
    """
    event, team = await seen(request, eventId)
    return rendered(200, event, team=team)


def _findable(text: str) -> str:
    if not folded(text):
        raise PydanticCustomError(
            "search_empty", "Use at least one character that is neither a space nor an accent"
        )
    return text


@routes.get("", Action.LIST_EVENTS, "List public events")
async def search(  # noqa: PLR0913, PLR0917 - FastAPI passes them by name
    request: Request,
    q: Annotated[
        Annotated[Text, Field(min_length=1, max_length=100), AfterValidator(_findable)]
        | SkipJsonSchema[None],
        Query(description="Part of the name. Case and accents do not matter."),
    ] = None,
    organiserId: Annotated[  # noqa: N803 - the API's name
        UserId | SkipJsonSchema[None], Query(description="Only events of this owner.")
    ] = None,
    onSale: Annotated[  # noqa: N803 - the API's name
        bool | SkipJsonSchema[None],
        Query(description="True: only events with places on sale now. False: only the others."),
    ] = None,
    since: Annotated[
        SentInstant | SkipJsonSchema[None],
        Query(alias="from", description="Only events that start at this time or later."),
    ] = None,
    until: Annotated[
        SentInstant | SkipJsonSchema[None],
        Query(alias="to", description="Only events that start before this time."),
    ] = None,
    sort: Annotated[
        Literal["newest", "startsAt"],
        Query(description="`startsAt`: earliest start first, without events that have no start."),
    ] = "newest",
    limit: PageSize = 20,
    cursor: SortedCursor = None,
) -> PageOut[EventOut]:
    """List public events. With `q`, list only those whose name contains it.

    Case, accents and spaces at the ends are ignored: `cafe` finds "Café". A `q` of nothing else
    returns 422.
    """
    events = of(request, Sale).events
    wanted = Wanted(q, organiserId, since, until, onSale)
    if sort == "newest":
        return listed(await events.newest(wanted, before=decode_cursor(cursor), limit=limit))
    return listed_by_start(await events.by_start(wanted, after=decode_pair(cursor), limit=limit))


@mine.get(
    "/events",
    Action.LIST_MY_EVENTS,
    "List the events that I own or work on, newest first",
    errors=(NotAuthenticated, InsufficientScope),
)
async def my_events(
    caller: Authenticated,
    request: Request,
    limit: PageSize = 20,
    cursor: Cursor = None,
) -> PageOut[EventOut]:
    """List the events that the caller owns or has a role at, newest first. Includes drafts."""
    page = await of(request, Sale).events.of_person(
        caller.id, before=decode_cursor(cursor), limit=limit
    )
    return listed(page, team=True)
