"""Tickets: their holders, their codes, and how they are passed on."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime
from typing import Annotated, Any, Final
from uuid import UUID

from fastapi import Query, Request, Response
from pydantic import BaseModel, Field

from ticketing.db.facts import Origin
from ticketing.door import codes, printing
from ticketing.door.part import Door
from ticketing.door.repositories.tickets import Offered, Ticket
from ticketing.errors import (
    AnswerLost,
    Forbidden,
    HolderFixed,
    InsufficientScope,
    NotAuthenticated,
    TicketCancelled,
    TicketNotFound,
    TicketUsed,
    TransferNotFound,
    UserNotFound,
)
from ticketing.identity.callers import Caller
from ticketing.identity.fields import CustomerIn, CustomerName, Email
from ticketing.identity.part import Identity
from ticketing.identity.permissions import Action
from ticketing.identity.repositories.customers import Asked
from ticketing.identity.routers.authentication import (
    Authenticated,
    may,
    origin,
    require,
    require_customer,
)
from ticketing.sale.inventory.model import TicketStatus
from ticketing.sale.part import Sale
from ticketing.sale.routers.booking_fields import ON_BOOKING, HeldId
from ticketing.sale.routers.times import SentInstant
from ticketing.sale.rows import Event
from ticketing.sale.times import reading
from ticketing.web.fields import (
    BookingId,
    In,
    Long,
    Out,
    Short,
    Text,
    TicketId,
    Time,
    UserId,
)
from ticketing.web.part import of
from ticketing.web.replay import IdempotencyKey, Rendered, keyed_request, rendered
from ticketing.web.routes import Routes

routes = Routes("/api/tickets", "tickets")
of_booking = Routes("/api/bookings/{bookingId}", "tickets")

PathTicketId = Annotated[TicketId, Field(strict=False)]
"""A ticket's id in a path."""
ON_TICKET: Final = (NotAuthenticated, InsufficientScope, Forbidden, TicketNotFound)
"""Errors of requests about one ticket."""


SVG: Final = "image/svg+xml"
PNG: Final = "image/png"
PDF: Final = "application/pdf"
# A code that may be replaced at any time.
NOT_STORED: Final = {"Cache-Control": "no-store"}


def _documented(media: str, begin: str) -> dict[int | str, dict[str, Any]]:
    """Document a response of this media type. `begin` is how it begins."""
    schema = {"type": "string", "format": "binary", "examples": [begin]}
    return {200: {"description": "The document.", "content": {media: {"schema": schema}}}}


class HolderOut(Out):
    """The person who enters with the ticket."""

    user_id: UserId
    name: str | None = Field(examples=["Ada Lovelace"])
    email: str | None = Field(examples=["ada@example.org"])


class TicketDetailsOut(Out):
    """A ticket with its holder and its code."""

    id: TicketId
    booking_id: BookingId
    event_id: Long = Field(examples=[1])
    ticket_type_id: Long = Field(examples=[1])
    ordinal: Short = Field(description="Its number in the booking.", examples=[1])
    status: TicketStatus = Field(examples=["valid"])
    generation: Long = Field(
        description="Grows with each transfer and re-issue. Older codes are invalid.", examples=[1]
    )
    holder: HolderOut
    valid_from: Time | None = Field(
        description="Its own times at the door. Both null: those of the event.", examples=[None]
    )
    valid_until: Time | None = Field(examples=[None])
    code: str | None = Field(
        description="The text of the QR code. Null if the ticket is cancelled, or was passed on by"
        " the caller.",
        examples=["TKT1:250020T00000000000000000"],
    )


class UpdateTicket(In):
    """The fields to change. Null for a name or an address: that of the holder's account."""

    name: CustomerName | None = None
    email: Email | None = None
    valid_from: SentInstant | None = Field(
        default=None, description="Its own times at the door. Both null: those of the event."
    )
    valid_until: SentInstant | None = None


class TransferOut(Out):
    """A token that passes a ticket on once."""

    token: str = Field(
        description="Send it in a link to your own page, which sends it to"
        " `POST /api/tickets/accept`.",
        examples=["Jq0Zx3o9mXr5yHk1vQ2wT8uB6nE4sA7dC0fG1hI2jK3"],
    )
    expires_at: Time


