"""Holds: places that are kept for a while, until the hold is confirmed, released, or ends."""

from datetime import datetime
from functools import partial
from typing import Annotated, Final
from uuid import UUID

import orjson
from fastapi import Request
from pydantic import BaseModel, Field

from ticketing.errors import (
    BookingFree,
    HoldExpired,
    HoldLimitReached,
    NotHeld,
    PaymentRequired,
    ReferenceReused,
    SaleClosed,
)
from ticketing.identity.callers import Caller
from ticketing.identity.permissions import Action
from ticketing.identity.routers.authentication import (
    Authenticated,
    count_person,
    may,
    origin,
    require,
    require_about,
)
from ticketing.limits.limits import Counted
from ticketing.sale.inventory.model import (
    Booked,
    Booking,
    Cancelled,
    Kept,
    Waiting,
)
from ticketing.sale.part import Sale
from ticketing.sale.repositories.payments import Asked, Kind
from ticketing.sale.routers.booking_fields import (
    ON_BOOKING,
    ON_PLACES,
    BookingOut,
    BookTicket,
    HeldId,
    example,
    fields_of,
    rendered,
)
from ticketing.sale.routers.bookings import place
from ticketing.sale.routers.payments import PaidAt, Reference, Sum
from ticketing.sale.routers.times import SentInstant
from ticketing.web.fields import In, Time
from ticketing.web.part import of
from ticketing.web.policy import Overload
from ticketing.web.replay import IdempotencyKey, Rendered, keyed_request
from ticketing.web.routes import Routes

routes = Routes("/api/holds", "holds")

HoldEnd = Annotated[SentInstant, Field(examples=["2037-11-02T19:30:00Z"])]


class CreateHold(BookTicket):
    """The places to keep, as for a booking.

    `expiresAt` is for the event's team alone. Without it the hold lasts for the event's
    `holdMinutes`.
    """

    expires_at: HoldEnd | None = Field(
        default=None, description="For the event's team alone. Null: after `holdMinutes`."
    )


class ConfirmHold(In):
    """The payment for the hold, if the event's team has taken the money.

    Without `amount` it is the price, and without `paidAt` it was made now.
    """

    payment_reference: Reference | None = None
    amount: Sum | None = None
    paid_at: PaidAt = None


class ExtendHold(In):
    """The new end, which the event's team alone may choose."""

    expires_at: HoldEnd | None = Field(default=None, description="Null: `holdMinutes` from now on.")


class AboutHold(BaseModel):
    """A request about a hold, from which its digest is made."""

    action: str
    booking_id: UUID
    body: In | None = None


class HoldOut(BookingOut):
    """Places that are kept for a person, or a position in the waiting list.

    Count down from `expiresAt - serverTime`, because the clock of the client may be wrong.
    """

    server_time: Time


_KEPT: Final = example(HoldOut, status="held", expiresAt="2026-11-02T19:40:00.123456Z")


def _held(outcome: Kept | Waiting) -> Rendered:
    if isinstance(outcome, Waiting):
        return _hold(202, outcome.booking, outcome.booking.created_at, outcome.position)
    return _hold(201, outcome.booking, outcome.at)


def _extended(outcome: Kept) -> Rendered:
    return _hold(200, outcome.booking, outcome.at)


def _hold(status: int, held: Booking, at: datetime, position: int | None = None) -> Rendered:
    document = fields_of(held) | {
        "position": position,
        "promoted": None,
        "refund": None,
        "serverTime": at,
    }
    return Rendered(status, orjson.dumps(document, default=str, option=orjson.OPT_UTC_Z))


def _confirmed(outcome: Booked) -> Rendered:
    # A second confirmation has the same response.
    return rendered(outcome)._replace(status=200)


@routes.post(
    "",
    Action.CREATE_HOLD,
    "Keep places for a while",
    status=201,
    model=HoldOut,
    responses={
        201: {"description": "The places are kept until `expiresAt`.", **_KEPT},
        202: {
            "model": HoldOut,
            "description": "Too few places are left. The booking is on the waiting list.",
            **example(HoldOut, status="waiting", position=1),
        },
    },
    errors=ON_PLACES,
    counted=Counted.BOOKINGS_FOR,
    overload=Overload.SHED,
)
async def create(
    body: CreateHold,
    caller: Authenticated,
    request: Request,
    idempotency_key: IdempotencyKey = None,
) -> Rendered:
    """Keep places: all of them, or none. If too few are left, join the waiting list (202).

    The hold has the body, the limits and the rules of a booking, but prices need not be paid yet.
    Its prices stay as they are until it ends. It is confirmed by `POST /api/holds/{bookingId}/
    confirm`. When it ends, its places are free for the next request.
    """
    if body.expires_at is not None:
        await require(request, caller, body.event_id)
    keyed = keyed_request(caller.id, idempotency_key, body, _held)
    hold = partial(
        of(request, Sale).bookings.hold,
        body.event_id,
        lines=body.wanted(),
        until=body.expires_at,
        code=body.folded_code,
    )
    return _held(await place(request, caller, body, keyed, hold))


