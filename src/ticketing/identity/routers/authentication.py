"""Authenticate callers, check their permissions and confirm their passwords."""

from contextlib import AbstractAsyncContextManager, nullcontext, suppress
from typing import Annotated
from uuid import UUID

from fastapi import Depends, Request
from fastapi.security import HTTPBearer

from ticketing.db.facts import Origin
from ticketing.errors import (
    Forbidden,
    InsufficientScope,
    NoCredential,
    OrganiserRequired,
    TicketingError,
)
from ticketing.identity.callers import Caller
from ticketing.identity.credentials import KEY_PREFIX
from ticketing.identity.part import Identity
from ticketing.identity.permissions import BY_NAME, RULES, Action, Role, Rule
from ticketing.identity.tokens import Tokens
from ticketing.limits.limits import TAKEN
from ticketing.ops import logs
from ticketing.web.asgi import ASGIScope, client_address
from ticketing.web.direct import Directly
from ticketing.web.part import of
from ticketing.web.replay import KeyedRequest


class Bearer(Directly, HTTPBearer):
    """The dependency that finds the credential of a request and verifies it.

    A session may do whatever its person may. An API key must have a scope that allows the action of
    the route.
    """

    def __init__(self) -> None:
        super().__init__(
            scheme_name="bearer",
            description="The `token` from `POST /api/users/login`, or an API key.",
        )

    async def __call__(self, request: Request) -> Caller:  # type: ignore[override]
        """Return the caller. A credential that was verified before needs no I/O.

        Raises NotAuthenticated, InsufficientScope, or TooManyRequests if the route is counted by
        account or by API key.
        """
        scope = request.scope
        have, policy = of(request, Identity), scope["route"].policy
        credential = _credential(scope)
        caller = have.tokens.known(credential)
        if caller is None and credential.startswith(KEY_PREFIX):
            caller = have.tokens.remember(credential, await have.keys.verify(credential))
        elif caller is None and policy.action == Action.LOGOUT:
            # This may be a resent logout, which has already ended the session.
            caller = have.tokens.named(credential, ended=_has_key(request))
        elif caller is None:
            caller = have.tokens.verify(credential)
        scope["user_id"] = caller.id
        if have.limits is not None:
            key = None if caller.scopes is None else caller.credential
            have.limits.count(policy.counted, caller.id, key, scope[TAKEN])
        rule = BY_NAME[policy.action]
        may = caller.scopes is None or not rule.scopes.isdisjoint(caller.scopes)
        if not may and not rule.is_public:
            raise InsufficientScope(scopes=sorted(rule.scopes))
        return caller


Authenticated = Annotated[Caller, Depends(Bearer())]


def _credential(scope: ASGIScope) -> str:
    given = next((v for k, v in scope["headers"] if k == b"authorization"), b"")
    scheme, _, credential = given.decode("latin-1").partition(" ")
    if scheme.lower() != "bearer":
        raise NoCredential
    found: str = credential.strip()
    return found


def is_known_key(tokens: Tokens, scope: ASGIScope) -> bool:
    """Whether the request has an API key that this worker has verified, and that has a limit."""
    with suppress(NoCredential):
        caller = tokens.known(_credential(scope))
        return caller is not None and caller.scopes is not None
    return False


def count_person(request: Request, caller: Caller) -> None:
    """Count a booking of the caller. Raises TooManyRequests."""
    if limits := of(request, Identity).limits:
        limits.count_account(caller.id, request.scope[TAKEN])


async def require_customer(
    request: Request, caller: Caller, event_id: int, external_id: str
) -> UUID:
    """Raise Forbidden unless the caller may do the route's action for customers of the event.

    Return the event's owner, whose customers these are. The booking counts for the API key and for
    the customer, and not for the caller, so that one person's limit never stops a shop. Raises
    EventNotFound or TooManyRequests.
    """
    limits, taken = of(request, Identity).limits, request.scope.get(TAKEN, [])
    if limits and caller.scopes is None:
        limits.count_key(caller.id, taken)
    organiser_id = await require(request, caller, event_id)
    if limits:
        limits.count_customer(organiser_id, external_id, taken)
    return organiser_id


