"""Streams of what an event has left, and of what becomes of a booking (server-sent events)."""

import secrets
import time
from collections.abc import Callable, Hashable, Mapping
from functools import partial
from typing import Any, Final, TypeVar
from uuid import UUID

from fastapi import Request

from ticketing.errors import EventNotFound
from ticketing.feed.live import Hub, Live
from ticketing.feed.part import Feed
from ticketing.feed.repositories.live import Followed
from ticketing.feed.routers.live_fields import BOOKING, CHANGE, WHOLE, Shown
from ticketing.identity.callers import AccessList, Caller
from ticketing.identity.part import Identity
from ticketing.identity.permissions import Action
from ticketing.identity.routers.authentication import (
    Authenticated,
    Bearer,
    require_about,
    works_on,
)
from ticketing.sale.part import Sale
from ticketing.sale.routers.booking_fields import ON_BOOKING, HeldId
from ticketing.web.fields import INT32, EventId
from ticketing.web.part import of
from ticketing.web.routes import Routes
from ticketing.web.streams import Stream

events = Routes("/api/events/{eventId}", "events")
bookings = Routes("/api/bookings/{bookingId}", "bookings")

JITTER: Final = 0.1
"""The part of its longest time by which a stream ends earlier, so that not all end together."""

TEAM_LONGEST: Final = 300.0
"""Seconds after which a stream ends that only the event's team may have, because a role may end."""

MEDIA: Final = "text/event-stream"

KeyT = TypeVar("KeyT", bound=Hashable)
StateT = TypeVar("StateT")


def _stream(example: Mapping[str, str], *names: str) -> dict[int | str, dict[str, Any]]:
    """Document a stream. The schema is that of each message (OpenAPI 3.1 has no other way)."""
    fields: dict[str, dict[str, Any]] = {
        "event": {"type": "string", "enum": list(names)},
        "id": {"type": "string", "examples": [example["id"]]},
        "data": {
            "type": "string",
            "contentMediaType": "application/json",
            "examples": [example["data"]],
        },
        "retry": {"type": "integer", **INT32, "examples": [3000]},
    }
    schema = {"type": "object", "properties": fields, "required": ["event", "id", "data"]}
    return {
        200: {
            "description": "Server-sent events of this schema, until the client leaves.",
            "content": {MEDIA: {"schema": schema}},
        }
    }


_NUMBERS: Final = {
    "id": "1-42-open",
    "data": '{"eventId":1,"revision":1,"version":42,"at":"2026-11-02T19:30:00.123456Z",'
    '"state":"open","totalTickets":200,"availableTickets":158,"waitingListCount":0,'
    '"ticketTypes":[{"id":1,"available":158,"taken":42,"waiting":0}],"quotas":[]}',
}
_STANDING: Final = {
    "id": "waiting-1-17",
    "data": '{"status":"waiting","quantity":1,"position":17,"expiresAt":null}',
}


@events.get(
    "/live",
    Action.FOLLOW_EVENT,
    "Follow the places of an event",
    model=None,
    media=MEDIA,
    responses=_stream(_NUMBERS, WHOLE, CHANGE),
    errors=(EventNotFound,),
    streams=True,
)
async def follow_event(eventId: EventId, request: Request) -> Stream:  # noqa: N803 - the API's name
    """Send the numbers of the event now, and then each change, at most four times a second.

    `availability` has all numbers, `change` has those that are not as before, by the `id` of the
    ticket type or quota. With many listeners there is one message a second. Nothing is sent now if
    `Last-Event-ID` is still the current id. The stream ends after an hour, and when the service
    restarts; connect again after the time in `retry`. Hidden ticket types and drafts are shown to
    the event's team alone, whose streams end after five minutes, so that roles are checked again.
    """
    read_at = time.monotonic()
    event = await of(request, Sale).events.get(eventId)
    # Most listeners have no credential, and need no query.
    team = "authorization" in request.headers and await works_on(request, eventId)
    if event.is_draft and not team:
        raise EventNotFound
    caller = await Bearer()(request) if team else None
    hub = of(request, Feed).availability
    longest = TEAM_LONGEST if team else hub.streams.longest
    return _live(request, hub, (eventId, team), Shown(event, team), read_at, caller, longest)


@bookings.get(
    "/live",
    Action.FOLLOW_BOOKING,
    "Follow a booking",
    model=None,
    media=MEDIA,
    responses=_stream(_STANDING, BOOKING),
    errors=ON_BOOKING,
    streams=True,
)
async def follow_booking(
    bookingId: HeldId,  # noqa: N803 - the API's name
    caller: Authenticated,
    request: Request,
) -> Stream:
    """Send the status of the booking now, and then each change: its position, an offer, its place.

    While a waiting list has tens of thousands of bookings, positions are counted every few seconds.
    The stream ends with the credential, after an hour (five minutes for the event's team), and when
    the service restarts.
    """
    read_at = time.monotonic()
    found = await of(request, Sale).listings.one(bookingId)
    booking = found.booking
    await require_about(request, caller, booking.event_id, booking.user_id)
    state = Followed.of(booking, found.position)
    hub = of(request, Feed).following
    longest = hub.streams.longest if booking.user_id == caller.id else TEAM_LONGEST
    return _live(request, hub, (booking.event_id, bookingId), state, read_at, caller, longest)


def _live(  # noqa: PLR0913, PLR0917 - what a listener is
    request: Request,
    hub: Hub[KeyT, StateT],
    key: KeyT,
    state: StateT,
    read_at: float,
    caller: Caller | None,
    longest: float,
) -> Live[KeyT, StateT]:
    """Return the stream, which the caller's credential also ends."""
    left = min(longest, hub.streams.longest) * (1 - JITTER * secrets.randbelow(1000) / 1000)
    is_allowed: Callable[[], bool] | None = None
    if caller is not None:
        left = min(left, caller.expires_at - time.time())
        is_allowed = partial(_is_valid, of(request, Identity).access, caller.credential)
    return Live(
        hub,
        key,
        state,
        read_at,
        last=request.headers.get("last-event-id", ""),
        ends_at=time.monotonic() + left,
        is_allowed=is_allowed,
    )


def _is_valid(access: AccessList, credential: UUID) -> bool:
    return credential not in access.revoked
