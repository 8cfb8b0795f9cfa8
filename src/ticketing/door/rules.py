"""Who is let in: the one table of rules. No I/O.

`web/static/door/rules.js` has the same rules for a device without network. Both take the same
documents, and tests compare them.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime
from enum import StrEnum
from typing import Final, NamedTuple
from uuid import UUID


class Direction(StrEnum):
    """Whether a person comes in or goes out."""

    IN = "in"
    OUT = "out"


class WindowSource(StrEnum):
    """Says whether the event or the ticket has the times in which it admits."""

    EVENT = "event"
    TICKET = "ticket"


class Verdict(StrEnum):
    """The decision about a scan. Only `admitted` and `left` let the person pass."""

    ADMITTED = "admitted"
    LEFT = "left"
    """They go out, and may come in again if the list allows it."""
    INVALID_CODE = "invalid_code"
    WRONG_EVENT = "wrong_event"
    UNKNOWN_TICKET = "unknown_ticket"
    ASK_ONLINE = "ask_online"
    """Only a device without network says this: it can't know the ticket."""
    CANCELLED = "cancelled"
    REVOKED = "revoked"
    WRONG_TYPE = "wrong_type_for_gate"
    UNPAID = "unpaid"
    TOO_EARLY = "too_early"
    TOO_LATE = "too_late"
    ALREADY_USED = "already_used"
    NOT_INSIDE = "not_inside"

    @property
    def passes(self) -> bool:
        """Whether the person passes the gate."""
        return self in {Verdict.ADMITTED, Verdict.LEFT}


SAY: Final[dict[Verdict, str]] = {
    Verdict.ADMITTED: "Welcome. Let them in.",
    Verdict.LEFT: "Let them out. Scan the ticket again when they return.",
    Verdict.INVALID_CODE: "This is not a code of one of our tickets. Ask for the ticket's PDF.",
    Verdict.WRONG_EVENT: "This ticket is for another event. Do not let them in.",
    Verdict.UNKNOWN_TICKET: "There is no such ticket. Do not let them in.",
    Verdict.ASK_ONLINE: "This ticket is newer than the list on this device. Connect, or ask at"
    " the box office.",
    Verdict.CANCELLED: "This ticket was cancelled. Do not let them in.",
    Verdict.REVOKED: "This code was replaced by a newer one. Ask for the newest ticket.",
    Verdict.WRONG_TYPE: "This ticket is not for this gate. Show them the right one.",
    Verdict.UNPAID: "This ticket is not paid yet. Send them to the box office.",
    Verdict.TOO_EARLY: "This ticket is not valid yet. Ask them to come back later.",
    Verdict.TOO_LATE: "This ticket is not valid any more. Do not let them in.",
    Verdict.ALREADY_USED: "This ticket was used before. Do not let them in.",
    Verdict.NOT_INSIDE: "This ticket is not inside. Scan it as an entry first.",
}
"""What the person at the gate should do, for each verdict."""

SAY_UNDONE: Final = "This scan was taken back. Scan the ticket again."
"""Instead, if the scan was undone since."""

NOT_JUDGED_OFFLINE: Final = (
    "tickets that were booked after `version`",
    "cancellations, transfers and re-issues after `version`",
    "scans of other devices after `version`",
    "payments after `version`",
)
"""What a device without network can't know."""
OPENS_BEFORE: Final = 180
"""Minutes before the start from which a list admits, by default."""


class Window(NamedTuple):
    """The times between which a ticket admits, in seconds. `source` says whose they are."""

    since: int | None
    until: int | None
    source: str


class Use(NamedTuple):
    """A passage through a gate: in or out, and when it happened."""

    direction: str
    at: float
    gate: str | None
    scan_id: UUID


class Standing(NamedTuple):
    """Where a ticket stands on a list after its passages."""

    inside: bool
    first: Use
    """Its first entry, or its first passage."""

    def document(self) -> dict[str, object]:
        """Return it for a device."""
        return {"inside": self.inside, "at": int(self.first.at), "gate": self.first.gate}


