"""Scans at the door. Scans of an event are decided one after the other, on its locked row."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import starmap
from typing import Any, Final, NamedTuple
from uuid import UUID

import asyncpg
from prometheus_client import Counter
from sqlalchemy.ext.asyncio import AsyncEngine

from ticketing.db.combiner import Combiner, Retry
from ticketing.db.facts import BY_COLUMNS, ORIGIN_TYPES, Origin, recorded
from ticketing.db.pages import Page, page
from ticketing.db.statements import Driver, Row, Statement, driver
from ticketing.door.repositories import doors, tickets
from ticketing.door.repositories.doors import Rules
from ticketing.door.repositories.tickets import LOCK, Ticket
from ticketing.door.rules import (
    Case,
    Standing,
    Use,
    Verdict,
    Window,
    judge,
    seconds,
    standing,
    window,
)
from ticketing.errors import EventNotFound, ScanNotFound, ScanReused, TicketingError
from ticketing.ops import logs, metrics

SCANS: Final = Counter(
    "ticketing_check_ins_total", "Scans at the door, by what was decided.", ["verdict"]
)

_COLUMNS: Final = """
    seq, event_id, scan_id, ticket_id, ticket_type_id, list, gate, direction, verdict, judged,
    passed, conflict, first_at, first_gate, scanned_at, received_at, happened_at, actor, undone_at,
    undone_reason
"""
_FIELDS: Final = (*(name.strip() for name in _COLUMNS.split(",")), "is_known")
KNOWN: Final = Statement(
    f"""
    SELECT {_COLUMNS} FROM unnest(CAST(:scans AS uuid[])) AS asked(id)
    CROSS JOIN LATERAL (
        SELECT * FROM check_ins WHERE check_ins.scan_id = asked.id OFFSET 0
    ) AS known
    WHERE event_id = :event
    """  # noqa: S608 - our own text
)
USES: Final = Statement(
    """
    SELECT used.* FROM unnest(CAST(:tickets AS uuid[])) AS asked(id)
    CROSS JOIN LATERAL (
        SELECT seq, ticket_id, scan_id, list, gate, direction, happened_at, judged, conflict
        FROM check_ins
        WHERE check_ins.ticket_id = asked.id AND passed AND undone_at IS NULL OFFSET 0
    ) AS used
    ORDER BY used.seq
    """
)
_FOUND: Final = f"""
    SELECT {_COLUMNS}, true AS is_known FROM ({KNOWN.text}) AS known
    UNION ALL
    SELECT {_COLUMNS}, false FROM unnest(CAST(:ids AS uuid[])) AS asked(id)
    CROSS JOIN LATERAL (
        SELECT * FROM check_ins
        WHERE check_ins.ticket_id = asked.id AND passed AND undone_at IS NULL OFFSET 0
    ) AS used
    ORDER BY seq
