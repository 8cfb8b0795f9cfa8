"""The fields of events in requests and responses."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final, NamedTuple, Self

import orjson
from pydantic import AfterValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from ticketing.db.pages import Page
from ticketing.sale.inventory.terms import EventStatus, SaleState, WaitingMode
from ticketing.sale.pricing import Policy, RefundKind
from ticketing.sale.routers.ticket_type_fields import (
    Amount,
    QuotaOut,
    TicketTypeOut,
    quotas_document,
    types_document,
    visible_quotas,
    visible_types,
)
from ticketing.sale.routers.times import Moment
from ticketing.sale.rows import Event
from ticketing.sale.times import reading, zones
from ticketing.web.documented import headers
from ticketing.web.fields import INT32, In, Long, Out, Short, Text, Time, UserId, Whole
from ticketing.web.labels import Label
from ticketing.web.lists import PageOut
from ticketing.web.replay import Rendered

OK: Final = 200
NUMBER: Final = "\0number"
TEXT: Final = "\0text"
"""Gaps in a template. No field of an event may contain NUL."""
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def _known(zone: str) -> str:
    if zone not in zones():
        raise PydanticCustomError(
            "timezone_unknown", "Use UTC or the time zone of a place, such as Europe/Berlin"
        )
    return zone


TimeZone = Annotated[
    str,
    AfterValidator(_known),
    Field(
        max_length=64,
        description="A name from the IANA time zone database.",
        examples=["Europe/Berlin"],
    ),
]
EventName = Annotated[str, Label(3, 100, "An evening of chamber music")]
Description = Annotated[str, Label(1, 10_000, "Two quartets, one interval.", lines=True)]
Url = Annotated[
    Text,
    Field(
        max_length=2_000, pattern=r"^https?://[^\s\u0000]+$", examples=["https://example.org/tour"]
    ),
]
MaxBookings = Annotated[
    int,
    Field(
        ge=1,
        le=100,
        examples=[1],
        json_schema_extra=INT32,
        description="How many active bookings one person may have at the event.",
    ),
    Whole,
]
MaxTickets = Annotated[
    int,
    Field(
        ge=1,
        le=1_000,
        examples=[10],
        json_schema_extra=INT32,
        description="How many places one person may have or wait for at the event.",
    ),
    Whole,
]
Minutes = Annotated[int, Field(ge=1, le=10_080, json_schema_extra=INT32), Whole]
Patience = Annotated[int, Field(ge=0, le=10_080, json_schema_extra=INT32), Whole]
HoldMinutes = Annotated[
    Minutes,
    Field(examples=[10], description="How long a hold lasts. Earlier holds keep their end."),
]


class SetWaitingList(In):
    """The way in which places that become free are given out while people wait."""

    mode: Annotated[WaitingMode, Field(strict=False)] = Field(
        default=WaitingMode.AUTO,
        description="`auto` books them for the first who wait, if they are free of charge. `offer`"
        " offers them. `closed` is as `auto`, but nobody can join any more.",
    )
    offer_minutes: Minutes = Field(default=60, description="How long an offer lasts.")
    group_patience_minutes: Patience | None = Field(
        default=None,
        description="How long places gather for a group that waits, before others are served."
        " Null: until the group fits.",
    )


Visibility = Annotated[
    str,
    Field(
        pattern="^(public|unlisted)$",
        description="`unlisted`: not in public lists, but readable for anybody who knows its id.",
        examples=["public"],
    ),
]


class SetVenue(In):
    """The place where an event takes place."""

    name: Annotated[str, Label(1, 200, "Town hall")] | None = None
    address: Annotated[str, Label(1, 500, "Market square 1, 12345 Exampletown")] | None = None
    latitude: Annotated[float, Field(ge=-90, le=90, examples=[52.52])] | None = None
    longitude: Annotated[float, Field(ge=-180, le=180, examples=[13.405])] | None = None


class SetRefundPolicy(In):
    """The part of its price that a cancelled ticket gives back, for bookings from now on.

    `none`: nothing. `fullUntil`: everything, before `until`. `percentage`: `percent` of it, before
    `until`. `flatFee`: everything but `fee`, which is taken once for each booking.
    """

    kind: Annotated[RefundKind, Field(strict=False)]
    until: Moment | None = None
    percent: Annotated[int | None, Field(ge=1, le=100, examples=[50], json_schema_extra=INT32)] = (
        None
    )
    fee: Annotated[Amount | None, Field(description="In the currency of the prices.")] = None

    @model_validator(mode="after")
    def _fits(self) -> Self:
        for name in ("until", "percent", "fee"):
            if (getattr(self, name) is not None) != (name in _OF_KIND[self.kind]):
                wanted = " and ".join(f"`{each}`" for each in _OF_KIND[self.kind]) or "no others"
                raise PydanticCustomError(
                    "refund_policy_fields",
                    "A refund policy of this kind has the fields {wanted}",
                    {"wanted": wanted},
                )
        return self


_OF_KIND: Final = {
    RefundKind.NONE: (),
    RefundKind.FULL_UNTIL: ("until",),
    RefundKind.PERCENTAGE: ("until", "percent"),
    RefundKind.FLAT_FEE: ("fee",),
}
"""The fields of each kind of refund policy."""


class EventIn(In):
    """The details of an event. Null means that a detail is not known."""

    description: Description | None = None
    venue: SetVenue | None = Field(default=None, examples=[{"name": "Town hall"}])
    url: Url | None = None
    timezone: TimeZone | None = None
    starts_at: Moment | None = None
    ends_at: Moment | None = None
    sales_open_at: Moment | None = None
    sales_close_at: Moment | None = None
    refund_policy: SetRefundPolicy | None = Field(
        default=None,
        description="Null gives nothing back.",
        examples=[{"kind": "flatFee", "fee": 500}],
    )

    def changes(self) -> dict[str, Any]:
        """Return the fields that the request has, by the names of `Details`."""
        given = {name: getattr(self, name) for name in self.model_fields_set & _DETAILS.keys()}
        flat = given.keys() - {"venue", "waiting_list"}
        changes = {_DETAILS[name]: given[name] for name in flat}
        if "waiting_list" in given:
            line = given["waiting_list"]
            changes |= {
                "waiting_list_mode": str(line.mode),
                "offer_minutes": line.offer_minutes,
                "group_patience_minutes": line.group_patience_minutes,
            }
        if "venue" in given:
            venue = given["venue"] or SetVenue()
            changes |= {
                "venue_name": venue.name,
                "venue_address": venue.address,
                "latitude": venue.latitude,
                "longitude": venue.longitude,
            }
        if "refund_policy" in self.model_fields_set:
            given_policy = self.refund_policy or SetRefundPolicy(kind=RefundKind.NONE)
            kind, until, percent, fee = (
                getattr(given_policy, name) for name in ("kind", "until", "percent", "fee")
            )
            is_none = kind is RefundKind.NONE
            changes["refund_policy"] = None if is_none else Policy(kind, None, percent, fee)
            changes["refund_until"] = until
        return changes


_DETAILS: Final = {
    **{name: name for name in ("name", "description", "venue", "url", "timezone", "visibility")},
    **{name: name for name in ("max_bookings_per_person", "max_tickets_per_person")},
    **{name: name for name in ("hold_minutes", "waiting_list")},
    "starts_at": "starts",
    "ends_at": "ends",
    "sales_open_at": "sales_open",
    "sales_close_at": "sales_close",
}


class LocalTimes(Out):
    """The event's times as local times of its time zone."""

    starts_at: str | None = Field(examples=["2026-11-02T19:30:00"])
    ends_at: str | None = Field(examples=["2026-11-02T22:00:00"])
    sales_open_at: str | None = Field(examples=["2026-10-01T10:00:00"])
    sales_close_at: str | None = Field(examples=["2026-11-02T18:00:00"])
    refund_until: str | None = Field(description="`until` of the refund policy.", examples=[None])