def _has_key(request: Request) -> bool:
    return "idempotency-key" in request.headers


async def require(
    request: Request, caller: Caller, event_id: int, action: Action | None = None
) -> UUID:
    """Raise Forbidden unless the caller may do the route's action, or this one, with the event.

    Return the event's owner. Raises EventNotFound.
    """
    have = of(request, Identity)
    role, organiser_id = await have.team.standing(event_id, caller.id)
    if caller.id in have.access.admins:
        role = Role.ADMIN
    rule = _rule(request) if action is None else RULES[action]
    if role not in rule.roles:
        raise Forbidden
    return organiser_id


async def require_for(request: Request, caller: Caller, organiser_id: UUID) -> None:
    """Raise Forbidden unless the caller may do the route's action with the organiser's customers.

    Who is a manager of one of the organiser's events is a manager of the customers.
    """
    have = of(request, Identity)
    if caller.id == organiser_id:
        role = Role.OWNER
    elif caller.id in have.access.admins:
        role = Role.ADMIN
    else:
        manages = await have.team.manages_for(organiser_id, caller.id)
        role = Role.MANAGER if manages else Role.ANYBODY
    if role not in _rule(request).roles:
        raise Forbidden


async def may(
    request: Request, caller: Caller, event_id: int, action: Action | None = None
) -> bool:
    """Whether the caller may do the route's action, or this one, with the event, for anybody."""
    try:
        await require(request, caller, event_id, action)
    except Forbidden:
        return False
    return True


async def works_on(request: Request, event_id: int) -> bool:
    """Whether the credential, if there is one, is of somebody who works on the event."""
    try:
        caller = await Bearer()(request)
    except TicketingError:
        return False
    have = of(request, Identity)
    role, _ = await have.team.standing(event_id, caller.id)
    return role is not Role.ANYBODY or caller.id in have.access.admins


async def require_about(request: Request, caller: Caller, event_id: int, user_id: UUID) -> None:
    """Do as `require`, unless the action is about the caller and allowed for oneself."""
    if user_id != caller.id or not _rule(request).of_oneself:
        await require(request, caller, event_id)


def require_admin(request: Request, caller: Caller) -> None:
    """Raise Forbidden unless the caller is an admin of the site."""
    if caller.id not in of(request, Identity).access.admins:
        raise Forbidden


def require_organiser(request: Request, caller: Caller) -> None:
    """Raise OrganiserRequired unless the caller may create events."""
    if not of(request, Identity).may_create_events(caller.id):
        raise OrganiserRequired


def _rule(request: Request) -> Rule:
    rule: Rule = BY_NAME[request.scope["route"].policy.action]
    return rule


def origin(request: Request, caller: Caller | None = None) -> Origin:
    """Return the origin of a change, for its trail record."""
    return Origin(
        actor=caller.id if caller else None,
        credential=caller.credential if caller else None,
        address=client_address(request.scope),
        request_id=logs.request_id.get(),
    )


def trying_password(request: Request, account: str) -> AbstractAsyncContextManager[None]:
    """Return the context in which to verify a password. It slows guessing: see `limits.guard`."""
    limits = of(request, Identity).limits
    if limits is None:
        return nullcontext()
    return limits.guard.password(account, client_address(request.scope) or "")


async def recall(request: Request, keyed: KeyedRequest | None, account: str) -> None:
    """Raise the stored response or error of the request, if there is one.

    It shows whether the request has the same password as before. So it is limited like a try to
    guess the password.
    """
    answer = await of(request, Identity).users.recall(keyed) if keyed else None
    if answer is not None:
        async with trying_password(request, account):
            raise answer
