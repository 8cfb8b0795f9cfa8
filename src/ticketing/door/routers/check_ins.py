"""Scans at the door: record them, with and without network, take them back, and list them."""

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final
from uuid import UUID

from fastapi import Query, Request
from pydantic import Field, ValidationError
from pydantic.json_schema import SkipJsonSchema

from ticketing.db.facts import Origin
from ticketing.door import codes
from ticketing.door.part import Door
from ticketing.door.repositories.check_ins import CheckIn, Count, Scan
from ticketing.door.repositories.keys import Keys
from ticketing.door.routers.doors import ON_DOOR, ListName
from ticketing.door.rules import SAY, SAY_UNDONE, Direction, Verdict, Window, WindowSource
from ticketing.errors import (
    DoorListNotFound,
    ScanNotFound,
    ScanReused,
    TicketingError,
    ValidationFailed,
)
from ticketing.identity.permissions import Action
from ticketing.identity.routers.authentication import Authenticated, origin, require
from ticketing.sale.routers.booking_fields import wrong
from ticketing.sale.routers.times import SentInstant
from ticketing.web.fields import DocumentedAs, EventId, In, Long, Out, Text, TicketId, Time, UserId
from ticketing.web.labels import Label
from ticketing.web.lists import Cursor, PageOut, PageSize, decode_cursor
from ticketing.web.part import of
from ticketing.web.replay import Rendered, rendered
from ticketing.web.routes import Routes

routes = Routes("/api/events/{eventId}", "door")

AT_ONCE: Final = 150
"""Scans of an upload. So many have room in a body."""
ScanId = Annotated[UUID, Field(strict=False, examples=["019938a5-c5d1-7a40-9a1b-2c3d4e5f6071"])]
Gate = Annotated[str, Label(1, 60, "North")]
Code = Annotated[Text, Field(max_length=500, examples=["TKT1:250020T00000000000000000"])]


class RecordScan(In):
    """A scan: a `code`, or a `ticketId` of somebody who was found by name."""

    scan_id: ScanId = Field(
        description="Made by the device for each scan. The same id again returns the first"
        " response."
    )
    code: Code | None = Field(default=None, description="The text of the QR code.")
    ticket_id: Annotated[TicketId, Field(strict=False)] | None = Field(
        default=None, description="Instead of `code`: the ticket of a person found by name."
    )
    direction: Direction = Field(
        default=Direction.IN, strict=False, description="`out`: they go out, and may return."
    )
    list: ListName | None = Field(default=None, description="By default the event's first list.")
    gate: Gate | None = Field(default=None, description="Where it was scanned.")
    scanned_at: SentInstant | None = Field(default=None, description="By the device's clock.")


class OfflineScan(RecordScan):
    """A scan that a device decided without network: with the `verdict` that it showed."""

    verdict: Verdict = Field(strict=False)
    scanned_at: SentInstant


class UploadCheckIns(In):
    """Scans that devices decided without network."""

    sent_at: SentInstant = Field(
        description="By the device's clock, when it sends this. The service corrects `scannedAt` by"
        " the difference to its own clock."
    )
    items: Annotated[
        # One that is wrong fails alone.
        list[Annotated[dict[str, Any], DocumentedAs(OfflineScan)]],
        Field(
            min_length=1,
            max_length=AT_ONCE,
            examples=[
                [
                    {
                        "scanId": "019938a5-c5d1-7a40-9a1b-2c3d4e5f6071",
                        "ticketId": "019938a5-9d21-7f01-a3b4-5c6d7e8f9a0b",
                        "scannedAt": "2026-11-02T19:30:00Z",
                        "verdict": "admitted",
                    }
                ]
            ],
        ),
    ]


class UndoCheckIn(In):
    """Why the scan is taken back."""

    reason: Annotated[str, Label(1, 200, "Wrong person")]


class FirstUseOut(Out):
    """When and where the ticket was used before."""

    at: Time
    gate: str | None = Field(examples=["North"])


