"""The fields of events of the feed."""

from collections.abc import Mapping
from typing import Any, Final

from pydantic import ConfigDict, Field
from pydantic.alias_generators import to_pascal
from pydantic.json_schema import SkipJsonSchema

from ticketing.feed.told import VERSION, FeedEventType
from ticketing.sale.inventory.model import BookingStatus
from ticketing.web.fields import BookingId, EventId, Long, Out, Short, TicketId, Time, UserId


class FeedBookingOut(Out):
    """A booking as it was after the change."""

    id: BookingId
    event_id: EventId
    user_id: UserId
    status: BookingStatus
    created_at: Time
    quantity: Short = Field(description="Places that it has or waits for.", examples=[1])
    ticket_type_id: Long | None = Field(
        description="Null for several types, and for one place of the event's first type.",
        examples=[None],
    )
    amount: Long = Field(
        description="The sum of its prices, in the minor unit of the currency.", examples=[0]
    )
    currency: str | None = Field(description="Null if the booking is free.", examples=[None])
    code_id: Long | None = Field(
        description="The code that it was booked with; null without one.", examples=[None]
    )
    expires_at: Time | None = Field(
        description="The end of a hold or an offer, or when it expired.", examples=[None]
    )


def _absent(schema: dict[str, Any]) -> None:
    """Document that members are absent if they do not belong to the type, and never null."""
    for member in schema["properties"].values():
        member.pop("default", None)


class FeedEventData(Out):
    """The details of an event of the feed. The first part of `type` says which members it has."""

    model_config = ConfigDict(
        json_schema_serialization_defaults_required=False, json_schema_extra=_absent
    )

    booking: FeedBookingOut | SkipJsonSchema[None] = Field(
        default=None, description="`booking.*`: as it was then."
    )
    cancelled_ticket_ids: list[TicketId] | SkipJsonSchema[None] = Field(
        default=None,
        description="`booking.*`: tickets that were cancelled while the rest of the booking stays.",
    )
    reference: str | SkipJsonSchema[None] = Field(
        default=None,
        description="`payment.*`, `refund.*`: that of your own system.",
        examples=["order-17"],
    )
    amount: Long | SkipJsonSchema[None] = Field(
        default=None,
        description="`payment.*`, `refund.*`: in the minor unit of the currency.",
        examples=[2500],
    )
    currency: str | None = Field(
        default=None, description="`payment.*`, `refund.*`.", examples=["EUR"]
    )
    event: dict[str, Any] | None = Field(
        default=None,
        description="`event.*`: as it was after the change. Null if an earlier version changed it.",
        examples=[{"id": 1, "name": "Jazz", "capacity": 100, "status": "published"}],
    )
    ticket_type: dict[str, Any] | None = Field(
        default=None,
        description="`ticket_type.*`: as it was after the change, or before it was deleted.",
        examples=[{"id": 1, "name": "Balcony", "price": {"amount": 2500, "currency": "EUR"}}],
    )
    quota: dict[str, Any] | None = Field(
        default=None,
        description="`quota.*`: as it was after the change, or before it was deleted.",
        examples=[{"id": 1, "name": "Seats", "capacity": 100}],
    )
    changes: dict[str, Any] | SkipJsonSchema[None] = Field(
        default=None,
        description="`event.*`, `ticket_type.*`, `quota.*`, `code.*`, `codes.*`, `door.*`: what"
        " changed, as in the audit trail.",
        examples=[{"name": {"from": "A concert", "to": "Jazz"}}],
    )
    ticket: dict[str, Any] | SkipJsonSchema[None] = Field(
        default=None,
        description="`ticket.*`: the ticket and what changed, without names and codes.",
        examples=[{"ticketId": "01942f6a-3b5c-7d8e-9f00-112233445566", "generation": 2}],
    )
    check_in: dict[str, Any] | SkipJsonSchema[None] = Field(
        default=None,
        description="`check_in.*`: the scan with its verdict, or why it was taken back.",
        examples=[{"gate": "North", "direction": "in", "verdict": "admitted"}],
    )
    user_id: UserId | SkipJsonSchema[None] = Field(
        default=None, description="`role.*`: the member of the team."
    )
    role: str | SkipJsonSchema[None] = Field(
        default=None, description="`role.*`.", examples=["manager"]
    )


