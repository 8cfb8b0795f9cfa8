"""A commit: what was decided about many bookings, in one statement, and what became of it."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from typing import Final, NamedTuple
from uuid import UUID

import asyncpg
from sqlalchemy.ext.asyncio import AsyncEngine

from ticketing.database import Driver, Statement, driver
from ticketing.errors import OutcomeUnknown, Unavailable
from ticketing.idempotency import Answer, Intent
from ticketing.inventory import Booking, BookingStatus, Decision, Snapshot
from ticketing.origin import Origin
from ticketing.tables import uuid7

UNCERTAIN: Final = (
    OSError,  # TimeoutError is one
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,
    asyncpg.InternalServerError,
)
"""After these a statement may have been committed, or still be."""

PATIENCE: Final = 10.0
"""Seconds in which the database must come back to be asked."""
PAUSE: Final = 0.1

_SWAP_ONE: Final = """
    swapped AS (
        UPDATE events SET
            available_tickets = available_tickets - CAST(:swap_taken AS bigint),
            waiting_list_count = waiting_list_count + CAST(:swap_joined AS bigint),
            version = version + 1
        WHERE id = :swap_event AND (
            version = :swap_version
            -- What else a decision may rest on: see Decision.
            OR waiting_list_count = 0 AND available_tickets >= CAST(:swap_needs AS bigint)
        )
        RETURNING id, version, total_tickets, available_tickets, waiting_list_count
    )
    """

# Rows of `events` are locked in id order, so that two processes can't deadlock.
_SWAP_MANY: Final = """
    wanted AS (
        SELECT * FROM unnest(
            CAST(:swap_event AS bigint[]), CAST(:swap_version AS bigint[]),
            CAST(:swap_taken AS bigint[]), CAST(:swap_joined AS bigint[]),
            CAST(:swap_needs AS bigint[])
        ) AS wanted(id, version, taken, joined, needs)
    ), locked AS (
        SELECT id FROM events WHERE id = ANY(CAST(:swap_event AS bigint[]))
        ORDER BY id FOR UPDATE {skip}
    ), swapped AS (
        UPDATE events SET
            available_tickets = events.available_tickets - wanted.taken,
            waiting_list_count = events.waiting_list_count + wanted.joined,
            version = events.version + 1
        FROM wanted
        WHERE events.id = ANY(ARRAY(SELECT id FROM locked))
            AND events.id = wanted.id
            AND (
                events.version = wanted.version
                OR events.waiting_list_count = 0 AND events.available_tickets >= wanted.needs
            )
        RETURNING events.id, events.version, events.total_tickets, events.available_tickets,
            events.waiting_list_count
    )
    """

_CHANGE: Final = """
    , changed AS (
        UPDATE bookings SET status = change.status
        FROM unnest(
            CAST(:changed_id AS uuid[]), CAST(:changed_event AS bigint[]),
            CAST(:changed_status AS text[])
        ) AS change(id, event_id, status)
        JOIN swapped ON swapped.id = change.event_id
        WHERE bookings.id = ANY(CAST(:changed_id AS uuid[])) AND bookings.id = change.id
        RETURNING bookings.id
    )
    """
# Who cancels and books again in one batch frees the unique index before.
_CHANGES_FIRST: Final = "AND (SELECT count(*) FROM changed) >= 0"

_KEEP: Final = """
    , kept AS (
        INSERT INTO idempotency_keys (owner, key, digest, status, body)
        SELECT kept.owner, kept.key, kept.digest, kept.status, kept.body
        FROM {kept} JOIN swapped ON swapped.id = kept.event
    )
    """

_COMMIT: Final = """
    WITH {swap} {change}, facts AS MATERIALIZED (
        SELECT swapped.id AS event_id, fact.* FROM {facts} JOIN swapped ON {of_event}
    ), inserted AS (
        INSERT INTO bookings (id, event_id, user_id, status, created_at)
        SELECT booking_id, event_id, user_id, inserted_as, CAST(:at AS timestamptz) FROM facts
        WHERE inserted_as IS NOT NULL {changes_first}
        ORDER BY place
    ), recorded AS (
        INSERT INTO audit_records
            (action, event_id, subject, details, actor, credential, address, request_id)
        SELECT 'booking.' || name, event_id, user_id, jsonb_build_object('bookingId', booking_id),
            actor, credential, address, request_id
        FROM facts ORDER BY place
    ) {keep}, noted AS (
        INSERT INTO commits (id, events) VALUES (:commit, ARRAY(SELECT id FROM swapped))
    )
    SELECT * FROM swapped
    """

_SWAP_NAMES: Final = ("event", "version", "taken", "joined", "needs")
_CHANGED_NAMES: Final = ("id", "event", "status")
_FACT: Final = {
    "name": "text",
    "booking_id": "uuid",
    "user_id": "uuid",
    "inserted_as": "text",
    "actor": "uuid",
    "credential": "uuid",
    "address": "text",
    "request_id": "text",
}
_OF_ONE_OF_MANY: Final = {"event": "bigint"}
_KEPT: Final = {
    "event": "bigint",
    "owner": "uuid",
    "key": "text",
    "digest": "bytea",
    "status": "smallint",
    "body": "bytea",
}


def _rows(table: str, columns: Mapping[str, str], *, lone: bool) -> str:
    """Return a table of these columns and `place`, from parameters: arrays, or if `lone` values.

    To put values into arrays and take them out again would cost a single booking 5% of its time.
    """
    array = "" if lone else "[]"
    given = ", ".join(f"CAST(:{table}_{name} AS {kind}{array})" for name, kind in columns.items())
    rows = f"(VALUES ({given}, 1))" if lone else f"unnest({given}) WITH ORDINALITY"
    return f"{rows} AS {table}({', '.join(columns)}, place)"


@cache
def statement(
    *,
    many: bool = False,
    changes: bool = False,
    answers: bool = False,
    skip: bool = False,
    lone: bool = False,
) -> Statement:
    """Return the statement that swaps one event or `many`, with the parts that there is work for.

    A `lone` one is for a single booking, and has values where the others have arrays.

    One statement is one transaction and one round trip, whatever the size of the batch. A part
    without work would cost more than a booking does. With `skip` it does without the events that
    somebody else has locked. It returns the inventory of each event whose swap was won.
    """
    return Statement(
        _COMMIT.format(
            swap=_SWAP_MANY.format(skip="SKIP LOCKED" if skip else "") if many else _SWAP_ONE,
            change=_CHANGE if changes else "",
            changes_first=_CHANGES_FIRST if changes else "",
            facts=_rows("fact", _FACT | _OF_ONE_OF_MANY if many else _FACT, lone=lone),
            of_event="swapped.id = fact.event" if many else "true",
            keep=_KEEP.format(kept=_rows("kept", _KEPT, lone=lone)) if answers else "",
        )
    )


class Fact(NamedTuple):
    """What became of a booking: its status, or `promoted`; and whose doing it was.

    `inserted_as` is the status with which it is inserted, if it was not there before.
    """

    name: str
    booking: Booking
    origin: Origin
    inserted_as: BookingStatus | None


class Kept(NamedTuple):
    """The answer to an intention, to be kept if the event's swap is won."""

    event_id: int
    intent: Intent
    answer: Answer


