"""Bookings: book, cancel and list them."""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import Annotated, Final, TypeVar
from uuid import UUID

from fastapi import Query, Request
from pydantic import BaseModel
from pydantic.json_schema import SkipJsonSchema

from ticketing.errors import (
    BookingAmbiguous,
    BookingNotFound,
    EventNotFound,
    Forbidden,
    InsufficientScope,
    NotAuthenticated,
    PaymentRequired,
    SaleClosed,
    TicketNotFound,
    TicketTypeNotFound,
    UserNotFound,
)
from ticketing.identity.callers import Caller
from ticketing.identity.fields import ExternalId
from ticketing.identity.part import Identity
from ticketing.identity.permissions import Action
from ticketing.identity.repositories.customers import Asked
from ticketing.identity.routers.authentication import (
    Authenticated,
    count_person,
    may,
    origin,
    require,
    require_about,
    require_customer,
)
from ticketing.limits.limits import Counted
from ticketing.sale.inventory.model import BookingStatus, TicketStatus
from ticketing.sale.inventory.terms import SaleState
from ticketing.sale.part import Sale
from ticketing.sale.repositories.listings import Detailed
from ticketing.sale.routers.booking_fields import (
    CALLER,
    ON_BOOKING,
    ON_PLACES,
    AttendanceOut,
    BookingDetailsOut,
    BookingOut,
    BookTicket,
    CancelBooking,
    CancelTicket,
    HeldId,
    LineOut,
    TicketOut,
    TicketsOut,
    WaitingForOut,
    WaitingReason,
    example,
    rendered,
    wrong,
)
from ticketing.web.fields import (
    EventId,
)
from ticketing.web.lists import Cursor, PageOut, PageSize, decode_cursor
from ticketing.web.part import of
from ticketing.web.policy import Overload
from ticketing.web.replay import IdempotencyKey, KeyedRequest, Rendered, keyed_request
from ticketing.web.routes import Routes

routes = Routes("/api/events", "bookings")
mine = Routes("/api/users/me", "bookings")
single = Routes("/api/bookings/{bookingId}", "bookings")
of_booking = Routes("/api/bookings/{bookingId}", "tickets")

NOBODY: Final = UUID(int=1)
"""Stands for a customer who does not exist."""


OutcomeT = TypeVar("OutcomeT")


class CancelledBooking(BaseModel):
    """A request to cancel, from which its digest is made."""

    booking_id: UUID
    body: CancelBooking


_ALL: Final = CancelBooking()


@routes.post(
    "/book",
    Action.BOOK_TICKET,
    "Book a place",
    status=201,
    model=BookingOut,
    responses={
        201: {"description": "The places are booked.", **example(status="booked")},
        202: {
            "model": BookingOut,
            "description": "Too few places are left. The booking is on the waiting list.",
            **example(status="waiting", position=1),
        },
    },
    errors=(*ON_PLACES, PaymentRequired),
    counted=Counted.BOOKINGS_FOR,
    overload=Overload.SHED,
)
async def book(
    body: BookTicket,
    caller: Authenticated,
    request: Request,
    idempotency_key: IdempotencyKey = None,
) -> Rendered:
    """Book places: all of them, or none. If too few are left, join the waiting list (202).

    Only places of one free ticket type can be waited for; a group waits together. Users book for
    themselves. The event's owner and managers may book for anybody, and for their `customer`s, who
    have no account here: the first booking makes the customer, later ones find them by
    `externalId`. The team also books what has a price, because it has taken the money. The event
    says how many bookings and tickets one person may have. A `code` opens hidden ticket types or
    reduces prices; a request with one never waits, and needs no payment if it is free. A
    503 `busy` changes nothing: resend the request after `Retry-After` seconds.
    """
    keyed = keyed_request(caller.id, idempotency_key, body, rendered)
    book = partial(
        of(request, Sale).bookings.book,
        body.event_id,
        lines=body.wanted(),
        code=body.folded_code,
    )
    return rendered(await place(request, caller, body, keyed, book))


