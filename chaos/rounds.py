"""One round: clients hold, book and cancel, faults happen, and the history is checked."""

import asyncio
import os
import random
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from math import inf
from typing import Any, Final
from uuid import uuid4

import asyncpg
from chaos import checker, offers, shared
from chaos.client import Client, NotSent, Response, Unanswered
from chaos.failovers import FAILOVERS
from chaos.faults import FAULTS, ORDERLY, Stage
from chaos.history import NUMBERS, Books, Operation, read_books
from chaos.offers import Offer
from chaos.recovery import SETTLED, Recovery, measured
from chaos.rig import DATABASE_ERRORS, Kind, Person, Rig
from chaos.wishes import Holds, Wish, Wishes

from ticketing.db.engine import connect
from ticketing.sale.repositories.recount import RecountRepository

PAUSE: Final = 0.06
"""Average seconds between two requests of a person."""
PATIENCE: Final = 12.0
"""Seconds that a client waits; longer than any wait in the service."""
AFTER: Final = 0.5
"""Seconds of load after the last fault."""
STARTS: Final = 0.2
DUE: Final = 5.0
"""Seconds after the last fault in which the service must become healthy."""
AGAIN: Final = 0.15
"""Probability that a person with keys resends an old request that has a response."""
REFUSED: Final = {
    *("booking_not_found", "booking_ambiguous", "already_booked", "already_waiting"),
    *("limit_reached", "sold_out", "group_too_large", "already_held", "not_held"),
    *("hold_limit_reached", "hold_expired", "validation_failed"),
}
LAG: Final = 1.5
"""Seconds after the end of a hold in which a worker may not have noticed it."""
LAG_OF_DELAYED: Final = 60.0
"""The same in rounds with a delayed database. A worker knows the time of its last response."""
DELAYS: Final = {"freeze", "slow", "network", "disk"}
HARMLESS: Final = {"busy", "not_ready", "service_unavailable"}
"""Codes of 503 that mean that nothing was changed; the last one is of `deploy/haproxy.cfg`."""
OPEN: Final = {"database_unavailable", "outcome_unknown", "bad_gateway", "gateway_timeout"}
"""Codes that mean that the change may have been made; the last two are of `deploy/haproxy.cfg`."""
REPLAYED: Final = "idempotency-replayed"

SIGHTING: Final = """
    SELECT id, total_tickets, available_tickets, waiting_list_count,
        (SELECT count(*) FROM bookings WHERE event_id = events.id
            AND status IN ('booked', 'held', 'offered')) AS taken,
        (SELECT count(*) FROM bookings WHERE event_id = events.id AND status = 'waiting') AS waiting
    FROM events WHERE id = $1
"""


@dataclass
class Round:
    """The results of a round."""

    number: int
    seed: str
    faults: list[str]
    kind: Kind
    operations: list[Operation] = field(default_factory=list)
    books: list[Books] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    statuses: Counter[str] = field(default_factory=Counter)
    sightings: int = 0
    healthy_after: float = inf
    load: float = 0.0
    """Load average of the last minute at the end."""
    keyed: bool = False
    of_before: list[str] = field(default_factory=list)
    """Wrong responses of the previous version, which can't be fixed."""
    unsure: list[Operation] = field(default_factory=list)
    """Those that had a response that left the outcome open, or none."""
    recovery: Recovery | None = None
    """The times of a failover, of a cluster."""
    replays: int = 0
    """Requests that were resent and got the first response again."""

    @property
    def unknown(self) -> int:
        """Number of operations with an unknown outcome."""
        return sum(not each.is_known for each in self.operations)

    @property
    def lag(self) -> float:
        """Seconds after the end of a hold in which a worker may not have noticed it."""
        is_delayed = self.is_of_cluster or not DELAYS.isdisjoint(self.faults)
        return LAG_OF_DELAYED if is_delayed else LAG

    @property
    def is_of_cluster(self) -> bool:
        """Whether the database is a cluster."""
        return self.kind in {"cluster", "hosts", "pooled"}

    def line(self) -> str:
        """Return the result as one line."""
        verdict = "ok" if not self.wrong else f"FAILED: {self.wrong[0]}"
        return (
            f"{self.number:4}  seed {self.seed}  {self.kind:8}  {'keys' if self.keyed else '    '}"
            f"  {'+'.join(self.faults):30}  {len(self.operations):5} operations"
            f"  {self.unknown:4} unknown  {self.replays:4} replays"
            + (f"  {self.recovery.line()}" if self.recovery is not None else "")
            + f"  healthy after {self.healthy_after:5.2f} s at load {self.load:4.1f}  {verdict}"
            + (f" (the previous version: {self.of_before[0]})" if self.of_before else "")
        )