"""  # noqa: S608 - our own text
# All at once, because each round trip makes others wait for the event's row.
STATE: Final = Statement(
    f"""
    SELECT rules.*,
        (SELECT array_agg(known) FROM ({tickets.KNOWN.text}) AS known) AS known_tickets,
        (SELECT array_agg(found) FROM ({_FOUND}) AS found) AS found
    FROM ({doors.RULES.text}) AS rules
    """  # noqa: S608 - our own text
)
_GIVEN: Final = {
    "scan_id": "uuid",
    "ticket_id": "uuid",
    "ticket_type_id": "bigint",
    "holder": "uuid",
    "list": "text",
    "gate": "text",
    "direction": "text",
    "verdict": "text",
    "judged": "text",
    "passed": "boolean",
    "conflict": "boolean",
    "first_at": "timestamptz",
    "first_gate": "text",
    "scanned_at": "timestamptz",
    "happened_at": "timestamptz",
    **ORIGIN_TYPES,
}
ADD: Final = Statement(
    f"""
    WITH given AS (
        SELECT * FROM unnest({", ".join(f"CAST(:{n} AS {of}[])" for n, of in _GIVEN.items())})
            WITH ORDINALITY AS given({", ".join(_GIVEN)}, place)
    ), added AS (
        INSERT INTO check_ins (event_id, scan_id, ticket_id, ticket_type_id, list, gate, direction,
            verdict, judged, passed, conflict, first_at, first_gate, scanned_at, received_at,
            happened_at, actor)
        SELECT CAST(:event AS bigint), scan_id, ticket_id, ticket_type_id, list, gate, direction,
            verdict, judged, passed, conflict, first_at, first_gate, scanned_at,
            CAST(:now AS timestamptz), happened_at, actor
        FROM given ORDER BY place
        RETURNING *
    ), {
        recorded(
            "'check_in.recorded'",
            of="given ORDER BY place",
            event="CAST(:event AS bigint)",
            subject="holder",
            details="jsonb_strip_nulls(jsonb_build_object('scanId', scan_id,"
            " 'ticketId', ticket_id, 'list', list, 'gate', gate, 'direction', direction,"
            " 'verdict', verdict, 'judged', judged))",
            by=BY_COLUMNS,
        )
    }
    SELECT {_COLUMNS} FROM added
    """  # noqa: S608 - our own text
)
MARK: Final = Statement(
    """
    UPDATE check_ins SET conflict = marked.conflict
    FROM unnest(CAST(:scans AS bigint[]), CAST(:conflicts AS boolean[])) AS marked(seq, conflict)
    WHERE check_ins.seq = ANY(CAST(:scans AS bigint[])) AND check_ins.seq = marked.seq
    """
)
UNDO: Final = Statement(
    f"""
    WITH undone AS (
        UPDATE check_ins SET undone_at = clock_timestamp(), undone_reason = :reason
        WHERE seq = :scan AND undone_at IS NULL
        RETURNING *
    ), {
        recorded(
            "'check_in.undone'",
            of="undone",
            event="event_id",
            details="jsonb_strip_nulls(jsonb_build_object('scanId', scan_id,"
            " 'ticketId', ticket_id, 'reason', undone_reason))",
        )
    }
    SELECT {_COLUMNS} FROM undone
    """  # noqa: S608 - our own text
)
LIST: Final = Statement(
    f"""
    SELECT {_COLUMNS} FROM check_ins
    WHERE event_id = :event AND seq < coalesce(CAST(:before AS bigint), 9223372036854775807)
        AND (CAST(:conflict AS boolean) IS NULL OR conflict = CAST(:conflict AS boolean))
    ORDER BY seq DESC LIMIT :limit
    """  # noqa: S608 - our own text
)
# One pass over the event's scans. A row of each kind has the others null.
COUNTS: Final = Statement(
    """
    SELECT grouping(ticket_type_id, list, gate, minute) AS kind, ticket_type_id, list, gate, minute,
        count(*) FILTER (WHERE passed AND direction = 'in') AS entries,
        count(*) FILTER (WHERE passed AND direction = 'out') AS exits,
        count(*) FILTER (WHERE NOT passed) AS refused,
        count(*) FILTER (WHERE conflict) AS conflicts,
        count(DISTINCT ticket_id) FILTER (WHERE passed) AS tickets
    FROM (
        SELECT *, date_trunc('minute', happened_at) AS minute FROM check_ins
        WHERE event_id = :event AND undone_at IS NULL
    ) AS scans
    GROUP BY GROUPING SETS ((), (ticket_type_id), (list, gate), (minute))
    ORDER BY ticket_type_id, list, gate, minute
    """
)

ENTERED: Final = Statement(
    """
    SELECT ticket_type_id, count(DISTINCT ticket_id) AS tickets
    FROM (SELECT * FROM check_ins WHERE event_id = :event OFFSET 0) AS scans
    WHERE passed AND direction = 'in' AND undone_at IS NULL AND ticket_type_id IS NOT NULL
    GROUP BY ticket_type_id
    """
)


class Scan(NamedTuple):
    """A scan to record. `verdict` is what a device without network decided."""

    event_id: int
    scan_id: UUID
    ticket_id: UUID | None
    """None if the code is none of ours."""
    code: Mapping[str, object] | None
    """As in `rules.Case`."""
    direction: str
    list: str | None
    gate: str | None
    scanned_at: datetime | None
    origin: Origin
    verdict: Verdict | None = None
    ahead: timedelta = timedelta()
    """How far the device's clock is ahead."""


