"""The parts of a commit's statement. Each part has its SQL, its columns and its rows.

A part is a common table expression, which later parts may use. `swapped` has the events whose swap
was won. All other parts depend on it, so that they write for these events only.
"""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Final
from uuid import UUID

import orjson

from ticketing.db.facts import BY_COLUMNS, ORIGIN_TYPES, recorded
from ticketing.sale.commit.commit import AttributedFact, Commit
from ticketing.sale.commit.parameters import Row, Rows
from ticketing.sale.commit.shape import Shape
from ticketing.sale.inventory.decision import Change as Changed
from ticketing.sale.inventory.decision import Decision
from ticketing.sale.inventory.model import BookingStatus
from ticketing.sale.rows import stored_places, stored_policy, stored_status


class Part:
    """A part that is in every commit and takes no rows. Subclasses may override both."""

    def is_in(self, shape: Shape) -> bool:
        """Whether a commit of this shape has the part."""
        del shape
        return True

    def sql(self, shape: Shape) -> str:
        """Return the SQL of the part."""
        raise NotImplementedError

    def found(self, shape: Shape) -> str:
        """Return a column that undoes the commit if a row is not as it was read, or nothing."""
        del shape
        return ""

    def parameters(self, commit: Commit, shape: Shape) -> Mapping[str, object]:
        """Return the parameters from the commit."""
        del commit, shape
        return {}


class Swap(Part):
    """The compare-and-swap on the version of each event, and on the revision of its terms."""

    ROWS: Final = Rows(
        "swap",
        {
            "event": "bigint",
            "revision": "bigint",
            "version": "bigint",
            "taken": "bigint",
            "joined": "bigint",
            "needs": "bigint",
        },
    )
    # Arrays of different lengths can't be rows of one array. So each is text.
    COUNTED: Final = Rows(
        "swap",
        {
            **ROWS.columns,
            "quota_needs": "text",
            "quota_available": "text",
            "type_taken": "text",
            "type_waiting": "text",
        },
    )
    HOLDS: Final = {"next_expiry": "timestamptz", "knows_expiry": "boolean"}

    _ONE: Final = """
        swapped AS (
            UPDATE events SET
                available_tickets = available_tickets - {taken},
                waiting_list_count = waiting_list_count + {joined},
                version = version + 1 {counters} {expiry}
            WHERE id = :swap_event AND revision = :swap_revision AND (
                version = :swap_version
                -- The other condition under which a decision is valid: see Decision.
                OR waiting_list_count = 0 AND available_tickets >= {needs} {enough}
            )
            RETURNING id, version, total_tickets, available_tickets, waiting_list_count, revision,
                next_expiry {returned}
        )
    """

    # Rows of `events` are locked in order of their ids, so that two processes can't deadlock.
    _MANY: Final = """
        wanted AS (
            SELECT * FROM {wanted}
        ), locked AS (
            SELECT id FROM events WHERE id = ANY(CAST(:swap_event AS bigint[]))
            ORDER BY id FOR UPDATE {skip}
        ), swapped AS (
            UPDATE events SET
                available_tickets = events.available_tickets - wanted.taken,
                waiting_list_count = events.waiting_list_count + wanted.joined,
                version = events.version + 1 {counters} {expiry}
            FROM wanted
            WHERE events.id = ANY(ARRAY(SELECT id FROM locked))
                AND events.id = wanted.event
                AND events.revision = wanted.revision
                AND (
                    events.version = wanted.version
                    OR events.waiting_list_count = 0 AND events.available_tickets >= wanted.needs
                    {enough}
                )
            RETURNING events.id, events.version, events.total_tickets, events.available_tickets,
                events.waiting_list_count, events.revision, events.next_expiry {returned}
        )
    """
    _COUNTERS: Final = ("quota_available", "type_taken", "type_waiting")

    def sql(self, shape: Shape) -> str:
        """Return the swap of one event, or of many."""
        rows = self.rows(shape)
        counters = enough = returned = expiry = ""
        if shape.holds:
            expiry = f""", next_expiry = CASE
                WHEN {self._given("knows_expiry", shape)} THEN {self._given("next_expiry", shape)}
                -- Other commits may have made holds since.
                ELSE least(events.next_expiry, {self._given("next_expiry", shape)})
            END"""
        if shape.counted:
            counters = "".join(
                f", {name} = {self._grown(name, self._given(name, shape))}"
                for name in self._COUNTERS
            )
            enough = f"""AND NOT EXISTS (
                SELECT FROM unnest(
                    events.quota_available, CAST({self._given("quota_needs", shape)} AS bigint[])
                ) AS of(available, needed) WHERE available < needed
            )"""
            returned = "".join(f", events.{name}" for name in self._COUNTERS)
        if not shape.many:
            values = {name: rows.value(name) for name in ("taken", "joined", "needs")}
            return self._ONE.format(
                **values, counters=counters, enough=enough, returned=returned, expiry=expiry
            )
        return self._MANY.format(
            wanted=rows.sql(lone=False),
            skip="SKIP LOCKED" if shape.skip else "",
            counters=counters,
            enough=enough,
            returned=returned,
            expiry=expiry,
        )

    def parameters(self, commit: Commit, shape: Shape) -> Mapping[str, object]:
        """Return the conditions of each decision and how it changes the event."""
        rows: list[Row] = []
        for each in commit.decisions:
            before, needs = each.before, each.needs
            row: Row = (
                before.event_id,
                before.terms.revision,
                before.version,
                each.taken,
                each.joined,
                None if needs is None else needs[0],
            )
            if shape.counted:
                row += (_array(needs and needs[1:]), *self._changes(each))
            if shape.holds:
                row += (each.next_expiry, each.knows_expiry)
            rows.append(row)
        return self.rows(shape).parameters(rows, lone=not shape.many)

    @classmethod
    @cache
    def rows(cls, shape: Shape) -> Rows:
        """Return the columns that a commit of this shape has."""
        rows = cls.COUNTED if shape.counted else cls.ROWS
        return Rows("swap", {**rows.columns, **cls.HOLDS}) if shape.holds else rows

    def _given(self, name: str, shape: Shape) -> str:
        return f"wanted.{name}" if shape.many else self.rows(shape).value(name)

    @staticmethod
    def _grown(name: str, by: str) -> str:
        """Return the SQL of a counter's new array. A plain event has none."""
        return f"""CASE WHEN events.{name} IS NOT NULL THEN ARRAY(
            SELECT was + more
            FROM unnest(events.{name}, CAST({by} AS bigint[])) WITH ORDINALITY AS of(was, more, n)
            ORDER BY n
        ) END"""  # noqa: S608 - our own text

    @staticmethod
    def _changes(decision: Decision) -> Sequence[str | None]:
        counted = decision.counted
        if counted is None:
            return None, None, None
        return _array(counted.available), _array(counted.taken), _array(counted.waiting)


