"""Customers of an organiser: list, find, change and erase them, and give them a login."""

from typing import Annotated
from uuid import UUID

from fastapi import Query, Request
from pydantic import BaseModel, Field
from pydantic.json_schema import SkipJsonSchema

from ticketing.errors import (
    AnswerLost,
    CustomerNotFound,
    Forbidden,
    InsufficientScope,
    LoginExists,
    NotAuthenticated,
)
from ticketing.identity.callers import Caller
from ticketing.identity.fields import CustomerName, Email, ExternalId
from ticketing.identity.part import Identity
from ticketing.identity.permissions import Action
from ticketing.identity.repositories.customers import Customer
from ticketing.identity.repositories.password_tokens import PasswordToken
from ticketing.identity.routers.authentication import Authenticated, origin, require_for
from ticketing.web.fields import In, Out, Time, UserId
from ticketing.web.lists import Cursor, PageOut, PageSize, decode_cursor
from ticketing.web.part import Departures, of
from ticketing.web.replay import IdempotencyKey, Rendered, keyed_request, rendered
from ticketing.web.routes import Routes

routes = Routes("/api/customers", "customers")

OF_ONE = (NotAuthenticated, InsufficientScope, Forbidden, CustomerNotFound)


class UpdateCustomer(In):
    """The fields to change. Null removes what is known."""

    name: CustomerName | None = None
    email: Email | None = None


class CustomerOut(Out):
    """A customer. The `id` is the `userId` of their bookings."""

    id: UserId
    organiser_id: UserId
    external_id: str = Field(examples=["customer-4711"])
    name: str | None = Field(examples=["Ada Lovelace"])
    email: str | None = Field(examples=["ada@example.org"])
    created_at: Time
    has_login: bool = Field(
        description="Whether the customer has made an account here.", examples=[False]
    )


class LoginTokenOut(Out):
    """A token with which the customer makes an account."""

    token: str = Field(
        description="Send it to the customer. It can't be shown again.",
        examples=["Zk8w2-mJVf0bX9cTnKl4uYdEaGhRsZpMoIiWvCy1xQ8"],
    )
    expires_at: Time


class MakeLoginToken(BaseModel):
    """A request for a token, from which its digest is made."""

    customer_id: UUID


@routes.get(
    "",
    Action.LIST_CUSTOMERS,
    "List customers, newest first",
    errors=(NotAuthenticated, InsufficientScope, Forbidden),
)
async def listed(  # noqa: PLR0913, PLR0917 - FastAPI passes them by name
    caller: Authenticated,
    request: Request,
    organiserId: Annotated[  # noqa: N803 - the API's name
        UserId | SkipJsonSchema[None],
        Query(description="List the customers of this organiser, instead of the caller's."),
    ] = None,
    externalId: Annotated[  # noqa: N803 - the API's name
        ExternalId | SkipJsonSchema[None], Query(description="Only the customer with this id.")
    ] = None,
    limit: PageSize = 20,
    cursor: Cursor = None,
) -> PageOut[CustomerOut]:
    """List the caller's customers, or with `organiserId` those of somebody else.

    The customers of an organiser are for the organiser, for managers of any of their events, and
    for admins of the site.
    """
    organiser_id = organiserId or caller.id
    await require_for(request, caller, organiser_id)
    page = await of(request, Identity).customers.of_organiser(
        organiser_id, external_id=externalId, before=decode_cursor(cursor), limit=limit
    )
    return PageOut[CustomerOut].of(page)


@routes.get("/{customerId}", Action.GET_CUSTOMER, "Read a customer", errors=OF_ONE)
async def get(
    customerId: UserId,  # noqa: N803 - the API's name
    caller: Authenticated,
    request: Request,
) -> CustomerOut:
    """Return a customer."""
    return CustomerOut.model_validate(await _found(request, caller, customerId))


@routes.patch("/{customerId}", Action.UPDATE_CUSTOMER, "Change a customer", errors=OF_ONE)
async def update(
    customerId: UserId,  # noqa: N803 - the API's name
    body: UpdateCustomer,
    caller: Authenticated,
    request: Request,
) -> CustomerOut:
    """Change the name or the e-mail address. Fields that are not sent stay as they are."""
    await _found(request, caller, customerId)
    changes = body.model_dump(include=body.model_fields_set)
    by = origin(request, caller)
    return CustomerOut.model_validate(
        await of(request, Identity).customers.update(customerId, changes, by)
    )


@routes.delete(
    "/{customerId}", Action.ERASE_CUSTOMER, "Erase a customer", status=204, errors=OF_ONE
)
async def erase(
    customerId: UserId,  # noqa: N803 - the API's name
    caller: Authenticated,
    request: Request,
) -> None:
    """Erase the name, the e-mail address and the `externalId`. Booked places stay booked.

    First cancel the bookings that nobody will use. The customer leaves every waiting list, and
    can't be booked again. A later booking with the same `externalId` makes a new customer. An
    account that the customer has made stays: only they can delete it.
    """
    await _found(request, caller, customerId)
    by = origin(request, caller)
    if await of(request, Identity).customers.erase(customerId, by):
        await of(request, Departures).tell(customerId)


@routes.post(
    "/{customerId}/login-token",
    Action.MAKE_LOGIN_TOKEN,
    "Make a token with which a customer makes an account",
    status=201,
    model=LoginTokenOut,
    errors=(*OF_ONE, LoginExists, AnswerLost),
)
async def make_login_token(
    customerId: UserId,  # noqa: N803 - the API's name
    caller: Authenticated,
    request: Request,
    idempotency_key: IdempotencyKey = None,
) -> Rendered:
    """Make a token for `POST /api/users/register`. It works once and expires after 24 hours.

    With the account the customer sees and cancels their own bookings. A newer token replaces this
    one.
    """
    have = of(request, Identity)
    await _found(request, caller, customerId)
    asked = MakeLoginToken(customer_id=customerId)
    keyed = keyed_request(caller.id, idempotency_key, asked, _made, have.seals)
    by = origin(request, caller)
    return _made(await have.customers.make_login_token(customerId, by, keyed))


def _made(token: PasswordToken) -> Rendered:
    return rendered(201, LoginTokenOut.model_validate(token))


async def _found(request: Request, caller: Caller, customer_id: UUID) -> Customer:
    """Return the customer. Raises CustomerNotFound, or Forbidden."""
    customer = await of(request, Identity).customers.get(customer_id)
    await require_for(request, caller, customer.organiser_id)
    return customer
