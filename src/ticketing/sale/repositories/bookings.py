"""Bookings and the one writer of every event's inventory: the compare-and-swap on its version."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Final, NamedTuple, cast
from uuid import UUID

import asyncpg
import prometheus_client
from sqlalchemy.ext.asyncio import AsyncEngine

from ticketing.db.clock import DatabaseClock
from ticketing.db.combiner import RETRY, Combiner, Retry
from ticketing.db.facts import COMMAND_LINE, Origin
from ticketing.db.ids import uuid7
from ticketing.db.statements import Driver, Held, Statement, driver
from ticketing.errors import BookingNotFound, EventNotFound, TicketingError, UserNotFound
from ticketing.ops import logs, metrics
from ticketing.sale.commit.commit import AttributedFact, Commit, Stored
from ticketing.sale.commit.write import NotAsReadError, write
from ticketing.sale.inventory.book import Book
from ticketing.sale.inventory.cancel import Cancel
from ticketing.sale.inventory.decision import Decision
from ticketing.sale.inventory.kinds import KINDS, InventoryRequest, decide
from ticketing.sale.inventory.model import (
    Booked,
    Booking,
    Cancelled,
    Outcome,
    Snapshot,
    StaleSnapshot,
    Waiting,
)
from ticketing.sale.rows import booking, snapshot
from ticketing.web.replay import KeyedRequest, UnderWay
from ticketing.web.repositories import stored_responses

MAX_SNAPSHOTS: Final = 10_000
NEED_ACTIVE: Final = {kind.request for kind in KINDS.values() if kind.needs_active}
HEARD: Final = 3.0
"""Seconds after which every worker has heard of the end of an account."""
ACTIVE_ONCE: Final = "uq_bookings_active"
"""What refuses a second active booking of one person at one event."""
CANCELLED_ONCE: Final = "cancelled_stays"
"""What refuses to cancel a booking that somebody has cancelled meanwhile."""
INVENTORY: Final = {"ck_events_available", "ck_events_waiting", "ck_events_line_served"}
"""What refuses an inventory that can't be: what the decision rested on was not so, or is no more.