@dataclass(frozen=True, slots=True)
class CheckIn:
    """A recorded scan. The fields are the columns."""

    seq: int
    event_id: int
    scan_id: UUID
    ticket_id: UUID | None
    ticket_type_id: int | None
    list: str
    gate: str | None
    direction: str
    verdict: Verdict
    judged: Verdict | None
    passed: bool
    conflict: bool
    first_at: datetime | None
    first_gate: str | None
    scanned_at: datetime | None
    received_at: datetime
    happened_at: datetime
    actor: UUID | None
    undone_at: datetime | None
    undone_reason: str | None
    name: str | None = None
    """That of the holder, if the ticket was read with it."""
    window: Window | None = None
    """When the ticket admits, if it was read with it."""


class Count(NamedTuple):
    """The scans of one kind that were not undone."""

    entries: int
    exits: int
    refused: int
    conflicts: int
    tickets: int
    """Different tickets that passed."""


@dataclass(frozen=True, slots=True)
class Counts:
    """The scans of an event: all, by ticket type, by list and gate, and by minute."""

    all: Count
    by_type: Sequence[tuple[int | None, Count]]
    by_gate: Sequence[tuple[str, str | None, Count]]
    by_minute: Sequence[tuple[datetime, Count]]


class CheckInRepository:
    """Records scans. Those that arrive during a commit share the next one."""

    def __init__(self, engine: AsyncEngine) -> None:
        """Work on `engine`."""
        self._engine = engine
        self._scans: Combiner[Scan, CheckIn] = Combiner(self._commit, name="check-ins")
        self.samples = [self._scans.sample]

    async def close(self) -> None:
        """Finish what is under way."""
        await self._scans.close()

    async def record(self, scan: Scan) -> CheckIn:
        """Decide and record the scan. The same scan again returns the first decision.

        Raises EventNotFound, DoorListNotFound, ScanReused or Busy.
        """
        return await self._scans.submit(scan)

    async def record_all(
        self, event_id: int, scans: Sequence[Scan]
    ) -> Sequence[CheckIn | TicketingError]:
        """Record what devices without network decided, as it happened. One may fail alone."""
        async with driver(self._engine) as connection:
            return await _record(connection, event_id, scans)

    async def undo(self, event_id: int, scan_id: UUID, reason: str, origin: Origin) -> CheckIn:
        """Take the scan back: the ticket stands as without it. Again it changes nothing.

        Raises ScanNotFound.
        """
        async with driver(self._engine) as connection, connection.transaction():
            await LOCK.fetch(connection, event=event_id)
            known = await KNOWN.fetch(connection, event=event_id, scans=[scan_id])
            if not known:
                raise ScanNotFound
            seq = known[0]["seq"]
            rows = await UNDO.fetch(connection, scan=seq, reason=reason, **origin._asdict())
            undone = _check_in((rows or known)[0])
            if undone.ticket_id is not None:
                rules = await doors.read(connection, event_id)
                await _mark(connection, rules, [undone.ticket_id])
        return undone

    async def list(
        self, event_id: int, *, conflict: bool | None, before: int | None, limit: int
    ) -> tuple[Page[CheckIn], Counts]:
        """Return the event's scans, newest first, and the counts of all."""
        async with driver(self._engine) as connection:
            rows = await LIST.fetch(
                connection, event=event_id, conflict=conflict, before=before, limit=limit + 1
            )
            counts = _counts(await COUNTS.fetch(connection, event=event_id))
        return page(rows, limit, _check_in), counts

    async def entered(self, event_id: int) -> Mapping[int, int]:
        """Return with how many tickets somebody came in, by the id of the ticket type."""
        async with driver(self._engine) as connection:
            rows = await ENTERED.fetch(connection, event=event_id)
        return {row["ticket_type_id"]: row["tickets"] for row in rows}

    async def _commit(self, scans: Sequence[Scan]) -> Sequence[CheckIn | Exception | Retry]:
        """Record the scans, each event's in a transaction of its own, so that none waits twice."""
        places: dict[int, list[int]] = defaultdict(list)
        for place, scan in enumerate(scans):
            places[scan.event_id].append(place)
        found: list[CheckIn | Exception | Retry] = [EventNotFound()] * len(scans)
        async with driver(self._engine) as connection:
            for event_id, those in places.items():
                made = await _record(connection, event_id, [scans[place] for place in those])
                for place, each in zip(those, made, strict=True):
                    found[place] = each
        return found


