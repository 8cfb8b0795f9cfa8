"""The fields of ticket types and quotas in requests and responses."""

from collections.abc import Sequence
from typing import Annotated, Any, Final, Self

from pydantic import AfterValidator, Field, WithJsonSchema, model_validator
from pydantic_core import PydanticCustomError

from ticketing.sale.definitions import (
    MAX_QUOTAS,
    MAX_TYPES,
    DefinedQuota,
    DefinedType,
    Definitions,
)
from ticketing.sale.inventory.offer import left
from ticketing.sale.money import EXPONENTS
from ticketing.sale.pricing import percent_of, rate_of, tax_in
from ticketing.sale.routers.times import Moment
from ticketing.sale.rows import Event
from ticketing.sale.times import reading
from ticketing.web.fields import (
    INT32,
    INT64,
    MAX_SAFE_INTEGER,
    In,
    Long,
    Out,
    Short,
    TicketTypeId,
    Time,
    Whole,
)
from ticketing.web.labels import Label

MAX_AMOUNT: Final = 1_000_000_000_000


def _known(code: str) -> str:
    if code not in EXPONENTS:
        raise PydanticCustomError(
            "currency_unknown", "Use the code of a currency in ISO 4217, such as EUR"
        )
    return code


CurrencyCode = Annotated[
    str,
    AfterValidator(_known),
    WithJsonSchema(
        {
            "type": "string",
            "pattern": "^[A-Z]{3}$",
            "description": "The code of a currency in ISO 4217.",
            "examples": ["EUR"],
        }
    ),
]
# A number with a fraction or an exponent is refused, whatever its value, because a program that
# sends one may have confused major and minor units.
Amount = Annotated[
    int,
    Field(
        ge=0,
        le=MAX_AMOUNT,
        examples=[2500],
        json_schema_extra=INT64,
        description="In the minor unit of the currency: 2500 is EUR 25.00, JPY 2500 or KWD 2.500.",
    ),
]
TypeName = Annotated[str, Label(1, 100, "Balcony")]
QuotaName = Annotated[str, Label(1, 100, "Chairs")]
Capacity = Annotated[int, Field(ge=1, le=1_000_000, examples=[200], json_schema_extra=INT32), Whole]
PerBooking = Annotated[int, Field(ge=1, le=1_000, examples=[1], json_schema_extra=INT32), Whole]
Position = Annotated[
    int,
    Field(
        ge=0,
        le=1_000_000,
        examples=[0],
        json_schema_extra=INT32,
        description="Its place among the ticket types: the lowest comes first.",
    ),
    Whole,
]
QuotaId = Annotated[
    int, Field(ge=1, le=MAX_SAFE_INTEGER, examples=[1], json_schema_extra=INT64), Whole
]


# A string, because no binary number is a decimal fraction such as 7.7.
TaxRate = Annotated[
    str,
    Field(
        pattern=r"^(100|[1-9]?[0-9](\.[0-9]{1,4})?)$",
        examples=["19"],
        description="Percent of the net price, such as `19` or `8.875`. The price includes it.",
    ),
]


class SetPrice(In):
    """The price of one place. An amount of 0 is free, in no currency."""

    amount: Amount
    currency: CurrencyCode | None = None

    @model_validator(mode="after")
    def _has_currency(self) -> Self:
        if self.amount and self.currency is None:
            raise PydanticCustomError("currency_missing", "A price needs a `currency`")
        return self


class TicketTypeIn(In):
    """The fields that ticket types have in every request."""

    description: Annotated[str, Label(1, 2_000, "Numbered seats.", lines=True)] | None = None
    price: SetPrice | None = Field(
        default=None,
        description="Null is free.",
        examples=[{"amount": 2500, "currency": "EUR"}],
    )
    capacity: Capacity | None = Field(
        default=None, description="Null: only the event and its quotas limit it."
    )
    min_per_booking: PerBooking = 1
    max_per_booking: PerBooking | None = None
    sales_open_at: Moment | None = None
    sales_close_at: Moment | None = None
    position: Position = 0
    hidden: bool = Field(default=False, description="Only the event's team sees and books it.")
    closed: bool = Field(default=False, description="Its sale is over.")
    tax_rate: TaxRate | None = None

    def changes(self) -> dict[str, Any]:
        """Return the fields that the request has, by the names of `DefinedType`."""
        given = {_FIELDS.get(name, name): getattr(self, name) for name in self.model_fields_set}
        if "price" in given:
            price = given.pop("price") or SetPrice(amount=0)
            given["amount"] = price.amount
            given["currency"] = price.currency if price.amount else None
        if given.get("tax_rate") is not None:
            given["tax_rate"] = rate_of(given["tax_rate"])
        return given


