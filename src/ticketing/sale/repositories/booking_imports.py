"""Bookings that an operator imports: all of them or none, decided as every other booking is."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime
from functools import partial
from typing import Any, Final, NamedTuple
from uuid import UUID

import asyncpg
from sqlalchemy.ext.asyncio import AsyncEngine

from ticketing.db.clock import DatabaseClock
from ticketing.db.facts import COMMAND_LINE
from ticketing.db.ids import uuid7
from ticketing.db.statements import Driver, Statement, driver, whole
from ticketing.errors import Busy, SoldOut, TicketingError
from ticketing.identity.repositories.customers import Asked, Found, find_known, find_or_make
from ticketing.ops.progress import Tell
from ticketing.sale.commit.commit import AttributedFact
from ticketing.sale.commit.tell import tell as say
from ticketing.sale.inventory.book import Book
from ticketing.sale.inventory.decision import Decision
from ticketing.sale.inventory.kinds import decide
from ticketing.sale.inventory.model import Reading, Snapshot
from ticketing.sale.inventory.offer import left
from ticketing.sale.repositories.batches import SNAPSHOTS
from ticketing.sale.repositories.events import lock
from ticketing.sale.repositories.held import NOTHING_DUE, read_active, read_due, read_lines
from ticketing.sale.repositories.revisions import swap
from ticketing.sale.rows import HAD_PLACES, Event, snapshot

AT_ONCE: Final = 500
"""Bookings that one statement writes."""

BOOKED_BEFORE: Final = Statement(
    f"""
    SELECT asked.id FROM unnest(CAST(:users AS uuid[])) AS asked(id)
    WHERE EXISTS (
        SELECT FROM (
            SELECT id, event_id, status, expires_at FROM bookings
            WHERE bookings.user_id = asked.id OFFSET 0
        ) AS bookings
        WHERE event_id = CAST(:event AS bigint) AND ({HAD_PLACES})
    )
    """  # noqa: S608 - our own text
)
# The first ticket of a plain booking has the id of the booking.
TICKETS: Final = Statement(
    """
    SELECT asked.id FROM unnest(CAST(:ids AS uuid[])) AS asked(id)
    LEFT JOIN LATERAL (
        SELECT booking_id FROM tickets WHERE tickets.id = asked.id LIMIT 1
    ) AS own ON true
    CROSS JOIN LATERAL (
        SELECT event_id FROM bookings WHERE bookings.id = coalesce(own.booking_id, asked.id) LIMIT 1
    ) AS booked
    WHERE booked.event_id = CAST(:event AS bigint)
    """
)


class NewBooking(NamedTuple):
    """A row of a file: a booking for a customer, or a ticket that the event has already."""

    external_id: str
    name: str | None
    email: str | None
    type_id: int | None
    type_name: str | None
    quantity: int
    ticket_id: UUID | None


class Fault(NamedTuple):
    """What is wrong with a row, by its index, or with all of them together."""

    place: int | None
    field: str
    why: str


class NotImportedError(Exception):
    """Nothing was imported."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        """Keep all that is wrong."""
        super().__init__(f"{len(faults)} faults")
        self.faults = faults


class BookingImportRepository:
    """Imports bookings."""

    def __init__(self, engine: AsyncEngine, clock: DatabaseClock | None = None) -> None:
        """Work on `engine`. `clock` gives the time of decisions."""
        self._engine = engine
        self._clock = clock or DatabaseClock()

    async def import_all(
        self, event_id: int, rows: Sequence[NewBooking], tell: Tell, *, keep: bool
    ) -> int:
        """Book all of these rows at the event, or none, and return how many bookings were made.

        A row is left out if it has a ticket of the event, or if its customer has booked there, also
        if that was cancelled since. The others are decided as bookings by the event's team, but
        the sale need not be open, and none of them waits. It is one transaction, which locks the
        event. Without `keep` nothing stays. Raises NotImportedError, EventNotFound, or Busy.
        """
        async with driver(self._engine) as connection, whole(connection, keep=keep):
            event = await lock(connection, event_id)
            new = await self._unknown(connection, event, rows)
            types = _types(event, new)
            asked = [
                Asked(event.organiser_id, row.external_id, row.name, row.email, COMMAND_LINE)
                for _, row in new
            ]
            found = Found({}, {}, {})
            requests: list[Book] = []
            for start in range(0, len(new), AT_ONCE):
                some = await find_or_make(connection, asked[start : start + AT_ONCE])
                found.add(some)
            for each, (place, row) in zip(asked, new, strict=True):
                lines = [(types[place], row.quantity)]
                book = Book(
                    event_id, found.ids[each.key], uuid7(), lines, by_team=True, imported=True
                )
                requests.append(book)
            try:
                facts = await self._book(connection, event, new, requests, tell)
            except asyncpg.IntegrityConstraintViolationError as error:
                # A customer was erased meanwhile.
                raise Busy from error
        if keep:
            found.tell()
            say(facts)
        return len(new)

    async def _unknown(
        self, connection: Driver, event: Event, rows: Sequence[NewBooking]
    ) -> Sequence[tuple[int, NewBooking]]:
        """Return the rows to book, each with its index. Raises NotImportedError."""
        tickets = [row.ticket_id for row in rows if row.ticket_id is not None]
        found = await TICKETS.fetch(connection, ids=tickets, event=event.id) if tickets else []
        has = {row["id"] for row in found}
        faults = [
            Fault(place, "ticketId", "is no ticket of this event: leave it empty for a new booking")
            for place, row in enumerate(rows)
            if row.ticket_id is not None and row.ticket_id not in has
        ]
        if faults:
            raise NotImportedError(faults)
        new = [(place, row) for place, row in enumerate(rows) if row.ticket_id is None]
        keys = {(event.organiser_id, row.external_id) for _, row in new}
        known = await find_known(connection, keys)
        people = await BOOKED_BEFORE.fetch(connection, users=[*known.values()], event=event.id)
        booked = {row["id"] for row in people}
        return [
            (place, row)
            for place, row in new
            if known.get((event.organiser_id, row.external_id)) not in booked
        ]

    async def _book(
        self,
        connection: Driver,
        event: Event,
        new: Sequence[tuple[int, NewBooking]],
        requests: Sequence[Book],
        tell: Tell,
    ) -> Sequence[AttributedFact]:
        """Decide the requests and write them. Raises NotImportedError with every refusal."""
        (row,) = await SNAPSHOTS.fetch(connection, ids=[event.id])
        now = snapshot(row, event.definitions.offer)
        # All is decided at one time, so that nothing ends between two decisions.
        at = await self._clock.know(connection)
        facts: list[AttributedFact] = []
        # Everything that has ended, also if a row is refused and nothing is written after that.
        while now.next_expiry is not None and now.next_expiry <= at:
            ended = await self._decide(connection, now, (), at)
            facts += await self._write(connection, ended, at)
            now = ended.after
        refused: dict[int, TicketingError] = {}
        for start in range(0, len(requests), AT_ONCE):
            tell(f"{start:,} of {len(requests):,}")
            decision = await self._decide(connection, now, requests[start : start + AT_ONCE], at)
            refused |= {
                start + place: outcome
                for place, outcome in enumerate(decision.outcomes)
                if isinstance(outcome, TicketingError)
            }
            if not refused:
                facts += await self._write(connection, decision, at)
            now = decision.after
        if refused:
            raise NotImportedError(
                [
                    *(
                        Fault(new[place][0], "", error.detail)
                        for place, error in refused.items()
                        if not isinstance(error, SoldOut)
                    ),
                    *_missing(event, now, [e for e in refused.values() if isinstance(e, SoldOut)]),
                ]
            )
        return facts

    async def _decide(
        self, connection: Driver, before: Snapshot, requests: Sequence[Book], at: datetime
    ) -> Decision:
        """Decide requests at the event, which this transaction has locked."""
        known, asked = {before.event_id: before}, {before.event_id: requests}
        active = await read_active(connection, known, asked, requests)
        due = await read_due(connection, known, at)
        lines = await read_lines(connection, known, asked, active, due, at)
        ended, next_due = due.get(before.event_id, NOTHING_DUE)
        reading = Reading(
            active.get(before.event_id, {}), lines.get(before.event_id, ()), ended, next_due
        )
        return decide(before, requests, reading, at=at, new_id=partial(uuid7, at))

    async def _write(
        self, connection: Driver, decision: Decision, at: datetime
    ) -> Sequence[AttributedFact]:
        """Write a decision and return its facts. Raises Busy."""
        facts = [
            AttributedFact(
                fact.name,
                decision.told(fact),
                COMMAND_LINE,
                decision.inserts[fact.booking.id].status if fact.is_new else None,
                fact.tickets,
            )
            for fact in decision.facts
        ]
        await swap(connection, self._engine, self._clock, decision, facts, at)
        return facts


def _types(event: Event, new: Sequence[tuple[int, NewBooking]]) -> dict[int, int | None]:
    """Return the ids of the ticket types of these rows, by index. Raises NotImportedError."""
    by_name: dict[str, list[int]] = defaultdict(list)
    for each in event.definitions.types.values():
        by_name[each.name].append(each.id)
    types: dict[int, int | None] = {}
    faults: list[Fault] = []
    for place, row in new:
        found = [row.type_id]
        if row.type_id is None and row.type_name is not None:
            found = [*by_name[row.type_name]]
        if len(found) != 1:
            many = "several ticket types" if found else "no ticket type"
            faults.append(Fault(place, "ticketType", f"the event has {many} of this name"))
        types[place] = found[0] if found else None
    if faults:
        raise NotImportedError(faults)
    return types


def _missing(event: Event, now: Snapshot, refused: Iterable[SoldOut]) -> Sequence[Fault]:
    """Return how many places are missing of each type, beside what is still left of it."""
    asked: dict[int, int] = defaultdict(int)
    for error in refused:
        found: Any = error.members
        asked[found["ticketTypeId"]] += found["requested"]
    faults = []
    for kind in event.definitions.offer.types.values():
        if wanted := asked.get(kind.id):
            free = now.available
            if now.counters is not None:
                free = left(kind.draws, (now.available, *now.counters.available))
            name = next(e.name for e in event.definitions.types.values() if e.id == kind.id)
            lacking = max(wanted - free, 0)
            why = f"{lacking:,} places of the ticket type {name!r} are missing"
            if not lacking:
                why = f"people wait for the ticket type {name!r}, so its free places are theirs"
            faults.append(Fault(None, "", why))
    return faults