def _array(numbers: Sequence[int] | None) -> str | None:
    return None if numbers is None else f"{{{','.join(map(str, numbers))}}}"


def _found(changed: str, asked: str) -> str:
    """Return a column that divides by zero unless each asked row was changed.

    This undoes the commit. `asked` is the parameter with the events of the rows.
    """
    return f"""
        1 / CASE
            WHEN (SELECT count(*) FROM {changed}) = (
                SELECT count(*) FROM unnest(CAST(:{asked} AS bigint[])) AS of(event)
                JOIN swapped ON swapped.id = of.event
            ) THEN 1 ELSE 0
        END AS found_{changed}
    """  # noqa: S608 - our own text


class Change(Part):
    """New statuses of existing bookings. If one booking is not as it was read, all is undone.

    A booking differs if its row was restored or removed by hand while the commit waited for a lock.
    """

    ROWS: Final = Rows(
        "changed",
        {
            "id": "uuid",
            "event": "bigint",
            "was": "text",
            "status": "text",
            "quantity": "integer",
            "amount": "bigint",
            "type": "bigint",
            "kept": "bigint",
        },
    )
    HOLDS: Final = Rows(
        "changed",
        {
            **ROWS.columns,
            "slot": "smallint",
            "expires_at": "timestamptz",
            "places": "text",
            "currency": "text",
            "refund_policy": "text",
        },
    )
    # Of a cancelled booking the organiser keeps at most what was paid. What comes later is owed.
    _FULL: Final = """, quantity = changed.quantity, amount = changed.amount,
        ticket_type_id = changed.type,
        kept = CASE WHEN changed.kept > 0 THEN
            CASE WHEN changed.status = 'cancelled'
                THEN least(changed.kept, coalesce(paid - coalesce(refunded, 0), 0))
                ELSE changed.kept
            END
        END"""
    _HOLDS: Final = """, slot = changed.slot, expires_at = changed.expires_at,
        places = CAST(changed.places AS jsonb), currency = changed.currency,
        refund_policy = CAST(changed.refund_policy AS jsonb)"""

    def is_in(self, shape: Shape) -> bool:
        """Whether a booking is changed."""
        return shape.changes

    def sql(self, shape: Shape) -> str:
        """Return the update."""
        return f"""
            changes AS (
                UPDATE bookings SET status = changed.status {self._FULL if shape.full else ""}
                    {self._HOLDS if shape.holds else ""}
                FROM {self._rows(shape).sql(lone=False)} JOIN swapped ON swapped.id = changed.event
                WHERE bookings.id = ANY(CAST(:changed_id AS uuid[])) AND bookings.id = changed.id
                    -- A trigger refuses to cancel a booking again.
                    AND bookings.status IN (
                        changed.was, CASE WHEN changed.status = 'cancelled' THEN 'cancelled' END
                    )
                RETURNING bookings.id
            )
        """  # noqa: S608 - our own text

    def found(self, shape: Shape) -> str:
        """Return a column that undoes the commit unless each booking is as it was read."""
        del shape
        return _found("changes", "changed_event")

    def parameters(self, commit: Commit, shape: Shape) -> Mapping[str, object]:
        """Return the bookings and their new statuses."""
        row_of = _held_row if shape.holds else _changed_row
        rows = [
            (booking_id, each.before.event_id, *row_of(change))
            for each in commit.decisions
            for booking_id, change in each.changes.items()
        ]
        return self._rows(shape).parameters(rows, lone=False)

    def _rows(self, shape: Shape) -> Rows:
        return self.HOLDS if shape.holds else self.ROWS