_FIELDS: Final = {"sales_open_at": "sales_open", "sales_close_at": "sales_close"}


class InitialTicketType(TicketTypeIn):
    """A ticket type of a new event."""

    name: TypeName


_TO_CREATE: Final = {
    "name": "Balcony",
    "price": {"amount": 2500, "currency": "EUR"},
    "capacity": 50,
}


class CreateTicketType(TicketTypeIn, json_schema_extra={"examples": [_TO_CREATE]}):
    """A new ticket type."""

    name: TypeName
    quotas: Annotated[
        list[QuotaId],
        Field(max_length=MAX_QUOTAS, description="Ids of the shared quotas that it draws from."),
    ] = Field(default=[])


class UpdateTicketType(TicketTypeIn, json_schema_extra={"examples": [{"capacity": 60}]}):
    """The fields to change. Absent fields stay as they are. Null removes a limit or a detail."""

    # These can be left out, but not be null.
    name: TypeName = Field(default_factory=str)
    min_per_booking: PerBooking = Field(default_factory=int)
    position: Position = Field(default_factory=int)
    hidden: bool = Field(
        default_factory=bool,
        description="Only the event's team sees and books it.",
        examples=[False],
    )
    closed: bool = Field(default_factory=bool, description="Its sale is over.", examples=[False])
    quotas: Annotated[
        list[QuotaId],
        Field(max_length=MAX_QUOTAS, description="Ids of the shared quotas that it draws from."),
    ] = Field(default_factory=list)


class InitialQuota(In):
    """A shared quota of a new event."""

    name: QuotaName
    capacity: Capacity
    ticket_types: Annotated[
        list[TypeName],
        Field(max_length=MAX_TYPES, description="Names of the ticket types that draw from it."),
    ] = Field(default=[])

    def changes(self) -> dict[str, Any]:
        """Return the fields that the request has."""
        return {name: getattr(self, name) for name in self.model_fields_set}


class CreateQuota(In):
    """A new shared quota."""

    name: QuotaName
    capacity: Capacity
    ticket_types: Annotated[
        list[TicketTypeId],
        Field(max_length=MAX_TYPES, description="Ids of the ticket types that draw from it."),
    ] = Field(default=[])

    def changes(self) -> dict[str, Any]:
        """Return the fields that the request has."""
        return {name: getattr(self, name) for name in self.model_fields_set}


class UpdateQuota(In, json_schema_extra={"examples": [{"capacity": 160}]}):
    """The fields to change. Absent fields stay as they are."""

    name: QuotaName = Field(default_factory=str)
    capacity: Capacity = Field(default_factory=int)
    ticket_types: Annotated[
        list[TicketTypeId],
        Field(max_length=MAX_TYPES, description="Ids of the ticket types that draw from it."),
    ] = Field(default_factory=list)

    def changes(self) -> dict[str, Any]:
        """Return the fields that the request has."""
        return {name: getattr(self, name) for name in self.model_fields_set}


class PriceOut(Out):
    """The price of one place. A free type has no currency."""

    amount: Long = Field(description="In the minor unit of the currency.", examples=[2500])
    currency: str | None = Field(examples=["EUR"])
    exponent: Short | None = Field(
        description="Decimal places of the currency: 2500 with the exponent 2 is 25.00.",
        examples=[2],
    )
    tax: Long = Field(
        description="The part of `amount` that is tax. The rest is the net price.", examples=[399]
    )


class SalesWindow(Out):
    """The times of a ticket type's sale as local times of the event's time zone."""

    sales_open_at: str | None = Field(examples=["2026-10-01T10:00:00"])
    sales_close_at: str | None = Field(examples=["2026-11-02T18:00:00"])