class VenueOut(Out):
    """The place where an event takes place."""

    name: str | None = Field(examples=["Town hall"])
    address: str | None = Field(examples=["Market square 1, 12345 Exampletown"])
    latitude: float | None = Field(examples=[52.52])
    longitude: float | None = Field(examples=[13.405])


class SaleOut(Out):
    """Whether places are on sale now, by the clock of the service."""

    state: SaleState = Field(examples=["open"])
    opens_at: Time | None
    closes_at: Time | None


class WaitingListOut(Out):
    """The way in which places that become free are given out while people wait."""

    mode: WaitingMode = Field(examples=["auto"])
    offer_minutes: Short = Field(examples=[60])
    group_patience_minutes: Short | None = Field(examples=[None])


class RefundPolicyOut(Out):
    """The part of its price that a cancelled ticket gives back, for bookings from now on."""

    kind: RefundKind = Field(examples=["none"])
    until: Time | None = Field(description="From then on nothing is given back.", examples=[None])
    percent: Short | None = Field(examples=[None])
    fee: Long | None = Field(
        description="In the currency of the prices. It is taken once for each booking.",
        examples=[None],
    )


class EventOut(Out):
    """An event with its details and its places."""

    id: Long = Field(examples=[1])
    name: str = Field(examples=["An evening of chamber music"])
    total_tickets: Short = Field(examples=[200])
    available_tickets: Short = Field(examples=[200])
    waiting_list_count: Long = Field(examples=[0])
    version: Long = Field(description="Increases with every change of the places.", examples=[1])
    organiser_id: UserId
    created_at: Time
    revision: Long = Field(
        description="Increases with every other change. Send it in quotes as `If-Match`.",
        examples=[1],
    )
    status: EventStatus = Field(examples=["published"])
    visibility: str = Field(examples=["public"])
    sale: SaleOut
    description: str | None = Field(examples=["Two quartets, one interval."])
    venue: VenueOut | None = Field(examples=[None])
    url: str | None = Field(examples=["https://example.org/tour"])
    timezone: str | None = Field(examples=["Europe/Berlin"])
    starts_at: Time | None
    ends_at: Time | None
    sales_open_at: Time | None
    sales_close_at: Time | None
    local: LocalTimes | None = Field(
        examples=[None], description="Null if the event has no time zone."
    )
    max_bookings_per_person: Short = Field(examples=[1])
    max_tickets_per_person: Short = Field(examples=[10])
    hold_minutes: Short = Field(examples=[10])
    waiting_list: WaitingListOut
    refund_policy: RefundPolicyOut
    ticket_types: list[TicketTypeOut]
    quotas: list[QuotaOut] = Field(examples=[[]])