@dataclass(frozen=True, slots=True)
class _Sent:
    """A request with a key that changed something, and its first response."""

    path: str
    body: dict[str, Any]
    key: str
    answer: Response
    by: Person


class _Crowd:
    """The people of one round."""

    def __init__(
        self, rig: Rig, stage: Stage, played: Round, organiser: Person, chance: random.Random
    ) -> None:
        self._rig = rig
        self._organiser = organiser
        self._holds = Holds()
        self._stage = stage
        self._round = played
        self._chance = chance
        self.enough = asyncio.Event()
        self.settled = asyncio.Event()
        """At the end nobody waits for an unknown outcome any more."""

    async def leave(self, living: Sequence[asyncio.Task[None]], patience: float) -> None:
        """End their lives, and let them wait for unknown outcomes for so many seconds."""
        self.enough.set()
        await asyncio.wait(living, timeout=patience)
        self.settled.set()
        await asyncio.gather(*living)

    async def live(self, person: Person, on_sale: Sequence[Offer]) -> None:
        """Hold, book and cancel until the round ends."""
        client = self._rig.client(PATIENCE)
        chance = random.Random(f"{self._round.seed}-{person.name}")
        wishes = Wishes(person.id, on_sale, chance, self._holds)
        sent: list[_Sent] = []
        try:
            while not self.enough.is_set():
                if sent and chance.random() < AGAIN:
                    await self._send_again(client, chance.choice(sent))
                wish = wishes.next()
                if wishes.wants_some(wish):
                    tickets = await self._tickets(client, person, wish.operation.booking)
                    wish = wishes.some(wish, tickets)
                sender = self._organiser if wish.by_team else person
                done = await self._do(client, sender, wish, chance)
                # Responses without a change are not stored under the key, and unknown outcomes are
                # useless.
                if done is not None and wish.is_stored:
                    sent.append(done)
                wishes.learn(wish.operation)
                await asyncio.sleep(chance.expovariate(1 / PAUSE))
        finally:
            client.close()

    async def _tickets(self, client: Client, person: Person, booking: str) -> list[str]:
        """Return the ids of the valid tickets of a booking; none without a response."""
        with suppress(NotSent, Unanswered):
            path = f"/api/bookings/{booking}/tickets"
            answer = await client.request("GET", path, token=person.token)
            if answer.status == 200:  # noqa: PLR2004 - HTTP
                return [each["id"] for each in answer.body["items"] if each["status"] == "valid"]
        return []

    async def _send_again(self, client: Client, sent: _Sent) -> None:
        """Resend a request. It must have no effect, and get the first response again."""
        try:
            answer = await client.request(
                "POST", sent.path, sent.body, token=sent.by.token, key=sent.key
            )
        except (NotSent, Unanswered):
            return
        if answer.status in {401, 503} or "retry-after" in answer.headers:
            return
        is_replay = answer.headers.get(REPLAYED) == "true"
        if (answer.status, answer.body) == (sent.answer.status, sent.answer.body) and is_replay:
            self._round.replays += 1
        else:
            what = "replayed" if is_replay else "which is not a stored response"
            self._round.wrong.append(
                f"{sent.path} with a key returned {sent.answer.status} {sent.answer.body},"
                f" and again {answer.status} {answer.body}, {what}"
            )

    async def _do(
        self, client: Client, person: Person, wish: Wish, chance: random.Random
    ) -> _Sent | None:
        """Send it, and record it. Return what was sent with a key and succeeded."""
        key = str(uuid4()) if self._round.keyed else ""
        operation = wish.operation
        operation.start = time.monotonic()
        may_be_done = False
        while True:
            is_rude = chance.random() < self._stage.rudeness
            try:
                answer = await client.request(
                    wish.method,
                    wish.path,
                    wish.body,
                    token=person.token,
                    key=key,
                    leave_after=chance.uniform(0, 0.02) if is_rude else None,
                )
            except NotSent:
                outcome = "not sent"
            except Unanswered:
                outcome = "unknown"
            else:
                outcome = self._take(operation, answer)
            self._round.statuses[outcome] += 1
            if outcome == "answered":
                self._round.operations.append(operation)
                self._round.unsure += [operation] * may_be_done
                if key and answer.status < 300:  # noqa: PLR2004 - HTTP
                    return _Sent(wish.path, wish.body, key, answer, person)
                return None
            may_be_done = may_be_done or outcome == "unknown"
            if outcome == "unauthorised":
                await self._rig.log_in(person)
            elif not key or self._is_over(may_be_done=may_be_done):
                break
            await asyncio.sleep(chance.uniform(0.02, 0.2))
        if may_be_done:
            self._round.operations.append(operation)
            self._round.unsure.append(operation)
        return None

    def _is_over(self, *, may_be_done: bool) -> bool:
        return (self.settled if may_be_done else self.enough).is_set()

    def _take(self, operation: Operation, answer: Response) -> str:
        """Record a response, and return its kind."""
        found = answer.body
        if answer.status in {200, 201, 202}:
            # Earlier versions have no quantity.
            told = {name: found.get(name) for name in ("id", "quantity", "position", "promoted")}
            kept = {name: each for name, each in told.items() if each is not None}
            operation.answer = {"status": answer.status, "became": found["status"], **kept}
        elif answer.status in {404, 409, 410, 422} and answer.code in REFUSED:
            numbers = {name: found[name] for name in NUMBERS if name in found}
            operation.answer = {"status": answer.status, "code": answer.code, **numbers}
        elif answer.status == 401:  # noqa: PLR2004 - HTTP
            return "unauthorised"
        elif (answer.status == 503 and answer.code in HARMLESS) or (  # noqa: PLR2004
            answer.status == 409 and "retry-after" in answer.headers  # noqa: PLR2004
        ):
            return "refused"
        else:
            if answer.code not in OPEN:
                said = f"{operation.verb} returned {answer.status} {found}"
                is_of_before = answer.port == self._rig.earlier
                (self._round.of_before if is_of_before else self._round.wrong).append(said)
            return "unknown"
        operation.end = time.monotonic()
        return "answered"

    async def watch(self, on_sale: Sequence[Offer]) -> None:
        """Read the events, through the service and from the database, until the round ends."""
        client = self._rig.client(PATIENCE)
        try:
            while not self.enough.is_set():
                offer = self._chance.choice(on_sale)
                started = time.monotonic()
                with suppress(NotSent, Unanswered):
                    # Only the team sees hidden ticket types.
                    path, token = f"/api/events/{offer.event}", self._organiser.token
                    answer = await client.request("GET", path, token=token)
                    if answer.status == 200:  # noqa: PLR2004
                        self._see(offer.event, started, **_seen(answer.body, offer))
                await asyncio.sleep(0.03)
        finally:
            client.close()

    async def watch_rows(self, on_sale: Sequence[Offer]) -> None:
        """Read the rows from the database until the round ends."""
        connection: asyncpg.Connection[asyncpg.Record] | None = None
        while not self.enough.is_set():
            offer = self._chance.choice(on_sale)
            try:
                connection = connection or await self._rig.connection()
                await (self._look if offer.is_plain else self._count)(connection, offer.event)
            except DATABASE_ERRORS:
                if connection is not None:
                    connection.terminate()
                connection = None
            await asyncio.sleep(0.03)
        if connection is not None:
            connection.terminate()

    async def _look(self, connection: "asyncpg.Connection[asyncpg.Record]", event: int) -> None:
        started = time.monotonic()
        row = await connection.fetchrow(SIGHTING, event)
        if row is not None:
            self._round.sightings += 1
            self._round.wrong += checker.Sighting(*row.values()).wrong()
            available, waiting = row["available_tickets"], row["waiting_list_count"]
            self._see(event, started, available=available, waiting=waiting)

    async def _count(self, connection: "asyncpg.Connection[asyncpg.Record]", event: int) -> None:
        started = time.monotonic()
        found = await read_books(connection, event)
        self._round.sightings += 1
        self._round.wrong += [f"event {event}: {what}" for what in checker.miscounted(found)]
        self._see(event, started, available=found.available, waiting=found.waiting)

    def _see(self, event: int, started: float, **seen: object) -> None:
        answer = {"status": 200, **seen}
        self._round.operations.append(
            Operation("read", event, "", started, time.monotonic(), answer)
        )