@routes.post(
    "/{bookingId}/confirm",
    Action.CONFIRM_HOLD,
    "Confirm a hold or accept an offer",
    model=BookingOut,
    responses={200: {"description": "The places are booked.", **example(status="booked")}},
    errors=(
        *ON_BOOKING,
        NotHeld,
        PaymentRequired,
        SaleClosed,
        HoldExpired,
        BookingFree,
        ReferenceReused,
    ),
    counted=Counted.BOOKINGS_FOR,
)
async def confirm(
    bookingId: HeldId,  # noqa: N803 - the API's name
    caller: Authenticated,
    request: Request,
    body: ConfirmHold = ConfirmHold(),  # noqa: B008 - frozen
    idempotency_key: IdempotencyKey = None,
) -> Rendered:
    """Make a hold or an offer a booking, with its tickets. Confirming again changes nothing.

    Only the event's owner and managers confirm what has a price, after the payment. A hold that
    has expired is confirmed if its places are free and nobody waits for them. Otherwise the
    response is an error. With `paymentReference` the payment is recorded in any case, and the
    response is 200: if `status` is not `booked`, `refund` is what the payer gets back.
    """
    held = await _asked(request, caller, bookingId)
    if body.payment_reference is not None:
        await require(request, caller, held.event_id)
        await _pay(request, caller, held, body)
    keyed = keyed_request(caller.id, idempotency_key, _about("confirm", held, body), _confirmed)
    confirm = partial(of(request, Sale).bookings.confirm, held, origin(request, caller), keyed)
    try:
        by_team = body.payment_reference is not None or held.user_id != caller.id
        return _confirmed(await confirm(by_team=by_team))
    except PaymentRequired:
        if held.user_id != caller.id or not await may(request, caller, held.event_id):
            raise
    except (HoldExpired, NotHeld, SaleClosed):
        if body.payment_reference is None:
            raise
        now = await of(request, Sale).bookings.get(held.id)
        return rendered(Cancelled(now, refund=now.paid - now.refunded - now.kept))
    return _confirmed(await confirm(by_team=True))


async def _pay(request: Request, caller: Caller, held: Booking, body: ConfirmHold) -> None:
    """Record the payment. A repeated one is known by its reference."""
    amount = held.amount if body.amount is None else body.amount
    paid = Asked(Kind.PAYMENT, body.payment_reference or "", amount, body.paid_at)
    await of(request, Sale).payments.record(held, paid, origin(request, caller))


@routes.post(
    "/{bookingId}/extend",
    Action.EXTEND_HOLD,
    "Extend a hold",
    model=HoldOut,
    responses={200: {"description": "The places are kept until the new `expiresAt`.", **_KEPT}},
    errors=(*ON_BOOKING, NotHeld, HoldLimitReached, SaleClosed, HoldExpired),
    counted=Counted.BOOKINGS_FOR,
)
async def extend(
    bookingId: HeldId,  # noqa: N803 - the API's name
    caller: Authenticated,
    request: Request,
    body: ExtendHold = ExtendHold(),  # noqa: B008 - frozen
    idempotency_key: IdempotencyKey = None,
) -> Rendered:
    """Keep the places of a hold for `holdMinutes` from now on, at most three times as long in all.

    The event's team may choose any `expiresAt`. Offers can't be extended by the person.
    """
    held = await _asked(request, caller, bookingId)
    if body.expires_at is not None:
        await require(request, caller, held.event_id)
    keyed = keyed_request(caller.id, idempotency_key, _about("extend", held, body), _extended)
    extended = await of(request, Sale).bookings.extend(
        held, origin(request, caller), keyed, until=body.expires_at
    )
    return _extended(extended)


@routes.delete(
    "/{bookingId}",
    Action.RELEASE_HOLD,
    "Release a hold or decline an offer",
    model=BookingOut,
    responses={
        200: {"description": "The places are free.", **example(status="cancelled", promoted=0)}
    },
    errors=(*ON_BOOKING, NotHeld, SaleClosed),
    counted=Counted.BOOKINGS_FOR,
)
async def release(
    bookingId: HeldId,  # noqa: N803 - the API's name
    caller: Authenticated,
    request: Request,
    idempotency_key: IdempotencyKey = None,
) -> Rendered:
    """Give back the places of a hold or an offer. They go to the head of the waiting list.

    Releasing again changes nothing. A booking is not released but cancelled.
    """
    held = await _asked(request, caller, bookingId)
    keyed = keyed_request(caller.id, idempotency_key, _about("release", held), rendered)
    bookings = of(request, Sale).bookings
    return rendered(await bookings.release(held, origin(request, caller), keyed))


async def _asked(request: Request, caller: Caller, booking_id: UUID) -> Booking:
    """Return the booking, if the caller may do the route's action with it."""
    if caller.scopes is None:  # An API key was counted already.
        count_person(request, caller)
    held = await of(request, Sale).bookings.get(booking_id)
    await require_about(request, caller, held.event_id, held.user_id)
    return held


def _about(action: str, held: Booking, body: In | None = None) -> AboutHold:
    return AboutHold(action=action, booking_id=held.id, body=body)
