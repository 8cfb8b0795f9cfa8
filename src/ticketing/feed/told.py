"""Events of the feed, made from trail records. No I/O.

A trail record says what changed. Together with its action that is enough to tell how a booking was
then, so a sale writes nothing more. Records of events, ticket types and quotas have the object.
"""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final, NamedTuple
from uuid import UUID

import orjson

VERSION: Final = 1
"""Of the fields of an event of the feed. New fields may come without another version."""


class FeedEventType(StrEnum):
    """The types of events of the feed. They are the actions of trail records."""

    BOOKED = "booking.booked"
    WAITING = "booking.waiting"
    HELD = "booking.held"
    OFFERED = "booking.offered"
    PROMOTED = "booking.promoted"
    CONFIRMED = "booking.confirmed"
    EXTENDED = "booking.extended"
    PASSED = "booking.passed"
    REDUCED = "booking.reduced"
    CANCELLED = "booking.cancelled"
    EXPIRED = "booking.expired"
    PAID = "payment.recorded"
    REFUNDED = "refund.recorded"
    EVENT_CREATED = "event.created"
    EVENT_REVISED = "event.revised"
    EVENT_PUBLISHED = "event.published"
    EVENT_PAUSED = "event.paused"
    EVENT_RESUMED = "event.resumed"
    EVENT_CANCELLED = "event.cancelled"
    OWNER_CHANGED = "event.owner_changed"
    TYPE_CREATED = "ticket_type.created"
    TYPE_REVISED = "ticket_type.revised"
    TYPE_DELETED = "ticket_type.deleted"
    QUOTA_CREATED = "quota.created"
    QUOTA_REVISED = "quota.revised"
    QUOTA_DELETED = "quota.deleted"
    CODES_CREATED = "codes.created"
    CODE_CHANGED = "code.changed"
    CODE_DELETED = "code.deleted"
    TICKET_CHANGED = "ticket.changed"
    TICKET_REISSUED = "ticket.reissued"
    TRANSFER_OFFERED = "ticket.transfer_offered"
    TICKET_TRANSFERRED = "ticket.transferred"
    CHECKED_IN = "check_in.recorded"
    CHECK_IN_UNDONE = "check_in.undone"
    DOOR_CHANGED = "door.changed"
    ROLE_GRANTED = "role.granted"
    ROLE_REVOKED = "role.revoked"


TEST: Final = "webhook.test"
"""The type of a delivery that only shows that a webhook works."""

FIRST: Final = (FeedEventType.BOOKED, FeedEventType.WAITING, FeedEventType.HELD)
"""What the first record of a booking says. Later ones say something else."""

STATUS: Final[Mapping[str, str]] = {
    FeedEventType.BOOKED: "booked",
    FeedEventType.WAITING: "waiting",
    FeedEventType.HELD: "held",
    FeedEventType.OFFERED: "offered",
    FeedEventType.PROMOTED: "booked",
    FeedEventType.CONFIRMED: "booked",
    FeedEventType.EXTENDED: "held",
    FeedEventType.PASSED: "waiting",
    FeedEventType.REDUCED: "booked",
    FeedEventType.CANCELLED: "cancelled",
    FeedEventType.EXPIRED: "expired",
}
"""The status of a booking after each of its changes."""


class Fact(NamedTuple):
    """A trail record of an event, and what tells how a booking was."""

    seq: int
    at: datetime
    action: str
    event_id: int
    subject: UUID | None
    details: Mapping[str, Any]
    whole: Mapping[str, Any] | None
    booked_at: datetime | None
    """When the booking was made."""
    number: int | None
    """The number of the record among those of its booking, from 1."""


def document(fact: Fact) -> dict[str, object]:
    """Return the event of the feed. The same record always makes the same document."""
    about = fact.details.get("bookingId")
    return {
        "id": fact.seq,
        "type": fact.action,
        "version": VERSION,
        "at": fact.at,
        "eventId": fact.event_id,
        "bookingId": about,
        "bookingSequence": fact.number,
        "data": _DATA[fact.action.partition(".")[0]](fact),
    }


def test_document(at: datetime, event_id: int | None) -> dict[str, object]:
    """Return what a test delivers."""
    return {
        "id": 0,
        "type": TEST,
        "version": VERSION,
        "at": at,
        "eventId": event_id,
        "bookingId": None,
        "bookingSequence": None,
        "data": {},
    }


def encoded(document: object) -> bytes:
    """Return the JSON of documents."""
    return orjson.dumps(document, default=str, option=orjson.OPT_UTC_Z)


def _booking(fact: Fact) -> dict[str, object]:
    details, status = fact.details, STATUS[fact.action]
    ends_at = details.get("expiresAt")
    return {
        "booking": {
            "id": details["bookingId"],
            "eventId": fact.event_id,
            "userId": fact.subject,
            "status": status,
            "createdAt": fact.booked_at or fact.at,
            "quantity": details.get("quantity", 1),
            "ticketTypeId": details.get("ticketTypeId"),
            "amount": details.get("amount", 0),
            "currency": details.get("currency"),
            "codeId": details.get("codeId"),
            # A group that waits has an end of its patience, which nobody sees.
            "expiresAt": None
            if ends_at is None or status == "waiting"
            else datetime.fromisoformat(ends_at).astimezone(UTC),
        },
        "cancelledTicketIds": details.get("ticketIds", []),
    }


def _money(fact: Fact) -> dict[str, object]:
    return {name: fact.details[name] for name in ("reference", "amount", "currency")}


def _role(fact: Fact) -> dict[str, object]:
    return {"userId": fact.subject, "role": fact.details["role"]}


def _change(fact: Fact) -> dict[str, object]:
    return {"changes": fact.details}


def _changed(name: str) -> Callable[[Fact], dict[str, object]]:
    def changed(fact: Fact) -> dict[str, object]:
        return {name: fact.whole, "changes": fact.details}

    return changed


def _detailed(name: str) -> Callable[[Fact], dict[str, object]]:
    def detailed(fact: Fact) -> dict[str, object]:
        return {name: fact.details}

    return detailed


_DATA: Final[Mapping[str, Callable[[Fact], dict[str, object]]]] = {
    "booking": _booking,
    "payment": _money,
    "refund": _money,
    "role": _role,
    "event": _changed("event"),
    "ticket_type": _changed("ticketType"),
    "quota": _changed("quota"),
    # Their texts are secrets, so there are only their ids.
    "codes": _change,
    "code": _change,
    "ticket": _detailed("ticket"),
    "check_in": _detailed("checkIn"),
    "door": _change,
}
"""By the first part of the type, what `data` has."""