class Case(NamedTuple):
    """Everything that a verdict rests on, as documents that a device has too."""

    event: Mapping[str, object]
    """`id`, `status`, `startsAt` and `endsAt` (seconds)."""
    rules: Mapping[str, object]
    """Those of the list: `name`, `ticketTypes`, `reentry`, `opensBefore`, `needsPayment`."""
    ticket: Mapping[str, object] | None
    """`type`, `generation`, `status`, `owes`, `from`, `until` and `uses` by list; None: unknown."""
    code: Mapping[str, object] | None
    """`event` and `generation` of the code; None: the ticket was found by name or id."""
    direction: str
    at: float
    offline: bool = False


def judge(case: Case) -> Verdict:  # noqa: C901, PLR0911 - a line for each rule
    """Return the verdict: that of the first rule that applies."""
    event, rules, ticket, code = case.event, case.rules, case.ticket, case.code
    if code is not None and code["event"] != event["id"]:
        return Verdict.WRONG_EVENT
    if ticket is None:
        return Verdict.ASK_ONLINE if case.offline else Verdict.UNKNOWN_TICKET
    if ticket["status"] != "valid" or event["status"] == "cancelled":
        return Verdict.CANCELLED
    if code is not None and code["generation"] != ticket["generation"]:
        return Verdict.REVOKED
    types = rules["ticketTypes"]
    if isinstance(types, list) and ticket["type"] not in types:
        return Verdict.WRONG_TYPE
    if rules["needsPayment"] and ticket["owes"]:
        return Verdict.UNPAID
    use = _use(ticket, rules)
    if case.direction == "out":
        return Verdict.LEFT if use and use["inside"] else Verdict.NOT_INSIDE
    valid = window(event, rules, ticket)
    if valid.since is not None and case.at < valid.since:
        return Verdict.TOO_EARLY
    if valid.until is not None and case.at >= valid.until:
        return Verdict.TOO_LATE
    if use and (use["inside"] or not rules["reentry"]):
        return Verdict.ALREADY_USED
    return Verdict.ADMITTED


def _use(ticket: Mapping[str, object], rules: Mapping[str, object]) -> Mapping[str, object] | None:
    uses = ticket["uses"]
    found = uses.get(rules["name"]) if isinstance(uses, Mapping) else None
    return found if isinstance(found, Mapping) else None


def window(
    event: Mapping[str, object], rules: Mapping[str, object], ticket: Mapping[str, object]
) -> Window:
    """Return when the ticket admits: its own times if it has any, else those of the event."""
    since, until = _number(ticket["from"]), _number(ticket["until"])
    if since is not None or until is not None:
        return Window(since, until, "ticket")
    starts, before = _number(event["startsAt"]), _number(rules["opensBefore"])
    opens = None if starts is None or before is None else starts - before * 60
    return Window(opens, _number(event["endsAt"]), "event")


def _number(value: object) -> int | None:
    return value if isinstance(value, int) else None


def standing(uses: Iterable[Use], *, reentry: bool) -> tuple[Standing | None, set[UUID]]:
    """Return where a ticket stands after its passages on one list, and those that conflict.

    `uses` are in the order in which they were recorded. They count in that in which they happened.
    A passage conflicts if the ticket was inside already, or used on a list without re-entry, or if
    it left without being inside: two devices without network let it pass.
    """
    inside, first, conflicts = False, None, set()
    for use in sorted(uses, key=lambda each: each.at):
        if use.direction == "out":
            if not inside:
                conflicts.add(use.scan_id)
            inside = False
            continue
        if inside or (first is not None and not reentry):
            conflicts.add(use.scan_id)
        inside = True
        first = first or use
    return (None if first is None else Standing(inside, first)), conflicts


def seconds(at: datetime | None) -> int | None:
    """Return the time in whole seconds since the epoch, as devices have it."""
    return None if at is None else int(at.timestamp())
