"""One round: clients book and cancel, things go wrong, and the history is judged."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final
from uuid import uuid4

import asyncpg
from chaos import checker
from chaos.client import Client, NotSent, Response, Unanswered
from chaos.faults import FAULTS, Stage
from chaos.history import Books, Operation, Row, Verb
from chaos.rig import DATABASE_ERRORS, Person, Rig

EVENTS: Final = 6
PAUSE: Final = 0.06
"""Seconds between two requests of a person, on average."""
PATIENCE: Final = 12.0
"""Seconds that a client waits: longer than the service lets anybody wait."""
AFTER: Final = 0.5
"""Seconds of load after the last fault."""
STARTS: Final = 0.2
REFUSED: Final = {"booking_not_found", "already_booked", "already_waiting"}
HARMLESS: Final = {"busy", "not_ready"}
"""Codes of 503 that say that nothing was changed."""

SIGHTING: Final = """
    SELECT id, total_tickets, available_tickets, waiting_list_count,
        (SELECT count(*) FROM bookings WHERE event_id = events.id AND status = 'booked') AS booked,
        (SELECT count(*) FROM bookings WHERE event_id = events.id AND status = 'waiting') AS waiting
    FROM events WHERE id = $1
"""


@dataclass
class Round:
    """What was done and seen."""

    number: int
    seed: str
    faults: list[str]
    embedded: bool
    operations: list[Operation] = field(default_factory=list)
    books: list[Books] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    statuses: Counter[str] = field(default_factory=Counter)
    sightings: int = 0
    healthy_after: float = 0.0
    keyed: bool = False

    @property
    def unknown(self) -> int:
        """How many operations have an outcome that no client knows."""
        return sum(not each.is_known for each in self.operations)

    def line(self) -> str:
        """Say in a line how it went."""
        verdict = "ok" if not self.wrong else f"FAILED: {self.wrong[0]}"
        return (
            f"{self.number:4}  seed {self.seed}  {'embedded' if self.embedded else 'proxied '}"
            f"  {'+'.join(self.faults):30}  {len(self.operations):5} operations"
            f"  {self.unknown:4} unknown  healthy after {self.healthy_after:5.2f} s  {verdict}"
        )


class _Crowd:
    """The people of one round."""

    def __init__(self, rig: Rig, stage: Stage, played: Round, chance: random.Random) -> None:
        self._rig = rig
        self._stage = stage
        self._round = played
        self._chance = chance
        self.enough = asyncio.Event()

    async def live(self, person: Person, events: Sequence[int]) -> None:
        """Book and cancel until it is enough."""
        client = self._rig.client(PATIENCE)
        chance = random.Random(f"{self._round.seed}-{person.name}")
        holds: dict[int, bool] = {}
        try:
            while not self.enough.is_set():
                event = chance.choice(events)
                wants_to_cancel = holds.get(event, False) != (chance.random() < 0.1)  # noqa: PLR2004
                verb: Verb = "cancel" if wants_to_cancel else "book"
                outcome = await self._do(client, person, event, verb, chance)
                if outcome is not None:
                    holds[event] = outcome
                await asyncio.sleep(chance.expovariate(1 / PAUSE))
        finally:
            client.close()

    async def _do(
        self, client: Client, person: Person, event: int, verb: Verb, chance: random.Random
    ) -> bool | None:
        """Do it; return whether the person then holds a booking, or None if it is not known."""
        key = str(uuid4()) if self._round.keyed else ""
        operation = Operation(verb, event, person.id, time.monotonic())
        may_be_done = False
        while True:
            body = {"eventId": event, "userId": person.id}
            is_rude = chance.random() < self._stage.rudeness
            try:
                answer = await client.request(
                    "POST",
                    f"/api/events/{verb}",
                    body,
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
                return _holds(operation)
            may_be_done = may_be_done or outcome == "unknown"
            if outcome == "unauthorised":
                await self._rig.log_in(person)
            elif not key or self.enough.is_set():
                break
            await asyncio.sleep(chance.uniform(0.02, 0.2))
        if may_be_done:
            self._round.operations.append(operation)
        return None

    def _take(self, operation: Operation, answer: Response) -> str:
        """Note an answer, and say of what kind it is."""
        found = answer.body
        if answer.status in {200, 201, 202}:
            kept = {name: found[name] for name in ("id", "position", "promoted") if name in found}
            operation.answer = {"status": answer.status, **kept}
        elif answer.status in {404, 409} and answer.code in REFUSED:
            operation.answer = {"status": answer.status, "code": answer.code}
        elif answer.status == 401:  # noqa: PLR2004 - HTTP
            return "unauthorised"
        elif (answer.status == 503 and answer.code in HARMLESS) or (  # noqa: PLR2004
            answer.status == 409 and "retry-after" in answer.headers  # noqa: PLR2004
        ):
            return "refused"
        else:
            if answer.code != "database_unavailable":
                self._round.wrong.append(f"{operation.verb} was answered {answer.status} {found}")
            return "unknown"
        operation.end = time.monotonic()
        return "answered"

    async def watch(self, events: Sequence[int]) -> None:
        """Look at the events, through the service and past it, until it is enough."""
        client = self._rig.client(PATIENCE)
        try:
            while not self.enough.is_set():
                event = self._chance.choice(events)
                started = time.monotonic()
                with suppress(NotSent, Unanswered):
                    answer = await client.request("GET", f"/api/events/{event}")
                    if answer.status == 200:  # noqa: PLR2004
                        seen = answer.body["availableTickets"], answer.body["waitingListCount"]
                        self._see(event, started, *seen)
                await asyncio.sleep(0.03)
        finally:
            client.close()

    async def watch_rows(self, events: Sequence[int]) -> None:
        """Look at the rows, past the service, until it is enough."""
        connection: asyncpg.Connection[asyncpg.Record] | None = None
        while not self.enough.is_set():
            event = self._chance.choice(events)
            started = time.monotonic()
            try:
                connection = connection or await self._rig.connection()
                row = await connection.fetchrow(SIGHTING, event)
            except DATABASE_ERRORS:
                if connection is not None:
                    connection.terminate()
                connection = None
            else:
                if row is not None:
                    self._round.sightings += 1
                    self._round.wrong += checker.Sighting(*row.values()).wrong()
                    self._see(event, started, row["available_tickets"], row["waiting_list_count"])
            await asyncio.sleep(0.03)
        if connection is not None:
            connection.terminate()

    def _see(self, event: int, started: float, available: int, waiting: int) -> None:
        seen = {"status": 200, "available": available, "waiting": waiting}
        self._round.operations.append(Operation("read", event, "", started, time.monotonic(), seen))


def _holds(operation: Operation) -> bool:
    answer = operation.answer or {}
    if "code" in answer:
        return str(answer["code"]).startswith("already")
    return operation.verb == "book"


async def play(  # noqa: PLR0913 - by name
    rig: Rig,
    people: Sequence[Person],
    *,
    number: int,
    seed: str,
    faults: list[str],
    seconds: float,
    freeze: float,
    keyed: bool,
) -> Round:
    """Play a round on a healthy service, and judge it."""
    chance = random.Random(seed)
    played = Round(number, seed, faults, rig.is_embedded, keyed=keyed)
    stage = Stage(rig, chance, freeze)
    organiser, prober, *crowd = people
    for each in (organiser, prober):
        await rig.log_in(each)
    probe = await rig.organise(organiser, 10)
    totals = {
        await rig.organise(organiser, total): total
        for total in (chance.randint(1, 5) for _ in range(EVENTS))
    }
    events = list(totals)
    people_of = _Crowd(rig, stage, played, chance)
    living = [
        asyncio.create_task(people_of.live(person, chance.sample(events, 2))) for person in crowd
    ]
    living += [
        asyncio.create_task(people_of.watch(events)),
        asyncio.create_task(people_of.watch_rows(events)),
    ]

    async def go_wrong(name: str, at: float) -> None:
        await asyncio.sleep(at)
        await FAULTS[name](stage)

    try:
        starts = [chance.uniform(STARTS, max(seconds - 1, STARTS)) for _ in faults]
        await asyncio.gather(
            asyncio.sleep(0), *(go_wrong(name, at) for name, at in zip(faults, starts, strict=True))
        )
        ended = time.monotonic()
        await rig.healthy(prober, probe)
        played.healthy_after = time.monotonic() - ended
        await asyncio.sleep(AFTER)
        people_of.enough.set()
        await asyncio.gather(*living)
    finally:
        people_of.enough.set()
        for task in living:
            task.cancel()
        await asyncio.gather(*living, return_exceptions=True)
    await _settle(rig, played, totals)
    await _compare_with_lists(rig, organiser, played)
    played.wrong += await asyncio.to_thread(checker.judge, played.operations, played.books)
    return played


async def _settle(rig: Rig, played: Round, totals: dict[int, int]) -> None:
    """Read the books once nothing moves any more."""
    connection = await rig.connection()
    try:
        before: list[Books] | None = None
        while before is None or before != played.books:
            before = played.books
            played.books = [await _books(connection, event) for event in totals]
            await asyncio.sleep(0.3)
    finally:
        await connection.close()


async def _books(connection: "asyncpg.Connection[asyncpg.Record]", event: int) -> Books:
    async with connection.transaction(isolation="repeatable_read"):
        found = await connection.fetchrow(
            "SELECT id, total_tickets, available_tickets, waiting_list_count"
            " FROM events WHERE id = $1",
            event,
        )
        rows = await connection.fetch(
            "SELECT id::text, event_id, user_id::text, status FROM bookings"
            " WHERE event_id = $1 ORDER BY seq",
            event,
        )
    if found is None:
        raise LookupError(event)
    id_, total, available, waiting = found.values()
    return Books(id_, total, available, waiting, [Row(*row.values()) for row in rows])


async def _compare_with_lists(rig: Rig, organiser: Person, played: Round) -> None:
    """See that the organiser's list has just what the rows say."""
    for books in played.books:
        listed: list[tuple[str, str]] = []
        cursor = ""
        while True:
            path = f"/api/events/{books.event}/bookings?limit=100{cursor}"
            page = await rig.ask("GET", path, token=organiser.token)
            if page.status == 401:  # noqa: PLR2004 - of a token from when the clock was wrong
                await rig.log_in(organiser)
                continue
            listed += [(item["id"], item["status"]) for item in page.body["items"]]
            if page.body["nextCursor"] is None:
                break
            cursor = f"&cursor={page.body['nextCursor']}"
        if listed != [(row.id, row.status) for row in books.rows]:
            played.wrong.append(f"event {books.event}: the list is not what the rows say")