class AdmissionWindowOut(Out):
    """The time in which the ticket admits."""

    since: Time | None = Field(description="Null: always.", examples=[None])
    until: Time | None = Field(description="Null: without an end.", examples=[None])
    source: WindowSource = Field(examples=["event"])


class CheckInOut(Out):
    """A scan, what was decided, and what the person at the gate should do."""

    scan_id: ScanId
    verdict: Verdict = Field(
        description="The decision that the person at the gate saw.", examples=["admitted"]
    )
    say: str = Field(
        description="Instructions for the person at the gate. After an undo: scan again.",
        examples=["Welcome. Let them in."],
    )
    judged: Verdict | None = Field(
        description="The decision of the service about a scan without network.", examples=[None]
    )
    conflict: bool = Field(
        description="Somebody passed who should not have, as far as is known now.",
        examples=[False],
    )
    ticket_id: TicketId | None = Field(description="Null if the code names no ticket.")
    ticket_type_id: Long | None = Field(
        description="Null if the event has no such ticket.", examples=[1]
    )
    name: str | None = Field(
        description="The holder's name, in the response to a scan.", examples=["Ada Lovelace"]
    )
    direction: Direction = Field(examples=["in"])
    list: str = Field(examples=["main"])
    gate: str | None = Field(examples=["North"])
    first: FirstUseOut | None = Field(
        description="When and where the ticket was used before.", examples=[None]
    )
    window: AdmissionWindowOut | None = Field(
        description="When the ticket admits, in the response to a scan.", examples=[None]
    )
    scanned_at: Time | None = Field(description="By the device's clock.")
    received_at: Time
    happened_at: Time = Field(description="`scannedAt`, corrected by the difference of the clocks.")
    actor_id: UserId | None
    undone_at: Time | None = Field(
        description="When the scan was taken back. Null if it was not.", examples=[None]
    )
    undone_reason: str | None = Field(examples=[None])


class ScanErrorOut(Out):
    """Why a scan was not recorded."""

    code: str = Field(examples=["validation_failed"])
    detail: str = Field(examples=["`scanId` is missing."])


class UploadedScanOut(Out):
    """The outcome of a scan: it is recorded (`checkIn`), or it failed alone (`error`)."""

    scan_id: str | None = Field(
        description="As it was sent. Null if it is missing or no text.",
        examples=["019938a5-c5d1-7a40-9a1b-2c3d4e5f6071"],
    )
    check_in: CheckInOut | None = Field(
        default=None, description="The recorded scan. Null if it failed.", examples=[None]
    )
    error: ScanErrorOut | None = Field(
        default=None, description="Null if the scan is recorded.", examples=[None]
    )


class UploadedScansOut(Out):
    """The outcome of each scan, in order."""

    items: list[UploadedScanOut]


class ScanCountOut(Out):
    """The scans of one kind that were not undone."""

    entries: Long = Field(examples=[120])
    exits: Long = Field(examples=[0])
    refused: Long = Field(examples=[3])
    conflicts: Long = Field(examples=[0])
    tickets: Long = Field(description="Different tickets that passed.", examples=[120])


class TypeScanCountOut(ScanCountOut):
    """The scans of a ticket type; null: of no ticket of the event."""

    ticket_type_id: Long | None = Field(examples=[1])


class GateScanCountOut(ScanCountOut):
    """The scans at a gate of a list."""

    list: str = Field(examples=["main"])
    gate: str | None = Field(examples=["North"])


class MinuteScanCountOut(ScanCountOut):
    """The scans that happened in a minute."""

    minute: Time


class ScanCountsOut(Out):
    """The scans of the event."""

    all: ScanCountOut
    by_type: list[TypeScanCountOut]
    by_gate: list[GateScanCountOut]
    by_minute: list[MinuteScanCountOut]


class CheckInsOut(PageOut[CheckInOut]):
    """The scans of an event, newest first, and the counts of all of them."""

    counts: ScanCountsOut