async def place(
    request: Request,
    caller: Caller,
    body: BookTicket,
    keyed: KeyedRequest | None,
    book: Callable[..., Awaitable[OutcomeT]],
) -> OutcomeT:
    """Book or hold for the person of the body, by `book`: as the team where that is needed."""
    event_id, by = body.event_id, origin(request, caller)
    if body.customer is not None:
        _require_one_person(body)
        organiser_id = await require_customer(request, caller, event_id, body.customer.external_id)
        customer = body.customer
        asked = Asked(organiser_id, customer.external_id, customer.name, customer.email, by, keyed)
        customers = of(request, Identity).customers
        book = partial(book, origin=by, keyed=keyed, by_team=True)
        with suppress(UserNotFound):
            return await book(await customers.find_or_make(asked))
        # The customer was erased in between. This booking came later.
        return await book(await customers.find_or_make(asked))
    count_person(request, caller)
    user_id = _person(body, caller)
    await require_about(request, caller, event_id, user_id)
    book = partial(book, user_id, by, keyed)
    try:
        return await book(by_team=user_id != caller.id)
    except (PaymentRequired, TicketTypeNotFound):
        # Looked up only here, because most callers book what is free and visible.
        if user_id != caller.id or not await may(request, caller, event_id):
            raise
    return await book(by_team=True)


@routes.post(
    "/cancel",
    Action.CANCEL_TICKET,
    "Cancel a booking",
    model=BookingOut,
    responses={
        200: {
            "description": "The booking is cancelled.",
            **example(status="cancelled", promoted=1, refund=0),
        }
    },
    errors=(
        NotAuthenticated,
        InsufficientScope,
        Forbidden,
        EventNotFound,
        BookingNotFound,
        BookingAmbiguous,
        SaleClosed,
    ),
    counted=Counted.BOOKINGS_FOR,
    overload=Overload.SHED,
)
async def cancel(
    body: CancelTicket,
    caller: Authenticated,
    request: Request,
    idempotency_key: IdempotencyKey = None,
) -> Rendered:
    """Cancel a person's only booking at the event: give up its places, or leave the waiting list.

    Freed places go to the head of the waiting list. Cancelling again changes nothing and returns
    the same booking with `promoted` 0.
    """
    keyed = keyed_request(caller.id, idempotency_key, body, rendered)
    bookings, by = of(request, Sale).bookings, origin(request, caller)
    if body.customer is not None:
        _require_one_person(body)
        external_id = body.customer.external_id
        organiser_id = await require_customer(request, caller, body.event_id, external_id)
        found = await of(request, Identity).customers.find(organiser_id, external_id)
        # NOBODY if there is no such customer, so that a resent request still gets its response.
        user_id = NOBODY if found is None else found.id
    else:
        count_person(request, caller)
        user_id = _person(body, caller)
        await require_about(request, caller, body.event_id, user_id)
    return rendered(await bookings.cancel(body.event_id, user_id, by, keyed))


def _require_one_person(body: BookTicket | CancelTicket) -> None:
    if body.user_id != CALLER:
        raise wrong("customer", "two_people", "Send `userId` or `customer`, not both")


