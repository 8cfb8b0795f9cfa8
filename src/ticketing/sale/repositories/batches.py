"""Batches of requests: what is read for them, the decision, and the commit."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from datetime import datetime
from functools import partial
from typing import Final, NamedTuple

import asyncpg
import prometheus_client
from sqlalchemy.ext.asyncio import AsyncEngine

from ticketing.db.clock import DatabaseClock
from ticketing.db.combiner import RETRY, Combiner, Retry
from ticketing.db.facts import COMMAND_LINE, Origin
from ticketing.db.ids import uuid7
from ticketing.db.statements import Driver, Held, Statement
from ticketing.errors import (
    BookingNotFound,
    Busy,
    EventNotFound,
    SoldOut,
    TicketingError,
    TicketNotFound,
    UserNotFound,
)
from ticketing.sale.commit.commit import AttributedFact, Commit, Stored
from ticketing.sale.commit.tell import tell
from ticketing.sale.commit.write import NotAsReadError, write
from ticketing.sale.definitions import Definitions
from ticketing.sale.inventory.decision import Decision
from ticketing.sale.inventory.kinds import KINDS, InventoryRequest, decide
from ticketing.sale.inventory.model import (
    Expired,
    Outcome,
    Reading,
    Snapshot,
    StaleSnapshot,
)
from ticketing.sale.repositories.definitions import Known, load
from ticketing.sale.repositories.held import (
    NOTHING_DUE,
    read_active,
    read_codes,
    read_due,
    read_lines,
    read_named,
)
from ticketing.sale.rows import snapshot
from ticketing.web.keyed import KeyedRequest, UnderWay
from ticketing.web.repositories import stored_responses

MAX_SNAPSHOTS: Final = 10_000
NEED_ACTIVE: Final = {kind.request for kind in KINDS.values() if kind.needs_active}
ACTIVE_ONCE: Final = "uq_bookings_active"
"""The constraint that refuses a second active booking of one person at one event."""
CANCELLED_ONCE: Final = "cancelled_stays"
"""The constraint that refuses to cancel a booking that was cancelled meanwhile."""
INVENTORY: Final = {
    "ck_events_available",
    "ck_events_waiting",
    "ck_events_line_served",
    "ck_events_quota_available",
    "ck_events_type_taken",
    "ck_events_type_waiting",
}
"""The constraints that refuse an impossible inventory, because the snapshot was wrong.

