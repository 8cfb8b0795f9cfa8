"""The team of an event."""

from enum import StrEnum

from fastapi import Request
from pydantic import Field

from ticketing.errors import (
    AlreadyOwner,
    EventNotFound,
    Forbidden,
    InsufficientScope,
    MemberNotFound,
    NotAuthenticated,
    UserNotFound,
)
from ticketing.identity.part import Identity
from ticketing.identity.permissions import Action, Role
from ticketing.identity.routers.authentication import (
    Authenticated,
    origin,
    require,
    require_about,
)
from ticketing.web.fields import EventId, In, Out, Time, UserId
from ticketing.web.lists import Cursor, PageOut, PageSize, decode_cursor
from ticketing.web.part import of
from ticketing.web.routes import Routes

routes = Routes("/api/events/{eventId}", "team")


class TeamRole(StrEnum):
    """The role of a person at an event that they do not own."""

    MANAGER = Role.MANAGER
    STAFF = Role.STAFF


class GrantRole(In):
    """The role to grant."""

    # Not strict: JSON has no enumerations.
    role: TeamRole = Field(strict=False, examples=["staff"])


class MemberOut(Out):
    """A manager, or one of the staff, of the event."""

    user_id: UserId
    username: str = Field(examples=["ada"])
    role: TeamRole = Field(examples=["staff"])
    created_at: Time


@routes.get(
    "/team",
    Action.LIST_TEAM,
    "List the managers and staff of an event",
    errors=(NotAuthenticated, InsufficientScope, Forbidden, EventNotFound),
)
async def team(
    eventId: EventId,  # noqa: N803 - the API's name
    caller: Authenticated,
    request: Request,
    limit: PageSize = 20,
    cursor: Cursor = None,
) -> PageOut[MemberOut]:
    """List the managers and staff, in the order in which they joined.

    The owner is not in the list: see the event's `organiserId`.
    """
    await require(request, caller, eventId)
    page = await of(request, Identity).team.members(
        eventId, after=decode_cursor(cursor), limit=limit
    )
    return PageOut[MemberOut].of(page)


@routes.put(
    "/team/{userId}",
    Action.GRANT_ROLE,
    "Grant a role at an event",
    status=204,
    errors=(
        NotAuthenticated,
        InsufficientScope,
        Forbidden,
        EventNotFound,
        UserNotFound,
        AlreadyOwner,
    ),
)
async def grant(
    eventId: EventId,  # noqa: N803 - the API's name
    userId: UserId,  # noqa: N803 - the API's name
    body: GrantRole,
    caller: Authenticated,
    request: Request,
) -> None:
    """Make a person `manager` or `staff`. The new role replaces the old one.

    Staff read the list of bookings. A manager also books and cancels for anybody, changes the
    event and reads its audit trail. Only the owner and admins of the site grant roles.
    """
    await require(request, caller, eventId)
    by = origin(request, caller)
    await of(request, Identity).team.grant(eventId, userId, Role(body.role), by)


@routes.delete(
    "/team/{userId}",
    Action.REVOKE_ROLE,
    "Revoke a role at an event",
    status=204,
    errors=(NotAuthenticated, InsufficientScope, Forbidden, EventNotFound, MemberNotFound),
)
async def revoke(
    eventId: EventId,  # noqa: N803 - the API's name
    userId: UserId,  # noqa: N803 - the API's name
    caller: Authenticated,
    request: Request,
) -> None:
    """Revoke a person's role. Everybody may give up their own."""
    await require_about(request, caller, eventId, userId)
    await of(request, Identity).team.revoke(eventId, userId, origin(request, caller))