def document(event: Event, *, team: bool = False) -> dict[str, Any]:
    """Return the fields of an EventOut. Hidden ticket types are shown to the event's `team`."""
    # Built by hand, because the model takes five times as long.
    details, terms = event.details, event.terms
    venue = details[2:6]
    times = {
        "startsAt": details.starts,
        "endsAt": details.ends,
        "salesOpenAt": details.sales_open,
        "salesCloseAt": details.sales_close,
    }
    zone, refunds = details.timezone, details.refunds or _NO_REFUNDS
    local = times | {"refundUntil": details.refund_until}
    return {
        "id": event.id,
        "name": details.name,
        "totalTickets": event.total_tickets,
        "availableTickets": event.available_tickets,
        "waitingListCount": event.waiting_list_count,
        "version": event.version,
        "organiserId": event.organiser_id,
        "createdAt": event.created_at,
        "revision": terms.revision,
        "status": terms.status,
        "visibility": details.visibility,
        "sale": {"state": event.state, "opensAt": terms.opens_at, "closesAt": terms.closes_at},
        "description": details.description,
        "venue": None
        if venue == _NO_VENUE
        else dict(zip(("name", "address", "latitude", "longitude"), venue, strict=True)),
        "url": details.url,
        "timezone": zone,
        **{name: given and given.at for name, given in times.items()},
        "local": zone
        and {
            name: given and (given.local or reading(given.at, zone)).isoformat()
            for name, given in local.items()
        },
        "maxBookingsPerPerson": details.max_bookings_per_person,
        "maxTicketsPerPerson": details.max_tickets_per_person,
        "holdMinutes": details.hold_minutes,
        "waitingList": details.waiting_list,
        "refundPolicy": refunds._asdict(),
        "ticketTypes": types_document(event, team=team),
        "quotas": quotas_document(event, team=team),
    }


