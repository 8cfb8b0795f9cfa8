"""What Schemathesis makes of the OpenAPI document, sent to the application with every check on."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field
from uuid import UUID, uuid4

import httpx
import pytest
import schemathesis
from fastapi import FastAPI
from schemathesis.checks import CHECKS, load_all_checks
from schemathesis.config import SchemathesisConfig
from schemathesis.engine import events, from_schema
from schemathesis.python import asgi
from schemathesis.specs.openapi.schemas import OpenApiSchema

from tests.api.contract import operations
from tests.people import Person, Visitor
from ticketing.app import create_app
from ticketing.settings import Settings

SEED = 20261101
EXAMPLES = 15
SCENARIOS = 100

# They end sessions, so each is called by somebody of its own.
LEAVING = ("logout", "changePassword", "deleteMe")
KEY = {"name": "A program", "scopes": ["bookings:read"]}

# As the document's own examples have it, so that those work.
ADA = {"username": "ada", "password": "correct horse battery"}


@dataclass
class Findings:
    """What a run called, what it checked, and what was wrong."""

    successes: set[str] = field(default_factory=set)
    checks: set[str] = field(default_factory=set)
    faults: list[str] = field(default_factory=list)


@pytest.fixture
def tested(settings: Settings) -> FastAPI:
    """An application of the test's own, whose loop belongs to Schemathesis."""
    return create_app(settings)


@pytest.fixture
def config(settings: Settings) -> SchemathesisConfig:
    return asyncio.run(_config(create_app(settings)))


@pytest.fixture
def document(tested: FastAPI, config: SchemathesisConfig) -> Iterator[OpenApiSchema]:
    yield schemathesis.openapi.from_asgi("/openapi.json", tested, config=config)
    asgi.shutdown_lifespans()


async def _config(app: FastAPI) -> SchemathesisConfig:
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client,
    ):
        await client.post("/api/users/register", json=ADA)
        given = (await client.post("/api/users/login", json=ADA)).json()
        ada = Person(client, ADA["username"], given["userId"], given["token"])
        leaving = {}
        for operation in LEAVING:
            username = f"who-calls-{operation}"
            made = await client.post("/api/users/register", json=ADA | {"username": username})
            token = app.state.parts.tokens.issue(UUID(made.json()["id"]), uuid4())
            leaving[operation] = {"Authorization": f"Bearer {token}"}
        opened = [(await client.post("/api/users/login", json=ADA)).json() for _ in range(5)]
        keys = [await ada.post("/api/users/me/keys", KEY) for _ in range(10)]
        bob = await Visitor(client).register()
        known = [await ada.organise(total=total) for total in (1, 1, 1_000_000)]
        for event in known:
            await bob.book(event)
        staff = [await Visitor(client).register() for _ in range(4)]
        for event in known:
            for person in staff:
                await ada.appoint(event, person, "staff")
    return SchemathesisConfig.from_dict(
        {
            "seed": SEED,
            "headers": ada.headers,
            "continue-on-failure": True,
            # Names out of the blue name nothing: half of them name what exists.
            "dictionaries": {
                "events": {"values": known},
                "people": {"values": [ada.id]},
                "members": {"values": [person.id for person in staff]},
                "tokens": {"values": [each["refreshToken"] for each in opened]},
                "keys": {"values": [each.json()["id"] for each in keys]},
                "intentions": {"values": [f"intention-{number}" for number in range(1_000)]},
            },
            "parameters": {
                "path.eventId": {"dictionary": "events", "probability": 0.5},
                "body.eventId": {"dictionary": "events", "probability": 0.5},
                "body.userId": {"dictionary": "people", "probability": 0.5},
                "body.refreshToken": {"dictionary": "tokens", "probability": 0.5},
                "path.userId": {"dictionary": "members", "probability": 0.5},
                "path.keyId": {"dictionary": "keys", "probability": 0.5},
                "header.idempotency-key": {"dictionary": "intentions", "probability": 0.9},
            },
            # What no schema says: which passwords are common, what time it is, and which
            # Idempotency-Key stood for something else before.
            "operations": [
                *(
                    {"include-operation-id": operation, "headers": headers}
                    for operation, headers in leaving.items()
                ),
                {
                    "include-operation-id": [
                        *("register", "changePassword", "makeKey"),
                        *("initializeEvent", "bookTicket", "cancelTicket"),
                    ],
                    "checks": {
                        "positive_data_acceptance": {
                            "expected-statuses": ["2xx", "401", "403", "404", "409", "422"]
                        }
                    },
                },
            ],
            "generation": {"deterministic": True, "max-examples": EXAMPLES, "database": "none"},
            "phases": {"stateful": {"generation": {"max-examples": SCENARIOS}}},
        }
    )


def _run(document: OpenApiSchema, *phases: str) -> Findings:
    config = document.config.phases
    for phase in (config.examples, config.coverage, config.fuzzing, config.stateful):
        phase.enabled = False
    for name in phases:
        config.get_by_name(name=name).enabled = True
    findings = Findings()
    for event in from_schema(document).execute():
        if isinstance(event, events.NonFatalError):
            findings.faults.append(f"{event.label}: {event.value!r}")
        if isinstance(event, events.ScenarioFinished):
            _collect(findings, event)
    return findings


def _collect(findings: Findings, event: events.ScenarioFinished) -> None:
    recorder = event.recorder
    for case_id, node in recorder.cases.items():
        response = recorder.find_response(case_id=case_id)
        if response is not None and response.status_code < 300:
            findings.successes.add(str(node.value.operation.definition.raw["operationId"]))
    for check in (check for checks in recorder.checks.values() for check in checks):
        findings.checks.add(check.name)
        if check.failure_info is not None:
            failed = check.failure_info
            findings.faults.append(f"{check.name}: {failed.failure!r}\n{failed.code_sample}")


def test_every_answer_keeps_the_documents_word(document: OpenApiSchema, tested: FastAPI) -> None:
    findings = _run(document, "examples", "coverage", "fuzzing")
    assert findings.faults == []
    # Or else little was tested.
    assert findings.successes == {operation.id for operation in operations(tested)}
    load_all_checks()
    assert findings.checks == set(CHECKS.get_all_names())


def test_calls_that_follow_from_each_other_keep_it_too(document: OpenApiSchema) -> None:
    findings = _run(document, "stateful")
    assert findings.faults == []
    # Something was made, and what follows from it was found. Chance says what that is: who succeeds
    # in every operation is the other test's matter.
    assert "initializeEvent" in findings.successes
    assert findings.successes & {"getEvent", "listEventBookings", "listTeam", "listTrail"}
