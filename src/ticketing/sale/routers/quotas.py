"""The shared quotas of an event."""

from fastapi import Request
from pydantic import BaseModel

from ticketing.errors import (
    CapacityBelowTaken,
    EventNotFound,
    EventState,
    NameTaken,
    PreconditionFailed,
    PreconditionRequired,
    QuotaNotFound,
    TooManyQuotas,
    ValidationFailed,
)
from ticketing.identity.permissions import Action
from ticketing.identity.routers.authentication import Authenticated, origin, require
from ticketing.sale.part import Sale
from ticketing.sale.routers.events import seen
from ticketing.sale.routers.fields import ETAGGED, TAGGED, etag_of, written
from ticketing.sale.routers.revisions import Revision, RevisionIfGiven
from ticketing.sale.routers.ticket_type_fields import (
    CreateQuota,
    QuotaId,
    QuotaOut,
    UpdateQuota,
    quota_document,
    quotas_document,
    visible_quotas,
)
from ticketing.sale.routers.ticket_types import MADE, ON_EVENT
from ticketing.sale.rows import Event
from ticketing.web.fields import EventId, Out
from ticketing.web.part import of
from ticketing.web.replay import IdempotencyKey, Rendered, keyed_request
from ticketing.web.routes import Routes

routes = Routes("/api/events/{eventId}/quotas", "ticket types")


class QuotasOut(Out):
    """The shared quotas of an event, the oldest first."""

    items: list[QuotaOut]


class Shared(BaseModel):
    """A request for a new quota, from which its digest is made."""

    event_id: int
    body: CreateQuota


@routes.get(
    "",
    Action.LIST_QUOTAS,
    "List the quotas of an event",
    model=QuotasOut,
    responses=ETAGGED,
    errors=(EventNotFound,),
)
async def quotas(eventId: EventId, request: Request) -> Rendered:  # noqa: N803 - the API's name
    """List the shared quotas. Quotas of hidden ticket types alone are shown to the team alone."""
    event, team = await seen(request, eventId)
    body = written({"items": quotas_document(event, team=team)})
    return Rendered(200, body, etag=etag_of(event, team=team))


@routes.post(
    "",
    Action.CREATE_QUOTA,
    "Add a shared quota to an event",
    status=201,
    model=QuotaOut,
    responses=MADE,
    errors=(
        *ON_EVENT,
        PreconditionFailed,
        EventState,
        NameTaken,
        TooManyQuotas,
        CapacityBelowTaken,
    ),
)
async def create(  # noqa: PLR0913, PLR0917 - passed by name
    eventId: EventId,  # noqa: N803 - the API's name
    body: CreateQuota,
    caller: Authenticated,
    revision: RevisionIfGiven,
    request: Request,
    idempotency_key: IdempotencyKey = None,
) -> Rendered:
    """Add a capacity that several ticket types share.

    A ticket type has as many places left as the least of all that it draws from. Returns 409 if
    its types already have more places taken.
    """
    await require(request, caller, eventId)
    asked = Shared(event_id=eventId, body=body)
    keyed = keyed_request(caller.id, idempotency_key, asked, _made)
    by = origin(request, caller)
    return _made(
        await of(request, Sale).ticket_types.add_quota(
            eventId, body.changes(), by, keyed, if_revision=revision
        )
    )


def _made(made: tuple[Event, int]) -> Rendered:
    event, slot = made
    quota = event.definitions.quotas[slot]
    where = f"/api/events/{event.id}/quotas/{quota.id}"
    return Rendered(201, written(quota_document(event, quota, team=True)), where)


@routes.get(
    "/{quotaId}",
    Action.GET_QUOTA,
    "Read a quota",
    model=QuotaOut,
    responses=ETAGGED,
    errors=(EventNotFound, QuotaNotFound),
)
async def get(
    eventId: EventId,  # noqa: N803 - the API's name
    quotaId: QuotaId,  # noqa: N803 - the API's name
    request: Request,
) -> Rendered:
    """Return a shared quota with the `ETag` of its event."""
    event, team = await seen(request, eventId)
    quota = event.definitions.quota_of(quotaId)
    if quota not in visible_quotas(event.definitions, team=team):
        raise QuotaNotFound
    body = written(quota_document(event, quota, team=team))
    return Rendered(200, body, etag=etag_of(event, team=team))


@routes.patch(
    "/{quotaId}",
    Action.UPDATE_QUOTA,
    "Change a quota",
    model=QuotaOut,
    responses=TAGGED,
    errors=(
        *ON_EVENT,
        QuotaNotFound,
        PreconditionRequired,
        PreconditionFailed,
        EventState,
        NameTaken,
        CapacityBelowTaken,
        ValidationFailed,
    ),
)
async def update(  # noqa: PLR0913, PLR0917 - passed by name
    eventId: EventId,  # noqa: N803 - the API's name
    quotaId: QuotaId,  # noqa: N803 - the API's name
    body: UpdateQuota,
    caller: Authenticated,
    revision: Revision,
    request: Request,
) -> Rendered:
    """Change a shared quota. Send the ETag of the event that you read as `If-Match`.

    `ticketTypes` replaces the ticket types that draw from it. Returns 409 if these have more
    places taken than its capacity. Places that become free go to the waiting list first.
    """
    await require(request, caller, eventId)
    event, slot = await of(request, Sale).ticket_types.revise_quota(
        eventId, quotaId, body.changes(), origin(request, caller), if_revision=revision
    )
    shown = written(quota_document(event, event.definitions.quotas[slot], team=True))
    return Rendered(200, shown, etag=etag_of(event, team=True))


@routes.delete(
    "/{quotaId}",
    Action.DELETE_QUOTA,
    "Delete a quota",
    status=204,
    errors=(*ON_EVENT, QuotaNotFound, PreconditionRequired, PreconditionFailed, EventState),
)
async def delete(
    eventId: EventId,  # noqa: N803 - the API's name
    quotaId: QuotaId,  # noqa: N803 - the API's name
    caller: Authenticated,
    revision: Revision,
    request: Request,
) -> None:
    """Delete a shared quota. It then limits its ticket types no longer."""
    await require(request, caller, eventId)
    repository = of(request, Sale).ticket_types
    await repository.remove_quota(eventId, quotaId, origin(request, caller), if_revision=revision)