class TicketTypeOut(Out):
    """A ticket type with its numbers of places."""

    id: Long = Field(examples=[1])
    name: str = Field(examples=["Balcony"])
    description: str | None = Field(examples=["Numbered seats."])
    price: PriceOut
    capacity: Short | None = Field(examples=[200])
    min_per_booking: Short = Field(examples=[1])
    max_per_booking: Short | None = Field(examples=[None])
    sales_open_at: Time | None
    sales_close_at: Time | None
    local: SalesWindow | None = Field(
        examples=[None], description="Null if the event has no time zone."
    )
    position: Short = Field(examples=[0])
    quotas: list[Long] = Field(description="The shared quotas that it draws from.", examples=[[1]])
    hidden: bool = Field(examples=[False])
    closed: bool = Field(examples=[False])
    tax_rate: str | None = Field(
        description="Percent of the net price, which the price includes.", examples=["19"]
    )
    available: Short = Field(
        description="Places left: the least of what the event, its own capacity and its quotas"
        " have.",
        examples=[200],
    )
    taken: Long = Field(examples=[0])
    waiting: Long = Field(description="Waiting bookings.", examples=[0])


class QuotaOut(Out):
    """A capacity that several ticket types share."""

    id: Long = Field(examples=[1])
    name: str = Field(examples=["Chairs"])
    capacity: Short = Field(examples=[200])
    ticket_types: list[Long] = Field(
        description="The ticket types that draw from it.", examples=[[1]]
    )
    available: Short = Field(examples=[200])


def visible_types(of: Definitions, *, team: bool) -> Sequence[DefinedType]:
    """Return the ticket types that the caller may see, in order."""
    return [each for each in of.in_order if team or not each.hidden]


def visible_quotas(of: Definitions, *, team: bool) -> Sequence[DefinedQuota]:
    """Return the shared quotas that the caller may see: not those of hidden types alone."""
    if team:
        return of.shared
    return [
        each
        for each in of.shared
        if not (drawing := of.drawing(each)) or not all(one.hidden for one in drawing)
    ]


def type_document(event: Event, defined: DefinedType) -> dict[str, Any]:
    """Return the fields of a TicketTypeOut. Its numbers come last."""
    of, zone = event.definitions, event.details.timezone
    times = {"salesOpenAt": defined.sales_open, "salesCloseAt": defined.sales_close}
    return {
        "id": defined.id,
        "name": defined.name,
        "description": defined.description,
        "price": {
            "amount": defined.amount,
            "currency": defined.currency,
            "exponent": EXPONENTS.get(defined.currency or ""),
            "tax": tax_in(defined.amount, defined.tax_rate or 0),
        },
        "capacity": of.capacity_of(defined),
        "minPerBooking": defined.min_per_booking,
        "maxPerBooking": defined.max_per_booking,
        **{name: given and given.at for name, given in times.items()},
        "local": zone
        and {
            name: given and (given.local or reading(given.at, zone)).isoformat()
            for name, given in times.items()
        },
        "position": defined.position,
        "quotas": [each.id for each in of.shared if each.slot in defined.quotas],
        "hidden": defined.hidden,
        "closed": defined.closed,
        "taxRate": None if defined.tax_rate is None else percent_of(defined.tax_rate),
        "available": left(defined.draws, event.available),
        "taken": event.taken[defined.slot],
        "waiting": event.waiting[defined.slot],
    }


def quota_document(event: Event, quota: DefinedQuota, *, team: bool) -> dict[str, Any]:
    """Return the fields of a QuotaOut."""
    drawing = event.definitions.drawing(quota)
    return {
        "id": quota.id,
        "name": quota.name,
        "capacity": quota.capacity,
        "ticketTypes": [each.id for each in drawing if team or not each.hidden],
        "available": event.available[quota.slot + 1],
    }


def types_document(event: Event, *, team: bool) -> list[dict[str, Any]]:
    """Return the ticket types that the caller may see."""
    return [type_document(event, each) for each in visible_types(event.definitions, team=team)]


def quotas_document(event: Event, *, team: bool) -> list[dict[str, Any]]:
    """Return the shared quotas that the caller may see."""
    of = visible_quotas(event.definitions, team=team)
    return [quota_document(event, each, team=team) for each in of]
