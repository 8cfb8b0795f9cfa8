"""The ticket types of an event."""

from typing import Any, Final

from fastapi import Request
from pydantic import BaseModel

from ticketing.errors import (
    CapacityBelowTaken,
    CurrencyFixed,
    CurrencyMixed,
    EventNotFound,
    EventState,
    Forbidden,
    InsufficientScope,
    LastTicketType,
    NameTaken,
    NotAuthenticated,
    PreconditionFailed,
    PreconditionRequired,
    TicketTypeNotFound,
    TicketTypeSold,
    TooManyTicketTypes,
    ValidationFailed,
)
from ticketing.identity.permissions import Action
from ticketing.identity.routers.authentication import Authenticated, origin, require
from ticketing.sale.part import Sale
from ticketing.sale.routers.events import seen
from ticketing.sale.routers.fields import ETAGGED, TAGGED, etag_of, written
from ticketing.sale.routers.revisions import Revision, RevisionIfGiven
from ticketing.sale.routers.ticket_type_fields import (
    CreateTicketType,
    TicketTypeOut,
    UpdateTicketType,
    type_document,
    types_document,
    visible_types,
)
from ticketing.sale.rows import Event
from ticketing.web.documented import headers
from ticketing.web.fields import EventId, Out, TicketTypeId
from ticketing.web.part import of
from ticketing.web.replay import IdempotencyKey, Rendered, keyed_request
from ticketing.web.routes import Routes

routes = Routes("/api/events/{eventId}/ticket-types", "ticket types")

ON_EVENT: Final = (NotAuthenticated, InsufficientScope, Forbidden, EventNotFound)
MADE: Final[dict[int | str, dict[str, Any]]] = {201: {"headers": headers("Location")}}


class TicketTypesOut(Out):
    """The ticket types of an event, in order."""

    items: list[TicketTypeOut]


class Added(BaseModel):
    """A request for a new ticket type, from which its digest is made."""

    event_id: int
    body: CreateTicketType


@routes.get(
    "",
    Action.LIST_TICKET_TYPES,
    "List the ticket types of an event",
    model=TicketTypesOut,
    responses=ETAGGED,
    errors=(EventNotFound,),
)
async def types(eventId: EventId, request: Request) -> Rendered:  # noqa: N803 - the API's name
    """List the ticket types by `position`. Hidden ones are shown to the event's team alone."""
    event, team = await seen(request, eventId)
    body = written({"items": types_document(event, team=team)})
    return Rendered(200, body, etag=etag_of(event, team=team))


@routes.post(
    "",
    Action.CREATE_TICKET_TYPE,
    "Add a ticket type to an event",
    status=201,
    model=TicketTypeOut,
    responses=MADE,
    errors=(
        *ON_EVENT,
        PreconditionFailed,
        EventState,
        NameTaken,
        TooManyTicketTypes,
        CurrencyMixed,
        CurrencyFixed,
    ),
)
async def create(  # noqa: PLR0913, PLR0917 - passed by name
    eventId: EventId,  # noqa: N803 - the API's name
    body: CreateTicketType,
    caller: Authenticated,
    revision: RevisionIfGiven,
    request: Request,
    idempotency_key: IdempotencyKey = None,
) -> Rendered:
    """Add a ticket type. It draws from the event's capacity, its own, and shared quotas.

    All prices of an event have one currency. A time without an offset is local to the event's
    `timezone`.
    """
    await require(request, caller, eventId)
    asked = Added(event_id=eventId, body=body)
    keyed = keyed_request(caller.id, idempotency_key, asked, _made)
    by = origin(request, caller)
    return _made(
        await of(request, Sale).ticket_types.add_type(
            eventId, body.changes(), by, keyed, if_revision=revision
        )
    )


def _made(made: tuple[Event, int]) -> Rendered:
    event, slot = made
    defined = event.definitions.types[slot]
    where = f"/api/events/{event.id}/ticket-types/{defined.id}"
    return Rendered(201, written(type_document(event, defined)), where)


@routes.get(
    "/{ticketTypeId}",
    Action.GET_TICKET_TYPE,
    "Read a ticket type",
    model=TicketTypeOut,
    responses=ETAGGED,
    errors=(EventNotFound, TicketTypeNotFound),
)
async def get(
    eventId: EventId,  # noqa: N803 - the API's name
    ticketTypeId: TicketTypeId,  # noqa: N803 - the API's name
    request: Request,
) -> Rendered:
    """Return a ticket type with the `ETag` of its event. If it is hidden, only to the team."""
    event, team = await seen(request, eventId)
    defined = event.definitions.type_of(ticketTypeId)
    if defined not in visible_types(event.definitions, team=team):
        raise TicketTypeNotFound
    body = written(type_document(event, defined))
    return Rendered(200, body, etag=etag_of(event, team=team))


@routes.patch(
    "/{ticketTypeId}",
    Action.UPDATE_TICKET_TYPE,
    "Change, close or reopen a ticket type",
    model=TicketTypeOut,
    responses=TAGGED,
    errors=(
        *ON_EVENT,
        TicketTypeNotFound,
        PreconditionRequired,
        PreconditionFailed,
        EventState,
        NameTaken,
        CurrencyMixed,
        CurrencyFixed,
        CapacityBelowTaken,
        ValidationFailed,
    ),
)
async def update(  # noqa: PLR0913, PLR0917 - passed by name
    eventId: EventId,  # noqa: N803 - the API's name
    ticketTypeId: TicketTypeId,  # noqa: N803 - the API's name
    body: UpdateTicketType,
    caller: Authenticated,
    revision: Revision,
    request: Request,
) -> Rendered:
    """Change a ticket type. Send the ETag of the event that you read as `If-Match`.

    Tickets that were sold keep their price. `closed` ends or reopens its sale. Places that become
    free go to the waiting list first.
    """
    await require(request, caller, eventId)
    event, slot = await of(request, Sale).ticket_types.revise_type(
        eventId, ticketTypeId, body.changes(), origin(request, caller), if_revision=revision
    )
    shown = written(type_document(event, event.definitions.types[slot]))
    return Rendered(200, shown, etag=etag_of(event, team=True))


@routes.delete(
    "/{ticketTypeId}",
    Action.DELETE_TICKET_TYPE,
    "Delete a ticket type",
    status=204,
    errors=(
        *ON_EVENT,
        TicketTypeNotFound,
        PreconditionRequired,
        PreconditionFailed,
        EventState,
        TicketTypeSold,
        LastTicketType,
    ),
)
async def delete(
    eventId: EventId,  # noqa: N803 - the API's name
    ticketTypeId: TicketTypeId,  # noqa: N803 - the API's name
    caller: Authenticated,
    revision: Revision,
    request: Request,
) -> None:
    """Delete a ticket type that nobody booked or waited for. Close it instead if somebody did."""
    await require(request, caller, eventId)
    by = origin(request, caller)
    repository = of(request, Sale).ticket_types
    await repository.remove_type(eventId, ticketTypeId, by, if_revision=revision)
