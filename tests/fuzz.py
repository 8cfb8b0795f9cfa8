"""`make fuzz`: send requests that Schemathesis generates to a running service, in every role.

For each role, and for API keys of each scope, it makes new people and events, and calls all
operations with every check on. Then it compares the rows: nothing may have changed that the table
of permissions does not allow this caller. `tests/web/api/test_schemathesis.py` is the short form.
"""

import argparse
import asyncio
import json
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID, uuid4

import asyncpg
import httpx
import schemathesis
from schemathesis.checks import CHECKS, load_all_checks

from tests.calls import NOT_PUBLIC
from tests.folders import folder_open_to_all
from tests.generated import PHASES, Hall, Shop, World, kept, run, sell
from tests.people import Person, Visitor
from tests.serving import Service, serving, until
from tests.signing import SECRET
from ticketing.db import migrations
from ticketing.db.engine import connect
from ticketing.embedded.server import embedded
from ticketing.identity.operator import Operator
from ticketing.identity.permissions import RULES, Action, Role, Scope
from ticketing.identity.tokens import Tokens
from ticketing.sale.repositories.recount import RecountRepository

ENOUGH = 10_000
"""The minimum number of cases."""
SLOW = 1000.0
"""Milliseconds that no response may take, as the service measures it."""
ROUNDS = 4
"""The cheapest hash of a password."""
STREAMS = {"followEvent", "followBooking"}
"""Operations that are not called, because their responses stay open for an hour."""

EXAMPLES = 30
SCENARIOS = 60

ROLES = [role for role in Role if role is not Role.SELF]  # Everybody has it for themself.
# They end sessions, so each is called by somebody of its own.
LEAVING = (Action.LOGOUT, Action.CHANGE_PASSWORD, Action.DELETE_ME)
# As in the document's examples, so that those work. Everybody knows the password.
ADA = {"username": "ada", "password": "correct horse battery"}


@dataclass(frozen=True)
class Cast:
    """The caller, its role, and the owners of the rows."""

    caller: Role | Scope
    world: World
    me: str | None
    """The caller, or the owner of its API key."""
    others: list[str]
    """All people whose credentials nobody else has."""
    mine: list[int]
    """Events at which the caller has the role."""
    not_mine: list[int]
    """Events of another person."""

    def may(self, action: Action) -> bool:
        """Whether the table allows this caller the action, if the role matters."""
        rule = RULES[action]
        if isinstance(self.caller, Scope):
            return self.caller in rule.scopes or Role.NOBODY in rule.roles
        return self.caller in rule.roles

    @property
    def books_for_itself(self) -> bool:
        """Whether the caller may book and cancel for itself."""
        if isinstance(self.caller, Scope):
            return self.may(Action.BOOK_TICKET)
        return self.caller is not Role.NOBODY

    @property
    def expected(self) -> set[str]:
        """Operations that must succeed at least once. Otherwise the run tried too little."""
        named = {action.value for action in Action if self.may(action)}
        if self.books_for_itself:
            named |= {Action.BOOK_TICKET.value, Action.CANCEL_TICKET.value}
        return named

    @property
    def allowed(self) -> set[str]:
        """Operations that may succeed. A caller who is logged in may own events."""
        if self.caller in ROLES and self.caller is not Role.NOBODY:
            return {action.value for action in Action}
        return self.expected