def _changed_row(change: Changed) -> Row:
    was, to = stored_status(change.was), stored_status(change.to)
    return was, to, change.quantity, change.amount, change.type_id, change.kept


def _held_row(change: Changed) -> Row:
    return (
        *_changed_row(change),
        change.slot,
        change.expires_at,
        stored_places(change.places),
        change.currency,
        stored_policy(change.refunds),
    )


class Void(Part):
    """Tickets that are cancelled. If one is not as it was read, all is undone."""

    ROWS: Final = Rows("voided", {"id": "uuid", "event": "bigint"})

    def is_in(self, shape: Shape) -> bool:
        """Whether bookings with tickets are changed."""
        return shape.changes and shape.full

    def sql(self, shape: Shape) -> str:
        """Return the update."""
        del shape
        return f"""
            voids AS (
                UPDATE tickets SET status = 'cancelled'
                FROM {self.ROWS.sql(lone=False)} JOIN swapped ON swapped.id = voided.event
                WHERE tickets.id = ANY(CAST(:voided_id AS uuid[])) AND tickets.id = voided.id
                    AND tickets.status = 'valid'
                RETURNING tickets.id
            )
        """  # noqa: S608 - our own text

    def found(self, shape: Shape) -> str:
        """Return a column that undoes the commit unless each ticket is as it was read."""
        del shape
        return _found("voids", "voided_event")

    def parameters(self, commit: Commit, shape: Shape) -> Mapping[str, object]:
        """Return the tickets."""
        del shape
        rows: Sequence[Row] = [
            (ticket_id, each.before.event_id)
            for each in commit.decisions
            for ticket_id in each.voided
        ]
        return self.ROWS.parameters(rows, lone=False)


class Facts(Part):
    """The changes of bookings, for the parts that insert and record them."""

    COLUMNS: Final = {
        "name": "text",
        "booking_id": "uuid",
        "user_id": "uuid",
        "inserted_as": "text",
        **ORIGIN_TYPES,
    }
    FULL: Final = {
        "slot": "smallint",
        "ticket_type_id": "bigint",
        "quantity": "integer",
        "amount": "bigint",
        "currency": "text",
        "refund_policy": "jsonb",
        "tickets": "text",
        "was": "text",
    }
    HOLDS: Final = {"expires_at": "timestamptz", "places": "text"}
    CODES: Final = {"code_id": "bigint", "code_tickets": "integer"}

    @staticmethod
    @cache
    def rows(shape: Shape) -> Rows:
        """Return the columns that a commit of this shape has."""
        columns = Facts.COLUMNS | (Facts.FULL if shape.full else {})
        columns |= Facts.HOLDS if shape.holds else {}
        columns |= Facts.CODES if shape.codes else {}
        return Rows("fact", columns | {"event": "bigint"} if shape.many else columns)

    def sql(self, shape: Shape) -> str:
        """Return the facts of the events whose swap was won."""
        of_event = "swapped.id = fact.event" if shape.many else "true"
        return f"""
            facts AS MATERIALIZED (
                SELECT swapped.id AS event_id, fact.*
                FROM {self.rows(shape).sql(lone=shape.lone)} JOIN swapped ON {of_event}
            )
        """  # noqa: S608 - our own text

    def parameters(self, commit: Commit, shape: Shape) -> Mapping[str, object]:
        """Return the facts in their columns."""
        rows: Sequence[Row] = [
            (name, booking.id, booking.user_id, inserted_as, *origin)
            for name, booking, origin, inserted_as, _ in commit.facts
        ]
        if shape.full:
            rows = [
                (*row, *_full(fact, commit.left))
                for row, fact in zip(rows, commit.facts, strict=True)
            ]
        if shape.holds:
            rows = [
                (*row, fact.booking.expires_at, stored_places(fact.booking.places))
                for row, fact in zip(rows, commit.facts, strict=True)
            ]
        if shape.codes:
            rows = [
                (*row, fact.booking.code_id, fact.booking.code_tickets or None)
                for row, fact in zip(rows, commit.facts, strict=True)
            ]
        if shape.many:
            rows = [
                (*row, fact.booking.event_id) for row, fact in zip(rows, commit.facts, strict=True)
            ]
        return self.rows(shape).parameters(rows, lone=shape.lone)


