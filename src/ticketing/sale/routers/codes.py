"""Codes of an event: they open hidden ticket types, or reduce prices."""

from collections.abc import AsyncIterator, Sequence
from typing import Annotated, Any, Final, Self

from fastapi import Query, Request
from pydantic import BaseModel, Field, model_validator
from pydantic.json_schema import SkipJsonSchema
from pydantic_core import PydanticCustomError
from starlette.responses import Response, StreamingResponse

from ticketing.db.pages import Page
from ticketing.errors import (
    CodeNotFound,
    CodeRedeemed,
    CodeTaken,
    EventNotFound,
    Forbidden,
    InsufficientScope,
    NotAuthenticated,
    TicketTypeNotFound,
    TooManyCodes,
    ValidationFailed,
)
from ticketing.identity.permissions import Action
from ticketing.identity.routers.authentication import Authenticated, origin, require
from ticketing.sale.folding import folded_code
from ticketing.sale.inventory.codes import CodeKind, DiscountPer
from ticketing.sale.part import Sale
from ticketing.sale.repositories.codes import EventCode, NewCodes
from ticketing.sale.routers.booking_fields import ON_CODE, CodeText
from ticketing.sale.routers.events import seen
from ticketing.sale.routers.fields import written
from ticketing.sale.routers.ticket_type_fields import MAX_AMOUNT, TicketTypeOut, type_document
from ticketing.sale.routers.times import SentInstant
from ticketing.web.fields import (
    INT32,
    INT64,
    MAX_SAFE_INTEGER,
    EventId,
    In,
    Long,
    Out,
    Short,
    TicketTypeId,
    Time,
    Whole,
)
from ticketing.web.labels import Label
from ticketing.web.lists import Cursor, PageOut, PageSize, decode_cursor
from ticketing.web.part import of
from ticketing.web.replay import IdempotencyKey, Rendered, keyed_request
from ticketing.web.routes import Routes
from ticketing.web.sheets import CSV
from ticketing.web.sheets import written as as_csv

routes = Routes("/api/events/{eventId}/codes", "codes")
exports = Routes("/api/events/{eventId}", "codes")

MAX_GIVEN: Final = 1_000
"""Codes in one body, which may have 64 KiB."""
MAX_DRAWN: Final = 10_000

CodeId = Annotated[
    int, Field(ge=1, le=MAX_SAFE_INTEGER, examples=[1], json_schema_extra=INT64), Whole
]
Limit = Annotated[int, Field(ge=1, le=1_000_000, examples=[100], json_schema_extra=INT32), Whole]
Percent = Annotated[int, Field(ge=1, le=100, examples=[20], json_schema_extra=INT32), Whole]
Off = Annotated[int, Field(ge=1, le=MAX_AMOUNT, examples=[500], json_schema_extra=INT64)]
MAX_USES: Final = "How many bookings and holds may use each code at a time. Null: no limit."
MAX_TICKETS: Final = "How many tickets these may have together. Null: no limit."


class DrawCodes(In):
    """Codes that the service draws at random, from letters and digits that look different."""

    count: Annotated[int, Field(ge=1, le=MAX_DRAWN, examples=[100], json_schema_extra=INT32), Whole]
    prefix: Annotated[str, Label(1, 30, "VIP-")] = Field(
        default_factory=str, description="The beginning of each code."
    )
    length: Annotated[int, Field(ge=8, le=32, examples=[10], json_schema_extra=INT32), Whole] = (
        Field(default=10, description="How many characters are drawn.")
    )


_TO_CREATE: Final = {"kind": "discount", "codes": ["SUMMER26"], "percent": 20}