A place that is given back twice, or a version that went back and came again by another way: after
a failover that lost commits, or a restore.
"""
DECIDED_AGAIN: Final = {ACTIVE_ONCE, CANCELLED_ONCE, *INVENTORY}
"""What may refuse again what was decided again, because others write too."""

BOOKINGS: Final = prometheus_client.Counter(
    "ticketing_bookings_total",
    "What was committed: booked, waiting, cancelled, promoted.",
    ["fact"],
)
SWAPS_LOST: Final = prometheus_client.Counter(
    "ticketing_swaps_lost_total",
    "Decisions about an event that another writer made void, and that were made again.",
)

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
    WHERE NOT EXISTS (
        SELECT FROM users WHERE users.id = asked.id AND password_hash IS NOT NULL OFFSET 0
    )
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


# What waits, what waited when the account was deleted, and what was booked since.
LEFT_BEHIND: Final = Statement(
    """
    SELECT DISTINCT event_id FROM bookings
    JOIN departures ON departures.user_id = CAST(:user AS uuid)
    WHERE bookings.user_id = CAST(:user AS uuid) AND status <> 'cancelled'
        AND (status = 'waiting' OR id = ANY(waiting) OR created_at >= left_at)
    """
)
# Those that every worker has heard of: no later booking of theirs can come.
DEPARTED: Final = Statement(
    """
    SELECT user_id FROM departures WHERE left_at < now() - make_interval(secs => :heard)
    ORDER BY user_id LIMIT 100 FOR UPDATE SKIP LOCKED
    """,
    reads_tables="all of the departures, which are few",
)
GONE: Final = Statement("DELETE FROM departures WHERE user_id = :user")


class Queued(NamedTuple):
    """A request to the inventory in the queue: whose doing it is, and under which key."""

    request: InventoryRequest
    origin: Origin
    keyed: KeyedRequest | None


class BookingRepository:
    """Books and cancels.

    Requests that arrive while a commit is under way ride the next one together. Every commit
    swaps `events.version`, and what it rests on still holds then: see `Decision`.
    """

    def __init__(
        self,
        engine: AsyncEngine,
        committing: AsyncEngine | None = None,
        clock: DatabaseClock | None = None,
    ) -> None:
        """Read from `engine`; commit on `committing`, so that no crowd of readers is before it.

        Decisions are made at the time of `clock`.
        """
        self._engine = engine
        self._clock = clock or DatabaseClock()
        self._connection = Held(committing or engine)
        self._snapshots: dict[int, Snapshot] = {}
        self._remembered_by: Driver | None = None
        """The connection on which they were read."""
        self._contended: set[int] = set()
        self._under_way = UnderWay()
        self._combiner = Combiner[Queued, Outcome](self._commit, name="bookings")
        self.sample = self._combiner.sample

    async def close(self) -> None:
        """Finish what is queued and refuse what comes."""
        await self._combiner.close()
        await self._connection.close()

    async def book(
        self,
        event_id: int,
        user_id: UUID,
        origin: Origin = COMMAND_LINE,
        keyed: KeyedRequest | None = None,
    ) -> Booked | Waiting:
        """Take a place for the person, or a place at the end of the line if none is left.

        Raises AlreadyBooked, AlreadyWaiting, EventNotFound, UserNotFound, or Busy if nothing was
        changed because too much is under way. With `keyed`, Replayed if it was carried out
        before, RequestInProgress, or IdempotencyKeyReused.
        """
        outcome = await self._submit(Queued(Book(event_id, user_id, uuid7()), origin, keyed))
        return cast("Booked | Waiting", outcome)

    async def cancel(
        self,
        event_id: int,
        user_id: UUID,
        origin: Origin = COMMAND_LINE,
        keyed: KeyedRequest | None = None,
    ) -> Cancelled:
        """Cancel a person's booking and give the freed place to the head of the waiting list.

        Cancelling twice is harmless: the second call returns the same booking and frees nothing.
        Raises BookingNotFound if the person never booked this event, EventNotFound, or Busy; with
        `keyed`, the same as `book`.
        """
        try:
            outcome = await self._submit(Queued(Cancel(event_id, user_id), origin, keyed))
        except BookingNotFound:
            # Kept too: late and again, it must not cancel what was booked since.
            async with stored_responses.once(self._engine, keyed) as (connection, keep):
                cancelled = Cancelled(await _last_cancelled(connection, event_id, user_id))
                await keep(cancelled)
            return cancelled
        return cast("Cancelled", outcome)

    async def leave(self, user_id: UUID) -> None:
        """Have a person whose account was deleted leave every waiting list.

        Whoever was promoted, or booked, since the account was deleted leaves too, so the place goes
        to the next living person. Raises Unavailable.
        """
        async with driver(self._engine) as connection:
            rows = await LEFT_BEHIND.fetch(connection, user=user_id)
        for row in rows:
            with suppress(BookingNotFound):  # Another worker was faster.
                await self.cancel(row["event_id"], user_id)

    async def finish_departures(self) -> None:
        """Have those leave again whose accounts were deleted a while ago, for the last time.

        A worker that was killed may have left some in a line, and one that had not heard of the end
        of an account may have booked for it.
        """
        async with driver(self._engine) as connection, connection.transaction():
            for row in await DEPARTED.fetch(connection, heard=HEARD):
                await self.leave(row["user_id"])
                await GONE.fetch(connection, user=row["user_id"])

    async def _submit(self, queued: Queued) -> Outcome:
        if queued.keyed is None:
            return await self._combiner.submit(queued)
        with self._under_way.once(queued.keyed):
            return await self._combiner.submit(queued)

    async def _commit(self, batch: Sequence[Queued]) -> Sequence[Outcome | Retry]:
        outcomes = await self._carry_out(batch)
        # What was carried out before is refused now: its first answer is still the right one.
        refused = {
            place: queued
            for place, queued in enumerate(batch)
            if queued.keyed is not None and isinstance(outcomes[place], TicketingError)
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

    async def _carry_out(self, batch: Sequence[Queued]) -> list[Outcome | Retry]:
        asking: Sequence[Queued] = [each for each in batch if type(each.request) in NEED_ACTIVE]
        settled: dict[int, Exception] = {}
        refusals: set[str | None] = set()
        async with self._connection.lent() as connection:
            self._remember_by(connection)
            try:
                while True:
                    try:
                        return await self._write(connection, batch, asking=asking, settled=settled)
                    except NotAsReadError:
                        # Each is read anew, and rides again at most so often.
                        self._forget(each.request.event_id for each in batch)
                        return [RETRY] * len(batch)
                    except asyncpg.IntegrityConstraintViolationError as error:
                        if error.constraint_name in INVENTORY:
                            self._forget(each.request.event_id for each in batch)
                        if error.constraint_name in refusals:
                            if error.constraint_name in DECIDED_AGAIN and len(batch) == 1:
                                # Booked again, or cancelled again, since it was asked about.
                                return [RETRY]
                            raise
                        refusals.add(error.constraint_name)
                        # Ask whom the constraint refused, and decide again for the others.
                        if error.constraint_name == ACTIVE_ONCE:
                            asking = batch
                        elif error.constraint_name not in DECIDED_AGAIN:  # They are asked anyway.
                            settled |= await _refused(connection, batch, error)
            except BaseException:
                self._forget(each.request.event_id for each in batch)
                raise

    async def _write(
        self,
        connection: Driver,
        batch: Sequence[Queued],
        *,
        asking: Sequence[Queued],
        settled: Mapping[int, Exception],
    ) -> list[Outcome | Retry]:
        """Decide and write, knowing the active bookings of those `asking`.

        `settled` has, by place, what needs no decision. Return an outcome for every request.
        """
        by_event: dict[int, list[Queued]] = defaultdict(list)
        for place, queued in enumerate(batch):
            if place not in settled:
                by_event[queued.request.event_id].append(queued)
        await self._load_snapshots(connection, by_event)
        at = await self._clock.know(connection)
        decisions, stale = await self._decide(connection, by_event, asking=asking, at=at)
        lost = stale
        if writing := [each for each in decisions.values() if not each.is_empty]:
            lost = stale | await self._swap(connection, by_event, writing, at=at)
        decided = {event: iter(decision.outcomes) for event, decision in decisions.items()}
        return [
            settled[place]
            if place in settled
            else RETRY
            if queued.request.event_id in lost
            else next(decided[queued.request.event_id])
            if queued.request.event_id in decided
            else EventNotFound()
            for place, queued in enumerate(batch)
        ]

    async def _swap(
        self,
        connection: Driver,
        by_event: Mapping[int, Sequence[Queued]],
        decisions: Sequence[Decision],
        *,
        at: datetime,
    ) -> set[int]:
        """Write the decisions about the requests, and return the events that were lost."""
        facts = _facts(by_event, decisions)
        commit = Commit(decisions, facts, _stored(by_event, decisions), at)
        won = await write(commit, connection, self._engine, self._clock)
        written = {decision.before.event_id for decision in decisions}
        # What did not come back is locked, or gone, or another's by now.
        self._forget(written)
        self._snapshots.update((event, now) for event, now in won.items() if now is not None)
        lost = written - won.keys()
        self._contended |= lost
        self._tell([fact for fact in facts if fact.booking.event_id in won] if lost else facts)
        if lost:
            SWAPS_LOST.inc(len(lost))
        return lost

    def _tell(self, facts: Sequence[AttributedFact]) -> None:
        """Count and log what is committed."""
        if metrics.is_shared:
            for name, count in Counter([fact.name for fact in facts]).items():
                BOOKINGS.labels(name).inc(count)
        for fact in facts:
            logs.info(
                f"booking.{fact.name}",
                {
                    "bookingId": fact.booking.id,
                    "eventId": fact.booking.event_id,
                    "userId": fact.booking.user_id,
                    "requestId": fact.origin.request_id,
                },
            )

    def _remember_by(self, connection: Driver) -> None:
        if connection is not self._remembered_by:
            # The server may be another now, and know less than what is remembered.
            self._snapshots.clear()
            self._remembered_by = connection

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
            read = snapshot(row)
            if read.waiting == 0 or self._snapshots.get(read.event_id) == read:
                self._contended.discard(read.event_id)
            self._snapshots[read.event_id] = read

    async def _decide(
        self,
        connection: Driver,
        by_event: Mapping[int, Sequence[Queued]],
        *,
        asking: Sequence[Queued],
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
                "events": [each.request.event_id for each in asking],
                "users": [each.request.user_id for each in asking],
            }
            for row in await ACTIVE.fetch(connection, **people):
                active[row["event_id"]][row["user_id"]] = booking(row)
        lengths = {
            event: freed
            for event, before in known.items()
            if before.waiting and (freed := _may_free(by_event[event]))
        }
        if lengths:
            heads = {"events": list(lengths.keys()), "lengths": list(lengths.values())}
            for row in await LINES.fetch(connection, **heads):
                lines[row["event_id"]].append(booking(row))
        decisions, stale = {}, set()
        for event, before in known.items():
            requests = [each.request for each in by_event[event]]
            try:
                decisions[event] = decide(
                    before, requests, active=active[event], line=lines[event], at=at
                )
            except StaleSnapshot:
                stale.add(event)
        self._contended |= stale
        self._forget(stale)
        return decisions, stale


def _may_free(queue: Sequence[Queued]) -> int:
    return sum(KINDS[type(each.request)].frees for each in queue)


def _facts(
    by_event: Mapping[int, Sequence[Queued]], decisions: Iterable[Decision]
) -> list[AttributedFact]:
    """Return what becomes of places and of the line, in order of arrival at each event."""
    return [
        AttributedFact(
            fact.name,
            fact.booking,
            by_event[fact.booking.event_id][fact.by].origin,
            # A booking that is made and cancelled in one batch is inserted as cancelled.
            decision.inserts[fact.booking.id].status if fact.is_new else None,
        )
        for decision in decisions
        for fact in decision.facts
    ]


def _stored(
    by_event: Mapping[int, Sequence[Queued]], decisions: Iterable[Decision]
) -> list[Stored]:
    """Return the responses to store: those to keyed requests that change something."""
    return [
        Stored(queued.request.event_id, queued.keyed, queued.keyed.render(outcome))
        for decision in decisions
        for queued, outcome in zip(
            by_event[decision.before.event_id], decision.outcomes, strict=True
        )
        if queued.keyed is not None and not isinstance(outcome, TicketingError)
    ]


async def _refused(
    connection: Driver,
    batch: Sequence[Queued],
    error: asyncpg.IntegrityConstraintViolationError,
) -> dict[int, Exception]:
    """Return whom the constraint refused, by place. Raises `error` if it is not known."""
    if error.constraint_name == "fk_bookings_user_id":
        return await _strangers(connection, batch)
    if error.constraint_name == stored_responses.CONSTRAINT:
        return await _replays(connection, dict(enumerate(batch)))
    raise error


async def _replays(connection: Driver, batch: Mapping[int, Queued]) -> dict[int, Exception]:
    """Return how to answer the requests that were carried out before, by place."""
    keyed = {place: each.keyed for place, each in batch.items() if each.keyed is not None}
    found = await stored_responses.find(connection, keyed.values())
    return {
        place: found[request.owner, request.key]
        for place, request in keyed.items()
        if (request.owner, request.key) in found
    }


async def _strangers(connection: Driver, batch: Sequence[Queued]) -> dict[int, Exception]:
    """Return the requests that would insert for people who do not exist, by place."""
    asked = {
        place: each.request.user_id
        for place, each in enumerate(batch)
        if KINDS[type(each.request)].inserts
    }
    rows = await STRANGERS.fetch(connection, users=list(asked.values()))
    strangers = {row["id"] for row in rows}
    return {place: UserNotFound() for place, user in asked.items() if user in strangers}


async def _last_cancelled(connection: Driver, event_id: int, user_id: UUID) -> Booking:
    rows = await LAST_CANCELLED.fetch(connection, event=event_id, user=user_id)
    if not rows:
        raise BookingNotFound
    return booking(rows[0])
