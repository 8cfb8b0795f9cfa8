"""Bookings and the one writer of every event's inventory: the compare-and-swap on its version."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Final, cast
from uuid import UUID

import asyncpg
from sqlalchemy.ext.asyncio import AsyncEngine

from ticketing import metrics, telemetry
from ticketing.combiner import RETRY, Combiner, Retry
from ticketing.database import Driver, Held, Statement
from ticketing.errors import BookingNotFound, EventNotFound, TicketingError, UserNotFound
from ticketing.idempotency import Intent, UnderWay
from ticketing.inventory import (
    Book,
    Booked,
    Booking,
    BookingStatus,
    Cancel,
    Cancelled,
    Decision,
    Outcome,
    Request,
    Snapshot,
    StaleSnapshot,
    Waiting,
    decide,
    facts_of,
)
from ticketing.origin import COMMAND_LINE, Origin
from ticketing.repositories import commits, idempotency
from ticketing.tables import uuid7

MAX_BATCH: Final = 512
MAX_QUEUE: Final = 10_000
MAX_WAIT: Final = 5.0
MAX_SNAPSHOTS: Final = 10_000
ACTIVE_ONCE: Final = "uq_bookings_active"
"""What refuses a second active booking of one person at one event."""
CANCELLED_ONCE: Final = {"cancelled_stays", "ck_events_available"}
"""What refuses to cancel what somebody has cancelled meanwhile: the booking, or the last place."""

# Every table is reached by an index condition that any plan has (`= ANY`, LATERAL with LIMIT):
# a prepared statement that was planned while a table was empty keeps its plan as it grows.

SNAPSHOTS: Final = Statement(
    """
    SELECT id, version, total_tickets, available_tickets, waiting_list_count
    FROM events WHERE id = ANY(CAST(:ids AS bigint[]))
    """
)

STRANGERS: Final = Statement(
    """
    SELECT asked.id FROM unnest(CAST(:users AS uuid[])) AS asked(id)
    -- OFFSET keeps it a look-up of each, whatever was planned on.
    WHERE NOT EXISTS (SELECT FROM users WHERE users.id = asked.id OFFSET 0)
    """
)

ACTIVE: Final = Statement(
    """
    SELECT held.*
    FROM unnest(CAST(:events AS bigint[]), CAST(:users AS uuid[])) AS asked(event_id, user_id)
    CROSS JOIN LATERAL (
        SELECT id, event_id, user_id, status, created_at FROM bookings
        WHERE bookings.event_id = asked.event_id AND bookings.user_id = asked.user_id
            AND status <> 'cancelled'
        LIMIT 1
    ) AS held
    """
)

LINES: Final = Statement(
    """
    SELECT head.id, head.event_id, head.user_id, head.status, head.created_at
    FROM unnest(CAST(:events AS bigint[]), CAST(:lengths AS bigint[])) AS asked(event_id, length)
    CROSS JOIN LATERAL (
        SELECT id, event_id, user_id, status, created_at, seq FROM bookings
        WHERE bookings.event_id = asked.event_id AND status = 'waiting'
        ORDER BY seq LIMIT asked.length
    ) AS head
    ORDER BY head.seq
    """
)

LAST_CANCELLED: Final = Statement(
    """
    SELECT id, event_id, user_id, status, created_at FROM bookings
    WHERE event_id = :event AND user_id = :user AND status = 'cancelled'
    ORDER BY seq DESC LIMIT 1
    """
)


class BookingRepository:
    """Books and cancels.

    Requests that arrive while a commit is under way ride the next one together. Every commit
    swaps `events.version`, and what it rests on still holds then: see `inventory.Decision`.
    """

    def __init__(
        self,
        engine: AsyncEngine,
        committing: AsyncEngine | None = None,
        counts: metrics.Counts | None = None,
    ) -> None:
        """Read from `engine`; commit on `committing`, so that no crowd of readers is before it."""
        self._engine = engine
        self._connection = Held(committing or engine)
        self._snapshots: dict[int, Snapshot] = {}
        self._contended: set[int] = set()
        self._under_way = UnderWay()
        self._combiner = Combiner[Request, Outcome](
            self._commit,
            max_batch=MAX_BATCH,
            max_queue=MAX_QUEUE,
            max_wait=MAX_WAIT,
            observe=counts.histogram(metrics.BATCH, "bookings").observe if counts else None,
        )
        self._counts = counts
        if counts is not None:
            counts.gauge(metrics.QUEUE, "bookings", read=lambda: self._combiner.waiting)

    async def close(self) -> None:
        """Finish what is queued and refuse what comes."""
        await self._combiner.close()
        await self._connection.close()

    async def book(
        self,
        event_id: int,
        user_id: UUID,
        origin: Origin = COMMAND_LINE,
        intent: Intent | None = None,
    ) -> Booked | Waiting:
        """Take a place for the person, or a place at the end of the line if none is left.

        Raises AlreadyBooked, AlreadyWaiting, EventNotFound, UserNotFound, or Busy if nothing was
        changed because too much is under way. With an `intent`, Replayed if it was carried out
        before, RequestInProgress, or IdempotencyKeyReused.
        """
        outcome = await self._submit(Book(event_id, user_id, uuid7(), origin, intent))
        return cast("Booked | Waiting", outcome)

    async def cancel(
        self,
        event_id: int,
        user_id: UUID,
        origin: Origin = COMMAND_LINE,
        intent: Intent | None = None,
    ) -> Cancelled:
        """Cancel a person's booking and give the freed place to the head of the waiting list.

        Cancelling twice is harmless: the second call returns the same booking and frees nothing.
        Raises BookingNotFound if the person never booked this event, EventNotFound, or Busy; with
        an `intent`, the same as `book`.
        """
        try:
            outcome = await self._submit(Cancel(event_id, user_id, origin, intent))
        except BookingNotFound:
            # Kept too: late and again, it must not cancel what was booked since.
            async with idempotency.once(self._engine, intent) as (connection, keep):
                cancelled = Cancelled(await _last_cancelled(connection, event_id, user_id))
                await keep(cancelled)
            return cancelled
        return cast("Cancelled", outcome)

    async def _submit(self, request: Request) -> Outcome:
        if request.intent is None:
            return await self._combiner.submit(request)
        with self._under_way.once(request.intent):
            return await self._combiner.submit(request)

    async def _commit(self, requests: Sequence[Request]) -> Sequence[Outcome | Retry]:
        outcomes = await self._carry_out(requests)
        # What was carried out before is refused now: its first answer is still the right one.
        refused = {
            place: request
            for place, request in enumerate(requests)
            if request.intent is not None and isinstance(outcomes[place], TicketingError)
        }
        if refused:
            try:
                # Nobody is answered before: so on the commits' connection, behind no reader.
                async with self._connection.lent() as connection:
                    replays = await _replays(connection, refused)
            except Exception as error:  # noqa: BLE001 - theirs alone: the others' bookings are made
                replays = dict.fromkeys(refused, error)
            for place, replay in replays.items():
                outcomes[place] = replay
        return outcomes

    async def _carry_out(self, requests: Sequence[Request]) -> list[Outcome | Retry]:
        asking: Sequence[Request] = [each for each in requests if isinstance(each, Cancel)]
        settled: dict[int, Exception] = {}
        refusals: set[str | None] = set()
        async with self._connection.lent() as connection:
            try:
                while True:
                    try:
                        return await self._write(
                            connection, requests, asking=asking, settled=settled
                        )
                    except asyncpg.IntegrityConstraintViolationError as error:
                        if error.constraint_name in refusals:
                            passes = error.constraint_name in {ACTIVE_ONCE, *CANCELLED_ONCE}
                            if passes and len(requests) == 1:
                                # Booked again, or cancelled again, since it was asked about.
                                return [RETRY]
                            raise
                        refusals.add(error.constraint_name)
                        # Ask whom the constraint refused, and decide again for the others.
                        if error.constraint_name == ACTIVE_ONCE:
                            asking = requests
                        elif error.constraint_name == "fk_bookings_user_id":
                            settled |= await _strangers(connection, requests)
                        elif error.constraint_name == idempotency.CONSTRAINT:
                            settled |= await _replays(connection, dict(enumerate(requests)))
                        elif error.constraint_name not in CANCELLED_ONCE:  # They are asked anyway.
                            raise
            except BaseException:
                self._forget(request.event_id for request in requests)
                raise

    async def _write(
        self,
        connection: Driver,
        requests: Sequence[Request],
        *,
        asking: Sequence[Request],
        settled: Mapping[int, Exception],
    ) -> list[Outcome | Retry]:
        """Decide and write, knowing the active bookings of those `asking`.

        `settled` has, by place, what needs no decision. Return an outcome for every request.
        """
        by_event: dict[int, list[Request]] = defaultdict(list)
        for place, request in enumerate(requests):
            if place not in settled:
                by_event[request.event_id].append(request)
        await self._load_snapshots(connection, by_event)
        at = datetime.now(UTC)
        decisions, stale = await self._decide(connection, by_event, asking=asking, at=at)
        lost = stale
        if writing := [each for each in decisions.values() if not each.is_empty]:
            lost = stale | await self._swap(connection, by_event, writing, at=at)
        decided = {event: iter(decision.outcomes) for event, decision in decisions.items()}
        return [
            settled[place]
            if place in settled
            else RETRY
            if request.event_id in lost
            else next(decided[request.event_id])
            if request.event_id in decided
            else EventNotFound()
            for place, request in enumerate(requests)
        ]

    async def _swap(
        self,
        connection: Driver,
        by_event: Mapping[int, Sequence[Request]],
        decisions: Sequence[Decision],
        *,
        at: datetime,
    ) -> set[int]:
        """Write the decisions about the requests, and return the events that were lost."""
        facts = _facts(by_event, decisions)
        commit = commits.Commit(decisions, facts, _kept(by_event, decisions), at)
        won = await commit.write(connection, self._engine)
        written = {decision.before.event_id for decision in decisions}
        # What did not come back is locked, or gone, or another's by now.
        self._forget(written)
        self._snapshots.update((event, now) for event, now in won.items() if now is not None)
        lost = written - won.keys()
        self._contended |= lost
        self._tell([fact for fact in facts if fact.booking.event_id in won] if lost else facts)
        if self._counts is not None:
            self._counts.add(metrics.SWAPS_LOST, count=len(lost))
        return lost

    def _tell(self, facts: Sequence[commits.Fact]) -> None:
        """Count and log what is committed."""
        if self._counts is not None:
            self._counts.add_each(metrics.BOOKINGS, (fact.name for fact in facts))
        for name, booking, origin, _ in facts:
            telemetry.info(
                f"booking.{name}",
                {
                    "bookingId": booking.id,
                    "eventId": booking.event_id,
                    "userId": booking.user_id,
                    "requestId": origin.request_id,
                },
            )

    def _forget(self, events: Iterable[int]) -> None:
        for event in events:
            self._snapshots.pop(event, None)

    async def _load_snapshots(self, connection: Driver, by_event: Mapping[int, object]) -> None:
        """Make sure of a snapshot of every event that exists, from memory where it is likely right.

        An event whose last swap was lost is being written by another process too: while people
        wait, what is remembered of it would most likely lose again, so it is read anew until
        nobody else has written between two commits of ours.
        """
        if len(self._snapshots) > MAX_SNAPSHOTS:
            self._snapshots.clear()
            self._contended.clear()
        asked = [e for e in by_event if e not in self._snapshots or e in self._contended]
        if not asked:
            return
        for row in await SNAPSHOTS.fetch(connection, ids=asked):
            snapshot = commits.snapshot(row)
            if snapshot.waiting == 0 or self._snapshots.get(row["id"]) == snapshot:
                self._contended.discard(row["id"])
            self._snapshots[row["id"]] = snapshot

    async def _decide(
        self,
        connection: Driver,
        by_event: Mapping[int, Sequence[Request]],
        *,
        asking: Sequence[Request],
        at: datetime,
    ) -> tuple[dict[int, Decision], set[int]]:
        """Decide for every event that exists, knowing the active bookings of those `asking`.

        Return the decisions, and the events whose snapshot proved stale.
        """
        known = {e: self._snapshots[e] for e in by_event if e in self._snapshots}
        active: dict[int, dict[UUID, Booking]] = defaultdict(dict)
        lines: dict[int, list[Booking]] = defaultdict(list)
        if asking:
            people = {
                "events": [request.event_id for request in asking],
                "users": [request.user_id for request in asking],
            }
            for row in await ACTIVE.fetch(connection, **people):
                active[row["event_id"]][row["user_id"]] = _booking(row)
            lengths = Counter(
                request.event_id
                for request in asking
                if isinstance(request, Cancel)
                and request.event_id in known
                and known[request.event_id].waiting
            )
            if lengths:
                heads = {"events": list(lengths.keys()), "lengths": list(lengths.values())}
                for row in await LINES.fetch(connection, **heads):
                    lines[row["event_id"]].append(_booking(row))
        decisions, stale = {}, set()
        for event, snapshot in known.items():
            try:
                decisions[event] = decide(
                    snapshot, by_event[event], active=active[event], line=lines[event], at=at
                )
            except StaleSnapshot:
                stale.add(event)
        self._contended |= stale
        self._forget(stale)
        return decisions, stale


def _facts(
    by_event: Mapping[int, Sequence[Request]], decisions: Iterable[Decision]
) -> list[commits.Fact]:
    """Return what becomes of places and of the line, in order of arrival at each event."""
    return [
        commits.Fact(
            name,
            booking,
            request.origin,
            # Who cancels in the same batch is inserted as cancelled.
            decision.inserts[booking.id].status if isinstance(request, Book) else None,
        )
        for decision in decisions
        for request, outcome in zip(
            by_event[decision.before.event_id], decision.outcomes, strict=True
        )
        for name, booking in facts_of(outcome)
    ]


def _kept(
    by_event: Mapping[int, Sequence[Request]], decisions: Iterable[Decision]
) -> list[commits.Kept]:
    """Return the answers to keep: those to requests with a key that change something."""
    return [
        commits.Kept(request.event_id, request.intent, request.intent.write(outcome))
        for decision in decisions
        for request, outcome in zip(
            by_event[decision.before.event_id], decision.outcomes, strict=True
        )
        if request.intent is not None and not isinstance(outcome, TicketingError)
    ]


async def _replays(connection: Driver, requests: Mapping[int, Request]) -> dict[int, Exception]:
    """Return what those that were carried out before were answered, by place."""
    intents = {place: each.intent for place, each in requests.items() if each.intent is not None}
    found = await idempotency.find(connection, intents.values())
    return {
        place: found[intent.owner, intent.key]
        for place, intent in intents.items()
        if (intent.owner, intent.key) in found
    }


async def _strangers(connection: Driver, requests: Sequence[Request]) -> dict[int, Exception]:
    """Return those who book and do not exist, by place."""
    asked = {place: each.user_id for place, each in enumerate(requests) if isinstance(each, Book)}
    rows = await STRANGERS.fetch(connection, users=list(asked.values()))
    strangers = {row["id"] for row in rows}
    return {place: UserNotFound() for place, user in asked.items() if user in strangers}


async def _last_cancelled(connection: Driver, event_id: int, user_id: UUID) -> Booking:
    rows = await LAST_CANCELLED.fetch(connection, event=event_id, user=user_id)
    if not rows:
        raise BookingNotFound
    return _booking(rows[0])


def _booking(row: asyncpg.Record) -> Booking:
    return Booking(
        row["id"], row["event_id"], row["user_id"], BookingStatus(row["status"]), row["created_at"]
    )