class CreateCodes(In, json_schema_extra={"examples": [_TO_CREATE]}):
    """New codes, which all do the same: either `codes` that you choose, or `draw` some."""

    kind: CodeKind = Field(strict=False, examples=["discount"])
    codes: Annotated[list[CodeText], Field(min_length=1, max_length=MAX_GIVEN)] = Field(
        default_factory=list, description="Case and spaces do not matter."
    )
    draw: DrawCodes | None = Field(
        default=None,
        description="Instead of `codes`: codes that are drawn at random.",
        examples=[None],
    )
    percent: Percent | None = Field(
        default=None, description="The discount in percent.", examples=[20]
    )
    amount: Off | None = Field(
        default=None,
        description="The discount in the minor unit of the event's currency.",
        examples=[None],
    )
    per: DiscountPer = Field(
        default=DiscountPer.TICKET,
        strict=False,
        description="Whether the discount is taken from each ticket, or once from the booking.",
        examples=["ticket"],
    )
    ticket_types: Annotated[list[TicketTypeId], Field(min_length=1, max_length=100)] | None = Field(
        default=None,
        description="The ticket types that the code opens, or whose prices it reduces. Null: all"
        " prices.",
        examples=[None],
    )
    starts_at: SentInstant | None = Field(
        default=None, description="It can be used from then on. Null: at once.", examples=[None]
    )
    ends_at: SentInstant | None = Field(
        default=None, description="It can be used before then. Null: no end.", examples=[None]
    )
    max_uses: Limit | None = Field(default=None, description=MAX_USES, examples=[100])
    max_tickets: Limit | None = Field(default=None, description=MAX_TICKETS, examples=[None])

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if bool(self.codes) == (self.draw is not None):
            raise PydanticCustomError("codes_missing", "Send either `codes` or `draw`")
        is_discount = self.kind is CodeKind.DISCOUNT
        if (self.percent is not None) + (self.amount is not None) != is_discount:
            raise PydanticCustomError(
                "discount_wrong",
                "A discount has either `percent` or `amount`, and an access code neither",
            )
        if not is_discount and self.ticket_types is None:
            raise PydanticCustomError(
                "ticket_types_missing", "An access code needs the `ticketTypes` that it opens"
            )
        if self.ticket_types and len({*self.ticket_types}) < len(self.ticket_types):
            raise PydanticCustomError("ticket_type_repeated", "Name each ticket type once")
        if len({folded_code(each) for each in self.codes}) < len(self.codes):
            raise PydanticCustomError("code_repeated", "Two of the `codes` are the same")
        if self.starts_at and self.ends_at and self.starts_at >= self.ends_at:
            raise PydanticCustomError("ends_early", "`endsAt` must be later than `startsAt`")
        return self

    def asked(self) -> NewCodes:
        """Return the codes to make."""
        draw = self.draw
        return NewCodes(
            self.kind,
            self.codes,
            draw.count if draw else 0,
            draw.prefix if draw else "",
            draw.length if draw else 0,
            self.percent,
            self.amount,
            self.per,
            self.ticket_types,
            self.starts_at,
            self.ends_at,
            self.max_uses,
            self.max_tickets,
        )


class UpdateCode(In, json_schema_extra={"examples": [{"active": False}]}):
    """The fields to change. Absent fields stay as they are. Null removes a limit or a time."""

    # It can be left out, but not be null.
    active: bool = Field(
        default_factory=bool,
        description="False: nobody can use it any more. Holds and bookings made with it stay.",
        examples=[False],
    )
    starts_at: SentInstant | None = Field(
        default=None, description="It can be used from then on. Null: at once.", examples=[None]
    )
    ends_at: SentInstant | None = Field(
        default=None, description="It can be used before then. Null: no end.", examples=[None]
    )
    max_uses: Limit | None = Field(default=None, description=MAX_USES, examples=[100])
    max_tickets: Limit | None = Field(default=None, description=MAX_TICKETS, examples=[None])

    def changes(self) -> dict[str, Any]:
        """Return the fields that the request has."""
        return {name: getattr(self, name) for name in self.model_fields_set}


class CheckCode(In):
    """A code as a person wrote it."""

    code: CodeText


class CheckedCodeOut(Out):
    """The effect of a code, and the ticket types that may be booked with it."""

    kind: CodeKind = Field(examples=["discount"])
    percent: Short | None = Field(
        description="The discount in percent. Null for an amount, and for an access code.",
        examples=[20],
    )
    amount: Long | None = Field(
        description="The discount in the minor unit of the event's currency. Null for a percentage,"
        " and for an access code.",
        examples=[None],
    )
    per: DiscountPer = Field(examples=["ticket"])
    discounted: list[Long] | None = Field(
        description="The ticket types whose prices a discount reduces. Null: all.", examples=[None]
    )
    ends_at: Time | None = Field(examples=[None])
    ticket_types: list[TicketTypeOut] = Field(
        description="The ticket types that everybody sees or that the code opens, with full prices."
    )


