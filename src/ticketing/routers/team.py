"""Who works on an event, and the trail of what was changed about it."""

from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, Request, Response
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
from ticketing.permissions import Action, Role
from ticketing.routers.dependencies import (
    Cursor,
    EventId,
    In,
    Limit,
    Out,
    PageOut,
    Time,
    UserId,
    decode_cursor,
    origin,
    parts,
    problems,
    require,
    who_may,
)
from ticketing.routers.direct import StrictRoute
from ticketing.security import Caller

router = APIRouter(prefix="/api/events/{eventId}", tags=["team"], route_class=StrictRoute)

TeamRole = Annotated[Literal["manager", "staff"], Field(examples=["staff"])]


class GrantRole(In):
    """What a person shall be."""

    role: TeamRole


class MemberOut(Out):
    """A person who works on the event."""

    user_id: UserId
    username: str = Field(examples=["ada"])
    role: TeamRole
    created_at: Time


class RecordOut(Out):
    """A change: who made it, by which session or API key, and from where.

    `actorId` and `address` are null where an operator made it, at the command line.
    """

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


@router.get(
    "/team",
    operation_id="listTeam",
    summary="Who works on an event",
    responses=problems(NotAuthenticated, InsufficientScope, Forbidden, EventNotFound, listed=True),
)
async def team(
    eventId: EventId,  # noqa: N803 - the API's name
    caller: Annotated[Caller, who_may(Action.LIST_TEAM)],
    request: Request,
    limit: Limit = 20,
    cursor: Cursor = None,
) -> PageOut[MemberOut]:
    """List the managers and staff, in the order in which they joined.

    The owner is not among them: that is the event's `organiserId`.
    """
    have = parts(request)
    await require(have, caller, Action.LIST_TEAM, eventId)
    page = await have.team.members(eventId, after=decode_cursor(cursor), limit=limit)
    return PageOut[MemberOut].of(page)


@router.put(
    "/team/{userId}",
    operation_id="grantRole",
    summary="Give somebody a role",
    status_code=204,
    response_class=Response,
    responses=problems(
        NotAuthenticated,
        InsufficientScope,
        Forbidden,
        EventNotFound,
        UserNotFound,
        AlreadyOwner,
        body=True,
    ),
)
async def grant(
    eventId: EventId,  # noqa: N803 - the API's name
    userId: UserId,  # noqa: N803 - the API's name
    body: GrantRole,
    caller: Annotated[Caller, who_may(Action.GRANT_ROLE)],
    request: Request,
) -> None:
    """Make a person `manager` or `staff`; it replaces the role that they had.

    Staff read the list of bookings. A manager also books and cancels for anybody, renames the
    event and reads its trail. Only the owner, and an admin of the site, gives roles.
    """
    have = parts(request)
    await require(have, caller, Action.GRANT_ROLE, eventId)
    await have.team.grant(eventId, userId, Role(body.role), origin(request, caller))


@router.delete(
    "/team/{userId}",
    operation_id="revokeRole",
    summary="Take somebody's role away",
    status_code=204,
    response_class=Response,
    responses=problems(
        NotAuthenticated, InsufficientScope, Forbidden, EventNotFound, MemberNotFound
    ),
)
async def revoke(
    eventId: EventId,  # noqa: N803 - the API's name
    userId: UserId,  # noqa: N803 - the API's name
    caller: Annotated[Caller, who_may(Action.REVOKE_ROLE)],
    request: Request,
) -> None:
    """Take a person's role away. Anybody may give up their own."""
    have = parts(request)
    if userId != caller.id:
        await require(have, caller, Action.REVOKE_ROLE, eventId)
    await have.team.revoke(eventId, userId, origin(request, caller))


@router.get(
    "/trail",
    operation_id="listTrail",
    summary="What was changed about an event, newest first",
    responses=problems(NotAuthenticated, InsufficientScope, Forbidden, EventNotFound, listed=True),
)
async def trail(
    eventId: EventId,  # noqa: N803 - the API's name
    caller: Annotated[Caller, who_may(Action.LIST_TRAIL)],
    request: Request,
    limit: Limit = 20,
    cursor: Cursor = None,
) -> PageOut[RecordOut]:
    """List the changes of the event, its bookings and its team: who made them, when and from where.

    A record is made together with the change, and can be neither changed nor removed.
    """
    have = parts(request)
    await require(have, caller, Action.LIST_TRAIL, eventId)
    page = await have.audit.of_event(eventId, before=decode_cursor(cursor), limit=limit)
    return PageOut[RecordOut].of(page)
