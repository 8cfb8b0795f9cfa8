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
from ticketing.errors import BookingNotFound, EventNotFound, UserNotFound
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
from ticketing.repositories import Page
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
    swaps `events.version`, so what it rested on has not changed: see `inventory.decide`.
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

    async def book(self, event_id: int, user_id: UUID) -> Booked | Waiting:
        """Take a place for the person, or a place at the end of the line if none is left.

        Raises AlreadyBooked, AlreadyWaiting, EventNotFound, UserNotFound, or Busy if nothing was
        changed because too much is under way.
        """
        request = Book(event_id, user_id, uuid7())
        outcome = cast("Booked | Waiting", await self._combiner.submit(request))
        _log_fact(outcome.booking, outcome.booking.status)
        return outcome

    async def cancel(self, event_id: int, user_id: UUID) -> Cancelled:
        """Cancel a person's booking and give the freed place to the head of the waiting list.

        Cancelling twice is harmless: the second call returns the same booking and frees nothing.
        Raises BookingNotFound if the person never booked this event, EventNotFound, or Busy.
        """
        try:
            outcome = cast("Cancelled", await self._combiner.submit(Cancel(event_id, user_id)))
        except BookingNotFound:
            return Cancelled(await self._last_cancelled(event_id, user_id))
        _log_fact(outcome.booking, outcome.booking.status)
        for booking in outcome.promoted:
            _log_fact(booking, "promoted")
        return outcome

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
        strangers: set[UUID] = set()
        refusals: set[str | None] = set()
        async with driver(self._commits) as connection:
            while True:
                by_event: dict[int, list[Request]] = defaultdict(list)
                for request in requests:
                    if not (strangers and _is_of(strangers, request)):
                        by_event[request.event_id].append(request)
                try:
                    await self._load_snapshots(connection, by_event)
                    at = datetime.now(UTC)
                    decisions, stale = await self._decide(
                        connection, by_event, asking=asking, at=at
                    )
                    lost = stale | await self._swap(connection, decisions, at=at)
                    break
                except asyncpg.IntegrityConstraintViolationError as error:
                    if error.constraint_name in refusals:
                        raise
                    refusals.add(error.constraint_name)
                    # Ask whom the constraint refused, and decide again for the others.
                    if error.constraint_name == "uq_bookings_active":
                        asking = requests
                    elif error.constraint_name == "fk_bookings_user_id":
                        users = [request.user_id for request in requests]
                        rows = await STRANGERS.fetch(connection, users=users)
                        strangers = {row["id"] for row in rows}
                    else:
                        self._forget(by_event)
                        raise
                except BaseException:
                    self._forget(by_event)
                    raise
        self._count(decisions, lost)
        outcomes = {event: iter(decision.outcomes) for event, decision in decisions.items()}
        return [
            UserNotFound()
            if strangers and _is_of(strangers, request)
            else RETRY
            if request.event_id in lost
            else next(outcomes[request.event_id])
            if request.event_id in outcomes
            else EventNotFound()
            for request in requests
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
        self, connection: Driver, decisions: Mapping[int, Decision], *, at: datetime
    ) -> set[int]:
        """Write the decisions and return the events whose swap was lost."""
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
        }
        try:
            rows = await COMMIT.fetch(connection, **parameters)
        except asyncpg.LockNotAvailableError:
            # Somebody holds one of the events for long: the others need not wait.
            rows = await COMMIT_UNLOCKED.fetch(connection, **parameters)
        won = {row["id"] for row in rows if row["won"]}
        lost = {decision.before.event_id for decision in writing} - won
        # What did not come back is locked, or gone.
        self._forget(lost)
        self._contended |= lost
        self._snapshots.update((row["id"], _snapshot(row)) for row in rows)
        return lost


def _is_of(strangers: set[UUID], request: Request) -> bool:
    return isinstance(request, Book) and request.user_id in strangers


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
