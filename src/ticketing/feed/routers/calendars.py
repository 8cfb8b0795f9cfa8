"""Calendars for calendar programs: of one event, and of a person's events."""

import asyncio
from hashlib import blake2b
from typing import Any, Final

from fastapi import Request

from ticketing.errors import EventNotFound, EventUndated, InsufficientScope, NotAuthenticated
from ticketing.feed.calendars import entry, single, written
from ticketing.identity.permissions import Action
from ticketing.identity.routers.authentication import Authenticated
from ticketing.sale.part import Sale
from ticketing.sale.routers.events import seen
from ticketing.web.documented import headers
from ticketing.web.fields import EventId
from ticketing.web.part import of
from ticketing.web.replay import Rendered
from ticketing.web.routes import Routes

events = Routes("/api/events", "events")
mine = Routes("/api/users/me", "users")

MEDIA: Final = "text/calendar"
MAX_ENTRIES: Final = 1_000
"""Of a person's calendar."""
NAME: Final = "Tickets"

_DOCUMENTED: Final[dict[int | str, dict[str, Any]]] = {
    200: {
        "description": "The calendar (RFC 5545).",
        "headers": headers("ETag"),
        "content": {
            MEDIA: {
                "schema": {
                    "type": "string",
                    "format": "binary",
                    "examples": ["BEGIN:VCALENDAR\r\n"],
                }
            },
        },
    },
    304: {"description": "The calendar still has the ETag that is in If-None-Match."},
}


@events.get(
    "/{eventId}.ics",
    Action.GET_EVENT_CALENDAR,
    "Get an event for a calendar",
    model=None,
    media=MEDIA,
    responses=_DOCUMENTED,
    errors=(EventNotFound, EventUndated),
)
async def of_event(eventId: EventId, request: Request) -> Rendered:  # noqa: N803 - the API's name
    """Return the event as a file for calendar programs (iCalendar), with its time zone.

    After a change it has the same `UID` and a higher `SEQUENCE`, so that programs replace what they
    have. A cancelled event has the status `CANCELLED`. A draft is returned to its team alone.
    """
    event, _ = await seen(request, eventId)
    shown = entry(event)
    if shown is None:
        raise EventUndated
    return _calendar(single(shown))


@mine.get(
    "/calendar.ics",
    Action.GET_MY_CALENDAR,
    "Get a calendar of the events that I have places at",
    model=None,
    media=MEDIA,
    responses=_DOCUMENTED,
    errors=(NotAuthenticated, InsufficientScope),
)
async def of_person(caller: Authenticated, request: Request) -> Rendered:
    """Return the events that the caller has a booking at, for calendar programs (iCalendar).

    It has the 1,000 that start last, and no event without a start. Cancelled events stay, with the
    status `CANCELLED`. An event is the same entry as in its own file.
    """
    booked = await of(request, Sale).events.booked_by(caller.id, limit=MAX_ENTRIES)
    shown = [each for each in map(entry, booked) if each is not None]
    return _calendar(await asyncio.to_thread(written, shown, NAME))


def _calendar(body: bytes) -> Rendered:
    etag = f'"{blake2b(body, digest_size=16).hexdigest()}"'
    return Rendered(200, body, etag=etag, media=f"{MEDIA}; charset=utf-8".encode())