class AcceptTransfer(In):
    """The token, and the customer who takes the ticket: without one, the caller does."""

    token: Annotated[
        Text, Field(max_length=100, examples=["Jq0Zx3o9mXr5yHk1vQ2wT8uB6nE4sA7dC0fG1hI2jK3"])
    ]
    customer: CustomerIn | None = Field(default=None, examples=[None])


class AboutTicket(BaseModel):
    """A request about a ticket without a body, from which its digest is made."""

    ticket_id: UUID
    action: str


@routes.get("/{ticketId}", Action.GET_TICKET, "Read a ticket", errors=ON_TICKET)
async def get(
    ticketId: PathTicketId,  # noqa: N803 - the API's name
    caller: Authenticated,
    request: Request,
) -> TicketDetailsOut:
    """Return a ticket to its holder, to its buyer, and to the event's team.

    The code changes with each transfer and re-issue: fetch it again before you show it.
    """
    ticket = await _readable(request, caller, ticketId)
    return await _shown(request, caller, ticket)


@routes.patch(
    "/{ticketId}",
    Action.UPDATE_TICKET,
    "Change the name on a ticket",
    errors=(*ON_TICKET, TicketCancelled, HolderFixed),
)
async def update(
    ticketId: PathTicketId,  # noqa: N803 - the API's name
    body: UpdateTicket,
    caller: Authenticated,
    request: Request,
) -> TicketDetailsOut:
    """Change the name and the e-mail address on a ticket. Fields that are not sent stay.

    The holder may do this until `namesUntil` of the event's door, which is its start by default.
    The event's owner and managers may do it at any time, and they alone set the ticket's own times
    at the door, `validFrom` and `validUntil`.
    """
    ticket, by_team = await _changeable(request, caller, ticketId)
    sent = body.model_fields_set
    if sent & {"valid_from", "valid_until"} and not by_team:
        raise Forbidden
    changed = await of(request, Door).tickets.change(
        ticket, body.model_dump(include=sent), origin(request, caller), by_team=by_team
    )
    return await _shown(request, caller, changed)


@routes.post(
    "/{ticketId}/reissue",
    Action.REISSUE_TICKET,
    "Replace the code of a ticket",
    model=TicketDetailsOut,
    errors=(*ON_TICKET, TicketCancelled, AnswerLost),
)
async def reissue(
    ticketId: PathTicketId,  # noqa: N803 - the API's name
    caller: Authenticated,
    request: Request,
    idempotency_key: IdempotencyKey = None,
) -> Rendered:
    """Make a new code, for example after a phone was lost. All codes before it are invalid."""
    door = of(request, Door)
    ticket, by_team = await _changeable(request, caller, ticketId)
    keys = await door.keys.current()

    def shown(found: Ticket) -> Rendered:
        return rendered(200, _out(found, _code(found, keys.signing_id, keys.signing)))

    asked = AboutTicket(ticket_id=ticketId, action="reissue")
    keyed = keyed_request(caller.id, idempotency_key, asked, shown, door.seals)
    by = origin(request, caller)
    return shown(await door.tickets.reissue(ticket, by, keyed, by_team=by_team))


@routes.post(
    "/{ticketId}/transfers",
    Action.CREATE_TRANSFER,
    "Make a link that passes a ticket on",
    status=201,
    model=TransferOut,
    errors=(*ON_TICKET, TicketCancelled, TicketUsed, AnswerLost),
)
async def offer(
    ticketId: PathTicketId,  # noqa: N803 - the API's name
    caller: Authenticated,
    request: Request,
    idempotency_key: IdempotencyKey = None,
) -> Rendered:
    """Make a token with which another person takes the ticket. It works once, for seven days.

    Until it is accepted, the ticket stays as it is. A newer token, a re-issue and a transfer make
    it invalid. A ticket with which somebody came in can't be passed on: 409 `ticket_used`.
    """
    door = of(request, Door)
    ticket, by_team = await _changeable(request, caller, ticketId)
    asked = AboutTicket(ticket_id=ticketId, action="offer")
    keyed = keyed_request(caller.id, idempotency_key, asked, _offered, door.seals)
    by = origin(request, caller)
    return _offered(await door.tickets.offer(ticket, by, keyed, by_team=by_team))