TAGGED: Final[dict[int | str, dict[str, Any]]] = {200: {"headers": headers("ETag")}}
"""Responses of a route that changes an event."""
ETAGGED: Final[dict[int | str, dict[str, Any]]] = {
    **TAGGED,
    304: {"description": "The event still has the ETag that is in If-None-Match."},
}
"""The responses of a route that returns an event with its ETag."""
_NO_VENUE: Final = (None, None, None, None)
_NO_REFUNDS: Final = Policy(RefundKind.NONE)


def rendered(
    status: int, event: Event, location: str | None = None, *, team: bool = True
) -> Rendered:
    """Return a response with the event and its ETag, for its `team` or for others."""
    # A stored response of a 201 would lack its ETag.
    etag = etag_of(event, team=team) if status == OK else None
    return Rendered(status, _json(event, team=team), location, etag)


class _Template(NamedTuple):
    """The JSON of an event at one revision, with a gap for each number that bookings change."""

    text: bytes
    types: Sequence[tuple[int, Sequence[int]]]
    """The slot of each type, and what it draws from if that is more than the event's own."""
    quotas: Sequence[int]
    """The index of each quota among what types draw from."""


def _json(event: Event, *, team: bool) -> bytes:
    """Return the JSON of `document`. It is written once for a revision, except its numbers."""
    kept = event.definitions.kept
    shown: _Template | None = kept.get(team)
    if shown is None:
        shown = kept[team] = _template(event, team=team)
    text, types, quotas = shown
    available, taken, waiting = event.available, event.taken, event.waiting
    gaps: list[int | bytes] = [
        event.available_tickets,
        event.waiting_list_count,
        event.version,
        event.state.encode(),
    ]
    own = available[0]
    for slot, draws in types:
        # As `left`, but most types draw from the event alone.
        some = min([available[index] for index in draws]) if draws else own
        gaps += (some, taken[slot], waiting[slot])
    gaps += [available[index] for index in quotas]
    return text % tuple(gaps)


def _template(event: Event, *, team: bool) -> _Template:
    shown = document(event, team=team)
    shown |= dict.fromkeys(("availableTickets", "waitingListCount", "version"), NUMBER)
    shown["sale"]["state"] = TEXT
    for each in shown["ticketTypes"]:
        each.update(dict.fromkeys(("available", "taken", "waiting"), NUMBER))
    for each in shown["quotas"]:
        each["available"] = NUMBER
    text = written(shown).replace(b"%", b"%%")
    of = event.definitions
    return _Template(
        text.replace(written(NUMBER), b"%d").replace(written(TEXT), b'"%b"'),
        [(each.slot, each.draws if each.quotas else ()) for each in visible_types(of, team=team)],
        [each.slot + 1 for each in visible_quotas(of, team=team)],
    )


def etag_of(event: Event, *, team: bool) -> str:
    """Return the ETag, which also says whether hidden ticket types are shown."""
    return f'{event.etag[:-1]}-team"' if team and event.definitions.hides else event.etag


def listed(page: Page[Event], *, team: bool = False) -> PageOut[EventOut]:
    """Return a page of a list of events, for their `team` or for others."""
    return PageOut[EventOut].of(_documents(page, team=team))


def listed_by_start(page: Page[Event]) -> PageOut[EventOut]:
    """Return a page of a list sorted by start, in microseconds since the epoch, then by id."""
    starts = page.items[-1].details.starts if page.items else None
    key = () if starts is None else ((starts.at - EPOCH) // timedelta(microseconds=1),)
    return PageOut[EventOut].of(_documents(page), key)


def _documents(page: Page[Event], *, team: bool = False) -> Page[dict[str, Any]]:
    return Page([document(each, team=team) for each in page.items], page.next_after)


def written(value: object) -> bytes:
    """Return the JSON of a value from `document`."""
    return orjson.dumps(value, default=str, option=orjson.OPT_UTC_Z)