@dataclass(frozen=True, slots=True)
class Commit:
    """What is written together, each decision if it is still good."""

    decisions: Sequence[Decision]
    facts: Sequence[Fact]
    kept: Sequence[Kept]
    at: datetime
    id: UUID = field(default_factory=uuid7)

    async def write(self, connection: Driver, engine: AsyncEngine) -> Mapping[int, Snapshot | None]:
        """Write it, and return the events whose decision was good, with their inventories.

        None stands for one that is not known, for the connection was lost; then `engine` was asked
        what had become of the commit. Raises OutcomeUnknown if it did not say.
        """
        changes = any(each.changes for each in self.decisions)
        parts = {
            "many": len(self.decisions) > 1,
            "changes": changes,
            "answers": bool(self.kept),
            "lone": len(self.facts) == 1 and not changes,
        }
        parameters = self._parameters(**parts)
        try:
            try:
                rows = await statement(**parts).fetch(connection, **parameters)
            except asyncpg.LockNotAvailableError:
                # Somebody holds one of the events for long: the others need not wait.
                if len(self.decisions) == 1:
                    return {}
                rows = await statement(**parts, skip=True).fetch(connection, **parameters)
        except UNCERTAIN:
            connection.terminate()
            return dict.fromkeys(await settle(engine, self.id))
        return {row["id"]: snapshot(row) for row in rows}

    def _parameters(
        self, *, many: bool, changes: bool, answers: bool, lone: bool
    ) -> dict[str, object]:
        swaps = [
            (each.before.event_id, each.before.version, each.taken, each.joined, each.needs)
            for each in self.decisions
        ]
        rows = [
            (name, booking.id, booking.user_id, inserted_as, *origin)  # As in _FACT.
            for name, booking, origin, inserted_as in self.facts
        ]
        given: dict[str, object] = {"commit": self.id, "at": self.at}
        given |= _columns("swap", _SWAP_NAMES, swaps, lone=not many)
        given |= _columns("fact", _FACT, rows, lone=lone)
        if many:
            given["fact_event"] = [fact.booking.event_id for fact in self.facts]
        if changes:
            changed = [
                (booking_id, each.before.event_id, status)
                for each in self.decisions
                for booking_id, status in each.changes.items()
            ]
            given |= _columns("changed", _CHANGED_NAMES, changed, lone=False)
        if answers:
            kept = [
                (event_id, intent.owner, intent.key, intent.digest, answer.status, answer.body)
                for event_id, intent, answer in self.kept
            ]
            given |= _columns("kept", _KEPT, kept, lone=lone)
        return given