class FeedEventOut(Out):
    """Something that happened at an event, and the object as it was then."""

    id: Long = Field(
        description="The same number as in the audit trail. Handle each number once.",
        examples=[1042],
    )
    type: FeedEventType = Field(examples=[FeedEventType.BOOKED])
    version: Short = Field(
        description="The version of these fields. New fields may come without another version.",
        examples=[VERSION],
    )
    at: Time
    event_id: EventId
    booking_id: BookingId | None = Field(description="Null if it is not about a booking.")
    booking_sequence: Long | None = Field(
        description="Numbers what happened to the booking: 1, 2, 3. Null if it is not about one.",
        examples=[1],
    )
    data: FeedEventData


_HEADERS: Final = {
    "webhook-id": "The same at each try. Handle each id once.",
    "webhook-timestamp": "The time of this try, in seconds since 1970.",
    "webhook-signature": "One or more signatures (https://www.standardwebhooks.com), separated by"
    " spaces.",
    "webhook-attempt": "The number of the try, from 1.",
}
_SUMMARIES: Final[Mapping[str, str]] = {
    FeedEventType.BOOKED: "Somebody has booked",
    FeedEventType.WAITING: "Somebody has joined the waiting list",
    FeedEventType.HELD: "Places are held",
    FeedEventType.OFFERED: "Places are offered to somebody who waited",
    FeedEventType.PROMOTED: "Somebody who waited has got places",
    FeedEventType.CONFIRMED: "A hold or an offer was confirmed",
    FeedEventType.EXTENDED: "A hold lasts longer",
    FeedEventType.PASSED: "A waiting group was passed by a booking behind it",
    FeedEventType.REDUCED: "Some tickets of a booking were cancelled",
    FeedEventType.CANCELLED: "A booking was cancelled",
    FeedEventType.EXPIRED: "A hold or an offer has ended",
    FeedEventType.PAID: "A payment was recorded",
    FeedEventType.REFUNDED: "A refund was recorded",
    FeedEventType.EVENT_CREATED: "An event was created",
    FeedEventType.EVENT_REVISED: "An event was changed",
    FeedEventType.EVENT_PUBLISHED: "An event was published",
    FeedEventType.EVENT_PAUSED: "A sale was paused",
    FeedEventType.EVENT_RESUMED: "A sale goes on",
    FeedEventType.EVENT_CANCELLED: "An event was cancelled",
    FeedEventType.OWNER_CHANGED: "An event belongs to another person",
    FeedEventType.TYPE_CREATED: "A ticket type was created",
    FeedEventType.TYPE_REVISED: "A ticket type was changed",
    FeedEventType.TYPE_DELETED: "A ticket type was deleted",
    FeedEventType.QUOTA_CREATED: "A quota was created",
    FeedEventType.QUOTA_REVISED: "A quota was changed",
    FeedEventType.QUOTA_DELETED: "A quota was deleted",
    FeedEventType.CODES_CREATED: "Codes were created",
    FeedEventType.CODE_CHANGED: "A code was changed",
    FeedEventType.CODE_DELETED: "A code was deleted",
    FeedEventType.TICKET_CHANGED: "The name, the address or the times of a ticket were changed",
    FeedEventType.TICKET_REISSUED: "A ticket has a new code",
    FeedEventType.TRANSFER_OFFERED: "A ticket can be passed on",
    FeedEventType.TICKET_TRANSFERRED: "A ticket was passed on",
    FeedEventType.CHECKED_IN: "A ticket was scanned at the door",
    FeedEventType.CHECK_IN_UNDONE: "A scan was taken back",
    FeedEventType.DOOR_CHANGED: "The check-in lists of an event were changed",
    FeedEventType.ROLE_GRANTED: "Somebody works on an event",
    FeedEventType.ROLE_REVOKED: "Somebody no longer works on an event",
}


def described() -> dict[str, Any]:
    """Return the calls of webhooks for the OpenAPI document, by type."""
    return {str(each): {"post": _call(each)} for each in FeedEventType}


_BODY: Final = "#/components/schemas/FeedEventOut"


def _call(of: FeedEventType) -> dict[str, Any]:
    return {
        "operationId": f"on{to_pascal(of.replace('.', '_'))}",
        "summary": _SUMMARIES[of],
        "description": "Sent to webhooks at least once.",
        "security": [],
        "tags": ["deliveries"],
        "parameters": [
            {
                "name": name,
                "in": "header",
                "required": True,
                "description": told,
                "schema": {"type": "string"},
            }
            for name, told in _HEADERS.items()
        ],
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": {"$ref": _BODY}}},
        },
        "responses": {
            "2XX": {"description": "Accepted."},
            "410": {"description": "Disables the webhook."},
            "default": {"description": "Tried again later."},
        },
    }
