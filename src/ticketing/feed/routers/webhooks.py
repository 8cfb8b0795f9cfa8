"""Webhooks: a program is called when something happens."""

from enum import StrEnum
from typing import Annotated, Final
from urllib.parse import urlsplit
from uuid import UUID

from fastapi import Request
from pydantic import AfterValidator, BaseModel, Field, StringConstraints
from pydantic_core import PydanticCustomError

from ticketing.errors import (
    AnswerLost,
    EventNotFound,
    Forbidden,
    InsufficientScope,
    NotAuthenticated,
    TooManyWebhooks,
    UserNotFound,
    WebhookNotFound,
)
from ticketing.feed.part import Feed
from ticketing.feed.repositories.webhooks import Asked, Changes, Webhook
from ticketing.feed.told import FeedEventType
from ticketing.identity.part import Identity
from ticketing.identity.permissions import Action
from ticketing.identity.routers.authentication import Authenticated, origin, require
from ticketing.web.fields import EventId, In, Long, Out, Short, Time
from ticketing.web.lists import CURSOR, Cursor, PageOut, PageSize, decode_cursor
from ticketing.web.part import of
from ticketing.web.replay import IdempotencyKey, Rendered, keyed_request, rendered
from ticketing.web.routes import Routes

routes = Routes("/api/webhooks", "webhooks")

ON_ONE: Final = (NotAuthenticated, InsufficientScope, WebhookNotFound)
"""Errors of requests about one webhook."""
SECRET: Final = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"  # noqa: S105 - an example


def _callable(url: str) -> str:
    try:
        parts = urlsplit(url)
        is_whole = bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_whole = False
    if not is_whole:
        raise PydanticCustomError("url", "must name a host, and a port if it is another")
    if "@" in parts.netloc:
        raise PydanticCustomError("url", "must not contain a name or a password")
    if parts.fragment:
        raise PydanticCustomError("url", "must not contain a fragment")
    return url


WebhookId = Annotated[UUID, Field(examples=["019938a5-c1d2-7a3b-9c4d-5e6f7a8b9c0d"])]
Url = Annotated[
    str,
    StringConstraints(max_length=2_000, pattern=r"^https?://[!-~]+$"),
    Field(examples=["https://shop.example/ticketing"]),
    AfterValidator(_callable),
]
Types = Annotated[
    list[Annotated[FeedEventType, Field(strict=False)]],
    Field(min_length=1, max_length=100, examples=[["booking.booked", "booking.cancelled"]]),
]


class WebhookState(StrEnum):
    """Whether events are sent to a webhook."""

    ACTIVE = "active"
    DISABLED = "disabled"


class CreateWebhook(In):
    """The address to call, the types of events of the feed, and the event that they are about.

    Without `types` it is all types, later ones too. Without `eventId` it is every event whose owner
    or manager you are.
    """

    url: Url
    types: Types | None = Field(default=None, description="Null: all types, later ones too.")
    event_id: EventId | None = Field(
        default=None,
        description="Null: every event whose owner or manager you are.",
        examples=[None],
    )


class UpdateWebhook(In):
    """The fields to change. A `types` of null stands for all types. `active` ends a pause."""

    # These can be left out, but not be null.
    url: Url = Field(default_factory=str)
    types: Types | None = Field(default=None, description="Null: all types, later ones too.")
    state: WebhookState = Field(
        default_factory=lambda: WebhookState.ACTIVE, strict=False, examples=["active"]
    )


class RotateSecret(In):
    """Nothing: the new secret is made here."""


class ReplayWebhook(In):
    """The place in the feed after which everything is delivered again."""

    cursor: Annotated[str, StringConstraints(pattern=CURSOR), Field(examples=["4f2"])]


class WebhookOut(Out):
    """A webhook without its secret."""

    id: WebhookId
    url: str = Field(examples=["https://shop.example/ticketing"])
    types: list[FeedEventType] = Field(examples=[["booking.booked", "booking.cancelled"]])
    event_id: Long | None = Field(description="Null: all your events.", examples=[None])
    state: WebhookState = Field(
        description="`disabled`: by you, by a response 410, or after three days of failures.",
        examples=["active"],
    )
    since: Time = Field(description="When `state` changed last.")
    last_error: str | None = Field(
        description="The last failure of those that made it fail or be disabled.", examples=[None]
    )
    failing_since: Time | None = Field(
        description="Since when every try has failed; null if the last one did not.",
        examples=[None],
    )
    cursor: str | None = Field(
        description="The place in `GET /api/feed` up to which it was tried.", examples=["4f2"]
    )
    created_at: Time


