"""Help Schemathesis to generate requests about things that exist."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import schemathesis
from schemathesis import Case, HookContext
from schemathesis.config import SchemathesisConfig
from schemathesis.engine import events, from_schema
from schemathesis.generation.meta import TestPhase
from schemathesis.schemas import BaseSchema

from tests.people import Person

SEED = 20261130
PHASES = ("examples", "coverage", "fuzzing", "stateful")

# No schema says which passwords are common, which characters are visible, and what time it is.
UNTOLD = {
    *("listCustomers", "updateCustomer", "listEventBookings"),
    *("register", "changePassword", "setPassword", "makeKey"),
    *("createEvent", "listEvents", "updateEvent", "copyEvent", "getStats"),
    *("createHold", "extendHold"),
    *("createCodes", "updateCode", "checkCode"),
    *("createWebhook", "updateWebhook"),
    *("updateTicket", "checkIn", "uploadCheckIns", "undoCheckIn", "updateDoor"),
    *("getDoorManifest", "readFeed", "readEventFeed"),
    *("publishEvent", "pauseSale", "resumeSale", "cancelEvent", "deleteEvent"),
}
ABOUT_TYPES = {
    *(f"{verb}TicketType" for verb in ("create", "get", "update", "delete")),
    *(f"{verb}Quota" for verb in ("create", "get", "update", "delete")),
    *("listTicketTypes", "listQuotas"),
    *(f"{verb}Code" for verb in ("check", "get", "update", "delete")),
    *("createCodes", "listCodes", "exportCodes", "getEventCalendar"),
}
"""Operations that need an event with a start, and its own ticket type or quota."""
AT_THE_DOOR = {
    *("getDoor", "updateDoor", "checkIn", "uploadCheckIns", "undoCheckIn", "listCheckIns"),
    *("getDoorManifest", "readFeed", "readEventFeed"),
}
"""Operations that need an event with scans."""
LENIENT = {"uploadCheckIns", "cancelBooking", "confirmHold", "extendHold", "logout"}
"""Operations that accept what their schema does not: scans that are wrong, which fail alone, and
null for a body that may be left out."""
ABOUT_HOLDS = ("confirmHold", "extendHold", "releaseHold")
"""Operations that need a hold. Each has its own, because they end it."""
ENDING = ("cancelEvent", "deleteEvent", "pauseSale", "changeOwner")
"""Operations after which an event may not be bookable, or another person's. Each has drafts of its
own."""
KEY = "#/components/parameters/Idempotency-Key"
ACCEPTED = ["2xx", "401", "403", "404", "409", "410", "412", "422", "428"]
REFUSED = [
    "400",
    "401",
    "403",
    "404",
    "405",
    "406",
    "409",
    "412",
    "415",
    "422",
    "428",
    "429",
    "5xx",
]
"""Statuses of invalid requests. A wrong If-Match is found before a wrong body."""


@dataclass(frozen=True)
class Shop:
    """An event with many ticket types and quotas, so that some may be deleted."""

    event: int
    ticket_types: Sequence[int]
    quotas: Sequence[int]
    codes: Sequence[int]

    @classmethod
    async def open(cls, owner: Person) -> "Shop":
        """Make it."""
        many = range(50)
        body = {
            "name": "A fair",
            "capacity": 10,
            "startsAt": "2037-11-02T19:30:00Z",
            "ticketTypes": [{"name": f"Type {number}"} for number in many],
            "quotas": [{"name": f"Quota {number}", "capacity": 10} for number in many],
        }
        made = (await owner.post("/api/events", body)).json()
        types, quotas = ([each["id"] for each in made[of]] for of in ("ticketTypes", "quotas"))
        codes = {"kind": "discount", "percent": 20, "codes": ["SUMMER26"]}
        path = f"/api/events/{made['id']}/codes"
        await owner.post(path, codes)
        drawn = codes | {"draw": {"count": 50}}
        del drawn["codes"]
        more = (await owner.post(path, drawn)).json()["items"]
        return cls(made["id"], types, quotas, [each["id"] for each in more])


async def sell(owner: Person, count: int) -> tuple[int, list[str]]:
    """Return an event, and bookings with a price there, for which most amounts can be refunded."""
    price = {"amount": 2500, "currency": "EUR"}
    body = {"name": "A gala", "capacity": count, "ticketTypes": [{"name": "Seat", "price": price}]}
    event = (await owner.post("/api/events", body)).json()
    sold = [
        (await owner.sell(event["id"], event["ticketTypes"][0]["id"]))["id"] for _ in range(count)
    ]
    for booking in sold:
        for number in range(5):
            paid = {"reference": f"order-{number}", "amount": 10**12}
            await owner.post(f"/api/bookings/{booking}/payments", paid)
    return event["id"], sold


@dataclass(frozen=True)
class Hall:
    """An event whose tickets nobody cancels, and links that pass some of them on."""

    event: int
    scans: Sequence[str]
    tickets: Sequence[str]
    tokens: Sequence[str]

    @classmethod
    async def open(cls, owner: Person, plain: int) -> "Hall":
        """Make it of a plain event."""
        sold = [await owner.book_for(plain, f"guest-{number}") for number in range(60)]
        listed = await owner.get(f"/api/events/{plain}/bookings", limit=100)
        tickets = [each["id"] for each in listed.json()["items"]]
        assert len(sold) == len(tickets)
        tokens = [
            (await owner.post(f"/api/tickets/{each}/transfers", None)).json()["token"]
            for each in tickets[:40]
        ]
        scans = tickets[:20]
        for each in scans:
            body = {"scanId": each, "code": "unknown"}
            await owner.post(f"/api/events/{plain}/check-ins", body)
        return cls(plain, scans, tickets[40:], tokens)


_numbers = itertools.count()


async def kept(team: Person, event: int) -> str:
    """Return the id of a hold of the team, which can be extended without a time."""
    soon = (datetime.now(UTC) + timedelta(minutes=5)).isoformat()
    made = await team.post("/api/holds", {"eventId": event, "expiresAt": soon})
    assert made.status_code == 201, made.text
    return str(made.json()["id"])


@schemathesis.hook
def before_call(_: HookContext, case: Case[Any], _sent: dict[str, Any]) -> None:
    """Give each call of a sequence an Idempotency-Key of its own, and let no call wait for news.

    With that of an earlier sequence, a call would return again what that sequence made and deleted.
    """
    if isinstance(case.query, dict) and case.query.get("wait") in range(31):
        case.query["wait"] = 0
    in_sequence = case.meta is not None and case.meta.phase.name is TestPhase.STATEFUL
    if in_sequence and (key := case.headers.get("Idempotency-Key")):
        case.headers["Idempotency-Key"] = f"{key}-{next(_numbers)}"


@dataclass(frozen=True)
class World:
    """The caller, and names of existing things."""

    headers: Mapping[str, str]
    leaving: Mapping[str, Mapping[str, str]]
    """Headers of other people, for operations that end a session or need an admin."""
    events: Sequence[int]
    drafts: Sequence[int]
    updated: Sequence[int]
    """Events of who calls updateEvent."""
    bookings: Sequence[str]
    holds: Sequence[str]
    shop: "Shop"
    hall: "Hall"
    people: Sequence[str]
    account: Mapping[str, str]
    """A username and its password."""
    members: Sequence[str]
    tokens: Sequence[str]
    """Refresh tokens."""
    keys: Sequence[str]
    """Ids of API keys."""
    sessions: Sequence[str]
    """Ids of sessions."""
    password_tokens: Sequence[str]
    customers: Sequence[str]
    """Ids of customers."""
    webhooks: Sequence[str]
    """Ids of webhooks."""

    def configuration(
        self,
        document: Mapping[str, Any],
        *,
        examples: int,
        scenarios: int,
        without: Sequence[str] = (),
        linked: bool = False,
    ) -> SchemathesisConfig:
        """Generate `examples` of each operation that is not in `without`, and sequences of calls.

        Random names match nothing, so half of them are names of existing things. If calls are
        `linked`, some have what another response had under this name, which may be null.
        """
        checks = {"negative_data_rejection": {"expected-statuses": REFUSED}}
        if linked:
            checks["positive_data_acceptance"] = {"expected-statuses": ACCEPTED}
        known = {
            "events": self.events,
            "shop": [self.shop.event],
            "updateEvent": self.updated,
            "ticket types": self.shop.ticket_types,
            "quotas": self.shop.quotas,
            "codes": self.shop.codes,
            "texts of codes": ["SUMMER26"],
            "any": ["*"],
            "bookings": self.bookings,
            **{of: self.holds[place::3] for place, of in enumerate(ABOUT_HOLDS)},
            **{of: self.drafts[place :: len(ENDING)] for place, of in enumerate(ENDING)},
            "people": self.people,
            "names": [self.account["username"]],
            "times to come": ["2032-01-01T00:00:00Z"],
            "times of payments": ["2026-11-02T19:30:00Z"],
            "references": [f"reference-{number}" for number in range(1_000)],
            "tickets": self.hall.tickets,
            "hall": [self.hall.event],
            "scans": self.hall.scans,
            "lists": ["main"],
            "getTicketsPdf": self.hall.tickets,
            "acceptTransfer": self.hall.tokens,
            "passwords": [self.account["password"]],
            "members": self.members,
            "tokens": self.tokens,
            "keys": self.keys,
            "sessions": self.sessions,
            "customers": self.customers,
            "webhooks": self.webhooks,
            # Refused without a look-up, because it is not public.
            "addresses": ["http://127.0.0.1:9/hook"],
            "password tokens": self.password_tokens,
            "intentions": [f"intention-{number}" for number in range(1_000)],
        }
        named = {
            "path.eventId": "events",
            "body.eventId": "events",
            "body.userId": "people",
            "body.username": "names",
            "body.expiresAt": "times to come",
            "body.paidAt": "times of payments",
            "body.reference": "references",
            "body.password": "passwords",
            "body.refreshToken": "tokens",
            "path.userId": "members",
            "path.bookingId": "bookings",
            "path.keyId": "keys",
            "path.sessionId": "sessions",
            "path.customerId": "customers",
            "path.webhookId": "webhooks",
            "body.url": "addresses",
            "body.token": "password tokens",
            "path.ticketTypeId": "ticket types",
            "path.quotaId": "quotas",
            "path.codeId": "codes",
            "body.code": "texts of codes",
            "path.ticketId": "tickets",
            "path.scanId": "scans",
            "body.list": "lists",
            "body.ticketId": "tickets",
        }
        parameters = {name: {"dictionary": of, "probability": 0.5} for name, of in named.items()}
        parameters["header.If-Match"] = {"dictionary": "any", "probability": 0.9}
        parameters["body.expiresAt"]["probability"] = 0.9
        parameters["body.url"]["probability"] = 1.0
        parameters["header.idempotency-key"] = {"dictionary": "intentions", "probability": 0.9}
        return SchemathesisConfig.from_dict(
            {
                "seed": SEED,
                "headers": dict(self.headers),
                "continue-on-failure": True,
                "dictionaries": {name: {"values": list(of)} for name, of in known.items()},
                "parameters": parameters,
                "checks": checks,
                "operations": [
                    *({"include-operation-id": each, "enabled": False} for each in without),
                    *(
                        {"include-operation-id": operation, "headers": dict(headers)}
                        for operation, headers in self.leaving.items()
                    ),
                    {
                        "include-operation-id": sorted(ABOUT_TYPES),
                        "parameters": {"path.eventId": {"dictionary": "shop", "probability": 0.9}},
                    },
                    *(
                        {
                            "include-operation-id": operation,
                            "parameters": {
                                f"path.{name}": {"dictionary": operation, "probability": 0.9}
                            },
                        }
                        for name, operations in (
                            ("bookingId", ABOUT_HOLDS),
                            ("eventId", (*ENDING, "updateEvent")),
                        )
                        for operation in operations
                    ),
                    {
                        "include-operation-id": "getTicketsPdf",
                        "parameters": {
                            "path.bookingId": {"dictionary": "getTicketsPdf", "probability": 0.9}
                        },
                    },
                    {
                        "include-operation-id": sorted(AT_THE_DOOR),
                        "parameters": {"path.eventId": {"dictionary": "hall", "probability": 0.9}},
                    },
                    {
                        "include-operation-id": "acceptTransfer",
                        "parameters": {
                            "body.token": {"dictionary": "acceptTransfer", "probability": 0.9}
                        },
                    },
                    {
                        "include-operation-id": sorted(LENIENT),
                        "checks": {"negative_data_rejection": {"enabled": False}},
                    },
                    {
                        "include-operation-id": sorted(UNTOLD | ABOUT_TYPES | _keyed(document)),
                        "checks": {"positive_data_acceptance": {"expected-statuses": ACCEPTED}},
                    },
                ],
                "generation": {
                    "deterministic": True,
                    "max-examples": examples,
                    "database": "none",
                },
                "phases": {"stateful": {"generation": {"max-examples": scenarios}}},
            }
        )


def _keyed(document: Mapping[str, Any]) -> set[str]:
    """Return the operations that may fail because their key was used for another before."""
    return {
        operation["operationId"]
        for item in document["paths"].values()
        for operation in item.values()
        if {"$ref": KEY} in operation.get("parameters", ())
    }


@dataclass
class Findings:
    """The calls, checks and faults of a run."""

    cases: int = 0
    """Calls that got a response."""
    successes: set[str] = field(default_factory=set)
    checks: set[str] = field(default_factory=set)
    faults: list[str] = field(default_factory=list)


def run(document: BaseSchema, *phases: str) -> Findings:
    """Send what Schemathesis generates from the document in these phases, with every check on."""
    for name in PHASES:
        document.config.phases.get_by_name(name=name).enabled = name in phases
    findings = Findings()
    for event in from_schema(document).execute():
        if isinstance(event, events.NonFatalError):
            causes = getattr(event.value, "exceptions", ())
            findings.faults.append(f"{event.label}: {causes or event.value!r}")
        if isinstance(event, events.ScenarioFinished):
            _collect(findings, event)
    return findings


def _collect(findings: Findings, event: events.ScenarioFinished) -> None:
    recorder = event.recorder
    for case_id, node in recorder.cases.items():
        response = recorder.find_response(case_id=case_id)
        if response is None:
            continue
        findings.cases += 1
        if response.status_code < 300:
            findings.successes.add(str(node.value.operation.definition.raw["operationId"]))
    for check in (check for checks in recorder.checks.values() for check in checks):
        findings.checks.add(check.name)
        if check.failure_info is not None:
            failed = check.failure_info
            findings.faults.append(f"{check.name}: {failed.failure!r}\n{failed.code_sample}")
