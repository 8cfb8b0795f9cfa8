"""Exports of everybody who has a ticket of an event."""

from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from typing import Annotated, Any, Final

import orjson
from fastapi import Query, Request
from pydantic import Field
from pydantic.json_schema import SkipJsonSchema
from starlette.responses import Response, StreamingResponse

from ticketing.door.part import Door
from ticketing.door.repositories.attendees import Attendee, Snapshot
from ticketing.errors import EventNotFound, Forbidden, InsufficientScope, NotAuthenticated
from ticketing.identity.permissions import Action
from ticketing.identity.routers.authentication import Authenticated, require
from ticketing.sale.inventory.model import TicketStatus
from ticketing.web.fields import (
    BookingId,
    EventId,
    Long,
    Out,
    Short,
    Text,
    TicketId,
    TicketTypeId,
    Time,
    UserId,
)
from ticketing.web.part import of
from ticketing.web.routes import Routes
from ticketing.web.sheets import BOM, CSV, written
from ticketing.web.spool import spooled

routes = Routes("/api/events/{eventId}", "door")

JSON: Final = "application/json"
_ON_EVENT: Final = (NotAuthenticated, InsufficientScope, Forbidden, EventNotFound)


class AttendeeOut(Out):
    """A ticket and its holder."""

    ticket_id: TicketId
    booking_id: BookingId
    ticket_type_id: Long = Field(examples=[1])
    ticket_type: str = Field(description="The name of the ticket type.", examples=["Balcony"])
    ordinal: Short = Field(description="Its number in the booking.", examples=[1])
    status: TicketStatus = Field(examples=["valid"])
    name: str | None = Field(examples=["Ada Lovelace"])
    email: str | None = Field(examples=["ada@example.org"])
    external_id: str | None = Field(
        description="The customer's. Null for a person with an account.",
        examples=["customer-4711"],
    )
    username: str | None = Field(description="Null without an account.", examples=[None])
    holder_id: UserId
    amount: Long = Field(description="Its price, in the minor unit.", examples=[2500])
    currency: str | None = Field(examples=["EUR"])
    booked_at: Time
    checked_in_at: Time | None = Field(
        description="When somebody came in with it for the first time.", examples=[None]
    )


class AttendeesOut(Out):
    """Everybody who has a ticket, as it was at one time."""

    event_id: Long = Field(examples=[1])
    at: Time
    items: list[AttendeeOut]
    count: Long = Field(description="The number of items.", examples=[1])


NAMES: Final = [each.alias or name for name, each in AttendeeOut.model_fields.items()]
TypeFilter = Annotated[
    TicketTypeId | SkipJsonSchema[None],
    Query(alias="type", description="Only tickets of the type with this id."),
]
StatusFilter = Annotated[
    TicketStatus | SkipJsonSchema[None],
    Query(description="Only valid tickets, or only cancelled ones."),
]
TextFilter = Annotated[
    Annotated[Text, Field(min_length=1, max_length=100)] | SkipJsonSchema[None],
    Query(
        description="Only tickets whose holder has this in the name, e-mail address, username or"
        " `externalId`. Case and accents do not matter."
    ),
]
_EXPORTED: Final[dict[int | str, dict[str, Any]]] = {
    200: {
        "description": "All tickets, with a line of names first.",
        "content": {
            "text/csv": {
                "schema": {"type": "string", "format": "binary", "examples": [",".join(NAMES)]}
            }
        },
    }
}