@routes.post(
    "/check-ins",
    Action.CHECK_IN,
    "Let somebody in",
    model=CheckInOut,
    errors=(*ON_DOOR, DoorListNotFound, ScanReused),
)
async def check_in(
    eventId: EventId,  # noqa: N803 - the API's name
    body: RecordScan,
    caller: Authenticated,
    request: Request,
) -> Rendered:
    """Decide whether the person with this ticket passes the gate, and record it.

    A refusal is 200 too: only `admitted` and `left` let them pass. The same `scanId` again returns
    the first decision, so resend a request without a response. Another scan of a used ticket is
    `already_used`, with `first`. If two gates scan it at the same moment, one admits.

    Verdicts in the order in which they are tried: `invalid_code`, `wrong_event`, `unknown_ticket`,
    `cancelled`, `revoked`, `wrong_type_for_gate`, `unpaid`, for `out` then `not_inside` or `left`,
    and for `in` `too_early`, `too_late`, `already_used` or `admitted`.
    """
    await require(request, caller, eventId)
    _require_one(body)
    door = of(request, Door)
    scan = _scan(eventId, body, await door.keys.current(), origin(request, caller))
    return rendered(200, _out(await door.check_ins.record(scan)))


@routes.post(
    "/check-ins/bulk",
    Action.UPLOAD_CHECK_INS,
    "Upload scans that were decided without network",
    model=UploadedScansOut,
    errors=ON_DOOR,
)
async def upload(
    eventId: EventId,  # noqa: N803 - the API's name
    body: UploadCheckIns,
    caller: Authenticated,
    request: Request,
) -> Rendered:
    """Record what happened while a device had no network. One broken item fails alone.

    `verdict` stays what the device showed, because who passed has passed. `judged` is what the
    service says. `conflict` marks who should not have passed. Entries count in the order in which
    they happened, by the corrected times of the devices: when another device uploads an earlier
    entry, the conflict moves to the later one. An upload that is resent changes nothing.
    """
    await require(request, caller, eventId)
    door, by = of(request, Door), origin(request, caller)
    keys, rules = await door.keys.current(), await door.doors.get(eventId)
    ahead = body.sent_at - rules.now
    found: list[Scan | ScanErrorOut] = []
    for item in body.items:
        try:
            offline = OfflineScan.model_validate(item)
            _require_one(offline)
            scan = _scan(eventId, offline, keys, by)
            found.append(scan._replace(verdict=offline.verdict, ahead=ahead))
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            where = ".".join(str(each) for each in first["loc"])
            detail = f"`{where}`: {first['msg']}"[:300]
            found.append(ScanErrorOut(code=ValidationFailed.code, detail=detail))
        except ValidationFailed as error:
            found.append(_failed(error))
    scans = [each for each in found if isinstance(each, Scan)]
    made = iter(await door.check_ins.record_all(eventId, scans) if scans else ())
    items = []
    for item, each in zip(body.items, found, strict=True):
        outcome = next(made) if isinstance(each, Scan) else each
        named = item.get("scanId")
        scan_id = named[:100] if isinstance(named, str) else None
        if isinstance(outcome, CheckIn):
            items.append(UploadedScanOut(scan_id=scan_id, check_in=_out(outcome)))
        else:
            why = _failed(outcome) if isinstance(outcome, TicketingError) else outcome
            items.append(UploadedScanOut(scan_id=scan_id, error=why))
    return rendered(200, UploadedScansOut(items=items))


@routes.post(
    "/check-ins/{scanId}/undo",
    Action.UNDO_CHECK_IN,
    "Take a scan back",
    model=CheckInOut,
    errors=(*ON_DOOR, ScanNotFound),
)
async def undo(
    eventId: EventId,  # noqa: N803 - the API's name
    scanId: ScanId,  # noqa: N803 - the API's name
    body: UndoCheckIn,
    caller: Authenticated,
    request: Request,
) -> Rendered:
    """Take a scan back: the ticket then stands as without it. To do it again changes nothing."""
    await require(request, caller, eventId)
    by = origin(request, caller)
    undone = await of(request, Door).check_ins.undo(eventId, scanId, body.reason, by)
    return rendered(200, _out(undone))