def _offered(made: Offered) -> Rendered:
    return rendered(201, TransferOut(token=made.token, expires_at=made.expires_at))


@routes.post(
    "/accept",
    Action.ACCEPT_TRANSFER,
    "Take a ticket that somebody passes on",
    model=TicketDetailsOut,
    errors=(
        NotAuthenticated,
        InsufficientScope,
        Forbidden,
        UserNotFound,
        TransferNotFound,
        TicketCancelled,
        TicketUsed,
        AnswerLost,
    ),
)
async def accept(
    body: AcceptTransfer,
    caller: Authenticated,
    request: Request,
    idempotency_key: IdempotencyKey = None,
) -> Rendered:
    """Take the ticket: for the caller, or for a `customer` of the event's owner.

    From now on only the new code is valid, and the former holder no longer sees it. The trail names
    both. A token works once: the second time it returns 404 `transfer_not_found`.
    """
    door, by = of(request, Door), origin(request, caller)
    keys = await door.keys.current()

    def shown(found: Ticket) -> Rendered:
        return rendered(200, _out(found, _code(found, keys.signing_id, keys.signing)))

    keyed = keyed_request(caller.id, idempotency_key, body, shown, door.seals)
    to: UUID | Asked = caller.id
    if body.customer is not None:
        # A request that is resent has used the token already.
        if keyed is not None and (answer := await of(request, Identity).users.recall(keyed)):
            raise answer
        to = await _customer(request, caller, body.token, body.customer, by)
    return shown(await door.tickets.accept(body.token, to, by, keyed))


async def _customer(
    request: Request, caller: Caller, token: str, customer: CustomerIn, by: Origin
) -> Asked:
    """Return the customer to find or to make, if the caller may book for those of the event."""
    ticket = await of(request, Door).tickets.offered(token)
    organiser_id = await require_customer(request, caller, ticket.event_id, customer.external_id)
    return Asked(organiser_id, customer.external_id, customer.name, customer.email, by, None)


@routes.get(
    "/{ticketId}/code.svg",
    Action.GET_TICKET_SVG,
    "Get the QR code of a ticket as SVG",
    media=SVG,
    responses=_documented(SVG, "<svg/>"),
    errors=(*ON_TICKET, TicketCancelled),
)
async def svg(
    ticketId: PathTicketId,  # noqa: N803 - the API's name
    caller: Authenticated,
    request: Request,
) -> Response:
    """Return the QR code of a ticket as an SVG image. Do not cache it: the code may change."""
    return await _image(request, caller, ticketId, SVG)


@routes.get(
    "/{ticketId}/code.png",
    Action.GET_TICKET_PNG,
    "Get the QR code of a ticket as PNG",
    media=PNG,
    responses=_documented(PNG, "PNG"),
    errors=(*ON_TICKET, TicketCancelled),
)
async def png(
    ticketId: PathTicketId,  # noqa: N803 - the API's name
    caller: Authenticated,
    request: Request,
) -> Response:
    """Return the QR code of a ticket as a PNG image. Do not cache it: the code may change."""
    return await _image(request, caller, ticketId, PNG)


@of_booking.get(
    "/tickets.pdf",
    Action.GET_TICKETS_PDF,
    "Get the tickets of a booking as PDF",
    media=PDF,
    responses=_documented(PDF, "%PDF-1.4"),
    errors=(*ON_BOOKING, TicketNotFound),
)
async def pdf(
    bookingId: HeldId,  # noqa: N803 - the API's name
    caller: Authenticated,
    request: Request,
    paper: Annotated[
        printing.Paper, Query(description="`phone`: pages as wide as the screen of a phone.")
    ] = "a4",
) -> Response:
    """Return a page for each valid ticket of a booking whose code the caller may see.

    It has the event, the place, the time in the event's time zone, the holder and the QR code.
    Without such a ticket it returns 404 `ticket_not_found`.
    """
    sale, door = of(request, Sale), of(request, Door)
    held = await sale.bookings.get(bookingId)
    if not await _is_team(request, caller, held.event_id):
        tickets = [
            each for each in await door.tickets.of_booking(bookingId) if each.holder_id == caller.id
        ]
        if held.user_id != caller.id and not tickets:
            raise Forbidden
    else:
        tickets = list(await door.tickets.of_booking(bookingId))
    tickets = [each for each in tickets if each.is_valid]
    if not tickets:
        raise TicketNotFound
    event, keys = await sale.events.get(held.event_id), await door.keys.current()
    sheets = [
        _sheet(event, each, _code(each, keys.signing_id, keys.signing) or "") for each in tickets
    ]
    printed = await asyncio.to_thread(printing.pdf, event.details.name, sheets, paper)
    return Response(printed, media_type=PDF, headers=NOT_STORED)