class CodeOut(Out):
    """A code, its limits, and what is used of them."""

    id: Long = Field(examples=[1])
    code: str = Field(examples=["SUMMER26"])
    kind: CodeKind = Field(examples=["discount"])
    percent: Short | None = Field(
        description="The discount in percent. Null for an amount, and for an access code.",
        examples=[20],
    )
    amount: Long | None = Field(
        description="The discount in the minor unit of the event's currency. Null for a percentage,"
        " and for an access code.",
        examples=[None],
    )
    per: DiscountPer = Field(examples=["ticket"])
    ticket_types: list[Long] | None = Field(description="Null: all.", examples=[None])
    starts_at: Time | None = Field(examples=[None])
    ends_at: Time | None = Field(examples=[None])
    max_uses: Short | None = Field(description=MAX_USES, examples=[100])
    max_tickets: Short | None = Field(description=MAX_TICKETS, examples=[None])
    uses: Short = Field(description="Bookings and holds that use it now.", examples=[0])
    tickets: Short = Field(description="The tickets that these have of it.", examples=[0])
    active: bool = Field(examples=[True])
    created_at: Time


class CodesOut(Out):
    """The new codes, in order."""

    items: list[CodeOut]


class Created(BaseModel):
    """A request for new codes, from which its digest is made."""

    event_id: int
    body: CreateCodes


def _document(each: EventCode) -> dict[str, Any]:
    """Return the fields of a CodeOut."""
    # Built by hand, because thousands are made and exported at a time.
    does = each.does
    return {
        "id": does.id,
        "code": each.text,
        "kind": does.kind,
        "percent": does.percent,
        "amount": does.amount,
        "per": does.per,
        "ticketTypes": does.type_ids,
        "startsAt": does.starts_at,
        "endsAt": does.ends_at,
        "maxUses": does.max_uses,
        "maxTickets": does.max_tickets,
        "uses": does.uses,
        "tickets": does.tickets,
        "active": does.active,
        "createdAt": each.created_at,
    }


def _made(codes: Sequence[EventCode]) -> Rendered:
    return Rendered(201, written({"items": [_document(each) for each in codes]}))


_ON_EVENT: Final = (NotAuthenticated, InsufficientScope, Forbidden, EventNotFound)


@routes.post(
    "",
    Action.CREATE_CODES,
    "Make codes",
    status=201,
    model=CodesOut,
    errors=(*_ON_EVENT, TicketTypeNotFound, CodeTaken, TooManyCodes),
)
async def create(
    eventId: EventId,  # noqa: N803 - the API's name
    body: CreateCodes,
    caller: Authenticated,
    request: Request,
    idempotency_key: IdempotencyKey = None,
) -> Rendered:
    """Make codes that do the same, all of them or none: up to 1,000 given ones, or 10,000 drawn.

    An `access` code opens its hidden ticket types. A `discount` reduces prices, at most to 0. Send
    the code as `code` with a booking or a hold. An event has at most 100,000 codes.
    """
    await require(request, caller, eventId)
    asked = Created(event_id=eventId, body=body)
    keyed = keyed_request(caller.id, idempotency_key, asked, _made)
    by = origin(request, caller)
    return _made(await of(request, Sale).codes.make(eventId, body.asked(), by, keyed))


@routes.get("", Action.LIST_CODES, "List the codes of an event", errors=_ON_EVENT)
async def codes(  # noqa: PLR0913, PLR0917 - FastAPI passes them by name
    eventId: EventId,  # noqa: N803 - the API's name
    caller: Authenticated,
    request: Request,
    active: Annotated[
        bool | SkipJsonSchema[None], Query(description="Only codes that are active, or are not.")
    ] = None,
    code: Annotated[
        CodeText | SkipJsonSchema[None],
        Query(description="Only this code. Case and spaces do not matter."),
    ] = None,
    limit: PageSize = 20,
    cursor: Cursor = None,
) -> PageOut[CodeOut]:
    """List the codes of an event, oldest first, with what is used of them."""
    await require(request, caller, eventId)
    page = await of(request, Sale).codes.list(
        eventId, active=active, text=code, after=decode_cursor(cursor), limit=limit
    )
    return PageOut[CodeOut].of(Page([_document(each) for each in page.items], page.next_after))


