"""Where a person is logged in, and ending that from afar."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Request, Response
from pydantic import Field

from ticketing.errors import (
    InsufficientScope,
    NotAuthenticated,
    SessionNotFound,
    UserNotFound,
    WrongPassword,
)
from ticketing.permissions import Action
from ticketing.routers.dependencies import (
    Cursor,
    In,
    Limit,
    Out,
    PageOut,
    Time,
    decode_cursor,
    parts,
    problems,
    who_may,
)
from ticketing.routers.direct import StrictRoute
from ticketing.routers.users import CurrentPassword, confirmed
from ticketing.security import Caller

router = APIRouter(prefix="/api/users/me/sessions", tags=["sessions"], route_class=StrictRoute)

SessionId = Annotated[UUID, Field(examples=["019938a5-7d10-7b3c-8a44-0e5b6f9c2d11"])]


class EndSession(In):
    """The password, for a token may be borrowed."""

    password: CurrentPassword


class SessionOut(Out):
    """A login on one device."""

    id: SessionId
    created_at: Time
    refreshed_at: Time | None = Field(
        description="When its last refresh token was used.",
        examples=["2026-11-02T19:30:00.123456Z"],
    )
    expires_at: Time = Field(description="When it ends, unless it is refreshed.")
    is_current: bool = Field(description="Whether it is the one that asks.", examples=[True])


@router.get(
    "",
    operation_id="listSessions",
    summary="Where I am logged in, newest first",
    responses=problems(NotAuthenticated, InsufficientScope, listed=True),
)
async def mine(
    caller: Annotated[Caller, who_may(Action.LIST_SESSIONS)],
    request: Request,
    limit: Limit = 20,
    cursor: Cursor = None,
) -> PageOut[SessionOut]:
    """List the caller's sessions that have not ended, newest first."""
    page = await parts(request).sessions.of_caller(
        caller, before=decode_cursor(cursor), limit=limit
    )
    return PageOut[SessionOut].of(page)


@router.delete(
    "/{sessionId}",
    operation_id="endSession",
    summary="End a session of mine",
    status_code=204,
    response_class=Response,
    responses=problems(
        NotAuthenticated, InsufficientScope, WrongPassword, UserNotFound, SessionNotFound, body=True
    ),
)
async def end(
    sessionId: SessionId,  # noqa: N803 - the API's name
    body: EndSession,
    caller: Annotated[Caller, who_may(Action.END_SESSION)],
    request: Request,
) -> None:
    """End a session of the caller's, also of another device.

    Its tokens are refused from now on, everywhere within seconds.
    """
    await confirmed(request, caller, body.password)
    await parts(request).sessions.end_of_user(caller.id, sessionId)
