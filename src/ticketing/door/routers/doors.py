"""The rules at the door of an event, and what a device without network needs."""

from typing import Annotated, Any, Final

from fastapi import Query, Request
from pydantic import Field
from pydantic.json_schema import SkipJsonSchema

from ticketing.door.part import Door
from ticketing.door.repositories.doors import Rules
from ticketing.door.routers.keys import TicketKeyOut, key_set
from ticketing.door.rules import NOT_JUDGED_OFFLINE, OPENS_BEFORE, SAY, seconds
from ticketing.errors import (
    EventNotFound,
    Forbidden,
    InsufficientScope,
    InvalidCursor,
    NotAuthenticated,
    TicketTypeNotFound,
    ValidationFailed,
)
from ticketing.identity.permissions import Action
from ticketing.identity.routers.authentication import Authenticated, origin, require
from ticketing.sale.inventory.model import TicketStatus
from ticketing.sale.routers.booking_fields import wrong
from ticketing.sale.routers.times import SentInstant
from ticketing.web.fields import (
    INT32,
    INT64,
    MAX_SAFE_INTEGER,
    EventId,
    In,
    Long,
    Out,
    Short,
    TicketId,
    TicketTypeId,
    Time,
    Whole,
)
from ticketing.web.labels import Label
from ticketing.web.lists import SORTED_CURSOR, decode_pair
from ticketing.web.part import of
from ticketing.web.routes import Routes

routes = Routes("/api/events/{eventId}", "door")

ON_DOOR: Final = (NotAuthenticated, InsufficientScope, Forbidden, EventNotFound)
"""Errors of requests about the door of an event."""
# Its bounds are here, because those of a `Query` that may be left out are documented as `ge`, `le`.
Version = Annotated[int, Field(ge=0, le=MAX_SAFE_INTEGER, json_schema_extra=INT64), Whole]
ListName = Annotated[str, Label(1, 60, "main", exact=True)]
OpensBefore = Annotated[
    int | None,
    Field(
        ge=0,
        le=43_200,
        examples=[OPENS_BEFORE],
        json_schema_extra={"format": "int32"},
        description="Minutes before the event's start from which the list admits. Null: always.",
    ),
]


class SetCheckInList(In):
    """A check-in list: the tickets that it admits, and when. Without `ticketTypeIds`: all types."""

    name: ListName
    ticket_type_ids: Annotated[list[TicketTypeId], Field(min_length=1, max_length=100)] | None = (
        None
    )
    reentry: bool = Field(default=False, description="Whether people go out and in again.")
    opens_before: OpensBefore = OPENS_BEFORE
    needs_payment: bool = Field(
        default=False, description="Whether a ticket whose booking is not paid is refused."
    )

    def stored(self) -> dict[str, Any]:
        """Return it as the rules have it."""
        return {
            "name": self.name,
            "ticketTypes": self.ticket_type_ids,
            "reentry": self.reentry,
            "opensBefore": self.opens_before,
            "needsPayment": self.needs_payment,
        }


class UpdateDoor(In):
    """All lists, and the end of changes by holders. A scan without a list uses the first one."""

    lists: Annotated[list[SetCheckInList], Field(min_length=1, max_length=50)]
    names_until: SentInstant | None = Field(
        default=None, description="Null: until the event starts."
    )


class CheckInListOut(Out):
    """A check-in list: the tickets that it admits, and when."""

    name: str = Field(examples=["main"])
    ticket_type_ids: list[Long] | None = Field(description="Null: all types.", examples=[None])
    reentry: bool = Field(examples=[False])
    opens_before: Short | None = Field(
        description="Minutes before the event's start from which the list admits. Null: always.",
        examples=[OPENS_BEFORE],
    )
    needs_payment: bool = Field(examples=[False])


class DoorOut(Out):
    """The rules at the door of an event."""

    lists: list[CheckInListOut]
    names_until: Time | None = Field(
        description="Until when holders change their tickets. Null: until the event starts.",
        examples=[None],
    )