def _seen(body: dict[str, Any], offer: Offer) -> dict[str, Any]:
    """Return the numbers of an event, as the checker compares them."""
    seen = {"available": body["availableTickets"], "waiting": body["waitingListCount"]}
    if offer.is_plain:
        return seen
    numbers = ("id", "available", "taken", "waiting")
    types = sorted([each[name] for name in numbers] for each in body["ticketTypes"])
    quotas = sorted([each["id"], each["available"]] for each in body["quotas"])
    return {**seen, "types": types, "quotas": quotas}


def _failures(played: Round) -> list[str]:
    """Return faults that clients may not see during these faults."""
    fatal = set() if "clock" in played.faults else {"unauthorised"}
    if ORDERLY.issuperset(played.faults):  # Operators do this every day.
        fatal = set(played.statuses) - {"answered"}
    failed = {what: n for what, n in played.statuses.items() if what in fatal}
    return [f"requests failed: {failed}"] if failed else []


async def play(  # noqa: PLR0913 - by name
    rig: Rig,
    people: Sequence[Person],
    played: Round,
    *,
    seconds: float,
    freeze: float,
    due: float,
) -> bool:
    """Run a round on a healthy service, and check it. Return whether it is healthy again."""
    chance = random.Random(played.seed)
    stage = Stage(rig, chance, freeze, wrong=played.wrong)
    organiser, prober, *crowd = people
    if rig.nodes is not None:
        await rig.nodes.whole()
    # A worker that has not seen a token refuses it if its clock was wrong when it was made.
    await asyncio.gather(*map(rig.log_in, people))
    probe = await rig.organise(organiser, 10)
    kinds = offers.PLAIN if played.kind == "earlier" else offers.ALL
    on_sale = [await make(rig, organiser, chance) for make in kinds]
    people_of = _Crowd(rig, stage, played, organiser, chance)
    living = [
        asyncio.create_task(people_of.live(person, chance.sample(on_sale, 2))) for person in crowd
    ]
    living += [
        asyncio.create_task(people_of.watch(on_sale)),
        asyncio.create_task(people_of.watch_rows(on_sale)),
    ]

    async def go_wrong(name: str, at: float) -> None:
        await asyncio.sleep(at)
        await {**FAULTS, **FAILOVERS}[name](stage)

    try:
        starts = [chance.uniform(STARTS, max(seconds - 1, STARTS)) for _ in played.faults]
        await asyncio.gather(*map(go_wrong, played.faults, starts))
        ended = time.monotonic()
        await rig.healthy(prober, probe)
        played.healthy_after = time.monotonic() - ended
        played.load = os.getloadavg()[0]
        if played.healthy_after > due:
            played.wrong.append(
                f"healthy only after {played.healthy_after:.2f} s, at load {played.load:.1f}"
            )
        await asyncio.sleep(AFTER)
        await people_of.leave(living, 2 * SETTLED if played.is_of_cluster else 0.0)
        if stage.recovered_at is not None:
            played.recovery = measured(played.operations, played.unsure, stage.recovered_at)
            played.wrong += played.recovery.wrong
        played.wrong += _failures(played)
    except TimeoutError as error:
        played.wrong.append(f"it does not become healthy: {error}")
        return False
    finally:
        people_of.enough.set()
        people_of.settled.set()
        for task in living:
            task.cancel()
        await asyncio.gather(*living, return_exceptions=True)
    if rig.nodes is not None:
        played.wrong += await shared.check(rig, prober, probe, played.operations)
    await _look_for_ends(rig, prober, played)
    await _settle(rig, played, on_sale)
    await _recount(rig, played)
    await _compare_with_lists(rig, organiser, played)
    played.wrong += await asyncio.to_thread(checker.judge, played.operations, played.books)
    return True


