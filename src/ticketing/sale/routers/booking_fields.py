"""The fields of bookings in requests and responses, and the errors that their routes share."""

from enum import StrEnum
from typing import Annotated, Any, Final
from uuid import UUID

import orjson
from pydantic import Field

from ticketing.errors import (
    AlreadyBooked,
    AlreadyHeld,
    AlreadyWaiting,
    BookingNotFound,
    CodeExpired,
    CodeNotApplicable,
    CodeNotStarted,
    CodeQuantityNotAllowed,
    CodeUnknown,
    CodeUsedUp,
    EventNotFound,
    Forbidden,
    GroupTooLarge,
    InsufficientScope,
    LimitReached,
    NotAuthenticated,
    QuantityNotAllowed,
    SaleClosed,
    SaleNotOpen,
    SoldOut,
    TicketTypeNotFound,
    TicketTypeRequired,
    UserNotFound,
    ValidationFailed,
)
from ticketing.identity.fields import CustomerIn, CustomerRef
from ticketing.sale.folding import folded_code
from ticketing.sale.inventory.model import (
    Booked,
    Booking,
    BookingStatus,
    Cancelled,
    TicketStatus,
    Waiting,
)
from ticketing.sale.repositories.bookings import ONE_PLACE, Lines
from ticketing.web.fields import (
    INT32,
    BookingId,
    EventId,
    In,
    Long,
    Out,
    Short,
    TicketId,
    TicketTypeId,
    Time,
    UserId,
    Whole,
)
from ticketing.web.labels import Label
from ticketing.web.replay import Rendered

Quantity = Annotated[int, Field(ge=1, le=1_000, examples=[1], json_schema_extra=INT32), Whole]


CALLER: Final = UUID(int=0)
"""Stands for a `userId` that was left out."""

CodeText = Annotated[str, Label(1, 64, "SUMMER26")]
HeldId = Annotated[BookingId, Field(strict=False)]
"""A booking's id in a path."""


_TO_CANCEL: Final = {"eventId": 1, "userId": "019938a5-3c6b-7f0e-b7a2-53f0c9d1e6aa"}


_TO_BOOK: Final = _TO_CANCEL | {"lines": [{"ticketTypeId": 1, "quantity": 1}]}


class BookLine(In):
    """A number of places of one ticket type."""

    ticket_type_id: TicketTypeId
    quantity: Quantity = 1


class BookTicket(In, json_schema_extra={"examples": [_TO_BOOK]}):
    """The event to book, the person the booking is for, and the places.

    Without `userId` and `customer` it is for the caller. Without `lines` and `quantity` it is one
    place.
    """

    event_id: EventId
    # These can be left out, but not be null.
    user_id: UserId = Field(default_factory=lambda: CALLER)
    customer: CustomerIn | None = Field(default=None, examples=[None])
    quantity: Quantity = Field(
        default_factory=int, description="Places, if the event has one ticket type."
    )
    lines: Annotated[list[BookLine], Field(min_length=1, max_length=100)] = Field(
        default_factory=list,
        description="Places of one or several ticket types. All are booked, or none.",
    )
    code: CodeText = Field(
        default_factory=str,
        description="A code of the event. Case and spaces do not matter.",
    )

    @property
    def folded_code(self) -> str | None:
        """The form in which the code is compared; None without one."""
        return folded_code(self.code) or None

    def wanted(self) -> Lines:
        """Return the ids of ticket types, each with a quantity. Raises ValidationFailed."""
        if not self.lines:
            return ((None, self.quantity),) if self.quantity else ONE_PLACE
        if self.quantity:
            raise wrong("quantity", "excludes_lines", "Send either `quantity` or `lines`")
        lines = {line.ticket_type_id: line.quantity for line in self.lines}
        if len(lines) < len(self.lines):
            raise wrong("lines", "ticket_type_repeated", "Name each ticket type once")
        return tuple(lines.items())


class CancelTicket(In, json_schema_extra={"examples": [_TO_CANCEL]}):
    """The event, and the person whose booking is cancelled: by default the caller."""

    event_id: EventId
    user_id: UserId = Field(default_factory=lambda: CALLER)
    customer: CustomerRef | None = Field(default=None, examples=[None])


class CancelBooking(In):
    """The tickets to cancel. Without them, the whole booking is cancelled."""

    # It can be left out, but not be null.
    ticket_ids: Annotated[
        list[Annotated[TicketId, Field(strict=False)]], Field(min_length=1, max_length=1_000)
    ] = Field(default_factory=list)


def wrong(field: str, code: str, message: str) -> ValidationFailed:
    """Return the error for a field of the body."""
    error = {"in": "body", "pointer": f"#/{field}", "type": code, "detail": message}
    return ValidationFailed(errors=[error])


class BookingOut(Out):
    """A booking of one person at one event.

    `position` is null unless the booking waits. `promoted` and `refund` are null except in a
    response to a cancellation.
    """

    id: BookingId
    event_id: EventId
    user_id: UserId
    status: BookingStatus
    created_at: Time
    quantity: Short = Field(description="Places that it has or waits for.", examples=[1])
    amount: Long = Field(
        description="The sum of its prices, in the minor unit of the currency.", examples=[0]
    )
    currency: str | None = Field(description="Null if the booking is free.", examples=[None])
    expires_at: Time | None = Field(
        description="The end of a hold or an offer, or when it expired.", examples=[None]
    )
    position: Long | None = Field(
        description="Position in the waiting list, counted from 1.", examples=[None]
    )
    # Lists do not have this field.
    promoted: Short | None = Field(
        default=None,
        description="Number of waiting bookings that got a place because of this cancellation.",
        examples=[None],
    )
    refund: Long | None = Field(
        default=None,
        description="The amount that the refund policy gives back because of this cancellation.",
        examples=[None],
    )


