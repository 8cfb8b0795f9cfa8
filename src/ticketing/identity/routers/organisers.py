"""Grant and revoke the right to create events, for sites that restrict it."""

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
    """Let a person create events. Only admins of the site may do this.

    The right matters only if the operator set `TICKETING_ORGANISERS=granted`. A second request
    changes nothing.
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
    """Revoke the right, also for the person's API keys. Only admins of the site may do this.

    It takes effect in all workers within seconds. The person keeps the events they created.
    """
    require_admin(request, caller)
    await of(request, Identity).organisers.revoke(userId, origin(request, caller))
