"""The audit trail of an event."""

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

    `actorId` and `address` are null if an operator made it at the command line.
    """

    id: Long = Field(
        description="The record's number. A later record of the event has a larger one.",
        examples=[1042],
    )
    at: Time
    action: str = Field(examples=["role.granted"])
    subject_id: UserId | None = Field(
        description="The person the change is about.",
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
    "List the changes of an event, newest first",
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

    A record is written together with the change. It can't be changed or removed. Later records of
    the event have a larger `id`, with gaps. To follow the trail, keep the largest `id` that you
    have handled, and read page by page from the newest record down to that one. You miss none.
    """
    await require(request, caller, eventId)
    page = await of(request, Feed).trail.of_event(
        eventId, before=decode_cursor(cursor), limit=limit
    )
    return PageOut[TrailRecordOut].of(page)
