"""Send requests that Schemathesis generates to the application, with every check on.

`make fuzz` is the long form, over HTTP and in every role: see `tests/fuzz.py`.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from uuid import UUID, uuid4

import httpx
import pytest
import schemathesis
from fastapi import FastAPI
from schemathesis.checks import CHECKS, load_all_checks
from schemathesis.config import SchemathesisConfig
from schemathesis.python import asgi
from schemathesis.schemas import BaseSchema
from sqlalchemy import text

from tests.calls import NOT_PUBLIC
from tests.contract import operations
from tests.generated import AT_THE_DOOR, ENDING, SEED, Findings, Hall, Shop, World, kept, run, sell
from tests.people import Person, Visitor
from ticketing.app import create_app
from ticketing.db.engine import connect
from ticketing.identity.operator import Operator
from ticketing.identity.part import Identity
from ticketing.settings import Settings
from ticketing.web.service import Service

pytestmark = pytest.mark.usefixtures("unmeasured")

EXAMPLES = 15
SCENARIOS = 100
CHANCES = 5
"""How many seeds are tried until enough has succeeded. What succeeds is random: the ids and times
of a run are its own."""
KEYED_EXAMPLES = ("bookTicket", "cancelTicket", "copyEvent", "createHold", "createQuota")
"""Operations whose example about event 1 must succeed."""

# They end sessions, so each is called by somebody of its own.
LEAVING = ("logout", "changePassword", "deleteMe")
FOR_ADMINS = ("grantOrganiser", "revokeOrganiser")
KEY = {"name": "A program", "scopes": ["bookings:read"]}

# As in the document's examples, so that those work.
ADA = {"username": "ada", "password": "correct horse battery"}
THEIRS = {"id": "019938a5-3c6b-7f0e-b7a2-53f0c9d1e6aa", "name": "of-the-examples"}
"""The person that the examples name."""


@dataclass
class Target:
    """An application, its document, and what Schemathesis generates for it."""

    app: FastAPI
    document: BaseSchema
    config: SchemathesisConfig

    def runs(self, *phases: str) -> Iterator[Findings]:
        """Run the phases with a few seeds, and yield all that is found so far after each."""
        findings, document = Findings(), self.document
        for seed in range(SEED, SEED + CHANCES):
            self.config.update(seed=seed, max_failures=None)
            found = run(document, *phases)
            findings.successes |= found.successes
            findings.checks |= found.checks
            findings.faults += found.faults
            yield findings
            missing = {each.id for each in operations(self.app)} - findings.successes
            if "stateful" not in phases:
                document = self.document.include(operation_id=sorted(missing))


@contextmanager
def under_test(settings: Settings, *, by_one_person: bool) -> Iterator[Target]:
    """Yield an application as target. Schemathesis runs its loop.

    `by_one_person`: who makes an event also changes and ends it. Another person would not find a
    draft, which Schemathesis takes for a fault.
    """
    world = asyncio.run(_world(settings, by_one_person=by_one_person))
    app = create_app(settings)
    app.state.provided[Service].streams.longest = 0.0
    # Not in the coroutine, because asyncio shows its result, which takes ten seconds.
    config = world.configuration(
        app.openapi(), examples=EXAMPLES, scenarios=SCENARIOS, linked=by_one_person
    )
    try:
        document = schemathesis.openapi.from_asgi("/openapi.json", app, config=config)
        yield Target(app, document, config)
    finally:
        asgi.shutdown_lifespans()


@asynccontextmanager
async def operating(settings: Settings) -> AsyncIterator[Operator]:
    """Yield a function that makes admins and tokens."""
    assert settings.database_url is not None
    engine = connect(settings.database_url.get_secret_value(), pool_size=1)
    async with engine.begin() as connection:
        person = "INSERT INTO users (id, username, password_hash) VALUES (:id, :name, '')"
        await connection.execute(text(person), THEIRS)
    yield Operator(engine, settings.bcrypt_rounds)
    await engine.dispose()


async def _world(settings: Settings, *, by_one_person: bool) -> World:
    app = create_app(settings)
    async with (
        operating(settings) as operator,
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
            token = app.state.provided[Identity].tokens.issue(UUID(made.json()["id"]), uuid4())
            if operation == "logout":  # It ends the sessions, and is then refused.
                login = await client.post("/api/users/login", json=ADA | {"username": username})
                token = login.json()["token"]
            leaving[operation] = {"Authorization": f"Bearer {token}"}
        admin = await Visitor(client).register()
        await operator.access.promote(admin.username)
        leaving |= dict.fromkeys(FOR_ADMINS, admin.headers)
        made_tokens = [await operator.add(f"newcomer-{number}") for number in range(10)]
        for _ in range(10):
            await client.post("/api/users/login", json=ADA)
        listed = (await ada.get("/api/users/me/sessions")).json()["items"]
        sessions = [each["id"] for each in listed if not each["isCurrent"]]
        opened = [(await client.post("/api/users/login", json=ADA)).json() for _ in range(5)]
        keys = [await ada.post("/api/users/me/keys", KEY) for _ in range(10)]
        bob = await Visitor(client).register()
        # Examples are about event 1: only its owner changes it, and nobody ends it.
        una, olga = [await Visitor(client).register() for _ in range(2)]
        assert await una.organise(total=1_000) == 1
        hall = await Hall.open(una, 1)
        drafts = [await olga.draft() for _ in range(20)]
        if not by_one_person:
            leaving |= dict.fromkeys(ENDING, olga.headers) | {"updateEvent": una.headers}
            at_hall = {each.id for each in operations(app) if each.path.startswith("/api/tickets/")}
            leaving |= dict.fromkeys(at_hall | AT_THE_DOOR | {"getTicketsPdf"}, una.headers)
            # All examples have the same Idempotency-Key, which a person can use for one of them.
            for operation in KEYED_EXAMPLES:
                manager = await Visitor(client).register()
                await una.appoint(1, manager, "manager")
                leaving[operation] = manager.headers
        known = [await ada.organise(total=total) for total in (1, 1, 1_000_000)]
        held = [(await bob.book(event)).json()["id"] for event in known]
        held += [(await ada.book(event)).json()["id"] for event in known]
        # Of two events, because a generated call may give one of them to another owner.
        held += (await sell(ada, 12))[1] + (await sell(ada, 12))[1]
        holds = [await kept(ada, known[-1]) for _ in range(60)]
        shop = await Shop.open(ada)
        customers = [await ada.book_for(known[-1], f"customer-{number}") for number in range(30)]
        webhooks = [
            (await ada.post("/api/webhooks", {"url": NOT_PUBLIC})).json()["id"] for _ in range(30)
        ]
        staff = [await Visitor(client).register() for _ in range(4)]
        for event in known:
            for person in staff:
                await ada.appoint(event, person, "staff")
    return World(
        headers=ada.headers,
        leaving=leaving,
        # The caller's own are called more often, because many operations succeed at these only.
        events=[*known * (1 if by_one_person else 10), *drafts],
        drafts=drafts,
        updated=[1] if not by_one_person else known,
        bookings=held,
        holds=holds,
        shop=shop,
        hall=hall,
        people=[ada.id],
        account=ADA,
        members=[person.id for person in staff],
        tokens=[each["refreshToken"] for each in opened],
        keys=[each.json()["id"] for each in keys],
        sessions=sessions,
        password_tokens=[each.token for each in made_tokens],
        customers=customers,
        webhooks=webhooks,
    )


def test_every_response_is_as_the_document_says(settings: Settings) -> None:
    with under_test(settings, by_one_person=False) as target:
        expected = {operation.id for operation in operations(target.app)}
        for findings in target.runs("examples", "coverage", "fuzzing"):
            assert findings.faults == []
            if findings.successes == expected:
                break
        # Otherwise too little was tested.
        assert findings.successes == expected
        load_all_checks()
        assert findings.checks == set(CHECKS.get_all_names())


def test_responses_of_sequences_of_calls_are_as_the_document_says(settings: Settings) -> None:
    with under_test(settings, by_one_person=True) as target:
        at_events = {each.id for each in operations(target.app) if "{eventId}" in each.path}
        for findings in target.runs("stateful"):
            assert findings.faults == []
            # An event was made, and another call was about one. The other test checks that every
            # operation succeeds.
            made = findings.successes & {"initializeEvent", "createEvent"}
            if made and findings.successes & at_events:
                break
        assert made
        assert findings.successes & at_events