def _sheet(event: Event, ticket: Ticket, code: str) -> printing.Sheet:
    details = event.details
    kind = next((t.name for t in event.definitions.types.values() if t.id == ticket.type_id), "")
    times = " - ".join(
        _local(each.at, details.timezone) for each in (details.starts, details.ends) if each
    )
    lines = [times, details.venue_name, details.venue_address, kind, ticket.name]
    return printing.Sheet(
        code, details.name, [*(each for each in lines if each), f"Ticket {ticket.ordinal}"]
    )


def _local(at: datetime, zone: str | None) -> str:
    shown = reading(at, zone) if zone else at.astimezone(UTC).replace(tzinfo=None)
    return f"{shown:%Y-%m-%d %H:%M} ({zone or 'UTC'})"


async def _image(request: Request, caller: Caller, ticket_id: UUID, media: str) -> Response:
    ticket = await _readable(request, caller, ticket_id)
    if not await _sees_code(request, caller, ticket):
        raise Forbidden
    keys = await of(request, Door).keys.current()
    code = _code(ticket, keys.signing_id, keys.signing)
    if code is None:
        raise TicketCancelled
    draw = printing.svg if media == SVG else printing.png
    image = await asyncio.to_thread(draw, code)
    return Response(image, media_type=media, headers=NOT_STORED)


async def _readable(request: Request, caller: Caller, ticket_id: UUID) -> Ticket:
    ticket = await of(request, Door).tickets.get(ticket_id)
    if caller.id not in {ticket.holder_id, ticket.buyer_id}:
        await require(request, caller, ticket.event_id)
    return ticket


async def _changeable(request: Request, caller: Caller, ticket_id: UUID) -> tuple[Ticket, bool]:
    """Return the ticket, and whether the caller changes it as the team. Raises Forbidden."""
    ticket = await of(request, Door).tickets.get(ticket_id)
    by_team = await may(request, caller, ticket.event_id)
    if not by_team and caller.id != ticket.holder_id:
        raise Forbidden
    return ticket, by_team


async def _sees_code(request: Request, caller: Caller, ticket: Ticket) -> bool:
    """Whether the caller may see the code: the person who passed the ticket on may not."""
    return caller.id == ticket.holder_id or await _is_team(request, caller, ticket.event_id)


async def _is_team(request: Request, caller: Caller, event_id: int) -> bool:
    return await may(request, caller, event_id)


async def _shown(request: Request, caller: Caller, ticket: Ticket) -> TicketDetailsOut:
    if not await _sees_code(request, caller, ticket):
        # The address of a new holder is no business of the former one.
        return _out(replace(ticket, email=None), None)
    keys = await of(request, Door).keys.current()
    return _out(ticket, _code(ticket, keys.signing_id, keys.signing))


def _code(ticket: Ticket, key_id: int, key: Any) -> str | None:  # noqa: ANN401 - a key that signs
    if not ticket.is_valid:
        return None
    since, until = (
        0 if each is None else min(int(each.timestamp()), codes.LAST)
        for each in (ticket.valid_from, ticket.valid_until)
    )
    said = codes.Claims(key_id, ticket.event_id, ticket.id, ticket.generation, since, until)
    return codes.write(said, key)


def _out(ticket: Ticket, code: str | None) -> TicketDetailsOut:
    return TicketDetailsOut(
        id=ticket.id,
        booking_id=ticket.booking_id,
        event_id=ticket.event_id,
        ticket_type_id=ticket.type_id,
        ordinal=ticket.ordinal,
        status=ticket.status,
        generation=ticket.generation,
        holder=HolderOut(user_id=ticket.holder_id, name=ticket.name, email=ticket.email),
        valid_from=ticket.valid_from,
        valid_until=ticket.valid_until,
        code=code,
    )