async def prepare(client: httpx.AsyncClient, operator: Operator, caller: Role | Scope) -> Cast:
    """Make an owner with events, a stranger with events, people with places, and the caller."""
    visitor = Visitor(client)
    await client.post("/api/users/register", json=ADA)
    opened = [(await client.post("/api/users/login", json=ADA)).json() for _ in range(5)]
    owner, stranger, bob, cleo = [await visitor.register() for _ in range(4)]
    members = [await visitor.register() for _ in range(4)]
    mine = [await owner.organise(total=total) for total in (1, 1, 1_000_000)]
    shop = await Shop.open(owner)
    mine.insert(0, shop.event)
    not_mine = [await stranger.organise(total=total) for total in (1, 1_000_000)]
    for person, events in ((owner, mine), (stranger, not_mine)):
        for event in events:
            for member in members:
                await person.appoint(event, member, Role.STAFF)
            for booker in (bob, cleo):
                await booker.book(event)
    listed = await bob.get("/api/users/me/bookings")
    held = [each["id"] for each in listed.json()["items"]]
    gala, priced = await sell(owner, 6)
    mine.insert(0, gala)
    held += priced

    customers = [
        await organiser.book_for(events[-1], f"known-{number}")
        for organiser, events in ((owner, mine), (stranger, not_mine))
        for number in range(30)
    ]
    webhooks = [
        (await each.post("/api/webhooks", {"url": NOT_PUBLIC})).json()["id"]
        for each in (owner, stranger)
        for _ in range(10)
    ]
    me = await _who_calls(caller, owner, mine)
    if me is not None and caller is Role.ADMIN:
        await operator.access.promote(me.username)
        await until(lambda: _opens(me, f"/api/events/{not_mine[0]}/trail"))
    acting = await owner.make_key(caller) if isinstance(caller, Scope) else me
    others = [owner, stranger, bob, cleo, *members]
    leaving: dict[str, dict[str, str]] = {}
    sessions = await _sessions(await stranger.again())
    if me is not None and acting is me:
        leaving, ended = await _leaving(client, caller)
        sessions += ended
    return Cast(
        caller,
        World(
            headers=acting.headers if acting is not None else {},
            leaving=leaving,
            events=[*mine, *not_mine],
            drafts=[*mine, *not_mine],
            updated=[*mine, *not_mine],
            bookings=held,
            holds=[
                await kept(organiser, events[-1])
                for organiser, events in ((owner, mine[:3]), (stranger, not_mine))
                for _ in range(20)
            ],
            shop=shop,
            hall=await Hall.open(owner, await owner.organise(200)),
            people=[each.id for each in (me or bob, bob, stranger)],
            account=ADA,
            members=[each.id for each in (*members, stranger)],
            tokens=[each["refreshToken"] for each in opened],
            sessions=sessions,
            password_tokens=[
                (await operator.add(f"newcomer-{number}-as-{caller}".replace(":", "-"))).token
                for number in range(10)
            ],
            keys=[key for each in (me or owner, stranger) for key in await _keys(each)],
            customers=customers,
            webhooks=webhooks,
        ),
        me.id if me is not None else None,
        # A key may not change rows of its owner either.
        [each.id for each in others if each is not me or acting is not me],
        mine,
        not_mine,
    )


async def _who_calls(caller: Role | Scope, owner: Person, events: Sequence[int]) -> Person | None:
    """Return a person of this role, or the owner of the key."""
    if caller is Role.NOBODY:
        return None
    if isinstance(caller, Scope) or caller is Role.OWNER:
        return owner
    me = await owner.register()
    if caller in {Role.MANAGER, Role.STAFF}:
        for event in events:
            await owner.appoint(event, me, caller)
    return me


async def _leaving(
    client: httpx.AsyncClient, caller: Role | Scope
) -> tuple[dict[str, dict[str, str]], list[str]]:
    """Return, for operations that end a session, the headers of a person whose session may end.

    Also return sessions to end, of the person with the document's password.
    """
    tokens = Tokens(SECRET, 3600)
    headers = {}
    for action in LEAVING:
        account = {"username": f"{action}-as-{caller}", "password": ADA["password"]}
        made = await client.post("/api/users/register", json=account)
        token = tokens.issue(UUID(made.json()["id"]), uuid4())
        if action is Action.LOGOUT:  # It ends the sessions, and is then refused.
            token = (await client.post("/api/users/login", json=account)).json()["token"]
        headers[action.value] = {"Authorization": f"Bearer {token}"}
    account = {"username": f"sessions-as-{caller}", "password": ADA["password"]}
    made = await client.post("/api/users/register", json=account)
    logins = [(await client.post("/api/users/login", json=account)).json() for _ in range(10)]
    person = Person(client, account["username"], made.json()["id"], logins[0]["token"])
    headers[Action.END_SESSION.value] = person.headers
    return headers, await _sessions(person)


async def _sessions(person: Person) -> list[str]:
    """Return the ids of the person's other sessions."""
    listed = (await person.get("/api/users/me/sessions")).json()["items"]
    return [session["id"] for session in listed if not session["isCurrent"]]


async def _keys(person: Person) -> list[str]:
    """Make some API keys of the person, and return their ids."""
    for _ in range(10):
        await person.make_key(Scope.BOOKINGS_READ)
    return [key["id"] for key in (await person.get("/api/users/me/keys")).json()["items"]]


async def _opens(person: Person, path: str) -> bool:
    return (await person.get(path)).is_success


