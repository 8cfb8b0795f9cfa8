"""The right to create events, at a site where not everybody has it."""

from fastapi import Request

from ticketing.errors import Forbidden, InsufficientScope, NotAuthenticated, UserNotFound
from ticketing.identity.part import Identity
from ticketing.identity.permissions import Action
from ticketing.identity.routers.authentication import Authenticated, origin, require_admin
from ticketing.web.fields import UserId
from ticketing.web.part import of
from ticketing.web.routes import Routes

routes = Routes("/api/users/{userId}/organiser", "users")

ERRORS = (NotAuthenticated, InsufficientScope, Forbidden, UserNotFound)


@routes.put(
    "", Action.GRANT_ORGANISER, "Grant the right to create events", status=204, errors=ERRORS
)
async def grant(
    userId: UserId,  # noqa: N803 - the API's name
    caller: Authenticated,
    request: Request,
) -> None:
    """Let a person create events; for admins of the site.

    This matters if the site's operator set `TICKETING_ORGANISERS=granted`. A second request changes
    nothing.
    """
    require_admin(request, caller)
    await of(request, Identity).organisers.grant(userId, origin(request, caller))


@routes.delete(
    "", Action.REVOKE_ORGANISER, "Revoke the right to create events", status=204, errors=ERRORS
)
async def revoke(
    userId: UserId,  # noqa: N803 - the API's name
    caller: Authenticated,
    request: Request,
) -> None:
    """Revoke the right, also for the person's API keys; for admins of the site.

    Every worker learns it within a second. Events that the person created stay theirs.
    """
    require_admin(request, caller)
    await of(request, Identity).organisers.revoke(userId, origin(request, caller))
