"""Changes of an event: its details, capacity, status and owner, and copies of it."""

import re
from collections.abc import Sequence
from typing import Annotated, Any, Final

from fastapi import Depends, Header, Request
from pydantic import BaseModel, Field
from pydantic.json_schema import SkipJsonSchema

from ticketing.errors import (
    CapacityBelowTaken,
    EventHasBookings,
    EventNotFound,
    EventState,
    Forbidden,
    InsufficientScope,
    NotAuthenticated,
    OrganiserRequired,
    PreconditionFailed,
    PreconditionRequired,
    UserNotFound,
    ValidationFailed,
)
from ticketing.identity.permissions import Action
from ticketing.identity.routers.authentication import (
    Authenticated,
    origin,
    require,
    require_organiser,
)
from ticketing.sale.part import Sale
from ticketing.sale.routers.fields import (
    TAGGED,
    EventIn,
    EventName,
    EventOut,
    HoldMinutes,
    MaxBookings,
    MaxTickets,
    SetWaitingList,
    Visibility,
    document,
    rendered,
    written,
)
from ticketing.sale.routers.ticket_type_fields import Capacity
from ticketing.sale.routers.times import Moment
from ticketing.sale.rows import Event
from ticketing.web.direct import Directly
from ticketing.web.etags import ANY
from ticketing.web.fields import EventId, In, Out, UserId
from ticketing.web.part import of
from ticketing.web.replay import IdempotencyKey, Rendered, keyed_request
from ticketing.web.routes import Routes

routes = Routes("/api/events/{eventId}", "events")

REVISION: Final = re.compile(r'"([0-9]{1,18})(-[^"]*)?"')
"""The part of an event's ETag that bookings do not change."""


class IfMatch(Directly):
    """Read the revision from If-Match (RFC 9110, section 13.1.1)."""

    is_required = True

    async def __call__(
        self,
        request: Request,
        _documented: Annotated[
            str | SkipJsonSchema[None],
            Header(
                alias="If-Match",
                description="The `ETag` of the event that you read, its `revision` in quotes, or"
                " `*` for any.",
                json_schema_extra={"examples": ['"1"']},
            ),
        ] = None,
    ) -> int | None:
        """Return the revision, or None for any. Raises PreconditionRequired, PreconditionFailed."""
        given = request.headers.get("if-match", "").strip()
        if not given and self.is_required:
            raise PreconditionRequired
        if given in {ANY, ""}:
            return None
        found = REVISION.fullmatch(given)
        if found is None:
            raise PreconditionFailed
        return int(found[1])


class IfMatchOrAny(IfMatch):
    """Read the revision, and take a request without If-Match as one for any."""

    is_required = False


Revision = Annotated[int | None, Depends(IfMatch())]
RevisionIfGiven = Annotated[int | None, Depends(IfMatchOrAny())]


class UpdateEvent(EventIn, json_schema_extra={"examples": [{"capacity": 250}]}):
    """The fields to change. Absent fields stay as they are. Null removes a detail."""

    # These can be left out, but not be null.
    name: EventName = Field(default_factory=str)
    capacity: Capacity = Field(default_factory=int)
    visibility: Visibility = Field(default_factory=str)
    max_bookings_per_person: MaxBookings = Field(default_factory=int)
    max_tickets_per_person: MaxTickets = Field(default_factory=int)
    hold_minutes: HoldMinutes = Field(default_factory=int)
    waiting_list: SetWaitingList = Field(default_factory=SetWaitingList)


class CopyEvent(In):
    """The starts of the copies."""

    starts_at: Annotated[
        list[Moment],
        Field(min_length=1, max_length=100, examples=[["2027-11-02T19:30:00+01:00"]]),
    ]


class NewOwner(In):
    """The new owner of the event."""

    user_id: UserId


class CopiesOut(Out):
    """The new drafts, in the order of their starts in the request."""

    items: list[EventOut]


class Copied(BaseModel):
    """A request for copies, from which its digest is made."""

    event_id: int
    body: CopyEvent


_ON_EVENT: Final = (NotAuthenticated, InsufficientScope, Forbidden, EventNotFound)


