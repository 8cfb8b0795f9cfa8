"""Booking, cancelling, and lists of bookings."""

from typing import Any

import orjson
from fastapi import Request
from pydantic import Field
from pydantic.json_schema import SkipJsonSchema

from ticketing.errors import (
    AlreadyBooked,
    AlreadyWaiting,
    BookingNotFound,
    EventNotFound,
    Forbidden,
    InsufficientScope,
    NotAuthenticated,
    UserNotFound,
)
from ticketing.identity.permissions import Action
from ticketing.identity.routers.authentication import (
    Authenticated,
    origin,
    require,
    require_about,
)
from ticketing.limits.limits import Counted
from ticketing.sale.inventory.model import Booked, Booking, BookingStatus, Cancelled, Waiting
from ticketing.sale.part import Sale
from ticketing.web.fields import BookingId, EventId, In, Long, Out, Short, Time, UserId
from ticketing.web.lists import Cursor, PageOut, PageSize, decode_cursor
from ticketing.web.part import of
from ticketing.web.policy import Overload
from ticketing.web.replay import IdempotencyKey, Rendered, keyed_request
from ticketing.web.routes import Routes

routes = Routes("/api/events", "bookings")
mine = Routes("/api/users/me", "bookings")


class BookTicket(In):
    """Who wants a place at which event."""

    event_id: EventId
    user_id: UserId


class CancelTicket(BookTicket):
    """Who gives up their place at which event."""


class BookingOut(Out):
    """What one person booked at one event, whatever became of it.

    `position` is null unless the booking waits; `promoted` is null unless this response cancels.
    """

    id: BookingId
    event_id: EventId
    user_id: UserId
    status: BookingStatus
    created_at: Time
    position: Long | None = Field(
        description="Where the booking is in the waiting list, from 1.", examples=[None]
    )
    # The one field that a list knows nothing of.
    promoted: Short | None = Field(
        default=None,
        description="How many from the waiting list got a place when this was cancelled.",
        examples=[None],
    )


class AttendanceOut(BookingOut):
    """A booking in an event's list; `username` is null if the account was deleted."""

    username: str | None = Field(examples=["ada"])


def _example(**these: object) -> dict[str, Any]:
    """Document a booking of which `these` are so."""
    fields = BookingOut.model_json_schema()["properties"]
    usual = {name: field["examples"][0] for name, field in fields.items() if "examples" in field}
    return {"content": {"application/json": {"example": usual | these}}}


def _rendered(outcome: Booked | Waiting | Cancelled) -> Rendered:
    if isinstance(outcome, Booked):
        return _response(201, outcome.booking)
    if isinstance(outcome, Waiting):
        return _response(202, outcome.booking, position=outcome.position)
    return _response(200, outcome.booking, promoted=len(outcome.promoted))


def _response(
    status: int, booking: Booking, position: int | None = None, promoted: int | None = None
) -> Rendered:
    # Written by hand: a model and its serialisation would take eight times as long.
    document = {
        "id": booking.id,
        "eventId": booking.event_id,
        "userId": booking.user_id,
        "status": booking.status,
        "createdAt": booking.created_at,
        "position": position,
        "promoted": promoted,
    }
    return Rendered(status, orjson.dumps(document, default=str, option=orjson.OPT_UTC_Z))


@routes.post(
    "/book",
    Action.BOOK_TICKET,
    "Book a place",
    status=201,
    model=BookingOut,
    responses={
        201: {"description": "A place is booked.", **_example(status="booked")},
        202: {
            "model": BookingOut,
            "description": "No place is left: the booking is on the waiting list.",
            **_example(status="waiting", position=1),
        },
    },
    errors=(
        NotAuthenticated,
        InsufficientScope,
        Forbidden,
        EventNotFound,
        UserNotFound,
        AlreadyBooked,
        AlreadyWaiting,
    ),
    counted=Counted.BOOKINGS,
    overload=Overload.SHED,
)
async def book(
    body: BookTicket,
    caller: Authenticated,
    request: Request,
    idempotency_key: IdempotencyKey = None,
) -> Rendered:
    """Take a place, or a place at the end of the waiting list when none is left (202).

    A person books for themself; the owner and managers may book for anybody. One active booking per
    person and event. A 503 `busy` has changed nothing: try again after `Retry-After`.
    """
    await require_about(request, caller, body.event_id, body.user_id)
    keyed = keyed_request(caller.id, idempotency_key, body, _rendered)
    bookings, by = of(request, Sale).bookings, origin(request, caller)
    return _rendered(await bookings.book(body.event_id, body.user_id, by, keyed))


@routes.post(
    "/cancel",
    Action.CANCEL_TICKET,
    "Cancel a booking",
    model=BookingOut,
    responses={
        200: {
            "description": "The booking is cancelled.",
            **_example(status="cancelled", promoted=1),
        }
    },
    errors=(NotAuthenticated, InsufficientScope, Forbidden, EventNotFound, BookingNotFound),
    counted=Counted.BOOKINGS,
    overload=Overload.SHED,
)
async def cancel(
    body: CancelTicket,
    caller: Authenticated,
    request: Request,
    idempotency_key: IdempotencyKey = None,
) -> Rendered:
    """Give up a place, which goes to the head of the waiting list, or leave the line.

    Cancelling again gives the same answer with `promoted` 0 and changes nothing.
    """
    await require_about(request, caller, body.event_id, body.user_id)
    keyed = keyed_request(caller.id, idempotency_key, body, _rendered)
    bookings, by = of(request, Sale).bookings, origin(request, caller)
    return _rendered(await bookings.cancel(body.event_id, body.user_id, by, keyed))


@routes.get(
    "/{eventId}/bookings",
    Action.LIST_EVENT_BOOKINGS,
    "An event's bookings, for who works on it",
    errors=(NotAuthenticated, InsufficientScope, Forbidden, EventNotFound),
)
async def event_bookings(  # noqa: PLR0913, PLR0917 - FastAPI passes them by name
    eventId: EventId,  # noqa: N803 - the API's name
    caller: Authenticated,
    request: Request,
    status: BookingStatus | SkipJsonSchema[None] = None,
    limit: PageSize = 20,
    cursor: Cursor = None,
) -> PageOut[AttendanceOut]:
    """List an event's bookings in the order they were made; `status` keeps those of one status."""
    await require(request, caller, eventId)
    page = await of(request, Sale).listings.of_event(
        eventId, status=status, after=decode_cursor(cursor), limit=limit
    )
    return PageOut[AttendanceOut].of(page)


@mine.get(
    "/bookings",
    Action.LIST_MY_BOOKINGS,
    "My bookings, newest first",
    errors=(NotAuthenticated, InsufficientScope),
)
async def my_bookings(
    caller: Authenticated,
    request: Request,
    limit: PageSize = 20,
    cursor: Cursor = None,
) -> PageOut[BookingOut]:
    """List the caller's bookings of every status, newest first."""
    page = await of(request, Sale).listings.of_user(
        caller.id, before=decode_cursor(cursor), limit=limit
    )
    return PageOut[BookingOut].of(page)
