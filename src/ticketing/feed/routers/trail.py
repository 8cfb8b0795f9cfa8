"""The trail of what was changed about an event."""

from typing import Any
from uuid import UUID

from fastapi import Request
from pydantic import Field

from ticketing.errors import EventNotFound, Forbidden, InsufficientScope, NotAuthenticated
from ticketing.feed.part import Feed
from ticketing.identity.permissions import Action
from ticketing.identity.routers.authentication import Authenticated, require
from ticketing.web.fields import EventId, Long, Out, Time, UserId
from ticketing.web.lists import Cursor, PageOut, PageSize, decode_cursor
from ticketing.web.part import of
from ticketing.web.routes import Routes

routes = Routes("/api/events/{eventId}", "team")


class TrailRecordOut(Out):
    """A change: who made it, by which session or API key, and from where.

    `actorId` and `address` are null where an operator made it, at the command line.
    """

    id: Long = Field(
        description="Its number. A record that appears later has a larger one.", examples=[1042]
    )
    at: Time
    action: str = Field(examples=["role.granted"])
    subject_id: UserId | None = Field(
        description="The person whom it is about.",
        examples=["019938a5-3c6b-7f0e-b7a2-53f0c9d1e6aa"],
    )
    details: dict[str, Any] = Field(examples=[{"role": "staff"}])
    actor_id: UserId | None = Field(examples=["019938a5-2f11-7d64-93c8-0be1d6a4f582"])
    credential_id: UUID | None = Field(examples=["019938a5-b04e-7d19-9f5c-6a2b8c1d7e43"])
    address: str | None = Field(examples=["203.0.113.7"])
    request_id: str | None = Field(examples=["4f1c0f6de1a94d5c8d0c2a7be25c9f31"])


@routes.get(
    "/trail",
    Action.LIST_TRAIL,
    "What was changed about an event, newest first",
    errors=(NotAuthenticated, InsufficientScope, Forbidden, EventNotFound),
)
async def trail(
    eventId: EventId,  # noqa: N803 - the API's name
    caller: Authenticated,
    request: Request,
    limit: PageSize = 20,
    cursor: Cursor = None,
) -> PageOut[TrailRecordOut]:
    """List the changes of the event, its bookings and its team: who made them, when and from where.

    A record is made together with the change, and can be neither changed nor removed. A record of
    the event that appears later has a larger `id`; there are gaps. A program that follows the trail
    keeps the largest `id` that it has handled. It reads from the newest record down to that one,
    page by page, and misses none.
    """
    await require(request, caller, eventId)
    page = await of(request, Feed).trail.of_event(
        eventId, before=decode_cursor(cursor), limit=limit
    )
    return PageOut[TrailRecordOut].of(page)
