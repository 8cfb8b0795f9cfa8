"""Authenticate callers, check their permissions and confirm their passwords."""

from contextlib import AbstractAsyncContextManager, nullcontext
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
from ticketing.identity.permissions import BY_NAME, Action, Role, Rule
from ticketing.limits.limits import TAKEN
from ticketing.ops import logs
from ticketing.web.asgi import client_address
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
        account.
        """
        scope = request.scope
        have, policy = of(request, Identity), scope["route"].policy
        given = next((v for k, v in scope["headers"] if k == b"authorization"), b"")
        scheme, _, credential = given.decode("latin-1").partition(" ")
        credential = credential.strip()
        if scheme.lower() != "bearer":
            raise NoCredential
        caller = have.tokens.known(credential)
        if caller is None and credential.startswith(KEY_PREFIX):
            caller = have.tokens.remember(credential, await have.keys.verify(credential))
        elif caller is None and policy.action == Action.LOGOUT:
            # This may be a resent logout, which has already ended the session.
            caller = have.tokens.named(credential, ended=_has_key(request))
        elif caller is None:
            caller = have.tokens.verify(credential)
        scope["user_id"] = caller.id
        rule = BY_NAME[policy.action]
        may = caller.scopes is None or not rule.scopes.isdisjoint(caller.scopes)
        if not may and not rule.is_public:
            raise InsufficientScope(scopes=sorted(rule.scopes))
        if have.limits is not None:
            have.limits.count(policy.counted, caller.id, scope[TAKEN])
        return caller


Authenticated = Annotated[Caller, Depends(Bearer())]


def _has_key(request: Request) -> bool:
    return "idempotency-key" in request.headers


async def require(request: Request, caller: Caller, event_id: int) -> None:
    """Raise Forbidden unless the caller may do the route's action with the event.

    Raises EventNotFound.
    """
    have = of(request, Identity)
    role = await have.team.role(event_id, caller.id)
    if caller.id in have.access.admins:
        role = Role.ADMIN
    if role not in _rule(request).roles:
        raise Forbidden


async def may(request: Request, caller: Caller, event_id: int) -> bool:
    """Whether the caller may do the route's action with the event, for anybody."""
    try:
        await require(request, caller, event_id)
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
    role = await have.team.role(event_id, caller.id)
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