GIVEN = (
    "WITH given AS (SELECT $1::uuid[] AS people, $2::bigint[] AS events, $3::uuid AS me,"
    " $4::bigint AS last, $5::text AS caller) "
)
# Rows that only their owner may change.
ALWAYS = {
    "accounts": "SELECT id, username, password_hash FROM users, given WHERE id = ANY(people)",
    "admins": "SELECT user_id FROM admins",
    "password tokens": "SELECT t FROM password_tokens AS t, given WHERE user_id = ANY(people)",
    "sessions": "SELECT id, user_id, expires_at FROM sessions, given WHERE user_id = ANY(people)",
    "refresh tokens": "SELECT hash, used_at FROM refresh_tokens"
    " JOIN sessions ON id = session_id, given WHERE user_id = ANY(people)",
    "keys": "SELECT id, user_id, name, hash, scopes, expires_at,"
    " CASE WHEN user_id IS DISTINCT FROM me THEN last_used_at END"
    " FROM api_keys, given WHERE user_id = ANY(people)",
    "events": "SELECT id, organiser_id, total_tickets FROM events, given"
    " WHERE id = ANY(given.events)",
    "what others own": "SELECT id FROM events, given"
    " WHERE organiser_id = ANY(people) AND organiser_id IS DISTINCT FROM me",
    "old records": "SELECT r FROM audit_records AS r, given WHERE seq <= last",
    "records in another's name": "SELECT r FROM audit_records AS r, given"
    " WHERE seq > last AND actor = ANY(people) AND actor IS DISTINCT FROM me",
}
# Rows at an event that a caller may change if the table allows it.
UNLESS = {
    Action.UPDATE_EVENT: "SELECT id, name FROM events, given WHERE id = ANY(given.events)",
    Action.UPDATE_TICKET_TYPE: "SELECT id, event_id, name FROM ticket_types, given"
    " WHERE event_id = ANY(given.events)",
    Action.UPDATE_QUOTA: "SELECT id, event_id, name FROM quotas, given"
    " WHERE event_id = ANY(given.events)",
    Action.UPDATE_CODE: "SELECT id, event_id, code, active FROM codes, given"
    " WHERE event_id = ANY(given.events)",
    # Everybody may give up their own role, but not change it.
    Action.GRANT_ROLE: "SELECT event_id, user_id, role FROM event_roles, given"
    " WHERE event_id = ANY(given.events) AND (user_id IS DISTINCT FROM me OR role <> caller)",
    Action.GRANT_ORGANISER: "SELECT user_id FROM organisers",
    # Who may book may make customers, and change their names.
    Action.ERASE_CUSTOMER: "SELECT user_id, external_id FROM customers, given"
    " WHERE external_id LIKE 'known-%' AND organiser_id = ANY("
    "SELECT organiser_id FROM events WHERE id = ANY(given.events))",
    Action.RECORD_PAYMENT: "SELECT id, event_id, paid FROM bookings, given"
    " WHERE event_id = ANY(given.events) AND paid IS NOT NULL",
    Action.RECORD_REFUND: "SELECT id, event_id, refunded FROM bookings, given"
    " WHERE event_id = ANY(given.events) AND refunded IS NOT NULL",
    # A freed place may go to a person who waits.
    Action.BOOK_TICKET: "SELECT id, event_id, user_id, status <> 'cancelled' FROM bookings, given"
    " WHERE event_id = ANY(given.events) AND user_id = ANY(people)"
    " AND user_id IS DISTINCT FROM me",
}

Rows = dict[str, set[str]]


async def guarded(connection: asyncpg.Connection, cast: Cast, last: int) -> Rows:
    """Return the rows that the caller may not change. Records up to `last` existed before."""

    async def rows(query: str, events: list[int], me: str | None) -> set[str]:
        given = (cast.others, events, me, last, str(cast.caller))
        found = await connection.fetch(GIVEN + query, *given)
        return {str(tuple(row)) for row in found}

    found = {
        what: await rows(query, [*cast.mine, *cast.not_mine], cast.me)
        for what, query in ALWAYS.items()
    }
    for action, query in UNLESS.items():
        # Actions for oneself do not count here. A key of another scope may not do those either.
        me = cast.me if cast.books_for_itself else None
        if not cast.may(action):
            found[f"{action} at the owner's"] = await rows(query, cast.mine, me)
        if cast.caller is not Role.ADMIN:
            found[f"{action} at the stranger's"] = await rows(query, cast.not_mine, me)
    return found


def differences(before: Rows, after: Rows) -> list[str]:
    """Return the differences between the rows before and after."""
    return [
        f"{what}: {sorted(rows ^ after[what])}"
        for what, rows in before.items()
        if rows != after[what]
    ]


