"""The fields of events in requests and responses."""

import re
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final

import orjson
from pydantic import AfterValidator, AwareDatetime, BeforeValidator, Field, WithJsonSchema
from pydantic_core import PydanticCustomError

from ticketing.db.pages import Page
from ticketing.sale.inventory.terms import EventStatus, SaleState
from ticketing.sale.rows import Event
from ticketing.sale.times import reading, zones
from ticketing.web.documented import headers
from ticketing.web.fields import INT32, In, Long, Out, Short, Text, Time, UserId, Whole
from ticketing.web.labels import Label
from ticketing.web.lists import PageOut
from ticketing.web.replay import Rendered

OK: Final = 200
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
WRITTEN: Final = re.compile(
    r"\d{4}-\d\d-\d\dT\d\d:\d\d(:\d\d(\.\d{1,6})?)?(Z|[+-]\d\d:\d\d)?", re.ASCII
)
"""A time of RFC 3339, or a local time: the same without an offset (RFC 5545, section 3.3.5)."""


def _written(value: object) -> object:
    if not isinstance(value, str) or not WRITTEN.fullmatch(value):
        raise PydanticCustomError(
            "time_format", "Write a time as 2026-11-02T19:30:00Z, with an offset or without"
        )
    return value


def _known(zone: str) -> str:
    if zone not in zones():
        raise PydanticCustomError(
            "timezone_unknown", "Use UTC or the time zone of a place, such as Europe/Berlin"
        )
    return zone


Moment = Annotated[
    datetime,
    Field(strict=False),
    BeforeValidator(_written),
    WithJsonSchema(
        {
            "type": "string",
            "pattern": f"^{WRITTEN.pattern}$",
            "description": "With an offset it is an instant. Without one it is a local time in the"
            " event's `timezone`.",
            "examples": ["2026-11-02T19:30:00+01:00"],
        }
    ),
]
Instant = Annotated[AwareDatetime, BeforeValidator(_written), Field(strict=False)]
"""A time with an offset, in a query."""
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
Capacity = Annotated[int, Field(ge=1, le=1_000_000, examples=[200], json_schema_extra=INT32), Whole]
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

    def changes(self) -> dict[str, Any]:
        """Return the fields that the request has, by the names of `Details`."""
        given = {name: getattr(self, name) for name in self.model_fields_set & _DETAILS.keys()}
        changes = {_DETAILS[name]: value for name, value in given.items() if name != "venue"}
        if "venue" in given:
            venue = given["venue"] or SetVenue()
            changes |= {
                "venue_name": venue.name,
                "venue_address": venue.address,
                "latitude": venue.latitude,
                "longitude": venue.longitude,
            }
        return changes


_DETAILS: Final = {
    **{name: name for name in ("name", "description", "venue", "url", "timezone", "visibility")},
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


def document(event: Event) -> dict[str, Any]:
    """Return the fields of an EventOut."""
    # Built by hand, because the model takes five times as long.
    details, terms = event.details, event.terms
    venue = details[2:6]
    times = {
        "startsAt": details.starts,
        "endsAt": details.ends,
        "salesOpenAt": details.sales_open,
        "salesCloseAt": details.sales_close,
    }
    zone = details.timezone
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
            for name, given in times.items()
        },
    }


TAGGED: Final[dict[int | str, dict[str, Any]]] = {200: {"headers": headers("ETag")}}
"""Responses of a route that changes an event."""
ETAGGED: Final[dict[int | str, dict[str, Any]]] = {
    **TAGGED,
    304: {"description": "The event still has the ETag that is in If-None-Match."},
}
"""The responses of a route that returns an event with its ETag."""
_NO_VENUE: Final = (None, None, None, None)


def rendered(status: int, event: Event, location: str | None = None) -> Rendered:
    """Return a response with the event and its ETag."""
    etag = event.etag if status == OK else None  # A stored response of a 201 would lack it.
    return Rendered(status, written(document(event)), location, etag)


def listed(page: Page[Event]) -> PageOut[EventOut]:
    """Return a page of a list of events."""
    return PageOut[EventOut].of(_documents(page))


def listed_by_start(page: Page[Event]) -> PageOut[EventOut]:
    """Return a page of a list sorted by start, in microseconds since the epoch, then by id."""
    starts = page.items[-1].details.starts if page.items else None
    key = () if starts is None else ((starts.at - EPOCH) // timedelta(microseconds=1),)
    return PageOut[EventOut].of(_documents(page), key)


def _documents(page: Page[Event]) -> Page[dict[str, Any]]:
    return Page([document(each) for each in page.items], page.next_after)


def written(value: object) -> bytes:
    """Return the JSON of a value from `document`."""
    return orjson.dumps(value, default=str, option=orjson.OPT_UTC_Z)