def _person(body: BookTicket | CancelTicket, caller: Caller) -> UUID:
    return caller.id if body.user_id == CALLER else body.user_id


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
    externalId: Annotated[  # noqa: N803 - the API's name
        ExternalId | SkipJsonSchema[None],
        Query(description="Only bookings of the customer with this id."),
    ] = None,
    unpaid: Annotated[  # noqa: FBT002 - as the others
        bool, Query(description="Only bookings that are not paid in full: `owed` is negative.")
    ] = False,
    limit: PageSize = 20,
    cursor: Cursor = None,
) -> PageOut[AttendanceOut]:
    """List an event's bookings, oldest first. With `status`, list only those of this status."""
    await require(request, caller, eventId)
    page = await of(request, Sale).listings.of_event(
        eventId,
        status=status,
        external_id=externalId,
        unpaid=unpaid,
        after=decode_cursor(cursor),
        limit=limit,
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


@single.get(
    "",
    Action.GET_BOOKING,
    "Read a booking",
    errors=ON_BOOKING,
)
async def get(
    bookingId: HeldId,  # noqa: N803 - the API's name
    caller: Authenticated,
    request: Request,
) -> BookingDetailsOut:
    """Return a booking: the caller's own, or one at an event that the caller works on."""
    found = await _readable(request, caller, bookingId)
    booking, code = found.booking, found.code
    if code is not None and booking.user_id != caller.id:
        # It may have uses left, and not all who work on an event may have them.
        code = code if await may(request, caller, booking.event_id, Action.LIST_CODES) else None
    return BookingDetailsOut(
        id=booking.id,
        event_id=booking.event_id,
        user_id=booking.user_id,
        status=booking.status,
        created_at=booking.created_at,
        quantity=booking.quantity,
        amount=booking.amount,
        currency=booking.currency,
        expires_at=booking.ends_at,
        position=found.position,
        lines=[
            LineOut(ticket_type_id=kind, quantity=quantity)
            for kind, quantity in found.lines.items()
        ],
        places_ahead=found.places_ahead,
        waiting_for=await _waiting_for(request, found),
        code=code,
        kept=booking.kept,
        paid=booking.paid,
        refunded=booking.refunded,
        owed=booking.owed,
    )


async def _waiting_for(request: Request, found: Detailed) -> WaitingForOut | None:
    if found.position is None:
        return None
    event = await of(request, Sale).events.get(found.booking.event_id)
    ((kind, quantity),) = found.lines.items()
    index, defined = event.lacking(kind, quantity), event.definitions
    is_closed = any(each.id == kind and each.closed for each in defined.types.values())
    if is_closed or event.state in {SaleState.CLOSED, SaleState.ENDED, SaleState.CANCELLED}:
        return WaitingForOut(reason=WaitingReason.CLOSED, quota_id=None)
    if index is None:
        return WaitingForOut(reason=WaitingReason.WAITING_LIST, quota_id=None)
    if index == 0:
        return WaitingForOut(reason=WaitingReason.CAPACITY, quota_id=None)
    quota = defined.quotas[index - 1]
    if quota.name is None:
        return WaitingForOut(reason=WaitingReason.TICKET_TYPE, quota_id=None)
    return WaitingForOut(reason=WaitingReason.QUOTA, quota_id=quota.id)


@of_booking.get(
    "/tickets",
    Action.LIST_TICKETS,
    "List the tickets of a booking",
    errors=ON_BOOKING,
)
async def tickets(
    bookingId: HeldId,  # noqa: N803 - the API's name
    caller: Authenticated,
    request: Request,
) -> TicketsOut:
    """List all tickets of a booking, cancelled ones too. A booking that waits has none yet."""
    found = await _readable(request, caller, bookingId)
    items = [
        TicketOut(
            id=ticket.id,
            ticket_type_id=ticket.type_id,
            ordinal=ticket.ordinal,
            amount=ticket.amount,
            currency=found.booking.currency if ticket.amount else None,
            tax=ticket.tax,
            status=TicketStatus.VALID if ticket.is_valid else TicketStatus.CANCELLED,
        )
        for ticket in found.tickets
    ]
    return TicketsOut(items=items)


@single.post(
    "/cancel",
    Action.CANCEL_BOOKING,
    "Cancel some or all tickets of a booking",
    model=BookingOut,
    responses={
        200: {
            "description": "The tickets are cancelled.",
            **example(status="cancelled", promoted=1, refund=0),
        }
    },
    errors=(*ON_BOOKING, TicketNotFound, SaleClosed),
    counted=Counted.BOOKINGS_FOR,
)
async def cancel_booking(
    bookingId: HeldId,  # noqa: N803 - the API's name
    caller: Authenticated,
    request: Request,
    body: CancelBooking = _ALL,
    idempotency_key: IdempotencyKey = None,
) -> Rendered:
    """Cancel a booking, or only the tickets in `ticketIds`: all of these, or none.

    Freed places go to the head of the waiting list. The other tickets stay valid, at the price that
    was agreed. `refund` is what the event's refund policy, as it was when the booking was made,
    gives back for the cancelled tickets. Cancelling again changes nothing.
    """
    if caller.scopes is None:  # An API key was counted already.
        count_person(request, caller)
    bookings = of(request, Sale).bookings
    held = await bookings.get(bookingId)
    await require_about(request, caller, held.event_id, held.user_id)
    asked = CancelledBooking(booking_id=bookingId, body=body)
    keyed = keyed_request(caller.id, idempotency_key, asked, rendered)
    return rendered(
        await bookings.cancel_booking(held, body.ticket_ids or None, origin(request, caller), keyed)
    )


async def _readable(request: Request, caller: Caller, booking_id: UUID) -> Detailed:
    found = await of(request, Sale).listings.one(booking_id)
    await require_about(request, caller, found.booking.event_id, found.booking.user_id)
    return found