class Fuzz:
    """A running service, its database, and the faults found so far."""

    def __init__(self, service: Service, database_url: str) -> None:
        """Start without faults."""
        self._service = service
        self._url = database_url
        self.cases = 0
        self.checks: set[str] = set()
        self.faults: list[str] = []

    async def prepare(self, caller: Role | Scope) -> tuple[Cast, int, Rows]:
        """Make people and events, and remember the rows that the caller may not change."""
        engine = connect(self._url, pool_size=2)
        try:
            async with httpx.AsyncClient(base_url=self._service.url) as client:
                cast = await prepare(client, Operator(engine, ROUNDS), caller)
        finally:
            await engine.dispose()
        connection = await asyncpg.connect(self._url)
        try:
            last = await connection.fetchval("SELECT max(seq) FROM audit_records")
            return cast, last, await guarded(connection, cast, last)
        finally:
            await connection.close()

    async def compare(self, cast: Cast, last: int, before: Rows) -> list[str]:
        """Return the rows that changed and should not have."""
        connection = await asyncpg.connect(self._url)
        try:
            return differences(before, await guarded(connection, cast, last))
        finally:
            await connection.close()

    async def audit(self) -> list[str]:
        """Compare the counters with the rows."""
        engine = connect(self._url, pool_size=2)
        try:
            audit = await RecountRepository(engine).recount()
        finally:
            await engine.dispose()
        print(f"books: {audit.events} events, {audit.bookings} bookings")
        return [f"books: {each.document()}" for each in audit.differences]

    def run(self, caller: Role | Scope, examples: int, scenarios: int) -> None:
        """Call all operations as this caller."""
        started = time.monotonic()
        cast, last, before = asyncio.run(self.prepare(caller))
        document = httpx.get(f"{self._service.url}/openapi.json").json()
        config = cast.world.configuration(
            document, examples=examples, scenarios=scenarios, without=sorted(STREAMS)
        )
        findings = run(
            schemathesis.openapi.from_url(f"{self._service.url}/openapi.json", config=config),
            *PHASES,
        )
        faults = [
            *findings.faults,
            *(f"{each} was done by who may not" for each in findings.successes - cast.allowed),
            *(f"{each} was never done" for each in cast.expected - findings.successes - STREAMS),
            *asyncio.run(self.compare(cast, last, before)),
        ]
        self.cases += findings.cases
        self.checks |= findings.checks
        self.faults += [f"as {caller}: {fault}" for fault in faults]
        seconds = time.monotonic() - started
        print(f"{caller:15} {findings.cases:6,} cases {seconds:5.0f} s  {len(faults)} faults")
        sys.stdout.flush()


def read_log(folder: Path) -> tuple[Counter[int], float, list[str]]:
    """Return the responses by status, the milliseconds of the slowest, and the faults."""
    statuses: Counter[int] = Counter()
    slowest = 0.0
    faults = []
    with (folder / "logs" / "combined.log").open() as lines:
        for line in lines:
            entry = json.loads(line)
            if entry["event"] == "request.completed":
                statuses[entry["status"]] += 1
                slowest = max(slowest, entry["durationMs"])
                # 503 is documented at each route, and Schemathesis looks that up.
                if entry["durationMs"] > SLOW or entry["status"] in {500, 501, 502, 504}:
                    faults.append(line)
            elif entry["level"] in {"error", "critical"}:
                faults.append(line)
    return statuses, slowest, faults


@contextmanager
def fuzzed() -> Iterator[tuple[Fuzz, Path]]:
    """Serve with two workers and a separate PostgreSQL, in a temporary folder."""
    with (
        folder_open_to_all() as data,
        embedded(data, max_connections="200") as running,
        tempfile.TemporaryDirectory(prefix="ticketing-fuzz-") as folder,
    ):
        migrations.upgrade(running.url)
        with serving(
            Path(folder),
            "--workers",
            "2",
            TICKETING_DATABASE_URL=running.url,
            TICKETING_JWT_SECRET=SECRET,
        ) as service:
            yield Fuzz(service, running.url), Path(folder)


def main() -> None:
    """Call all operations as every caller, and print the faults."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--examples", type=int, default=EXAMPLES, help="of each operation")
    parser.add_argument("--scenarios", type=int, default=SCENARIOS, help="of calls in sequence")
    callers = [*ROLES, *Scope]
    parser.add_argument("--as", dest="callers", nargs="+", choices=callers, default=callers)
    given = parser.parse_args()
    for name in [name for name in os.environ if name.startswith("TICKETING_")]:
        del os.environ[name]
    started = time.monotonic()
    with fuzzed() as (fuzz, folder):
        for caller in callers:
            if caller in given.callers:
                fuzz.run(caller, given.examples, given.scenarios)
        fuzz.faults += asyncio.run(fuzz.audit())
        statuses, slowest, faults = read_log(folder)
    fuzz.faults += faults
    load_all_checks()
    if unchecked := set(CHECKS.get_all_names()) - fuzz.checks:
        fuzz.faults.append(f"nothing was checked by {sorted(unchecked)}")
    if fuzz.cases < ENOUGH:
        fuzz.faults.append(f"{fuzz.cases} cases are too few: {ENOUGH} must be tried")
    for fault in fuzz.faults:
        print(fault)
    print(
        f"{fuzz.cases:,} cases in {time.monotonic() - started:.0f} s,"
        f" {statuses.total():,} answers {dict(sorted(statuses.items()))},"
        f" the slowest in {slowest:.0f} ms, {len(fuzz.faults)} faults"
    )
    sys.exit(1 if fuzz.faults else 0)


if __name__ == "__main__":
    main()