@routes.post(
    "/check",
    Action.CHECK_CODE,
    "Check a code, and list the ticket types that it opens",
    model=CheckedCodeOut,
    errors=(EventNotFound, *ON_CODE),
)
async def check(
    eventId: EventId,  # noqa: N803 - the API's name
    body: CheckCode,
    request: Request,
) -> Rendered:
    """Return what a code does and which ticket types may be booked with it. Nothing is used of it.

    Whether enough of it is left is known when it is booked or held. The code is in the body,
    because programs on the way may log paths.
    """
    event, team = await seen(request, eventId)
    found = await of(request, Sale).codes.find(eventId, body.code)
    offer = event.definitions.offer.types
    is_discount = found.kind is CodeKind.DISCOUNT
    shown = [
        each
        for each in event.definitions.in_order
        if team or not each.hidden or found.opens(offer[each.id])
    ]
    chosen = found.type_ids if is_discount else None
    document = {
        "kind": found.kind,
        "percent": found.percent,
        "amount": found.amount,
        "per": found.per,
        "discounted": chosen and [each.id for each in shown if each.id in chosen],
        "endsAt": found.ends_at,
        "ticketTypes": [type_document(event, each) for each in shown],
    }
    return Rendered(200, written(document))


@routes.get("/{codeId}", Action.GET_CODE, "Read a code", errors=(*_ON_EVENT, CodeNotFound))
async def get(
    eventId: EventId,  # noqa: N803 - the API's name
    codeId: CodeId,  # noqa: N803 - the API's name
    caller: Authenticated,
    request: Request,
) -> CodeOut:
    """Return a code, with what is used of it."""
    await require(request, caller, eventId)
    found = await of(request, Sale).codes.get(eventId, codeId)
    return CodeOut.model_validate(_document(found))


@routes.patch(
    "/{codeId}",
    Action.UPDATE_CODE,
    "Change or deactivate a code",
    errors=(*_ON_EVENT, CodeNotFound, ValidationFailed),
)
async def update(
    eventId: EventId,  # noqa: N803 - the API's name
    codeId: CodeId,  # noqa: N803 - the API's name
    body: UpdateCode,
    caller: Authenticated,
    request: Request,
) -> CodeOut:
    """Change the limits and the times of a code, or deactivate it.

    Bookings and holds with it stay as they are, also if they exceed the new limits.
    """
    await require(request, caller, eventId)
    by = origin(request, caller)
    now = await of(request, Sale).codes.change(eventId, codeId, body.changes(), by)
    return CodeOut.model_validate(_document(now))


@routes.delete(
    "/{codeId}",
    Action.DELETE_CODE,
    "Delete a code that was never used",
    status=204,
    errors=(*_ON_EVENT, CodeNotFound, CodeRedeemed),
)
async def delete(
    eventId: EventId,  # noqa: N803 - the API's name
    codeId: CodeId,  # noqa: N803 - the API's name
    caller: Authenticated,
    request: Request,
) -> None:
    """Delete a code with which nothing was ever booked or held. Deactivate it otherwise."""
    await require(request, caller, eventId)
    await of(request, Sale).codes.delete(eventId, codeId, origin(request, caller))


_EXPORTED: Final[dict[int | str, dict[str, Any]]] = {
    200: {
        "description": "All codes. The first row has the names of the columns.",
        "content": {
            "text/csv": {
                # A file, because the client of openapi-generator for Java reads strings as JSON.
                "schema": {
                    "type": "string",
                    "format": "binary",
                    "examples": ["id,code\r\n1,A\r\n"],
                }
            }
        },
    }
}


@exports.get(
    "/codes.csv",
    Action.EXPORT_CODES,
    "Export the codes of an event as CSV",
    responses=_EXPORTED,
    media="text/csv",
    errors=_ON_EVENT,
)
async def export(
    eventId: EventId,  # noqa: N803 - the API's name
    caller: Authenticated,
    request: Request,
) -> Response:
    """Return all codes of an event, oldest first, in UTF-8 as RFC 4180 says.

    A cell that a spreadsheet program would take for a formula begins with an apostrophe. If the
    database is lost on the way, the connection is closed before the end of the body.
    """
    await require(request, caller, eventId)
    pages = of(request, Sale).codes.every(eventId)
    # Read before the response starts, so that a failure still has a status of its own.
    first = await anext(pages)
    return StreamingResponse(_lines(first, pages), media_type=CSV)


async def _lines(
    first: Sequence[EventCode], pages: AsyncIterator[Sequence[EventCode]]
) -> AsyncIterator[str]:
    names = [each.alias or name for name, each in CodeOut.model_fields.items()]
    yield as_csv([names, *map(_cells, first)])
    async for page in pages:
        yield as_csv(map(_cells, page))


def _cells(each: EventCode) -> list[object]:
    return list(_document(each).values())
