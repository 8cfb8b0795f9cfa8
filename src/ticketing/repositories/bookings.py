"""Bookings and the one writer of every event's inventory: the compare-and-swap on its version."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, cast
from uuid import UUID

import asyncpg
from sqlalchemy.ext.asyncio import AsyncEngine

from ticketing import metrics, telemetry
from ticketing.combiner import RETRY, Combiner, Retry
from ticketing.database import Driver, Statement, driver
from ticketing.errors import BookingNotFound, EventNotFound, TicketingError, UserNotFound
from ticketing.idempotency import Answer, Intent, UnderWay
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
)
from ticketing.repositories import Page, commits, idempotency
from ticketing.tables import uuid7

MAX_BATCH: Final = 512
MAX_QUEUE: Final = 10_000
MAX_WAIT: Final = 5.0
MAX_SNAPSHOTS: Final = 10_000

# Every table is reached by an index condition that any plan has (`= ANY`, LATERAL with LIMIT):
# a prepared statement that was planned while a table was empty keeps its plan as it grows.

# One statement is one transaction and one round trip, whatever the size of the batch. Rows of
# `events` are locked in id order, so that two processes can't deadlock. What comes back is each
# inventory as it is now, by this swap or, where it was lost, by the winner's.
_COMMIT: Final = """
    WITH wanted AS (
        SELECT * FROM unnest(
            CAST(:ids AS bigint[]), CAST(:versions AS bigint[]),
            CAST(:taken AS bigint[]), CAST(:joined AS bigint[]), CAST(:only_takes AS boolean[])
        ) AS wanted(id, version, taken, joined, only_takes)
    ), locked AS (
        SELECT id, version, total_tickets, available_tickets, waiting_list_count
        FROM events WHERE id = ANY(CAST(:ids AS bigint[])) ORDER BY id FOR UPDATE {skip}
    ), swapped AS (
        UPDATE events SET
            available_tickets = events.available_tickets - wanted.taken,
            waiting_list_count = events.waiting_list_count + wanted.joined,
            version = events.version + 1
        FROM wanted JOIN locked USING (id)
        WHERE events.id = ANY(CAST(:ids AS bigint[]))
            AND events.id = wanted.id
            AND (
                events.version = wanted.version
                -- What else such a decision rests on: see Decision.only_takes.
                OR wanted.only_takes AND events.waiting_list_count = 0
                    AND events.available_tickets >= wanted.taken
            )
        RETURNING events.id, events.version, events.total_tickets, events.available_tickets,
            events.waiting_list_count
    ), changed AS (
        UPDATE bookings SET status = change.status
        FROM unnest(
            CAST(:changed_ids AS uuid[]), CAST(:changed_events AS bigint[]),
            CAST(:changed_statuses AS text[])
        ) AS change(id, event_id, status)
        JOIN swapped ON swapped.id = change.event_id
        WHERE bookings.id = ANY(CAST(:changed_ids AS uuid[])) AND bookings.id = change.id
        RETURNING bookings.id
    ), inserted AS (
        INSERT INTO bookings (id, event_id, user_id, status, created_at)
        SELECT new.id, new.event_id, new.user_id, new.status, CAST(:at AS timestamptz)
        FROM unnest(
            CAST(:new_ids AS uuid[]), CAST(:new_events AS bigint[]), CAST(:new_users AS uuid[]),
            CAST(:new_statuses AS text[])
        ) WITH ORDINALITY AS new(id, event_id, user_id, status, place)
        JOIN swapped ON swapped.id = new.event_id
        -- Changes first: who cancels and books again in one batch frees the unique index before.
        WHERE (SELECT count(*) FROM changed) >= 0
        ORDER BY new.place
    ), kept AS (
        INSERT INTO idempotency_keys (owner, key, digest, status, body)
        SELECT kept.owner, kept.key, kept.digest, kept.status, kept.body
        FROM unnest(
            CAST(:key_events AS bigint[]), CAST(:key_owners AS uuid[]), CAST(:keys AS text[]),
            CAST(:key_digests AS bytea[]), CAST(:key_statuses AS smallint[]),
            CAST(:key_bodies AS bytea[])
        ) AS kept(event_id, owner, key, digest, status, body)
        JOIN swapped ON swapped.id = kept.event_id
    ), noted AS (
        INSERT INTO commits (id, events) VALUES (:commit, ARRAY(SELECT id FROM swapped))
    )
    SELECT swapped.*, true AS won FROM swapped
    UNION ALL
    SELECT locked.*, false FROM locked WHERE id NOT IN (SELECT id FROM swapped)
    """
COMMIT: Final = Statement(_COMMIT.format(skip=""))
COMMIT_UNLOCKED: Final = Statement(_COMMIT.format(skip="SKIP LOCKED"))
"""The same, without the events that somebody else has locked for long."""

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

OF_USER: Final = Statement(
    """
    SELECT id, seq, event_id, user_id, status, created_at,
        CASE WHEN status = 'waiting' THEN (
            SELECT count(*) FROM bookings AS ahead
            WHERE ahead.event_id = bookings.event_id AND ahead.status = 'waiting'
                AND ahead.seq <= bookings.seq
        ) END AS position
    FROM bookings
    WHERE user_id = :user AND seq < coalesce(CAST(:before AS bigint), 9223372036854775807)
    ORDER BY seq DESC LIMIT :limit
    """
)

# The line ahead of the page is counted once; within the page, positions follow each other.
OF_EVENT: Final = Statement(
    """
    WITH page AS (
        SELECT id, seq, event_id, user_id, status, created_at FROM bookings
        WHERE event_id = :event AND seq > coalesce(CAST(:after AS bigint), 0)
            AND (CAST(:status AS text) IS NULL OR status = CAST(:status AS text))
        ORDER BY seq LIMIT :limit
    )
    SELECT page.*,
        CASE WHEN status = 'waiting' THEN row_number() OVER (PARTITION BY status ORDER BY seq) + (
            SELECT count(*) FROM bookings AS ahead
            WHERE ahead.event_id = :event AND ahead.status = 'waiting'
                AND ahead.seq < (SELECT min(seq) FROM page WHERE status = 'waiting')
        ) END AS position
    FROM page ORDER BY seq
    """
)


@dataclass(frozen=True, slots=True)
class Standing:
    """A booking in a list, with its place in the line if it waits."""

    booking: Booking
    position: int | None


class BookingRepository:
    """Books, cancels and lists bookings.

    Requests that arrive while a commit is under way ride the next one together. Every commit
    swaps `events.version`, so what it rested on has not changed: see `inventory.Decision`.
    """

    def __init__(
        self,
        engine: AsyncEngine,
        commits: AsyncEngine | None = None,
        counts: metrics.Counts | None = None,
    ) -> None:
        """Read from `engine`; commit on `commits`, so that no crowd of readers is before it."""
        self._engine = engine
        self._commits = commits or engine
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

    async def book(
        self, event_id: int, user_id: UUID, intent: Intent | None = None
    ) -> Booked | Waiting:
        """Take a place for the person, or a place at the end of the line if none is left.

        Raises AlreadyBooked, AlreadyWaiting, EventNotFound, UserNotFound, or Busy if nothing was
        changed because too much is under way. With an `intent`, Replayed if it was carried out
        before, RequestInProgress, or IdempotencyKeyReused.
        """
        outcome = await self._submit(Book(event_id, user_id, uuid7(), intent))
        booked = cast("Booked | Waiting", outcome)
        _log_fact(booked.booking, booked.booking.status)
        return booked

    async def cancel(self, event_id: int, user_id: UUID, intent: Intent | None = None) -> Cancelled:
        """Cancel a person's booking and give the freed place to the head of the waiting list.

        Cancelling twice is harmless: the second call returns the same booking and frees nothing.
        Raises BookingNotFound if the person never booked this event, EventNotFound, or Busy; with
        an `intent`, the same as `book`.
        """
        try:
            outcome = await self._submit(Cancel(event_id, user_id, intent))
        except BookingNotFound:
            return Cancelled(await self._last_cancelled(event_id, user_id))
        cancelled = cast("Cancelled", outcome)
        _log_fact(cancelled.booking, cancelled.booking.status)
        for booking in cancelled.promoted:
            _log_fact(booking, "promoted")
        return cancelled

    async def _submit(self, request: Request) -> Outcome:
        if request.intent is None:
            return await self._combiner.submit(request)
        with self._under_way.once(request.intent):
            return await self._combiner.submit(request)

    async def _last_cancelled(self, event_id: int, user_id: UUID) -> Booking:
        async with driver(self._engine) as connection:
            rows = await LAST_CANCELLED.fetch(connection, event=event_id, user=user_id)
        if not rows:
            raise BookingNotFound
        return _booking(rows[0])

    async def of_user(self, user_id: UUID, *, before: int | None, limit: int) -> Page[Standing]:
        """Return the person's bookings, newest first, from below key `before`."""
        return await self._page(OF_USER, limit, user=user_id, before=before)

    async def of_event(
        self, event_id: int, *, status: BookingStatus | None, after: int | None, limit: int
    ) -> Page[Standing]:
        """Return the event's bookings in the order they were made, from above key `after`."""
        return await self._page(OF_EVENT, limit, event=event_id, status=status, after=after)

    async def _page(self, query: Statement, limit: int, **parameters: object) -> Page[Standing]:
        async with driver(self._engine) as connection:
            rows = await query.fetch(connection, limit=limit + 1, **parameters)
        items = [Standing(_booking(row), row["position"]) for row in rows[:limit]]
        return Page(items, rows[limit - 1]["seq"] if len(rows) > limit else None)

    async def _commit(self, requests: Sequence[Request]) -> Sequence[Outcome | Retry]:
        asking: Sequence[Request] = [each for each in requests if isinstance(each, Cancel)]
        settled: dict[int, Exception] = {}
        refusals: set[str | None] = set()
        async with driver(self._commits) as connection:
            try:
                while True:
                    try:
                        outcomes = await self._write(
                            connection, requests, asking=asking, settled=settled
                        )
                        break
                    except asyncpg.IntegrityConstraintViolationError as error:
                        if error.constraint_name in refusals:
                            raise
                        refusals.add(error.constraint_name)
                        # Ask whom the constraint refused, and decide again for the others.
                        if error.constraint_name == "uq_bookings_active":
                            asking = requests
                        elif error.constraint_name == "fk_bookings_user_id":
                            settled |= await _strangers(connection, requests)
                        elif error.constraint_name == idempotency.CONSTRAINT:
                            settled |= await _replays(connection, dict(enumerate(requests)))
                        else:
                            raise
            except BaseException:
                self._forget(request.event_id for request in requests)
                raise
            # What was carried out before is refused now: its first answer is still the right one.
            refused = {
                place: request
                for place, request in enumerate(requests)
                if request.intent is not None and isinstance(outcomes[place], TicketingError)
            }
            if refused:
                for place, replay in (await _replays(connection, refused)).items():
                    outcomes[place] = replay
        return outcomes

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
        answers = _answers(by_event, decisions)
        lost = stale | await self._swap(connection, decisions, answers, at=at)
        self._count(decisions, lost)
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

    def _count(self, decisions: Mapping[int, Decision], lost: set[int]) -> None:
        if self._counts is not None:
            self._counts.add(metrics.SWAPS_LOST, count=len(lost))
            for event in decisions.keys() - lost:
                self._counts.add_each(metrics.BOOKINGS, decisions[event].facts())

    def _forget(self, events: Iterable[int]) -> None:
        for event in events:
            self._snapshots.pop(event, None)

    async def _load_snapshots(self, connection: Driver, by_event: Mapping[int, object]) -> None:
        """Make sure of a snapshot of every event that exists, from memory where it is likely right.

        An event whose last swap was lost is being written by another process too: what is
        remembered of it would most likely lose again, so it is read anew until nobody else has
        written between two commits of ours.
        """
        if len(self._snapshots) > MAX_SNAPSHOTS:
            self._snapshots.clear()
            self._contended.clear()
        asked = [e for e in by_event if e not in self._snapshots or e in self._contended]
        if not asked:
            return
        for row in await SNAPSHOTS.fetch(connection, ids=asked):
            snapshot = _snapshot(row)
            if self._snapshots.get(row["id"]) == snapshot:
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
            for requests in by_event.values()
            for request in requests
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

    async def _swap(
        self,
        connection: Driver,
        decisions: Mapping[int, Decision],
        answers: Sequence[tuple[int, Intent, Answer]],
        *,
        at: datetime,
    ) -> set[int]:
        """Write the decisions, with the answers to keep, and return the events that were lost."""
        writing = [decision for decision in decisions.values() if not decision.is_empty]
        if not writing:
            return set()
        inserts = [booking for decision in writing for booking in decision.inserts.values()]
        changes = [
            (booking_id, decision.before.event_id, status)
            for decision in writing
            for booking_id, status in decision.changes.items()
        ]
        parameters = {
            "ids": [decision.before.event_id for decision in writing],
            "versions": [decision.before.version for decision in writing],
            "taken": [decision.taken for decision in writing],
            "joined": [decision.joined for decision in writing],
            "only_takes": [decision.only_takes for decision in writing],
            "changed_ids": [change[0] for change in changes],
            "changed_events": [change[1] for change in changes],
            "changed_statuses": [change[2] for change in changes],
            "new_ids": [booking.id for booking in inserts],
            "new_events": [booking.event_id for booking in inserts],
            "new_users": [booking.user_id for booking in inserts],
            "new_statuses": [booking.status for booking in inserts],
            "at": at,
            "key_events": [event for event, _, _ in answers],
            "key_owners": [intent.owner for _, intent, _ in answers],
            "keys": [intent.key for _, intent, _ in answers],
            "key_digests": [intent.digest for _, intent, _ in answers],
            "key_statuses": [answer.status for _, _, answer in answers],
            "key_bodies": [answer.body for _, _, answer in answers],
            "commit": uuid7(),
        }
        rows: list[asyncpg.Record] = []
        try:
            try:
                rows = await COMMIT.fetch(connection, **parameters)
            except asyncpg.LockNotAvailableError:
                # Somebody holds one of the events for long: the others need not wait.
                rows = await COMMIT_UNLOCKED.fetch(connection, **parameters)
            won = {row["id"] for row in rows if row["won"]}
        except commits.UNCERTAIN:
            connection.terminate()
            won = await commits.settle(self._engine, parameters["commit"])
        lost = {decision.before.event_id for decision in writing} - won
        # What did not come back is locked, or gone, or known by hearsay only.
        self._forget(decision.before.event_id for decision in writing)
        self._contended |= lost
        self._snapshots.update((row["id"], _snapshot(row)) for row in rows)
        return lost


def _answers(
    by_event: Mapping[int, Sequence[Request]], decisions: Mapping[int, Decision]
) -> list[tuple[int, Intent, Answer]]:
    """Return the answers to keep: those to requests with a key that change something."""
    return [
        (event, request.intent, request.intent.write(outcome))
        for event, decision in decisions.items()
        for request, outcome in zip(by_event[event], decision.outcomes, strict=True)
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


def _snapshot(row: asyncpg.Record) -> Snapshot:
    return Snapshot(
        row["id"],
        row["version"],
        row["total_tickets"],
        row["available_tickets"],
        row["waiting_list_count"],
    )


def _booking(row: asyncpg.Record) -> Booking:
    return Booking(
        row["id"], row["event_id"], row["user_id"], BookingStatus(row["status"]), row["created_at"]
    )


def _log_fact(booking: Booking, fact: str) -> None:
    telemetry.log.info(
        f"booking.{fact}",
        bookingId=booking.id,
        eventId=booking.event_id,
        userId=booking.user_id,
    )