class LineOut(Out):
    """A number of places of one ticket type."""

    ticket_type_id: Long = Field(examples=[1])
    quantity: Short = Field(examples=[1])


class WaitingReason(StrEnum):
    """Why a booking has no places yet."""

    CAPACITY = "capacity"
    QUOTA = "quota"
    TICKET_TYPE = "ticketType"
    WAITING_LIST = "waitingList"
    CLOSED = "closed"


class WaitingForOut(Out):
    """Why a booking that waits has no places yet."""

    reason: WaitingReason = Field(
        description="The event, a quota or the ticket type lacks places (`capacity`, `quota`,"
        " `ticketType`), others come first (`waitingList`), or the ticket type or the sale is"
        " closed (`closed`).",
        examples=["capacity"],
    )
    quota_id: Long | None = Field(description="The shared quota, if it is one.", examples=[None])


class BookingDetailsOut(BookingOut):
    """A booking with its places by ticket type, and what was paid for it."""

    lines: list[LineOut]
    places_ahead: Long | None = Field(
        description="If it waits: the places for which the bookings before it wait.",
        examples=[None],
    )
    waiting_for: WaitingForOut | None = Field(
        description="If it waits: why it has no places yet.", examples=[None]
    )
    code: str | None = Field(
        description="The code that it was booked or held with, for the person and managers.",
        examples=[None],
    )
    kept: Long = Field(
        description="The amount that the organiser keeps of its cancelled tickets.", examples=[0]
    )
    paid: Long = Field(description="The sum of its payments.", examples=[0])
    refunded: Long = Field(description="The sum of its refunds, under way and done.", examples=[0])
    owed: Long = Field(
        description="The amount that the payer gets back: `paid` - `refunded` - `kept`, and also -"
        " `amount` while it has places. If it is negative, so much is still to be paid.",
        examples=[0],
    )


class TicketOut(Out):
    """The right of one person to enter."""

    id: TicketId
    ticket_type_id: Long = Field(examples=[1])
    ordinal: Short = Field(description="Its number in the booking.", examples=[1])
    amount: Long = Field(
        description="The price that was agreed, in the minor unit of the currency.", examples=[0]
    )
    currency: str | None = Field(description="Null if it is free.", examples=[None])
    tax: Long = Field(
        description="The part of `amount` that is tax. The rest is the net price.", examples=[0]
    )
    status: TicketStatus = Field(examples=["valid"])


class TicketsOut(Out):
    """All tickets of a booking, in order."""

    items: list[TicketOut]


class BookedCustomer(Out):
    """The data of a customer that the event's owner has."""

    external_id: str = Field(examples=["customer-4711"])
    name: str | None = Field(examples=["Ada Lovelace"])
    email: str | None = Field(examples=["ada@example.org"])


class AttendanceOut(BookingOut):
    """A booking in an event's list.

    `username` is null for customers without a login, and if the account was deleted. `customer` is
    null unless the person is a customer of the event's owner.
    """

    username: str | None = Field(examples=["ada"])
    customer: BookedCustomer | None = Field(examples=[None])


def example(of: type[BookingOut] = BookingOut, **these: object) -> dict[str, Any]:
    """Document an example of a booking with `these` fields."""
    fields = of.model_json_schema()["properties"]
    usual = {name: field["examples"][0] for name, field in fields.items() if "examples" in field}
    return {"content": {"application/json": {"example": usual | these}}}


def rendered(outcome: Booked | Waiting | Cancelled) -> Rendered:
    """Return the response to a booking or a cancellation."""
    if isinstance(outcome, Booked):
        return _response(201, outcome.booking)
    if isinstance(outcome, Waiting):
        return _response(202, outcome.booking, position=outcome.position)
    return _response(200, outcome.booking, promoted=len(outcome.promoted), refund=outcome.refund)


def _response(
    status: int,
    booking: Booking,
    position: int | None = None,
    promoted: int | None = None,
    refund: int | None = None,
) -> Rendered:
    document = fields_of(booking) | {
        "position": position,
        "promoted": promoted,
        "refund": refund,
    }
    return Rendered(status, orjson.dumps(document, default=str, option=orjson.OPT_UTC_Z))


def fields_of(booking: Booking) -> dict[str, object]:
    """Return the fields of a booking in every response."""
    # Built by hand, because a model and its serialisation take eight times as long.
    return {
        "id": booking.id,
        "eventId": booking.event_id,
        "userId": booking.user_id,
        "status": booking.status,
        "createdAt": booking.created_at,
        "quantity": booking.quantity,
        "amount": booking.amount,
        "currency": booking.currency,
        "expiresAt": booking.ends_at,
    }


ON_CODE: Final = (CodeUnknown, CodeNotStarted, CodeExpired)
"""Errors of requests with a code."""
ON_PLACES: Final = (
    NotAuthenticated,
    InsufficientScope,
    Forbidden,
    EventNotFound,
    UserNotFound,
    TicketTypeNotFound,
    AlreadyBooked,
    AlreadyHeld,
    AlreadyWaiting,
    LimitReached,
    SoldOut,
    SaleNotOpen,
    SaleClosed,
    ValidationFailed,
    GroupTooLarge,
    QuantityNotAllowed,
    TicketTypeRequired,
    CodeUsedUp,
    *ON_CODE,
    CodeNotApplicable,
    CodeQuantityNotAllowed,
)
"""Errors of requests for places."""


ON_BOOKING: Final = (NotAuthenticated, InsufficientScope, Forbidden, BookingNotFound)
"""Errors of requests about one booking."""