@routes.get(
    "/attendees.csv",
    Action.EXPORT_ATTENDEES,
    "Export everybody who has a ticket as CSV",
    responses=_EXPORTED,
    media="text/csv",
    errors=_ON_EVENT,
)
async def as_csv(  # noqa: PLR0913, PLR0917 - FastAPI passes them by name
    eventId: EventId,  # noqa: N803 - the API's name
    caller: Authenticated,
    request: Request,
    kind: TypeFilter = None,
    status: StatusFilter = None,
    q: TextFilter = None,
    bom: Annotated[  # noqa: FBT002 - as the others
        bool, Query(description="Begin with a byte order mark, from which Excel knows UTF-8.")
    ] = False,
) -> Response:
    """Return all tickets of an event with their holders, in UTF-8 as RFC 4180 says.

    A cell that a spreadsheet program would take for a formula begins with an apostrophe; the JSON
    has it as it is. The whole file is of one moment. A file that breaks off is known by the
    transfer: the connection is closed before the last chunk.
    """
    await require(request, caller, eventId)

    async def lines(pages: AsyncIterator[Snapshot]) -> AsyncGenerator[bytes, None]:
        head = (BOM if bom else "") + written([NAMES])
        async for page in pages:
            rows = (list(_document(each).values()) for each in page.attendees)
            yield (head + written(rows)).encode()
            head = ""

    return await _sent(request, eventId, kind, status, q, lines, CSV)


@routes.get(
    "/attendees.json",
    Action.LIST_ATTENDEES,
    "Export everybody who has a ticket as JSON",
    model=AttendeesOut,
    errors=_ON_EVENT,
)
async def as_json(  # noqa: PLR0913, PLR0917 - FastAPI passes them by name
    eventId: EventId,  # noqa: N803 - the API's name
    caller: Authenticated,
    request: Request,
    kind: TypeFilter = None,
    status: StatusFilter = None,
    q: TextFilter = None,
) -> Response:
    """Return all tickets of an event with their holders, each in a line of one JSON document.

    It is of one moment, `at`. It ends with the `count`, so a document that breaks off is no JSON.
    """
    await require(request, caller, eventId)

    async def lines(pages: AsyncIterator[Snapshot]) -> AsyncGenerator[bytes, None]:
        count, head = 0, b'{"eventId":%d,"at":%b,"items":['
        async for page in pages:
            block = [head % (eventId, _json(page.at))] if head else []
            head = b""
            for each in page.attendees:
                block.append((b",\n" if count else b"\n") + _json(_document(each)))
                count += 1
            yield b"".join(block)
        yield b'\n],"count":%d}\n' % count

    return await _sent(request, eventId, kind, status, q, lines, JSON)


async def _sent(  # noqa: PLR0913, PLR0917 - the filters, and the form
    request: Request,
    event_id: int,
    type_id: int | None,
    status: TicketStatus | None,
    text: str | None,
    lines: Callable[[AsyncIterator[Snapshot]], AsyncGenerator[bytes, None]],
    media: str,
) -> Response:
    async def blocks() -> AsyncGenerator[bytes, None]:
        every = of(request, Door).attendees.every(
            event_id, type_id=type_id, status=status, text=text
        )
        async with aclosing(every) as pages, aclosing(lines(pages)) as found:
            async for block in found:
                yield block

    pieces = spooled(blocks())
    # Read before the response starts, so that a failure still has a status of its own.
    first = await anext(pieces)
    return StreamingResponse(_all(first, pieces), media_type=media)


async def _all(first: bytes, pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for piece in pieces:
        yield piece


def _document(each: Attendee) -> dict[str, object]:
    """Return the fields of an AttendeeOut. Built by hand, because there are many."""
    return {
        "ticketId": each.ticket_id,
        "bookingId": each.booking_id,
        "ticketTypeId": each.type_id,
        "ticketType": each.type_name,
        "ordinal": each.ordinal,
        "status": each.status.value,
        "name": each.name,
        "email": each.email,
        "externalId": each.external_id,
        "username": each.username,
        "holderId": each.holder_id,
        "amount": each.amount,
        "currency": each.currency,
        "bookedAt": each.booked_at,
        "checkedInAt": each.entered_at,
    }


def _json(value: object) -> bytes:
    return orjson.dumps(value, default=str, option=orjson.OPT_UTC_Z)