A place may be given back twice, or a version number may be used again: after a restore, or after a
failover that lost commits.
"""
DECIDED_AGAIN: Final = {ACTIVE_ONCE, CANCELLED_ONCE, *INVENTORY}
"""Constraints that may refuse a repeated decision too, because other processes write as well."""

SWAPS_LOST: Final = prometheus_client.Counter(
    "ticketing_swaps_lost_total",
    "Decisions about an event that were repeated because another worker wrote first.",
)

# Statements reach every table by conditions for which every plan uses an index (`= ANY`, LATERAL
# with LIMIT), because a statement that was prepared while a table was empty keeps its plan.

SNAPSHOTS: Final = Statement(
    """
    SELECT id, version, total_tickets, available_tickets, waiting_list_count, revision, status,
        sales_paused, sales_open_at, sales_close_at, ends_at, max_bookings_per_person,
        max_tickets_per_person, had_several_bookings, refund_policy, quota_capacity,
        quota_available, type_taken, type_waiting, next_expiry, hold_minutes, waiting_list_mode,
        offer_minutes, group_patience_minutes
    FROM events WHERE id = ANY(CAST(:ids AS bigint[]))
    """
)

STRANGERS: Final = Statement(
    """
    SELECT asked.id FROM unnest(CAST(:users AS uuid[])) AS asked(id)
    -- OFFSET keeps it one look-up per user, whatever the statistics are.
    WHERE NOT EXISTS (
        -- An account, or a customer without a login.
        SELECT FROM users WHERE users.id = asked.id
            AND (password_hash IS NOT NULL OR username IS NULL) OFFSET 0
    )
    """
)


SURE: Final = (BookingNotFound, TicketNotFound)
"""Refusals that rest on rows which were just read."""


class Queued(NamedTuple):
    """A request in the queue, with its origin and its `Idempotency-Key`."""

    request: InventoryRequest
    origin: Origin
    keyed: KeyedRequest | None


class Batches:
    """Decides and commits requests.

    Requests that arrive during a commit share the next commit. Every commit swaps `events.version`,
    and writes only decisions that are still valid: see `Decision`.
    """

    def __init__(self, engine: AsyncEngine, committing: AsyncEngine, clock: DatabaseClock) -> None:
        """Commit on `committing`, and ask on `engine` for the result of a commit that was cut.

        `clock` gives the time of decisions.
        """
        self._engine = engine
        self._clock = clock
        self._connection = Held(committing)
        self._snapshots: dict[int, Snapshot] = {}
        self._known = Known[Definitions]()
        self._remembered_by: Driver | None = None
        """The connection on which the snapshots were read."""
        self._contended: set[int] = set()
        self._under_way = UnderWay()
        self._combiner = Combiner[Queued, Outcome](self._commit, name="bookings")
        self.sample = self._combiner.sample

    async def close(self) -> None:
        """Finish the queued requests and refuse new ones."""
        await self._combiner.close()
        await self._connection.close()

    async def submit(self, queued: Queued) -> Outcome:
        """Return the outcome of the request, or raise its refusal.

        Raises RequestInProgress, and Replayed or IdempotencyKeyReused if its key was used before.
        """
        if queued.keyed is None:
            return await self._combiner.submit(queued)
        with self._under_way.once(queued.keyed):
            return await self._combiner.submit(queued)

    async def _commit(self, batch: Sequence[Queued]) -> Sequence[Outcome | Retry]:
        outcomes = await self._carry_out(batch)
        # A request that was carried out before is refused now, but must return its first response.
        refused = {
            place: queued
            for place, queued in enumerate(batch)
            if queued.keyed is not None and isinstance(outcomes[place], TicketingError)
        }
        if refused:
            try:
                # The whole batch waits for this. The commits' connection is ahead of other reads.
                async with self._connection.lent() as connection:
                    replays = await _replays(connection, refused)
            except Exception as error:  # noqa: BLE001 - concerns only these: the others are committed
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
                        # Read all anew and retry. The combiner limits how often.
                        self._forget(each.request.event_id for each in batch)
                        return [RETRY] * len(batch)
                    except asyncpg.IntegrityConstraintViolationError as error:
                        if error.constraint_name in INVENTORY:
                            self._forget(each.request.event_id for each in batch)
                        if error.constraint_name in refusals:
                            if error.constraint_name in DECIDED_AGAIN and len(batch) == 1:
                                # It was booked or cancelled again since it was read.
                                return [RETRY]
                            raise
                        refusals.add(error.constraint_name)
                        # Find the requests that the constraint refused. Decide the others again.
                        if error.constraint_name == ACTIVE_ONCE:
                            asking = batch
                        elif error.constraint_name not in DECIDED_AGAIN:  # These are read anyway.
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
        """Decide and write. Return an outcome for every request.

        The active bookings of the requests in `asking` are read first. `settled` has the errors of
        requests that need no decision, by their index in the batch.
        """
        by_event: dict[int, list[Queued]] = defaultdict(list)
        for place, queued in enumerate(batch):
            if place not in settled:
                by_event[queued.request.event_id].append(queued)
        at = await self._clock.know(connection)
        remembered = await self._load_snapshots(connection, by_event)
        lost: set[int] = set()
        together: set[int] = set()
        while True:
            async with _at_one_moment(connection) if together else nullcontext():
                await self._load_snapshots(connection, together)
                decisions, stale = await self._decide(connection, by_event, asking=asking, at=at)
            # A later look may decide what an earlier one could not.
            lost = (lost - decisions.keys()) | stale
            if asking is not batch and _have_sold_out(decisions.values()):
                # A client without a response asks again, and must learn that it has its booking.
                asking = batch
                self._forget(together)
                continue
            # A refusal writes nothing, so no swap shows that the terms or the places have changed.
            doubtful = {event for event, each in decisions.items() if _is_doubtful(each)}
            # Nor that the event has changed between the reads of its snapshot and of its line.
            torn = {event for event in doubtful if _may_be_torn(decisions[event], at)}
            if not torn <= together:
                together |= torn
                self._forget(together)
                continue
            doubtful &= remembered
            doubtful -= together
            remembered -= doubtful
            self._forget(doubtful)
            await self._load_snapshots(connection, doubtful)
            if all(self._snapshots.get(each) == decisions[each].before for each in doubtful):
                break
            self._forget(together)
        # What changes nothing has a response to store too: that of a second confirmation.
        if writing := [
            each for each in decisions.values() if not each.is_empty or _stored(by_event, [each])
        ]:
            lost |= await self._swap(connection, by_event, writing, at=at)
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
        """Write the decisions. Return the events whose swap was lost."""
        facts = _facts(by_event, decisions)
        commit = Commit(decisions, facts, _stored(by_event, decisions), at)
        won = await write(commit, connection, self._engine, self._clock)
        written = {decision.before.event_id for decision in decisions}
        # Events that are not returned are locked or deleted, or another worker wrote them first.
        self._forget(written)
        self._snapshots.update((event, now) for event, now in won.items() if now is not None)
        lost = written - won.keys()
        self._contended |= lost
        tell([fact for fact in facts if fact.booking.event_id in won] if lost else facts)
        if lost:
            SWAPS_LOST.inc(len(lost))
        return lost

    def _remember_by(self, connection: Driver) -> None:
        if len(self._snapshots) > MAX_SNAPSHOTS:
            self._snapshots.clear()
            self._contended.clear()
        if connection is not self._remembered_by:
            # The new connection may be to another server, which may lack the latest commits.
            self._snapshots.clear()
            self._known.forget()
            self._remembered_by = connection

    def _forget(self, events: Iterable[int]) -> None:
        for event in events:
            self._snapshots.pop(event, None)

    async def _load_snapshots(self, connection: Driver, events: Iterable[int]) -> set[int]:
        """Load the snapshot of every event that exists, unless the remembered one is likely right.

        Return the events that were not read. An event is read anew if its last swap was lost,
        because another worker writes it too. While people wait, the next swap would most likely be
        lost as well. This ends when no other worker has written between two commits of this one.
        """
        asked = [
            event for event in events if event not in self._snapshots or event in self._contended
        ]
        known = set(events).difference(asked)
        while asked:
            rows = await SNAPSHOTS.fetch(connection, ids=asked)
            unknown = [row["id"] for row in rows if not self._known.at(row["id"], row["revision"])]
            for event, (revision, loaded) in (await load(connection, unknown)).items():
                self._known.remember(event, revision, loaded, len(loaded.types))
            # Those that were revised between the two reads.
            asked = []
            for row in rows:
                event, found = row["id"], self._known.at(row["id"], row["revision"])
                if found is None:
                    asked.append(event)
                    continue
                now = snapshot(row, found.offer)
                if now.waiting == 0 or self._snapshots.get(event) == now:
                    self._contended.discard(event)
                self._snapshots[event] = now
        return known

    async def _decide(
        self,
        connection: Driver,
        by_event: Mapping[int, Sequence[Queued]],
        *,
        asking: Sequence[Queued],
        at: datetime,
    ) -> tuple[dict[int, Decision], set[int]]:
        """Decide for every event that exists. Return decisions, and events to decide again.

        An event is decided again if its snapshot is stale, or if the decision only ends holds and
        offers. It does so if more have ended than one commit writes, and the requests need those
        too. The active bookings of the requests in `asking` are read first.
        """
        known = {e: self._snapshots[e] for e in by_event if e in self._snapshots}
        requests = {event: [each.request for each in by_event[event]] for event in known}
        asked = [each.request for each in asking]
        active = await read_active(connection, known, requests, asked)
        named = await read_named(connection, requests, active)
        due = await read_due(connection, known, at)
        lines = await read_lines(connection, known, requests, active, due, at)
        codes = await read_codes(connection, requests, active, named)
        decisions: dict[int, Decision] = {}
        stale: set[int] = set()
        unfinished: set[int] = set()
        new_id = partial(uuid7, at)
        for event, before in known.items():
            reading = Reading(
                active[event],
                lines[event],
                *due.get(event, NOTHING_DUE),
                named=named,
                codes=codes.get(event, ()),
            )
            has_more = reading.next_due is not None and reading.next_due <= at
            deciding = partial(decide, before, reading=reading, at=at, new_id=new_id)
            try:
                decision = deciding(requests[event])
                if has_more and not _are_granted(decision):
                    decision = deciding(())
                    decision.outcomes = [Busy()] * len(requests[event])
                    unfinished.add(event)
            except StaleSnapshot:
                stale.add(event)
            else:
                decisions[event] = decision
        self._contended |= stale
        self._forget(stale)
        return decisions, stale | unfinished


def _are_granted(decision: Decision) -> bool:
    """Whether more free places would change no outcome."""
    return not (decision.before.waiting or decision.after.waiting) and not any(
        isinstance(outcome, Exception) for outcome in decision.outcomes
    )


def _may_be_torn(decision: Decision, at: datetime) -> bool:
    """Whether the rows that it rests on may be newer than its snapshot.

    That is a waiting list, or holds that have ended. If it is written, the swap would fail.
    """
    before = decision.before
    has_ended = before.next_expiry is not None and before.next_expiry <= at
    return decision.is_empty and (before.waiting > 0 or has_ended)


def _at_one_moment(connection: Driver) -> AbstractAsyncContextManager[object]:
    """Have all that is read be of one moment. What is decided on it may be old, but not torn."""
    return connection.transaction(isolation="repeatable_read", readonly=True)


def _is_doubtful(decision: Decision) -> bool:
    """Whether an outcome may be wrong, because it rests on a snapshot from before.

    A swap confirms the terms, but not that places are still missing. Without one, other holds may
    have ended.
    """
    return any(
        isinstance(outcome, SoldOut)
        or (
            decision.is_empty
            and isinstance(outcome, (Exception, Expired))
            and not isinstance(outcome, SURE)
        )
        for outcome in decision.outcomes
    )


def _have_sold_out(decisions: Iterable[Decision]) -> bool:
    return any(isinstance(outcome, SoldOut) for each in decisions for outcome in each.outcomes)


def _facts(
    by_event: Mapping[int, Sequence[Queued]], decisions: Iterable[Decision]
) -> list[AttributedFact]:
    """Return the changes of bookings, in order of arrival at each event."""
    return [
        AttributedFact(
            fact.name,
            decision.told(fact),
            COMMAND_LINE if fact.by is None else by_event[fact.booking.event_id][fact.by].origin,
            # A booking that is made and cancelled in one batch is inserted as cancelled.
            decision.inserts[fact.booking.id].status if fact.is_new else None,
            fact.tickets,
        )
        for decision in decisions
        for fact in decision.facts
    ]


def _stored(
    by_event: Mapping[int, Sequence[Queued]], decisions: Iterable[Decision]
) -> list[Stored]:
    """Return the responses to store: those to keyed requests that were not refused."""
    return [
        Stored(queued.request.event_id, queued.keyed, queued.keyed.render(outcome))
        for decision in decisions
        for queued, outcome in zip(
            by_event[decision.before.event_id], decision.outcomes, strict=True
        )
        if queued.keyed is not None and not isinstance(outcome, Exception)
    ]


async def _refused(
    connection: Driver,
    batch: Sequence[Queued],
    error: asyncpg.IntegrityConstraintViolationError,
) -> dict[int, Exception]:
    """Return the refused requests' errors by index. Raises `error` for an unknown constraint."""
    if error.constraint_name == "fk_bookings_user_id":
        return await _strangers(connection, batch)
    if error.constraint_name == stored_responses.CONSTRAINT:
        return await _replays(connection, dict(enumerate(batch)))
    raise error


async def _replays(connection: Driver, batch: Mapping[int, Queued]) -> dict[int, Exception]:
    """Return the replays of requests that were carried out before, by index."""
    keyed = {place: each.keyed for place, each in batch.items() if each.keyed is not None}
    found = await stored_responses.find(connection, keyed.values())
    return {
        place: found[request.owner, request.key]
        for place, request in keyed.items()
        if (request.owner, request.key) in found
    }


async def _strangers(connection: Driver, batch: Sequence[Queued]) -> dict[int, Exception]:
    """Return errors by index for requests that would insert bookings of unknown users."""
    asked = {
        place: each.request.user_id
        for place, each in enumerate(batch)
        if KINDS[type(each.request)].inserts
    }
    rows = await STRANGERS.fetch(connection, users=list(asked.values()))
    strangers = {row["id"] for row in rows}
    return {place: UserNotFound() for place, user in asked.items() if user in strangers}