class WebhookDetailsOut(WebhookOut):
    """A webhook, and how much it has not got."""

    undelivered: Long = Field(
        description="Events of the feed that it has not accepted. At most 10,000 of those that"
        " were never tried are counted.",
        examples=[0],
    )


class IssuedWebhookOut(WebhookOut):
    """A webhook with its new secret."""

    secret: str = Field(
        description="Verify deliveries with it. It can't be shown again.", examples=[SECRET]
    )


class DeliveryOut(Out):
    """A try to deliver an event of the feed."""

    message_id: str = Field(description="The header `webhook-id`.", examples=["1042"])
    type: str = Field(examples=["booking.booked"])
    attempt: Short = Field(description="The header `webhook-attempt`.", examples=[1])
    at: Time
    status: Short | None = Field(
        description="The status of the response; null if there was none.", examples=[200]
    )
    error: str | None = Field(description="Why there was no response.", examples=[None])
    milliseconds: Short = Field(examples=[12])


class DeliveriesOut(Out):
    """The last hundred deliveries, newest first."""

    items: list[DeliveryOut]


@routes.post(
    "",
    Action.CREATE_WEBHOOK,
    "Create a webhook",
    status=201,
    model=IssuedWebhookOut,
    errors=(
        *(NotAuthenticated, InsufficientScope, Forbidden, EventNotFound, UserNotFound),
        *(TooManyWebhooks, AnswerLost),
    ),
)
async def create(
    body: CreateWebhook,
    caller: Authenticated,
    request: Request,
    idempotency_key: IdempotencyKey = None,
) -> Rendered:
    """Create a webhook: a POST to `url` for each event of the feed, from now on.

    The body of each POST is an item of `GET /api/feed`: see `webhooks` in the OpenAPI document. It
    is signed (https://www.standardwebhooks.com). The secret is shown only in this response. A
    person can have 50 webhooks.
    """
    if body.event_id is not None:
        await require(request, caller, body.event_id, Action.READ_EVENT_FEED)
    keyed = keyed_request(caller.id, idempotency_key, body, _issued, of(request, Identity).seals)
    asked = Asked(body.url, body.types, body.event_id)
    made = await of(request, Feed).webhooks.make(caller.id, asked, origin(request, caller), keyed)
    return _issued(made)


def _issued(made: tuple[Webhook, str]) -> Rendered:
    return rendered(201, _with_secret(made), f"/api/webhooks/{made[0].id}")


def _rotated(made: tuple[Webhook, str]) -> Rendered:
    return rendered(200, _with_secret(made))


def _with_secret(made: tuple[Webhook, str]) -> IssuedWebhookOut:
    webhook, secret = made
    return IssuedWebhookOut(**WebhookOut.model_validate(webhook).model_dump(), secret=secret)


@routes.get(
    "",
    Action.LIST_WEBHOOKS,
    "List my webhooks, newest first",
    errors=(NotAuthenticated, InsufficientScope),
)
async def mine(
    caller: Authenticated,
    request: Request,
    limit: PageSize = 20,
    cursor: Cursor = None,
) -> PageOut[WebhookOut]:
    """List the webhooks that the caller made."""
    page = await of(request, Feed).webhooks.of_user(
        caller.id, before=decode_cursor(cursor), limit=limit
    )
    return PageOut[WebhookOut].of(page)


@routes.get("/{webhookId}", Action.GET_WEBHOOK, "Get a webhook", errors=ON_ONE)
async def get(
    webhookId: WebhookId,  # noqa: N803 - the API's name
    caller: Authenticated,
    request: Request,
) -> WebhookDetailsOut:
    """Return a webhook: whether it works, and how many events it has not accepted."""
    found, undelivered = await of(request, Feed).webhooks.undelivered(caller.id, webhookId)
    shown = WebhookOut.model_validate(found).model_dump()
    return WebhookDetailsOut(**shown, undelivered=undelivered)