def _columns(
    table: str, names: Iterable[str], rows: Sequence[tuple[object, ...]], *, lone: bool
) -> dict[str, object]:
    """Return the parameters of a table: of each column its values, or if `lone` the only one."""
    columns = rows[0] if lone else zip(*rows, strict=True)
    return {f"{table}_{name}": each for name, each in zip(names, columns, strict=True)}


def snapshot(row: asyncpg.Record) -> Snapshot:
    """Return the inventory in a row of `events`."""
    return Snapshot(
        row["id"],
        row["version"],
        row["total_tickets"],
        row["available_tickets"],
        row["waiting_list_count"],
    )


# Every commit writes its own id. So whoever writes it first, the commit or this, has the last
# word: a backend that hangs with the statement unread can't carry it out years later.
GIVE_UP: Final = Statement(
    "INSERT INTO commits (id) VALUES (:commit) ON CONFLICT (id) DO NOTHING RETURNING id"
)
WON: Final = Statement("SELECT events FROM commits WHERE id = :commit")

# The ids begin with the time (RFC 9562). After an hour nobody asks any more.
CLEAN: Final = Statement(
    """
    DELETE FROM commits WHERE id < CAST(
        lpad(to_hex(CAST(extract(epoch FROM now() - make_interval(hours => 1)) * 1000 AS bigint)),
            12, '0') || '00000000000000000000' AS uuid
    )
    """
)


async def settle(engine: AsyncEngine, commit: object) -> set[int]:
    """Return the events that the commit has written, having made sure that it writes no more.

    Raises OutcomeUnknown if the database does not say in time.
    """
    try:
        async with asyncio.timeout(PATIENCE):
            while True:
                try:
                    async with driver(engine) as connection:
                        if await GIVE_UP.fetch(connection, commit=commit):
                            return set()
                        (row,) = await WON.fetch(connection, commit=commit)
                        return set(row["events"])
                except Unavailable:
                    await asyncio.sleep(PAUSE)
    except TimeoutError:
        raise OutcomeUnknown from None


async def clean(engine: AsyncEngine) -> None:
    """Forget the commits of more than an hour ago."""
    async with driver(engine) as connection:
        await CLEAN.fetch(connection)
