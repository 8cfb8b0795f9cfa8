"""Payments and refunds of a booking, and what an event owes."""

from typing import Annotated
from uuid import UUID

from fastapi import Request
from pydantic import BaseModel, Field

from ticketing.db.pages import Page
from ticketing.errors import (
    BookingFree,
    EventNotFound,
    Forbidden,
    InsufficientScope,
    NotAuthenticated,
    ReferenceReused,
    RefundExceedsPaid,
    ValidationFailed,
)
from ticketing.identity.callers import Caller
from ticketing.identity.permissions import Action
from ticketing.identity.routers.authentication import (
    Authenticated,
    origin,
    require,
    require_about,
)
from ticketing.sale.inventory.model import BookingStatus
from ticketing.sale.part import Sale
from ticketing.sale.repositories.payments import Asked, Kind, Record
from ticketing.sale.routers.booking_fields import ON_BOOKING, HeldId
from ticketing.sale.routers.ticket_type_fields import MAX_AMOUNT
from ticketing.sale.routers.times import SentInstant
from ticketing.web.fields import (
    INT64,
    BookingId,
    EventId,
    In,
    Long,
    Out,
    Time,
    UserId,
)
from ticketing.web.labels import Label
from ticketing.web.lists import Cursor, PageOut, PageSize, decode_cursor
from ticketing.web.part import of
from ticketing.web.replay import IdempotencyKey, Rendered, keyed_request, rendered
from ticketing.web.routes import Routes

single = Routes("/api/bookings/{bookingId}", "payments")
routes = Routes("/api/events/{eventId}", "payments")

Reference = Annotated[str, Label(1, 200, "order-18", exact=True)]
Sum = Annotated[
    int,
    Field(
        ge=1,
        le=MAX_AMOUNT,
        examples=[2500],
        json_schema_extra=INT64,
        description="In the minor unit of the booking's currency.",
    ),
]
PaidAt = Annotated[
    SentInstant | None,
    Field(
        description="When it was paid. Null: when it is recorded.",
        examples=["2026-11-02T19:30:00Z"],
    ),
]


class RecordPayment(In):
    """A payment that your own system has received."""

    reference: Reference
    amount: Sum
    paid_at: PaidAt = None


class RecordRefund(In):
    """A refund that your own system makes."""

    reference: Reference
    amount: Sum


class PaymentOut(Out):
    """A payment for a booking."""

    reference: str = Field(examples=["order-18"])
    amount: Long = Field(examples=[2500])
    currency: str = Field(examples=["EUR"])
    paid_at: Time
    recorded_at: Time


class RefundOut(Out):
    """A refund of a booking, which is under way or done."""

    reference: str = Field(examples=["refund-18"])
    amount: Long = Field(examples=[2500])
    currency: str = Field(examples=["EUR"])
    recorded_at: Time


class OwedBookingOut(Out):
    """A booking whose payer gets money back."""

    booking_id: BookingId
    user_id: UserId
    status: BookingStatus
    amount: Long = Field(description="The price of the booking, or what it cost.", examples=[5000])
    kept: Long = Field(description="The amount that you keep of cancelled tickets.", examples=[500])
    paid: Long = Field(examples=[5000])
    refunded: Long = Field(examples=[0])
    owed: Long = Field(
        description="`paid` - `refunded` - `kept`, and also - `amount` while it has places.",
        examples=[4500],
    )


class SettlementTotalsOut(Out):
    """The sums over all bookings of the event."""

    currency: str | None = Field(description="Null if nothing was paid yet.", examples=["EUR"])
    paid: Long = Field(examples=[125000])
    refunded: Long = Field(examples=[0])
    owed: Long = Field(description="The sum of what is owed to payers.", examples=[4500])


class SettlementOut(PageOut[OwedBookingOut]):
    """The bookings of an event whose payers get money back, and the sums over all bookings."""

    totals: SettlementTotalsOut


class Recorded(BaseModel):
    """A request to record money, from which its digest is made."""

    booking_id: UUID
    body: RecordPayment | RecordRefund


def _payment(found: tuple[Record, bool]) -> Rendered:
    record, is_new = found
    return rendered(201 if is_new else 200, PaymentOut.model_validate(record))


def _refund(found: tuple[Record, bool]) -> Rendered:
    record, is_new = found
    return rendered(201 if is_new else 200, RefundOut.model_validate(record))