@routes.get(
    "/check-ins", Action.LIST_CHECK_INS, "List the scans of an event, newest first", errors=ON_DOOR
)
async def check_ins(  # noqa: PLR0913, PLR0917 - FastAPI passes them by name
    eventId: EventId,  # noqa: N803 - the API's name
    caller: Authenticated,
    request: Request,
    conflict: Annotated[
        bool | SkipJsonSchema[None],
        Query(description="True: only scans at which somebody passed who should not have."),
    ] = None,
    limit: PageSize = 20,
    cursor: Cursor = None,
) -> CheckInsOut:
    """List the scans, and count them by ticket type, by gate and by minute.

    Every page has the counts of all scans. A scan that was undone is listed, and not counted.
    """
    await require(request, caller, eventId)
    page, counts = await of(request, Door).check_ins.list(
        eventId, conflict=conflict, before=decode_cursor(cursor), limit=limit
    )
    cursor_of = PageOut[Any].of(page).next_cursor
    return CheckInsOut(
        items=[_out(each) for each in page.items],
        next_cursor=cursor_of,
        counts=ScanCountsOut(
            all=ScanCountOut(**_count(counts.all)),
            by_type=[TypeScanCountOut(ticket_type_id=of, **_count(n)) for of, n in counts.by_type],
            by_gate=[
                GateScanCountOut(list=name, gate=gate, **_count(n))
                for name, gate, n in counts.by_gate
            ],
            by_minute=[MinuteScanCountOut(minute=at, **_count(n)) for at, n in counts.by_minute],
        ),
    )


def _require_one(body: RecordScan) -> None:
    """Raise ValidationFailed unless the scan has either a code or a ticket."""
    if (body.code is None) == (body.ticket_id is None):
        raise wrong("code", "one_of", "Send either `code` or `ticketId`")


def _scan(event_id: int, body: RecordScan, keys: Keys, by: Origin) -> Scan:
    ticket_id, said = body.ticket_id, None
    if body.code is not None:
        claims = codes.read(body.code, keys.public)
        if claims is not None:
            ticket_id = claims.ticket_id
            said = {"event": claims.event_id, "generation": claims.generation}
    return Scan(
        event_id,
        body.scan_id,
        ticket_id,
        said,
        body.direction,
        body.list,
        body.gate,
        body.scanned_at,
        by,
        ahead=timedelta(),
    )


def _failed(error: TicketingError) -> ScanErrorOut:
    return ScanErrorOut(code=error.code, detail=error.detail)


def _count(count: Count) -> dict[str, int]:
    return count._asdict()


def _out(found: CheckIn) -> CheckInOut:
    first = None
    if found.first_at is not None:
        first = FirstUseOut(at=found.first_at, gate=found.first_gate)
    return CheckInOut(
        scan_id=found.scan_id,
        verdict=found.verdict,
        say=SAY[found.verdict] if found.undone_at is None else SAY_UNDONE,
        judged=found.judged,
        conflict=found.conflict,
        ticket_id=found.ticket_id,
        ticket_type_id=found.ticket_type_id,
        name=found.name,
        direction=Direction(found.direction),
        list=found.list,
        gate=found.gate,
        first=first,
        window=None if found.window is None else _window(found.window),
        scanned_at=found.scanned_at,
        received_at=found.received_at,
        happened_at=found.happened_at,
        actor_id=found.actor,
        undone_at=found.undone_at,
        undone_reason=found.undone_reason,
    )


def _window(window: Window) -> AdmissionWindowOut:
    since, until = (
        None if each is None else datetime.fromtimestamp(each, UTC)
        for each in (window.since, window.until)
    )
    return AdmissionWindowOut(since=since, until=until, source=WindowSource(window.source))