async def _record(
    connection: Driver, event_id: int, scans: Sequence[Scan]
) -> Sequence[CheckIn | TicketingError]:
    async with connection.transaction():
        await LOCK.fetch(connection, event=event_id)
        # After the lock, so that its time is later than that of the scans before.
        state = await STATE.fetch(
            connection,
            event=event_id,
            scans=list({each.scan_id for each in scans}),
            ids=list({each.ticket_id for each in scans if each.ticket_id is not None}),
        )
        if not state:
            return [EventNotFound()] * len(scans)
        (row,) = state
        found = [dict(zip(_FIELDS, each, strict=True)) for each in row["found"] or ()]
        known = {each["scan_id"]: _check_in(each) for each in found if each["is_known"]}
        batch = _Batch(
            doors.rules(row),
            {each.id: each for each in starmap(Ticket, row["known_tickets"] or ())},
            _by_list([each for each in found if not each["is_known"]]),
        )
        outcomes: list[CheckIn | TicketingError | UUID] = []
        for scan in scans:
            try:
                if scan.scan_id in known or scan.scan_id in batch.new:
                    outcomes.append(batch.again(scan, known.get(scan.scan_id)))
                else:
                    batch.decide(scan)
                    outcomes.append(scan.scan_id)
            except TicketingError as error:
                outcomes.append(error)
        made = await batch.write(connection, event_id)
    _tell(made.values())
    return [made[each] if isinstance(each, UUID) else each for each in outcomes]


