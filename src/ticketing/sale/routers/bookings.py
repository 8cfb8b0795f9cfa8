"""Bookings: book, cancel and list them."""

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
    SaleClosed,
    SaleNotOpen,
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
    """The event to book, and the person the booking is for."""

    event_id: EventId
    user_id: UserId


class CancelTicket(BookTicket):
    """The event, and the person whose booking is cancelled."""


class BookingOut(Out):
    """A booking of one person at one event.

    `position` is null unless the booking waits. `promoted` is null except in a response to a
    cancellation.
    """

    id: BookingId
    event_id: EventId
    user_id: UserId
    status: BookingStatus
    created_at: Time
    position: Long | None = Field(
        description="Position in the waiting list, counted from 1.", examples=[None]
    )
    # Lists do not have this field.
    promoted: Short | None = Field(
        default=None,
        description="Number of waiting bookings that got a place because of this cancellation.",
        examples=[None],
    )


class AttendanceOut(BookingOut):
    """A booking in an event's list. `username` is null if the account was deleted."""

    username: str | None = Field(examples=["ada"])


def _example(**these: object) -> dict[str, Any]:
    """Document an example of a booking with `these` fields."""
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
    # Built by hand, because a model and its serialisation take eight times as long.
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
            "description": "No place is left. The booking is on the waiting list.",
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
        SaleNotOpen,
        SaleClosed,
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
    """Book a place. If none is left, join the end of the waiting list (202).

    Users book for themselves. The event's owner and managers may book for anybody. A person may
    have one active booking per event. A 503 `busy` changes nothing: resend the request after
    `Retry-After` seconds.
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
    errors=(
        NotAuthenticated,
        InsufficientScope,
        Forbidden,
        EventNotFound,
        BookingNotFound,
        SaleClosed,
    ),
    counted=Counted.BOOKINGS,
    overload=Overload.SHED,
)
async def cancel(
    body: CancelTicket,
    caller: Authenticated,
    request: Request,
    idempotency_key: IdempotencyKey = None,
) -> Rendered:
    """Cancel a booking: give up the place, or leave the waiting list.

    A freed place goes to the head of the waiting list. Cancelling again changes nothing and returns
    the same booking with `promoted` 0.
    """
    await require_about(request, caller, body.event_id, body.user_id)
    keyed = keyed_request(caller.id, idempotency_key, body, _rendered)
    bookings, by = of(request, Sale).bookings, origin(request, caller)
    return _rendered(await bookings.cancel(body.event_id, body.user_id, by, keyed))


@routes.get(
    "/{eventId}/bookings",
    Action.LIST_EVENT_BOOKINGS,
    "List the bookings of an event",
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
    """List an event's bookings, oldest first. With `status`, list only those of this status."""
    await require(request, caller, eventId)
    page = await of(request, Sale).listings.of_event(
        eventId, status=status, after=decode_cursor(cursor), limit=limit
    )
    return PageOut[AttendanceOut].of(page)


@mine.get(
    "/bookings",
    Action.LIST_MY_BOOKINGS,
    "List my bookings, newest first",
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
