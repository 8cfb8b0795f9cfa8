"""Statistics of an event."""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Annotated, Final

from fastapi import Query, Request
from pydantic import Field
from pydantic.json_schema import SkipJsonSchema

from ticketing.errors import (
    EventNotFound,
    Forbidden,
    InsufficientScope,
    NotAuthenticated,
    ValidationFailed,
)
from ticketing.feed.part import Feed
from ticketing.feed.repositories.activity import Keeping, StatsInterval
from ticketing.identity.callers import Caller
from ticketing.identity.part import Identity
from ticketing.identity.permissions import Action, Role
from ticketing.identity.routers.authentication import Authenticated, require
from ticketing.sale.definitions import DefinedType
from ticketing.sale.inventory.model import BookingStatus
from ticketing.sale.inventory.offer import left
from ticketing.sale.inventory.terms import SaleState
from ticketing.sale.part import Sale
from ticketing.sale.routers.times import SentInstant
from ticketing.sale.rows import Event
from ticketing.web.fields import EventId, Long, Out, Short, Time
from ticketing.web.part import Entries, of
from ticketing.web.routes import Routes

routes = Routes("/api/events/{eventId}", "events")

STEPS: Final = {StatsInterval.MINUTE: 60, StatsInterval.HOUR: 48, StatsInterval.DAY: 30}
"""How many steps a series has, unless the request says more."""
LENGTHS: Final = {
    StatsInterval.MINUTE: timedelta(minutes=1),
    StatsInterval.HOUR: timedelta(hours=1),
    StatsInterval.DAY: timedelta(days=1),
}
LONGEST: Final = {
    StatsInterval.MINUTE: timedelta(days=1),
    StatsInterval.HOUR: timedelta(days=31),
    StatsInterval.DAY: timedelta(days=366),
}
"""The longest series."""


class TypeStats(Out):
    """The places of a ticket type."""

    ticket_type_id: Long = Field(examples=[1])
    name: str = Field(examples=["Balcony"])
    sold: Long = Field(description="Places that are booked.", examples=[120])
    held: Long = Field(description="Places that holds keep.", examples=[3])
    offered: Long = Field(description="Places that are offered to people who waited.", examples=[0])
    waiting: Long = Field(description="Waiting bookings.", examples=[0])
    available: Short = Field(examples=[77])
    checked_in: Long = Field(
        description="Tickets with which somebody came in, however often.", examples=[41]
    )
    revenue: Long | None = Field(
        description="The sum of the prices of its valid tickets, in the minor unit of `currency`."
        " Null for staff.",
        examples=[300_000],
    )


class OffersStats(Out):
    """Offers that nobody has accepted yet."""

    open: Long = Field(examples=[0])
    ending: Long = Field(description="Offers that end within ten minutes.", examples=[0])
    next_ends_at: Time | None = Field(
        description="The end of the first one to end. Null if there is none.", examples=[None]
    )


class StatsStepOut(Out):
    """The numbers of one step of the series. A step without anything is left out."""

    at: Time
    bookings: Long = Field(description="Bookings that got their places.", examples=[12])
    places: Long = Field(description="The places of these.", examples=[15])
    cancels: Long = Field(
        description="Bookings that had their places and were cancelled.", examples=[1]
    )
    waiting: Long = Field(description="Bookings that joined the waiting list.", examples=[0])


class StatsOut(Out):
    """The places of an event, and a series of what happened."""

    event_id: Long = Field(examples=[1])
    at: Time
    state: SaleState = Field(examples=["open"])
    currency: str | None = Field(
        description="The currency of its prices. Null if all are free.", examples=["EUR"]
    )
    total_tickets: Short = Field(examples=[200])
    available_tickets: Short = Field(examples=[77])
    ticket_types: list[TypeStats]
    offers: OffersStats
    interval: StatsInterval = Field(examples=["minute"])
    timezone: str = Field(
        description="The time zone of the event, in which its days begin.",
        examples=["Europe/Berlin"],
    )
    series: list[StatsStepOut]