class ManifestEventOut(Out):
    """The event. Times are in whole seconds since 1970."""

    id: Long = Field(examples=[1])
    name: str = Field(examples=["A concert"])
    status: str = Field(examples=["published"])
    timezone: str | None = Field(examples=["Europe/Berlin"])
    starts_at: Long | None = Field(examples=[1790000000])
    ends_at: Long | None = Field(examples=[None])


class ManifestListOut(Out):
    """A check-in list, by which a device decides."""

    name: str = Field(examples=["main"])
    ticket_types: list[Long] | None = Field(description="Null: all types.", examples=[None])
    reentry: bool = Field(examples=[False])
    opens_before: Short | None = Field(
        description="Minutes before the event's start from which the list admits. Null: always.",
        examples=[OPENS_BEFORE],
    )
    needs_payment: bool = Field(examples=[False])


class ManifestTypeOut(Out):
    """A ticket type."""

    id: Long = Field(examples=[1])
    name: str = Field(examples=["General admission"])


class ManifestUseOut(Out):
    """Where a ticket stands on a list: whether it is inside, and its first entry, in seconds."""

    inside: bool = Field(examples=[True])
    at: Long = Field(examples=[1790000000])
    gate: str | None = Field(examples=["North"])


class ManifestTicketOut(Out):
    """A ticket as a device needs it. Times are in whole seconds since 1970."""

    id: TicketId
    type: Long = Field(examples=[1])
    generation: Long = Field(examples=[1])
    status: TicketStatus = Field(examples=["valid"])
    owes: bool = Field(description="Whether the booking is not paid.", examples=[False])
    from_: Long | None = Field(
        alias="from",
        description="The ticket's own times. Both null: those of the event.",
        examples=[None],
    )
    until: Long | None = Field(examples=[None])
    name: str | None = Field(
        description="The holder's, as it was when the ticket was sent.", examples=["Ada Lovelace"]
    )
    uses: dict[str, ManifestUseOut] = Field(description="By list.", examples=[{}])


class ManifestOut(Out):
    """All that a device needs to decide without network."""

    event: ManifestEventOut
    lists: list[ManifestListOut]
    ticket_types: list[ManifestTypeOut]
    keys: list[TicketKeyOut]
    say: dict[str, str] = Field(
        description="Instructions for the person at the gate, by verdict.",
        examples=[{"admitted": "Welcome. Let them in."}],
    )
    not_judged_offline: list[str] = Field(examples=[["payments after `version`"]])
    now: Long = Field(
        description="The time of the service, in whole seconds since 1970.", examples=[1790000000]
    )
    version: Long = Field(
        description="Send it as `since` to get what changed after it.", examples=[1042]
    )
    items: list[ManifestTicketOut]
    next_page: str | None = Field(
        description="Send it as `page` to get the next page of a full load. Null on the last page.",
        examples=[None],
    )
    is_complete: bool = Field(
        description="False: more follows. Ask again, with `page` or with the new `version`.",
        examples=[True],
    )


@routes.get("/door", Action.GET_DOOR, "Read the rules at the door", errors=ON_DOOR)
async def get(
    eventId: EventId,  # noqa: N803 - the API's name
    caller: Authenticated,
    request: Request,
) -> DoorOut:
    """Return the check-in lists of an event. Without own ones, `main` admits every ticket once."""
    await require(request, caller, eventId)
    return _out(await of(request, Door).doors.get(eventId))