async def _settle(rig: Rig, played: Round, on_sale: Sequence[Offer]) -> None:
    """Read the events after everything has finished."""
    connection = await rig.connection()
    try:
        before: list[Books] | None = None
        while before is None or before != played.books:
            before = played.books
            played.books = [
                await read_books(connection, each.event, played.lag) for each in on_sale
            ]
            await asyncio.sleep(0.3)
    finally:
        await connection.close()


async def _look_for_ends(rig: Rig, prober: Person, played: Round) -> None:
    """Wait until all holds of the team are over, and then ask each event, which ends them."""
    ends = {each.event: each.until for each in played.operations if each.until is not None}
    last = max((each.until or 0.0 for each in played.operations), default=0.0)
    await asyncio.sleep(last + LAG - time.monotonic())
    for event in ends:
        asked = Operation("cancel", event, prober.id, time.monotonic())
        body = {"eventId": event, "userId": prober.id}
        answer = await rig.ask("POST", "/api/events/cancel", body, token=prober.token)
        if answer.status == 401:  # noqa: PLR2004 - a token from when the clock was wrong
            await rig.log_in(prober)
            answer = await rig.ask("POST", "/api/events/cancel", body, token=prober.token)
        asked.end = time.monotonic()
        asked.answer = {"status": answer.status, "code": answer.code}
        played.operations.append(asked)
        connection = await rig.connection()
        try:
            books = await read_books(connection, event)
        finally:
            await connection.close()
        played.wrong += [
            f"event {event}: {what}" for what in checker.overdue(books, asked.start - 1)
        ]


async def _recount(rig: Rig, played: Round) -> None:
    """Check that the service's own recount finds no difference."""
    pool = connect(rig.url, pool_size=1)
    try:
        found = await RecountRepository(pool).recount()
    finally:
        await pool.dispose()
    played.wrong += [f"the recount found {each.document()}" for each in found.differences]


async def _compare_with_lists(rig: Rig, organiser: Person, played: Round) -> None:
    """Check that the organiser's list has exactly the rows."""
    for books in played.books:
        listed: list[tuple[str, str]] = []
        cursor = ""
        while True:
            path = f"/api/events/{books.event}/bookings?limit=100{cursor}"
            page = await rig.ask("GET", path, token=organiser.token)
            if page.status == 401:  # noqa: PLR2004 - a token from when the clock was wrong
                await rig.log_in(organiser)
                continue
            listed += [(item["id"], item["status"]) for item in page.body["items"]]
            if page.body["nextCursor"] is None:
                break
            cursor = f"&cursor={page.body['nextCursor']}"
        if listed != [(row.id, row.status) for row in books.rows]:
            played.wrong.append(f"event {books.event}: the list differs from the rows")