@routes.patch(
    "",
    Action.UPDATE_EVENT,
    "Change an event",
    model=EventOut,
    responses=TAGGED,
    errors=(
        *_ON_EVENT,
        PreconditionRequired,
        PreconditionFailed,
        EventState,
        CapacityBelowTaken,
        ValidationFailed,
    ),
)
async def update(
    eventId: EventId,  # noqa: N803 - the API's name
    body: UpdateEvent,
    caller: Authenticated,
    revision: Revision,
    request: Request,
) -> Rendered:
    """Change details and capacity. Send the ETag of the event that you read as `If-Match`.

    New places go to the head of the waiting list first. Returns 409 if more places are taken than
    the new capacity has.
    """
    await require(request, caller, eventId)
    revisions = of(request, Sale).revisions
    return rendered(
        200,
        await revisions.revise(
            eventId,
            body.changes(),
            origin(request, caller),
            if_revision=revision,
            capacity=body.capacity or None,
        ),
    )


def _moves(name: str, action: Action, summary: str, says: str) -> None:
    """Declare a route that changes the state of the event."""

    async def move(
        eventId: EventId,  # noqa: N803 - the API's name
        caller: Authenticated,
        request: Request,
    ) -> Rendered:
        await require(request, caller, eventId)
        revisions: Any = of(request, Sale).revisions
        event: Event = await getattr(revisions, name)(eventId, origin(request, caller))
        return rendered(200, event)

    move.__doc__ = says
    routes.post(
        f"/{name}",
        action,
        summary,
        model=EventOut,
        responses=TAGGED,
        errors=(*_ON_EVENT, EventState),
    )(move)


_moves(
    "publish",
    Action.PUBLISH_EVENT,
    "Publish a draft",
    "Publish a draft. Repeating it changes nothing.",
)
_moves(
    "pause",
    Action.PAUSE_SALE,
    "Pause the sale",
    "Stop bookings at once. Users can still cancel, and their places go to the waiting list.",
)
_moves("resume", Action.RESUME_SALE, "Resume the sale", "Allow bookings again after a pause.")
_moves(
    "cancel",
    Action.CANCEL_EVENT,
    "Cancel an event",
    "Cancel the event. Bookings stop at once. Existing bookings are cancelled within seconds, or "
    "within minutes if the event is large.",
)


@routes.delete(
    "",
    Action.DELETE_EVENT,
    "Delete a draft",
    status=204,
    errors=(*_ON_EVENT, EventHasBookings),
)
async def delete(
    eventId: EventId,  # noqa: N803 - the API's name
    caller: Authenticated,
    request: Request,
) -> None:
    """Delete a draft that was never booked."""
    await require(request, caller, eventId)
    await of(request, Sale).revisions.delete(eventId, origin(request, caller))


@routes.put(
    "/owner",
    Action.CHANGE_OWNER,
    "Give an event to another owner",
    model=EventOut,
    responses=TAGGED,
    errors=(*_ON_EVENT, UserNotFound),
)
async def change_owner(
    eventId: EventId,  # noqa: N803 - the API's name
    body: NewOwner,
    caller: Authenticated,
    request: Request,
) -> Rendered:
    """Make another person the owner. The caller then has no role at the event."""
    await require(request, caller, eventId)
    revisions = of(request, Sale).revisions
    return rendered(
        200, await revisions.change_owner(eventId, body.user_id, origin(request, caller))
    )


@routes.post(
    "/copies",
    Action.COPY_EVENT,
    "Copy an event to other dates",
    status=201,
    model=CopiesOut,
    errors=(*_ON_EVENT, OrganiserRequired, ValidationFailed),
)
async def copy(
    eventId: EventId,  # noqa: N803 - the API's name
    body: CopyEvent,
    caller: Authenticated,
    request: Request,
    idempotency_key: IdempotencyKey = None,
) -> Rendered:
    """Create a draft like the event for each start. Its other times keep their distance from it."""
    require_organiser(request, caller)
    await require(request, caller, eventId)
    said = Copied(event_id=eventId, body=body)
    keyed = keyed_request(caller.id, idempotency_key, said, _copied)
    revisions = of(request, Sale).revisions
    return _copied(await revisions.copy(eventId, body.starts_at, origin(request, caller), keyed))


def _copied(events: Sequence[Event]) -> Rendered:
    return Rendered(201, written({"items": [document(each, team=True) for each in events]}))