@routes.put(
    "/door",
    Action.UPDATE_DOOR,
    "Set the rules at the door",
    errors=(*ON_DOOR, TicketTypeNotFound, ValidationFailed),
)
async def update(
    eventId: EventId,  # noqa: N803 - the API's name
    body: UpdateDoor,
    caller: Authenticated,
    request: Request,
) -> DoorOut:
    """Replace all lists. Scans keep the name of their list, also if it is gone.

    A list says which ticket types come in, from when, and whether people may go out and in again.
    Gates of one list share what is used: a ticket that came in at one is used at all of them.
    """
    await require(request, caller, eventId)
    names = [each.name for each in body.lists]
    if len(set(names)) < len(names):
        raise wrong("lists", "list_repeated", "Give each list a name of its own")
    lists = [each.stored() for each in body.lists]
    by = origin(request, caller)
    return _out(await of(request, Door).doors.put(eventId, lists, body.names_until, by))


@routes.get(
    "/door-manifest",
    Action.GET_DOOR_MANIFEST,
    "Get what a device needs to judge without network",
    errors=(*ON_DOOR, InvalidCursor),
)
async def manifest(  # noqa: PLR0913, PLR0917 - FastAPI passes them by name
    eventId: EventId,  # noqa: N803 - the API's name
    caller: Authenticated,
    request: Request,
    since: Annotated[
        Version | SkipJsonSchema[None],
        Query(description="`version` of the last response: only what changed after it."),
    ] = None,
    limit: Annotated[
        int,
        Query(ge=1, le=5_000, description="Bookings per page.", json_schema_extra=INT32),
        Whole,
    ] = 1_000,
    page: Annotated[
        str | SkipJsonSchema[None],
        Query(
            description="`nextPage` of the previous page of a full load.",
            # Documented but not checked here, because decode_pair raises its own error.
            json_schema_extra={"pattern": SORTED_CURSOR},
        ),
    ] = None,
) -> ManifestOut:
    """Return the rules, the keys and the tickets: all in pages, or with `since` the changes.

    First load all pages. Then ask for changes, with the `version` of the last response, while
    `isComplete` is false and from then on every few seconds. A ticket replaces what the device has
    of it; everything else replaces all of it. `lists` and `event` decide as at the service, see
    `POST /api/events/{eventId}/check-ins`. A name that changes in the data of a
    person, and not on the ticket, comes with the next full load. 422 `invalid_cursor` says that the
    database was restored from a backup: then load all pages again.
    """
    await require(request, caller, eventId)
    door = of(request, Door)
    pair = decode_pair(page)
    if since is None:
        # No key of a cursor is 0, but a version may be.
        at = None if pair is None else (pair[0] - 1, pair[1])
        found = await door.manifest.full(eventId, at=at, limit=limit)
    else:
        found = await door.manifest.changes(eventId, since)
    rules = found.rules
    following = None
    if found.next_after is not None:
        following = f"{found.version + 1:x}-{found.next_after:x}"
    return ManifestOut.model_validate(
        {
            "event": {
                "id": eventId,
                "name": rules.name,
                "status": rules.event["status"],
                "timezone": rules.timezone,
                "starts_at": rules.event["startsAt"],
                "ends_at": rules.event["endsAt"],
            },
            "lists": [ManifestListOut.model_validate(_snake(each)) for each in rules.lists],
            "ticket_types": [{"id": number, "name": name} for number, name in found.types],
            "keys": key_set(await door.keys.current()).keys,
            "say": {str(verdict): text for verdict, text in SAY.items()},
            "not_judged_offline": list(NOT_JUDGED_OFFLINE),
            "now": seconds(rules.now),
            "version": found.version,
            "items": found.items,
            "next_page": following,
            "is_complete": found.is_complete,
        }
    )


def _snake(rules: Any) -> dict[str, Any]:  # noqa: ANN401 - a list as it is stored
    return {
        "name": rules["name"],
        "ticket_types": rules["ticketTypes"],
        "reentry": rules["reentry"],
        "opens_before": rules["opensBefore"],
        "needs_payment": rules["needsPayment"],
    }


def _out(rules: Rules) -> DoorOut:
    lists = [_snake(each) for each in rules.lists]
    return DoorOut(
        lists=[CheckInListOut(ticket_type_ids=each.pop("ticket_types"), **each) for each in lists],
        names_until=rules.names_until,
    )