def _full(fact: AttributedFact, left: Mapping[UUID, BookingStatus]) -> Row:
    name, booking, _, _, tickets = fact
    gone = orjson.dumps(tickets, default=str).decode() if tickets else None
    return (
        booking.slot,
        booking.type_id,
        booking.quantity,
        booking.amount,
        booking.currency,
        stored_policy(booking.refunds),
        gone,
        left.get(booking.id) if name == BookingStatus.CANCELLED else None,
    )


class Insert(Part):
    """New bookings."""

    # If a person cancels and books again in one batch, the change must free the unique index first.
    _CHANGES_FIRST: Final = "AND (SELECT count(*) FROM changes) >= 0"
    _FULL: Final = ", slot, ticket_type_id, quantity, amount, currency, refund_policy"
    _CODES: Final = ", code_id, code_tickets"

    def sql(self, shape: Shape) -> str:
        """Return the insert."""
        full = self._FULL if shape.full else ""
        into = taken = ""
        if shape.holds:
            into, taken = ", expires_at, places", ", expires_at, CAST(places AS jsonb)"
        if shape.codes:
            into, taken = f"{into}{self._CODES}", f"{taken}{self._CODES}"
        return f"""
            inserted AS (
                INSERT INTO bookings (id, event_id, user_id, status, created_at {full} {into})
                SELECT booking_id, event_id, user_id, inserted_as, CAST(:at AS timestamptz) {full}
                    {taken}
                FROM facts
                WHERE inserted_as IS NOT NULL {self._CHANGES_FIRST if shape.changes else ""}
                ORDER BY place
            )
        """  # noqa: S608 - our own text

    def parameters(self, commit: Commit, shape: Shape) -> Mapping[str, object]:
        """Return the time of the decisions."""
        del shape
        return {"at": commit.at}


class Issue(Part):
    """New tickets."""

    ROWS: Final = Rows(
        "issued",
        {
            "event": "bigint",
            "booking": "uuid",
            "id": "uuid",
            "type": "bigint",
            "ordinal": "smallint",
            "amount": "bigint",
            "status": "text",
            "tax": "bigint",
        },
    )

    def is_in(self, shape: Shape) -> bool:
        """Whether bookings may have tickets."""
        return shape.full

    def sql(self, shape: Shape) -> str:
        """Return the insert."""
        del shape
        return f"""
            tickets_issued AS (
                INSERT INTO tickets (id, booking_id, ticket_type_id, ordinal, amount, status, tax)
                SELECT issued.id, issued.booking, issued.type, issued.ordinal, issued.amount,
                    issued.status, issued.tax
                FROM {self.ROWS.sql(lone=False)} JOIN swapped ON swapped.id = issued.event
                ORDER BY issued.place
            )
        """  # noqa: S608 - our own text

    def parameters(self, commit: Commit, shape: Shape) -> Mapping[str, object]:
        """Return the tickets."""
        del shape
        rows: Sequence[Row] = [
            (
                each.before.event_id,
                booking_id,
                ticket.id,
                ticket.type_id,
                ticket.ordinal,
                ticket.amount,
                "valid" if ticket.is_valid else "cancelled",
                ticket.tax or None,
            )
            for each in commit.decisions
            for booking_id, ticket in each.issued.values()
        ]
        return self.ROWS.parameters(rows, lone=False)