@routes.patch("/{webhookId}", Action.UPDATE_WEBHOOK, "Change a webhook", errors=ON_ONE)
async def change(
    webhookId: WebhookId,  # noqa: N803 - the API's name
    body: UpdateWebhook,
    caller: Authenticated,
    request: Request,
) -> WebhookOut:
    """Change the address, the types or the state. A failed delivery is tried again at once.

    A webhook that becomes `active` gets the events that it missed, in order.
    """
    given = body.model_fields_set
    changes = Changes(
        url=body.url if "url" in given else None,
        types=body.types if "types" in given else None,
        all_types="types" in given and body.types is None,
        state=body.state if "state" in given else None,
    )
    changed = await of(request, Feed).webhooks.change(
        caller.id, webhookId, changes, origin(request, caller)
    )
    return WebhookOut.model_validate(changed)


@routes.delete("/{webhookId}", Action.DELETE_WEBHOOK, "Delete a webhook", status=204, errors=ON_ONE)
async def delete(
    webhookId: WebhookId,  # noqa: N803 - the API's name
    caller: Authenticated,
    request: Request,
) -> None:
    """Delete a webhook, and what it has not got yet."""
    await of(request, Feed).webhooks.delete(caller.id, webhookId, origin(request, caller))


@routes.post(
    "/{webhookId}/secret",
    Action.ROTATE_SECRET,
    "Replace the secret of a webhook",
    model=IssuedWebhookOut,
    errors=(*ON_ONE, AnswerLost),
)
async def rotate(
    webhookId: WebhookId,  # noqa: N803 - the API's name
    caller: Authenticated,
    request: Request,
    idempotency_key: IdempotencyKey = None,
) -> Rendered:
    """Give the webhook another secret. Deliveries are signed with both for 24 hours."""
    asked = _Rotated(webhook_id=webhookId)
    keyed = keyed_request(caller.id, idempotency_key, asked, _rotated, of(request, Identity).seals)
    made = await of(request, Feed).webhooks.rotate(
        caller.id, webhookId, origin(request, caller), keyed
    )
    return _rotated(made)


@routes.post("/{webhookId}/replay", Action.REPLAY_WEBHOOK, "Deliver again", errors=ON_ONE)
async def replay(
    webhookId: WebhookId,  # noqa: N803 - the API's name
    body: ReplayWebhook,
    caller: Authenticated,
    request: Request,
) -> WebhookOut:
    """Deliver again everything after a cursor of the feed, with the same `webhook-id`s.

    A webhook that is disabled keeps it until it is active.
    """
    position = decode_cursor(body.cursor) or 0
    replayed = await of(request, Feed).webhooks.replay(
        caller.id, webhookId, position, origin(request, caller)
    )
    return WebhookOut.model_validate(replayed)


@routes.post(
    "/{webhookId}/test",
    Action.TEST_WEBHOOK,
    "Send a test to a webhook",
    errors=ON_ONE,
    streams=True,
)
async def test(
    webhookId: WebhookId,  # noqa: N803 - the API's name
    caller: Authenticated,
    request: Request,
) -> DeliveryOut:
    """Send one event of the type `webhook.test`, and return what became of it.

    It is sent once, also to a webhook that is disabled.
    """
    tried = await of(request, Feed).tester.send(caller.id, webhookId)
    return DeliveryOut.model_validate(tried)


@routes.get(
    "/{webhookId}/deliveries",
    Action.LIST_DELIVERIES,
    "List the last deliveries of a webhook",
    errors=ON_ONE,
)
async def deliveries(
    webhookId: WebhookId,  # noqa: N803 - the API's name
    caller: Authenticated,
    request: Request,
) -> DeliveriesOut:
    """List the last hundred tries to deliver, newest first."""
    found = await of(request, Feed).webhooks.deliveries(caller.id, webhookId)
    return DeliveriesOut.model_validate({"items": found})


class _Rotated(BaseModel):
    """The whole request, for its digest."""

    webhook_id: UUID