@routes.get(
    "/stats",
    Action.GET_STATS,
    "Read what an event has sold",
    errors=(NotAuthenticated, InsufficientScope, Forbidden, EventNotFound),
)
async def stats(  # noqa: PLR0913, PLR0917 - FastAPI passes them by name
    eventId: EventId,  # noqa: N803 - the API's name
    caller: Authenticated,
    request: Request,
    interval: Annotated[
        StatsInterval, Query(description="The length of a step.")
    ] = StatsInterval.MINUTE,
    since: Annotated[
        SentInstant | SkipJsonSchema[None],
        Query(alias="from", description="The first step contains this time."),
    ] = None,
    until: Annotated[
        SentInstant | SkipJsonSchema[None],
        Query(alias="to", description="Only what happened before this time. Default: now."),
    ] = None,
) -> StatsOut:
    """Return the places of each ticket type now, and what happened over time.

    Without `from`, the series is the last 60 minutes, 48 hours or 30 days. It is of at most a day
    of minutes, 31 days of hours, or 366 days. It is counted from the audit trail, a few seconds
    later.
    """
    await require(request, caller, eventId)
    event = await of(request, Sale).events.get(eventId)
    activity = of(request, Feed).activity
    ends = until or event.read_at
    begins = since or ends - LENGTHS[interval] * (STEPS[interval] - 1)
    _check(begins, ends, interval)
    zone = event.details.timezone or "UTC"
    kept = await activity.kept(eventId)
    sees_money = await _sees_money(request, caller, eventId)
    revenues = await activity.revenues(eventId) if sees_money else None
    entered = await of(request, Entries).of_event(eventId)
    offers = [each for each in kept if each.status == BookingStatus.OFFERED]
    return StatsOut(
        event_id=event.id,
        at=event.read_at,
        state=event.state,
        currency=event.definitions.currency,
        total_tickets=event.total_tickets,
        available_tickets=event.available_tickets,
        ticket_types=_of_types(event, kept, entered, revenues),
        offers=OffersStats(
            open=sum(each.bookings for each in offers),
            ending=sum(each.ending for each in offers),
            next_ends_at=min((each.ends_at for each in offers), default=None),
        ),
        interval=interval,
        timezone=zone,
        series=[
            StatsStepOut.model_validate(step)
            for step in await activity.series(eventId, interval, zone, begins, ends)
        ],
    )


def _check(begins: datetime, ends: datetime, interval: StatsInterval) -> None:
    """Raise ValidationFailed unless the series is of a time that is not too long."""
    if begins >= ends:
        kind, detail = "time_order", "`from` must be before `to`"
    elif ends - begins > LONGEST[interval]:
        kind, detail = "series_too_long", f"At most {LONGEST[interval].days} days by {interval}"
    else:
        return
    error = {"in": "query", "pointer": "#/from", "type": kind, "detail": detail}
    raise ValidationFailed(errors=[error])


async def _sees_money(request: Request, caller: Caller, event_id: int) -> bool:
    have = of(request, Identity)
    role, _ = await have.team.standing(event_id, caller.id)
    return role is not Role.STAFF or caller.id in have.access.admins


def _of_types(
    event: Event,
    kept: Sequence[Keeping],
    entered: Mapping[int, int],
    revenues: Mapping[int, int] | None,
) -> list[TypeStats]:
    types = event.definitions.in_order
    first = min(each.id for each in types)
    keeping: Counter[tuple[str, int]] = Counter()
    for each in kept:
        keeping[each.status, each.type_id or first] += each.places
    return [_of_type(event, kind, keeping, entered, revenues) for kind in types]


def _of_type(
    event: Event,
    kind: DefinedType,
    keeping: Mapping[tuple[str, int], int],
    entered: Mapping[int, int],
    revenues: Mapping[int, int] | None,
) -> TypeStats:
    held = keeping.get((BookingStatus.HELD, kind.id), 0)
    offered = keeping.get((BookingStatus.OFFERED, kind.id), 0)
    return TypeStats(
        ticket_type_id=kind.id,
        name=kind.name,
        # Both were read at different moments.
        sold=max(0, event.taken[kind.slot] - held - offered),
        held=held,
        offered=offered,
        waiting=event.waiting[kind.slot],
        available=left(kind.draws, event.available),
        checked_in=entered.get(kind.id, 0),
        revenue=None if revenues is None else revenues.get(kind.id, 0),
    )