class _Batch:
    """The scans of one event that are decided together, each after those before it."""

    def __init__(
        self,
        rules: Rules,
        known: Mapping[UUID, Ticket],
        uses: dict[UUID, dict[str, list[Use]]],
    ) -> None:
        self._rules = rules
        self._tickets = known
        self._uses = uses
        self.new: dict[UUID, tuple[Scan, dict[str, object]]] = {}

    def again(self, scan: Scan, before: CheckIn | None) -> CheckIn | UUID:
        """Return what the scan was before. Raises ScanReused if that was another one."""
        name = self._rules.of_list(scan.list)["name"]
        ticket_id = scan.ticket_id if self._ours(scan) else None
        asked = (ticket_id, scan.direction, name)
        if before is None:
            _, row = self.new[scan.scan_id]
            if asked != (row["ticket_id"], row["direction"], row["list"]):
                raise ScanReused
            return scan.scan_id
        if asked != (before.ticket_id, before.direction, before.list):
            raise ScanReused
        return self._with_ticket(before)

    def _with_ticket(self, check_in: CheckIn) -> CheckIn:
        """Return it with what is known of its ticket."""
        ticket = self._tickets.get(check_in.ticket_id) if check_in.ticket_id else None
        if ticket is None:
            return check_in
        rules = self._rules.of_list(check_in.list)
        return replace(
            check_in,
            name=ticket.name,
            window=window(self._rules.event, rules, document(ticket)),
        )

    def decide(self, scan: Scan) -> None:
        """Decide the scan, and remember what it changes. Raises DoorListNotFound."""
        rules = self._rules.of_list(scan.list)
        ours = self._ours(scan)
        ticket = self._tickets.get(scan.ticket_id) if ours and scan.ticket_id else None
        happened_at = self._happened_at(scan, ticket, rules)
        stood = self._standing(ticket, rules, happened_at) if ticket else None
        decided = self._judge(scan, ticket, rules, stood, happened_at)
        verdict = scan.verdict or decided
        first = stood.first if stood and Verdict.ALREADY_USED in {decided, verdict} else None
        if ticket and verdict.passes:
            use = Use(scan.direction, happened_at.timestamp(), scan.gate, scan.scan_id)
            self._uses.setdefault(ticket.id, {}).setdefault(rules["name"], []).append(use)
        self.new[scan.scan_id] = (
            scan,
            {
                "scan_id": scan.scan_id,
                "ticket_id": scan.ticket_id if ours else None,
                "ticket_type_id": ticket.type_id if ticket else None,
                "holder": ticket.holder_id if ticket else None,
                "list": rules["name"],
                "gate": scan.gate,
                "direction": scan.direction,
                "verdict": verdict,
                "judged": None if scan.verdict is None else decided,
                "passed": verdict.passes,
                # Of one with a ticket, `_mark` says so.
                "conflict": verdict.passes and ticket is None,
                "first_at": None if first is None else datetime.fromtimestamp(first.at, UTC),
                "first_gate": None if first is None else first.gate,
                "scanned_at": scan.scanned_at,
                "happened_at": happened_at,
                **scan.origin._asdict(),
            },
        )

    def _ours(self, scan: Scan) -> bool:
        """Whether the ticket is one of this event."""
        ticket = self._tickets.get(scan.ticket_id) if scan.ticket_id else None
        return ticket is not None and ticket.event_id == self._rules.event["id"]

    def _happened_at(self, scan: Scan, ticket: Ticket | None, rules: Mapping[str, Any]) -> datetime:
        now = self._rules.now
        if scan.verdict is not None and scan.scanned_at is not None:
            # Nothing happened after it was uploaded, whatever the device says.
            return min(scan.scanned_at - scan.ahead, now)
        # Not before what is known, although the clock of another database server may be behind.
        known = self._uses.get(ticket.id, {}).get(rules["name"], ()) if ticket else ()
        latest = max((use.at for use in known), default=0.0)
        return max(now, datetime.fromtimestamp(latest, UTC))

    def _standing(self, ticket: Ticket, rules: Mapping[str, Any], at: datetime) -> Standing | None:
        before = [
            use
            for use in self._uses.get(ticket.id, {}).get(rules["name"], ())
            if use.at <= at.timestamp()
        ]
        return standing(before, reentry=rules["reentry"])[0]

    def _judge(
        self,
        scan: Scan,
        ticket: Ticket | None,
        rules: Mapping[str, Any],
        stood: Standing | None,
        at: datetime,
    ) -> Verdict:
        if scan.code is None and scan.ticket_id is None:
            return Verdict.INVALID_CODE
        known = None
        if ticket is not None:
            known = document(ticket) | {"uses": {rules["name"]: stood and stood.document()}}
        at_seconds = at.timestamp()
        return judge(Case(self._rules.event, rules, known, scan.code, scan.direction, at_seconds))

    async def write(self, connection: Driver, event_id: int) -> dict[UUID, CheckIn]:
        """Write the new scans, and return them."""
        if not self.new:
            return {}
        rows = [row for _, row in self.new.values()]
        columns = {name: [row[name] for row in rows] for name in _GIVEN}
        added = await ADD.fetch(connection, event=event_id, now=self._rules.now, **columns)
        made = {row["scan_id"]: _check_in(row) for row in added}
        late = {scan.ticket_id for scan, _ in self.new.values() if scan.verdict and scan.ticket_id}
        # What a device decided without network may conflict with what others decided.
        conflicts = await _mark(connection, self._rules, list(late)) if late else {}
        return {
            scan_id: replace(
                self._with_ticket(each), conflict=conflicts.get(scan_id, each.conflict)
            )
            for scan_id, each in made.items()
        }


