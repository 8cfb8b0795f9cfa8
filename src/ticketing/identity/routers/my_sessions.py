"""List a person's sessions, and end one from another device."""

from typing import Annotated
from uuid import UUID

from fastapi import Request
from pydantic import Field

from ticketing.errors import (
    InsufficientScope,
    NotAuthenticated,
    SessionNotFound,
    UserNotFound,
    WrongPassword,
)
from ticketing.identity.fields import CurrentPassword
from ticketing.identity.part import Identity
from ticketing.identity.permissions import Action
from ticketing.identity.routers.authentication import Authenticated
from ticketing.identity.routers.users import confirmed
from ticketing.web.fields import In, Out, Time
from ticketing.web.lists import Cursor, PageOut, PageSize, decode_cursor
from ticketing.web.part import of
from ticketing.web.routes import Routes

routes = Routes("/api/users/me/sessions", "sessions")

SessionId = Annotated[UUID, Field(examples=["019938a5-7d10-7b3c-8a44-0e5b6f9c2d11"])]


class EndSession(In):
    """The password, so that a stolen token is not enough."""

    password: CurrentPassword


class SessionOut(Out):
    """A login on one device."""

    id: SessionId
    created_at: Time
    refreshed_at: Time | None = Field(
        description="When the last refresh token of the session was used.",
        examples=["2026-11-02T19:30:00.123456Z"],
    )
    expires_at: Time = Field(description="When the session ends, unless it is refreshed.")
    is_current: bool = Field(description="Whether this request uses the session.", examples=[True])


@routes.get(
    "",
    Action.LIST_SESSIONS,
    "List my sessions, newest first",
    errors=(NotAuthenticated, InsufficientScope),
)
async def mine(
    caller: Authenticated,
    request: Request,
    limit: PageSize = 20,
    cursor: Cursor = None,
) -> PageOut[SessionOut]:
    """List the caller's active sessions, newest first."""
    page = await of(request, Identity).sessions.of_caller(
        caller, before=decode_cursor(cursor), limit=limit
    )
    return PageOut[SessionOut].of(page)


@routes.post(
    "/{sessionId}/end",  # Not a DELETE: many clients can't send a body with that.
    Action.END_SESSION,
    "End one of my sessions",
    status=204,
    errors=(NotAuthenticated, InsufficientScope, WrongPassword, UserNotFound, SessionNotFound),
)
async def end(
    sessionId: SessionId,  # noqa: N803 - the API's name
    body: EndSession,
    caller: Authenticated,
    request: Request,
) -> None:
    """End one of the caller's sessions, also on another device.

    All workers refuse its tokens within seconds.
    """
    await confirmed(request, caller, body.password)
    await of(request, Identity).sessions.end_of_user(caller.id, sessionId)