class Redeem(Part):
    """The counters of codes. If a code that bookings use is not as it was read, all is undone."""

    ROWS: Final = Rows(
        "redeemed",
        {
            "id": "bigint",
            "event": "bigint",
            "more_uses": "integer",
            "more_tickets": "integer",
            "was_uses": "integer",
            "was_tickets": "integer",
        },
    )

    def is_in(self, shape: Shape) -> bool:
        """Whether uses of codes are taken or given back."""
        return shape.codes

    def sql(self, shape: Shape) -> str:
        """Return the update."""
        del shape
        return f"""
            redemptions AS (
                UPDATE codes SET uses = codes.uses + redeemed.more_uses,
                    tickets = codes.tickets + redeemed.more_tickets
                FROM {self.ROWS.sql(lone=False)} JOIN swapped ON swapped.id = redeemed.event
                WHERE codes.id = ANY(CAST(:redeemed_id AS bigint[])) AND codes.id = redeemed.id
                    -- Null if uses are only given back.
                    AND coalesce(codes.uses = redeemed.was_uses, true)
                    AND coalesce(codes.tickets = redeemed.was_tickets, true)
                RETURNING codes.id
            )
        """  # noqa: S608 - our own text

    def found(self, shape: Shape) -> str:
        """Return a column that undoes the commit unless each code is as it was read."""
        del shape
        return _found("redemptions", "redeemed_event")

    def parameters(self, commit: Commit, shape: Shape) -> Mapping[str, object]:
        """Return by how much the counters grow."""
        del shape
        rows: Sequence[Row] = [
            (
                code_id,
                each.before.event_id,
                counted.uses,
                counted.tickets,
                counted.read and counted.read.uses,
                counted.read and counted.read.tickets,
            )
            for each in commit.decisions
            for code_id, counted in each.redeemed.items()
        ]
        return self.ROWS.parameters(rows, lone=False)


class Trail(Part):
    """The trail records of the bookings' changes."""

    _FULL: Final = """jsonb_strip_nulls(jsonb_build_object(
        'bookingId', booking_id, 'quantity', quantity, 'ticketTypeId', ticket_type_id,
        'amount', nullif(amount, 0), 'currency', currency, 'ticketIds', CAST(tickets AS jsonb),
        'was', was {holds} {codes}
    ))"""

    def sql(self, shape: Shape) -> str:
        """Return the insert."""
        return recorded(
            "'booking.' || name",
            of="facts ORDER BY place",
            event="event_id",
            subject="user_id",
            details=self._FULL.format(
                holds=", 'expiresAt', expires_at" if shape.holds else "",
                codes=", 'codeId', code_id" if shape.codes else "",
            )
            if shape.full
            else "jsonb_build_object('bookingId', booking_id)",
            by=BY_COLUMNS,
        )


class Store(Part):
    """The stored responses, which a repeated `Idempotency-Key` returns again."""

    ROWS: Final = Rows(
        "stored",
        {
            "event": "bigint",
            "owner": "uuid",
            "key": "text",
            "digest": "bytea",
            "status": "smallint",
            "body": "bytea",
        },
    )

    def is_in(self, shape: Shape) -> bool:
        """Whether a response is stored."""
        return shape.stores

    def sql(self, shape: Shape) -> str:
        """Return the insert."""
        return f"""
            kept AS (
                INSERT INTO idempotency_keys (owner, key, digest, status, body)
                SELECT stored.owner, stored.key, stored.digest, stored.status, stored.body
                FROM {self.ROWS.sql(lone=shape.lone)} JOIN swapped ON swapped.id = stored.event
            )
        """  # noqa: S608 - our own text

    def parameters(self, commit: Commit, shape: Shape) -> Mapping[str, object]:
        """Return the responses."""
        rows: Sequence[Row] = [
            (event_id, keyed.owner, keyed.key, keyed.digest, response.status, response.body)
            for event_id, keyed, response in commit.stored
        ]
        return self.ROWS.parameters(rows, lone=shape.lone)


class Note(Part):
    """The id of the commit, so that a worker that loses the connection can look it up."""

    def sql(self, shape: Shape) -> str:
        """Return the insert."""
        del shape
        return """
            noted AS (
                INSERT INTO commits (id, events) VALUES (:commit, ARRAY(SELECT id FROM swapped))
            )
        """

    def parameters(self, commit: Commit, shape: Shape) -> Mapping[str, object]:
        """Return the id of the commit."""
        del shape
        return {"commit": commit.id}


PARTS: Final[Sequence[Part]] = (
    Swap(),
    Change(),
    Void(),
    Facts(),
    Insert(),
    Issue(),
    Redeem(),
    Trail(),
    Store(),
    Note(),
)
"""All parts, in the order of the statement."""