@single.post(
    "/payments",
    Action.RECORD_PAYMENT,
    "Record a payment for a booking",
    status=201,
    model=PaymentOut,
    responses={
        200: {"model": PaymentOut, "description": "It was recorded before, with this reference."}
    },
    errors=(*ON_BOOKING, ReferenceReused, BookingFree, ValidationFailed),
)
async def record_payment(
    bookingId: HeldId,  # noqa: N803 - the API's name
    body: RecordPayment,
    caller: Authenticated,
    request: Request,
    idempotency_key: IdempotencyKey = None,
) -> Rendered:
    """Record money that you have received for a booking, also for one that is cancelled.

    Each payment counts once by its `reference`: the same again returns the first record (200). Then
    `owed` of `GET /api/bookings/{bookingId}` says what the payer gets back.
    """
    sale = of(request, Sale)
    held = await sale.bookings.get(bookingId)
    await require(request, caller, held.event_id)
    asked = Recorded(booking_id=bookingId, body=body)
    keyed = keyed_request(caller.id, idempotency_key, asked, _payment)
    wanted = Asked(Kind.PAYMENT, body.reference, body.amount, body.paid_at)
    return _payment(await sale.payments.record(held, wanted, origin(request, caller), keyed))


@single.post(
    "/refunds",
    Action.RECORD_REFUND,
    "Record a refund of a booking",
    status=201,
    model=RefundOut,
    responses={
        200: {"model": RefundOut, "description": "It was recorded before, with this reference."}
    },
    errors=(*ON_BOOKING, ReferenceReused, RefundExceedsPaid),
)
async def record_refund(
    bookingId: HeldId,  # noqa: N803 - the API's name
    body: RecordRefund,
    caller: Authenticated,
    request: Request,
    idempotency_key: IdempotencyKey = None,
) -> Rendered:
    """Record a refund before you make it. All refunds are never more than what was paid.

    Each refund counts once by its `reference`: the same again returns the first record (200). A
    refund that would exceed what was paid returns 409, also if several arrive at once.
    """
    sale = of(request, Sale)
    held = await sale.bookings.get(bookingId)
    await require(request, caller, held.event_id)
    asked = Recorded(booking_id=bookingId, body=body)
    keyed = keyed_request(caller.id, idempotency_key, asked, _refund)
    wanted = Asked(Kind.REFUND, body.reference, body.amount)
    return _refund(await sale.payments.record(held, wanted, origin(request, caller), keyed))


@single.get(
    "/payments",
    Action.LIST_PAYMENTS,
    "List the payments for a booking",
    errors=ON_BOOKING,
)
async def payments(
    bookingId: HeldId,  # noqa: N803 - the API's name
    caller: Authenticated,
    request: Request,
    limit: PageSize = 20,
    cursor: Cursor = None,
) -> PageOut[PaymentOut]:
    """List the payments for a booking, oldest first: the caller's own, or one that they manage."""
    return PageOut[PaymentOut].of(
        await _listed(request, caller, bookingId, Kind.PAYMENT, cursor, limit)
    )


@single.get(
    "/refunds",
    Action.LIST_REFUNDS,
    "List the refunds of a booking",
    errors=ON_BOOKING,
)
async def refunds(
    bookingId: HeldId,  # noqa: N803 - the API's name
    caller: Authenticated,
    request: Request,
    limit: PageSize = 20,
    cursor: Cursor = None,
) -> PageOut[RefundOut]:
    """List the refunds of a booking, oldest first: the caller's own, or one that they manage."""
    return PageOut[RefundOut].of(
        await _listed(request, caller, bookingId, Kind.REFUND, cursor, limit)
    )


async def _listed(  # noqa: PLR0913, PLR0917 - the parameters of both routes
    request: Request,
    caller: Caller,
    booking_id: BookingId,
    kind: Kind,
    cursor: str | None,
    limit: int,
) -> Page[Record]:
    sale = of(request, Sale)
    held = await sale.bookings.get(booking_id)
    await require_about(request, caller, held.event_id, held.user_id)
    return await sale.payments.list(held, kind, after=decode_cursor(cursor), limit=limit)


@routes.get(
    "/settlement",
    Action.GET_SETTLEMENT,
    "List what an event owes",
    errors=(NotAuthenticated, InsufficientScope, Forbidden, EventNotFound),
)
async def settlement(
    eventId: EventId,  # noqa: N803 - the API's name
    caller: Authenticated,
    request: Request,
    limit: PageSize = 20,
    cursor: Cursor = None,
) -> SettlementOut:
    """List the bookings whose payers get money back, in the order in which they were made.

    Every page has the sums over all bookings of the event.
    """
    await require(request, caller, eventId)
    page, totals = await of(request, Sale).payments.settlement(
        eventId, after=decode_cursor(cursor), limit=limit
    )
    listed = PageOut[OwedBookingOut].of(page)
    return SettlementOut(
        items=listed.items,
        next_cursor=listed.next_cursor,
        totals=SettlementTotalsOut.model_validate(totals),
    )
