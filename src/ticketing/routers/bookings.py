"""Booking, cancelling, and the list of an event's bookings."""

from typing import Annotated, Literal

import orjson
from fastapi import APIRouter, Request
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
from ticketing.idempotency import Answer
from ticketing.idempotency import intent as intention
from ticketing.inventory import Booked, Booking, BookingStatus, Cancelled, Waiting
from ticketing.permissions import Action
from ticketing.routers.dependencies import (
    BookingId,
    Cursor,
    EventId,
    IdempotencyKey,
    In,
    Limit,
    Out,
    PageOut,
    Time,
    UserId,
    decode_cursor,
    origin,
    parts,
    problems,
    require,
    who_may,
)
from ticketing.routers.direct import DirectRoute, StrictRoute
from ticketing.security import Caller

router = APIRouter(prefix="/api/events", tags=["bookings"], route_class=StrictRoute)
sale = APIRouter(prefix="/api/events", tags=["bookings"], route_class=DirectRoute)


class BookTicket(In):
    """Who wants a place at which event."""

    event_id: EventId
    user_id: UserId


class CancelTicket(BookTicket):
    """Who gives up their place at which event."""


class BookingOut(Out):
    """A booking."""

    id: BookingId
    event_id: EventId
    user_id: UserId
    status: BookingStatus
    created_at: Time


class BookedOut(BookingOut):
    """A place is held."""

    status: Literal[BookingStatus.BOOKED]


class WaitingOut(BookingOut):
    """A place in the line, which is served first come, first served."""

    status: Literal[BookingStatus.WAITING]
    position: int = Field(description="Place in the line, from 1.", examples=[1])


class CancelledOut(BookingOut):
    """The booking as it was given up."""

    status: Literal[BookingStatus.CANCELLED]
    promoted: int = Field(
        description="How many from the waiting list got a place by it.", examples=[1]
    )


class ListedOut(BookingOut):
    """A booking in a list; `position` is null unless it waits."""

    position: int | None = Field(description="Place in the line, from 1.", examples=[None])


class AttendanceOut(ListedOut):
    """A booking in an event's list; `username` is null if the account was deleted."""

    username: str | None = Field(examples=["ada"])


def _written(outcome: Booked | Waiting | Cancelled) -> Answer:
    if isinstance(outcome, Booked):
        return _answer(201, outcome.booking)
    if isinstance(outcome, Waiting):
        return _answer(202, outcome.booking, position=outcome.position)
    return _answer(200, outcome.booking, promoted=len(outcome.promoted))


def _answer(status: int, booking: Booking, **more: int) -> Answer:
    # Written by hand: a model and its serialisation would take eight times as long.
    document = {
        "id": booking.id,
        "eventId": booking.event_id,
        "userId": booking.user_id,
        "status": booking.status,
        "createdAt": booking.created_at,
        **more,
    }
    return Answer(status, orjson.dumps(document, default=str, option=orjson.OPT_UTC_Z))


@sale.post(
    "/book",
    operation_id="bookTicket",
    summary="Book a place",
    status_code=201,
    response_model=BookedOut,
    responses={
        202: {"model": WaitingOut, "description": "No place is left: on the waiting list"},
        **problems(
            NotAuthenticated,
            InsufficientScope,
            Forbidden,
            EventNotFound,
            UserNotFound,
            AlreadyBooked,
            AlreadyWaiting,
            body=True,
            keyed=True,
        ),
    },
)
async def book(
    body: BookTicket,
    caller: Annotated[Caller, who_may(Action.BOOK_TICKET)],
    request: Request,
    idempotency_key: IdempotencyKey = None,
) -> Answer:
    """Take a place, or a place at the end of the waiting list when none is left (202).

    A person books for themself; the owner and managers may book for anybody. One active booking per
    person and event. A 503 `busy` has changed nothing: try again after `Retry-After`.
    """
    have = parts(request)
    if body.user_id != caller.id:
        await require(have, caller, Action.BOOK_TICKET, body.event_id)
    by = origin(request, caller)
    intent = intention(caller.id, idempotency_key, body, _written)
    return _written(await have.bookings.book(body.event_id, body.user_id, by, intent))


@sale.post(
    "/cancel",
    operation_id="cancelTicket",
    summary="Cancel a booking",
    response_model=CancelledOut,
    responses=problems(
        NotAuthenticated,
        InsufficientScope,
        Forbidden,
        EventNotFound,
        BookingNotFound,
        body=True,
        keyed=True,
    ),
)
async def cancel(
    body: CancelTicket,
    caller: Annotated[Caller, who_may(Action.CANCEL_TICKET)],
    request: Request,
    idempotency_key: IdempotencyKey = None,
) -> Answer:
    """Give up a place, which goes to the head of the waiting list, or leave the line.

    Cancelling again gives the same answer with `promoted` 0 and changes nothing.
    """
    have = parts(request)
    if body.user_id != caller.id:
        await require(have, caller, Action.CANCEL_TICKET, body.event_id)
    by = origin(request, caller)
    intent = intention(caller.id, idempotency_key, body, _written)
    return _written(await have.bookings.cancel(body.event_id, body.user_id, by, intent))


@router.get(
    "/{eventId}/bookings",
    operation_id="listEventBookings",
    summary="An event's bookings, for who works on it",
    responses=problems(NotAuthenticated, InsufficientScope, Forbidden, EventNotFound, listed=True),
)
async def event_bookings(  # noqa: PLR0913, PLR0917 - FastAPI passes them by name
    eventId: EventId,  # noqa: N803 - the API's name
    caller: Annotated[Caller, who_may(Action.LIST_EVENT_BOOKINGS)],
    request: Request,
    status: BookingStatus | SkipJsonSchema[None] = None,
    limit: Limit = 20,
    cursor: Cursor = None,
) -> PageOut[AttendanceOut]:
    """List an event's bookings in the order they were made; `status` keeps those of one status."""
    have = parts(request)
    await require(have, caller, Action.LIST_EVENT_BOOKINGS, eventId)
    page = await have.listings.of_event(
        eventId, status=status, after=decode_cursor(cursor), limit=limit
    )
    return PageOut[AttendanceOut].of(page)
