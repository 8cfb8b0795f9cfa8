"""Changes of an event: its details, capacity, status and owner. Each is one transaction."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any, Final
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncEngine

from ticketing.db.clock import DatabaseClock
from ticketing.db.facts import COMMAND_LINE, Origin, recorded
from ticketing.db.ids import uuid7
from ticketing.db.statements import Driver, Statement
from ticketing.errors import (
    Busy,
    EventHasBookings,
    EventState,
    PreconditionFailed,
    UserNotFound,
)
from ticketing.ops import logs
from ticketing.sale.commit.commit import AttributedFact, Commit
from ticketing.sale.commit.tell import tell
from ticketing.sale.commit.write import NotAsReadError, write
from ticketing.sale.details import Details, moved, read_anew, revised
from ticketing.sale.folding import folded
from ticketing.sale.inventory import resize
from ticketing.sale.inventory.decision import Decision
from ticketing.sale.inventory.model import Snapshot
from ticketing.sale.inventory.terms import ALLOWED, EventStatus, Terms, WaitingMode
from ticketing.sale.repositories.definitions import count, define, give_counters
from ticketing.sale.repositories.events import SAY, columns, locked, make, read
from ticketing.sale.repositories.held import LINES, heads, read_type_lines
from ticketing.sale.rows import Event, booking
from ticketing.sale.said import as_json, said, whole
from ticketing.sale.times import RULES
from ticketing.web.keyed import KeyedRequest
from ticketing.web.repositories.stored_responses import once

PROMOTED_AT_ONCE: Final = 5_000
"""How many waiting bookings one statement promotes."""

REVISE: Final = Statement(
    f"""
    WITH revised AS (
        UPDATE events SET
            revision = revision + 1, name = :name, name_folded = CAST(:folded AS text),
            total_tickets = greatest(CAST(:total AS bigint), total_tickets), status = :status,
            visibility = :visibility, sales_paused = :paused, starts_at = :starts_at,
            ends_at = :ends_at, sales_open_at = :sales_open_at, sales_close_at = :sales_close_at,
            max_bookings_per_person = :max_bookings_per_person,
            max_tickets_per_person = :max_tickets_per_person,
            refund_policy = CAST(:refund_policy AS jsonb),
            had_several_bookings = had_several_bookings OR :max_bookings_per_person > 1,
            hold_minutes = :hold_minutes, waiting_list_mode = :waiting_list_mode,
            offer_minutes = :offer_minutes, group_patience_minutes = :group_patience_minutes
        WHERE id = :event RETURNING id
    ), {
        recorded(
            "CAST(:action AS text)",
            of="revised",
            event="id",
            details="CAST(:changes AS jsonb)",
            whole=":whole",
        )
    }
    SELECT id FROM revised
    """  # noqa: S608 - our own text
)
LOWER: Final = Statement("UPDATE events SET total_tickets = :total WHERE id = :event")
WITHDRAW: Final = Statement(
    "INSERT INTO cancellations (event_id, actor) VALUES (:event, :actor) ON CONFLICT DO NOTHING"
)
DELETE: Final = Statement(
    f"""
    WITH detailed AS (
        DELETE FROM event_details WHERE event_id = :event
    ), team AS (
        DELETE FROM event_roles WHERE event_id = :event
    ), deleted AS (
        DELETE FROM events WHERE id = :event
        RETURNING id, name
    ), {
        recorded(
            "'event.deleted'", of="deleted", event="id", details="jsonb_build_object('name', name)"
        )
    }
    SELECT id FROM deleted
    """  # noqa: S608 - our own text
)
READ_BY: Final = Statement("UPDATE event_details SET zone_rules = :rules WHERE event_id = :event")
BOOKED_EVER: Final = Statement("SELECT 1 FROM bookings WHERE event_id = :event LIMIT 1")
# The lock makes this wait for a deletion of the account, and the deletion wait for this.
CHANGE_OWNER: Final = Statement(
    f"""
    WITH owner AS (
        SELECT id FROM users WHERE id = :user AND password_hash IS NOT NULL FOR SHARE
    ), changed AS (
        UPDATE events SET organiser_id = owner.id, revision = revision + 1 FROM owner
        WHERE events.id = :event RETURNING events.id, organiser_id
    ), left_team AS (
        DELETE FROM event_roles WHERE event_id = :event AND user_id = :user
    ), {
        recorded(
            "'event.owner_changed'",
            of="changed",
            event="id",
            subject="organiser_id",
            whole=":whole",
        )
    }
    SELECT id FROM changed
    """  # noqa: S608 - our own text
)


async def serve_line(
    connection: Driver, engine: AsyncEngine, clock: DatabaseClock, before: Snapshot, origin: Origin
) -> Sequence[AttributedFact]:
    """Promote waiting bookings of an event with counters, after a change of what it offers.

    `before` is the event as it is now, which this transaction has locked. Raises Busy.
    """
    told: list[AttributedFact] = []
    at = await clock.know(connection)
    while before.waiting:
        asked = [
            (before.event_id, kind, min(length, PROMOTED_AT_ONCE))
            for kind, length in heads(before, 0)
        ]
        passes = before.terms.patience_minutes is not None
        lines = await read_type_lines(connection, asked, passes=passes, at=at)
        line = lines.get(before.event_id, [])
        decision = resize.serve(
            before, PROMOTED_AT_ONCE, line=line, at=at, new_id=partial(uuid7, at)
        )
        if decision.is_empty:
            break
        facts = [AttributedFact(each.name, each.booking, origin, None) for each in decision.facts]
        await swap(connection, engine, clock, decision, facts, at)
        told += facts
        before = decision.after
    return told


async def promote(
    connection: Driver, engine: AsyncEngine, clock: DatabaseClock, event_id: int, origin: Origin
) -> Sequence[AttributedFact]:
    """Promote waiting bookings of an event that this transaction has locked and changed.

    Does nothing if the event is plain. Raises Busy.
    """
    now = await read(connection, event_id)
    if now.counters is None or not now.waiting_list_count:
        return ()
    offer = now.definitions.offer._replace(is_plain=False)
    snapshot = _snapshot(now)._replace(counters=now.counters, offer=offer)
    return await serve_line(connection, engine, clock, snapshot, origin)


async def swap(  # noqa: PLR0913, PLR0917 - all that a commit needs
    connection: Driver,
    engine: AsyncEngine,
    clock: DatabaseClock,
    decision: Decision,
    facts: Sequence[AttributedFact],
    at: datetime,
) -> None:
    """Write a decision about an event that this transaction has locked. Raises Busy."""
    try:
        won = await write(Commit([decision], facts, (), at), connection, engine, clock)
    except NotAsReadError:
        won = {}
    if not won:
        raise Busy


class RevisionRepository:
    """Changes events. Each change locks the event's row, so bookings wait for a moment."""

    def __init__(self, engine: AsyncEngine, clock: DatabaseClock | None = None) -> None:
        """Work on `engine`. `clock` gives the time of decisions."""
        self._engine = engine
        self._clock = clock or DatabaseClock()

    async def revise(
        self,
        event_id: int,
        changes: Mapping[str, Any],
        origin: Origin,
        *,
        if_revision: int | None,
        capacity: int | None = None,
    ) -> Event:
        """Change details and capacity if the event is at revision `if_revision`, or at any if None.

        New places go to the head of the waiting list first, in the same transaction. Raises
        EventNotFound, PreconditionFailed, EventState, ValidationFailed, CapacityBelowTaken, Busy.
        """
        async with locked(self._engine, event_id) as (connection, before):
            if if_revision not in {None, before.terms.revision}:
                raise PreconditionFailed
            require(before, allowed=ALLOWED[before.state].edit)
            details = revised(before.details, changes)
            facts: Sequence[AttributedFact] = ()
            if details != before.details or capacity not in {None, before.total_tickets}:
                facts = await self._write(
                    connection, before, details, origin, capacity=capacity or before.total_tickets
                )
            after = await read(connection, event_id)
        tell(facts)
        if after.terms.revision != before.terms.revision:
            logs.log.info("event.revised", eventId=event_id)
        return after

    async def read_times_anew(self, event_id: int, earlier: str) -> None:
        """Read the local times to come by the present rules of the event's time zone.

        Other times stay as they are. The trail record names the `earlier` rules. Raises
        EventNotFound.
        """
        async with locked(self._engine, event_id) as (connection, before):
            zone, now = before.details.timezone, before.read_at
            after = before._replace(
                details=read_anew(before.details, now),
                definitions=before.definitions.read_anew(zone, now),
            )
            if after == before:
                return
            await define(connection, event_id, before.definitions, after.definitions)
            rules = {"from": earlier or None, "to": RULES}
            await self._say(
                connection, before, after, COMMAND_LINE, "event.revised", zoneRules=rules
            )
            await READ_BY.fetch(connection, event=event_id, rules=RULES)
        logs.log.info("event.revised", eventId=event_id, zoneRules=RULES)

    async def publish(self, event_id: int, origin: Origin) -> Event:
        """Publish a draft. Repeating it changes nothing. Raises EventNotFound, EventState."""
        return await self._move(
            event_id,
            origin,
            "event.published",
            lambda now: now.terms.status is not EventStatus.CANCELLED,
            lambda terms: terms._replace(status=EventStatus.PUBLISHED),
        )

    async def pause(self, event_id: int, origin: Origin) -> Event:
        """Stop bookings from the next commit on. Raises EventNotFound, EventState."""
        return await self._move(
            event_id,
            origin,
            "event.paused",
            lambda now: ALLOWED[now.state].edit,
            lambda terms: terms._replace(paused=True),
        )

    async def resume(self, event_id: int, origin: Origin) -> Event:
        """Allow bookings again. Raises EventNotFound, EventState."""
        return await self._move(
            event_id,
            origin,
            "event.resumed",
            lambda now: ALLOWED[now.state].edit,
            lambda terms: terms._replace(paused=False),
        )

    async def cancel(self, event_id: int, origin: Origin) -> Event:
        """Cancel the event. A loop cancels its bookings soon after.

        Raises EventNotFound, EventState.
        """
        return await self._move(
            event_id,
            origin,
            "event.cancelled",
            lambda now: ALLOWED[now.state].cancel_event,
            lambda terms: terms._replace(status=EventStatus.CANCELLED),
        )

    async def delete(self, event_id: int, origin: Origin) -> None:
        """Delete a draft that was never booked. Raises EventNotFound, EventHasBookings."""
        async with locked(self._engine, event_id) as (connection, before):
            is_draft = before.terms.status is EventStatus.DRAFT
            if not is_draft or await BOOKED_EVER.fetch(connection, event=event_id):
                raise EventHasBookings
            await DELETE.fetch(connection, event=event_id, **origin._asdict())
        logs.log.info("event.deleted", eventId=event_id)

    async def change_owner(self, event_id: int, user_id: UUID, origin: Origin) -> Event:
        """Give the event to another person. Raises EventNotFound, UserNotFound."""
        async with locked(self._engine, event_id) as (connection, before):
            if before.organiser_id != user_id:
                given = before._replace(organiser_id=user_id)
                rows = await CHANGE_OWNER.fetch(
                    connection,
                    event=event_id,
                    user=user_id,
                    whole=as_json(whole(given)),
                    **origin._asdict(),
                )
                if not rows:
                    raise UserNotFound
            after = await read(connection, event_id)
        logs.log.info("event.owner_changed", eventId=event_id, userId=user_id)
        return after

    async def copy(
        self,
        event_id: int,
        starts: Sequence[datetime],
        origin: Origin,
        keyed: KeyedRequest | None = None,
    ) -> Sequence[Event]:
        """Create a draft like the event for each of these starts, and return the drafts.

        The other times keep their distance from the start. Raises EventNotFound, ValidationFailed.
        With `keyed`, also raises the errors of `once`.
        """
        async with once(self._engine, keyed) as (connection, keep), connection.transaction():
            original = await read(connection, event_id)
            copies = []
            for start in starts:
                details = moved(original.details, start)
                copy = await make(
                    connection,
                    original.organiser_id,
                    details,
                    original.total_tickets,
                    EventStatus.DRAFT,
                    origin,
                    original.definitions.copied(original.details, details),
                )
                copies.append(copy)
            await keep(copies)
        for each in copies:
            logs.log.info("event.created", eventId=each.id, userId=each.organiser_id)
        return copies

    async def _move(
        self,
        event_id: int,
        origin: Origin,
        action: str,
        may: Callable[[Event], bool],
        change: Callable[[Terms], Terms],
    ) -> Event:
        async with locked(self._engine, event_id) as (connection, before):
            require(before, allowed=may(before))
            after = before._replace(terms=change(before.terms))
            if after.terms == before.terms:
                return before
            await self._say(connection, before, after, origin, action)
            if after.terms.status is EventStatus.CANCELLED:
                await WITHDRAW.fetch(connection, event=event_id, actor=origin.actor)
            after = await read(connection, event_id)
        logs.log.info(action, eventId=event_id)
        return after

    async def _write(
        self,
        connection: Driver,
        before: Event,
        details: Details,
        origin: Origin,
        *,
        capacity: int,
    ) -> Sequence[AttributedFact]:
        """Write details and capacity. Return the promotions that result."""
        if details.waiting_list_mode == WaitingMode.OFFER and before.counters is None:
            # After the close of the sale places may be free while people wait: see the constraint.
            await give_counters(connection, before.id)
            before = await read(connection, before.id)
        more = capacity - before.total_tickets
        after = before._replace(details=details, total_tickets=capacity)
        if details.timezone != before.details.timezone:
            after = after._replace(definitions=before.definitions.in_zone(details.timezone))
            await define(connection, before.id, before.definitions, after.definitions)
        if before.counters is not None:
            return await self._resize(connection, before, after, origin)
        if more < 0:
            decision = resize.shrink(_snapshot(before), -more, at=before.read_at, new_id=uuid7)
            await swap(connection, self._engine, self._clock, decision, (), before.read_at)
        await self._say(connection, before, after, origin, "event.revised")
        if more < 0:
            await LOWER.fetch(connection, event=before.id, total=capacity)
        return await self._grow(connection, before, more, origin) if more > 0 else ()

    async def _resize(
        self, connection: Driver, before: Event, after: Event, origin: Origin
    ) -> Sequence[AttributedFact]:
        """Write details and capacity of an event with counters. Return the promotions."""
        total = after.total_tickets
        counters = after.definitions.counted(total, before.taken, before.waiting)
        await count(connection, before.id, total, counters)
        await self._say(connection, before, after, origin, "event.revised")
        return await promote(connection, self._engine, self._clock, before.id, origin)

    async def _grow(
        self, connection: Driver, before: Event, more: int, origin: Origin
    ) -> list[AttributedFact]:
        """Add places, for the waiting list first. Return the promotions."""
        told: list[AttributedFact] = []
        snapshot = _snapshot(before)
        snapshot = snapshot._replace(
            terms=snapshot.terms._replace(revision=snapshot.terms.revision + 1)
        )
        while more:
            some = min(more, PROMOTED_AT_ONCE) if snapshot.waiting else more
            heads = {"events": [before.id], "lengths": [some if snapshot.waiting else 0]}
            line = [booking(row) for row in await LINES.fetch(connection, **heads)]
            decision = resize.grow(snapshot, some, line=line, at=before.read_at, new_id=uuid7)
            facts = [
                AttributedFact(each.name, each.booking, origin, None) for each in decision.facts
            ]
            await swap(connection, self._engine, self._clock, decision, facts, before.read_at)
            told += facts
            snapshot = decision.after
            more -= some
        return told

    async def _say(
        self,
        connection: Driver,
        before: Event,
        after: Event,
        origin: Origin,
        action: str,
        **more: object,
    ) -> None:
        """Write everything except the places, and record it, with `more`, in the audit trail."""
        details = columns(after.details)
        await REVISE.fetch(
            connection,
            event=after.id,
            folded=folded(after.details.name),
            total=after.total_tickets,
            status=after.terms.status,
            paused=after.terms.paused,
            action=action,
            changes=as_json(_changes(before, after) | more),
            whole=as_json(whole(after)),
            **details,
            **origin._asdict(),
        )
        if after.details != before.details:
            await SAY.fetch(connection, event=after.id, **details)


def require(now: Event, *, allowed: bool) -> None:
    """Raise EventState if the state of the event does not allow the change."""
    if not allowed:
        raise EventState(now.state)


def _snapshot(now: Event) -> Snapshot:
    return Snapshot(
        now.id,
        now.version,
        now.total_tickets,
        now.available_tickets,
        now.waiting_list_count,
        now.terms,
    )


def _changes(before: Event, after: Event) -> dict[str, object]:
    """Return the differences, by the API's names of fields."""
    was, now = said(before), said(after)
    return {name: {"from": was[name], "to": now[name]} for name in now if was[name] != now[name]}