def document(ticket: Ticket) -> dict[str, object]:
    """Return the ticket as devices and rules know it, without its uses."""
    return {
        "id": str(ticket.id),
        "type": ticket.type_id,
        "generation": ticket.generation,
        "status": ticket.status,
        "owes": ticket.owes,
        "from": seconds(ticket.valid_from),
        "until": seconds(ticket.valid_until),
    }


async def _uses(connection: Driver, ids: Sequence[UUID]) -> dict[UUID, dict[str, list[Use]]]:
    """Return the passages of these tickets, by list."""
    return _by_list(await USES.fetch(connection, tickets=list(ids)))


def _by_list(rows: Sequence[Row]) -> dict[UUID, dict[str, list[Use]]]:
    found: dict[UUID, dict[str, list[Use]]] = {}
    for row in rows:
        use = Use(row["direction"], row["happened_at"].timestamp(), row["gate"], row["scan_id"])
        found.setdefault(row["ticket_id"], {}).setdefault(row["list"], []).append(use)
    return found


async def standings(
    connection: Driver, rules: Rules, ids: Sequence[UUID]
) -> dict[UUID, dict[str, object]]:
    """Return where these tickets stand, by list, as devices know it."""
    reentry = {each["name"]: each["reentry"] for each in rules.lists}
    found: dict[UUID, dict[str, object]] = {}
    for ticket_id, by_list in (await _uses(connection, ids)).items():
        for name, uses in by_list.items():
            stood, _ = standing(uses, reentry=reentry.get(name, False))
            if stood is not None:
                found.setdefault(ticket_id, {})[name] = stood.document()
    return found


async def _mark(connection: Driver, rules: Rules, ids: Sequence[UUID]) -> dict[UUID, bool]:
    """Mark the passages of these tickets that conflict with others. Return all of them."""
    reentry = {each["name"]: each["reentry"] for each in rules.lists}
    rows = await USES.fetch(connection, tickets=list(ids))
    uses = _by_list(rows)
    conflicting: set[UUID] = set()
    for by_list in uses.values():
        for name, those in by_list.items():
            conflicting |= standing(those, reentry=reentry.get(name, False))[1]
    found = {row["scan_id"]: row["scan_id"] in conflicting or _refused(row) for row in rows}
    changed = {row["seq"]: now for row in rows if row["conflict"] != (now := found[row["scan_id"]])}
    if changed:
        await MARK.fetch(connection, scans=list(changed), conflicts=list(changed.values()))
    return found


def _refused(row: Row) -> bool:
    """Whether the service would have refused for another reason than an earlier passage."""
    judged = row["judged"] and Verdict(row["judged"])
    of_order = {Verdict.ALREADY_USED, Verdict.NOT_INSIDE}
    return bool(judged) and not judged.passes and judged not in of_order


def _tell(made: Any) -> None:  # noqa: ANN401 - any iterable
    for each in made:
        if metrics.is_shared:
            SCANS.labels(each.verdict).inc()
        logs.info(
            "check_in.recorded",
            {"scanId": each.scan_id, "eventId": each.event_id, "verdict": each.verdict},
        )


def _check_in(row: Row) -> CheckIn:
    given = {name: row[name] for name in CheckIn.__slots__ if name not in {"name", "window"}}
    judged = given["judged"]
    return CheckIn(
        **given
        | {
            "verdict": Verdict(given["verdict"]),
            "judged": None if judged is None else Verdict(judged),
        }
    )


def _counts(rows: Sequence[asyncpg.Record]) -> Counts:
    # `grouping` has a bit for each column by which a row is not grouped.
    kinds = defaultdict(list)
    for row in rows:
        kinds[row["kind"]].append((row, Count(*(row[name] for name in Count._fields))))
    return Counts(
        kinds[0b1111][0][1] if kinds[0b1111] else Count(0, 0, 0, 0, 0),
        [(row["ticket_type_id"], count) for row, count in kinds[0b0111]],
        [(row["list"], row["gate"], count) for row, count in kinds[0b1001]],
        [(row["minute"], count) for row, count in kinds[0b1110]],
    )
