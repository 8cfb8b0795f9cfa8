"""The parts of a commit's statement. Each part has its SQL, its columns and its rows.

A part is a common table expression, which later parts may use. `swapped` has the events whose swap
was won. All other parts depend on it, so that they write for these events only.
"""

from collections.abc import Mapping, Sequence
from typing import Final

from ticketing.db.facts import BY_COLUMNS, ORIGIN_TYPES, recorded
from ticketing.sale.commit.commit import Commit
from ticketing.sale.commit.parameters import Row, Rows
from ticketing.sale.commit.shape import Shape


class Part:
    """A part that is in every commit and takes no rows. Subclasses may override both."""

    def is_in(self, shape: Shape) -> bool:
        """Whether a commit of this shape has the part."""
        del shape
        return True

    def sql(self, shape: Shape) -> str:
        """Return the SQL of the part."""
        raise NotImplementedError

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

    _ONE: Final = f"""
        swapped AS (
            UPDATE events SET
                available_tickets = available_tickets - {ROWS.value("taken")},
                waiting_list_count = waiting_list_count + {ROWS.value("joined")},
                version = version + 1
            WHERE id = :swap_event AND revision = :swap_revision AND (
                version = :swap_version
                -- The other condition under which a decision is valid: see Decision.
                OR waiting_list_count = 0 AND available_tickets >= {ROWS.value("needs")}
            )
            RETURNING id, version, total_tickets, available_tickets, waiting_list_count, revision
        )
    """  # noqa: S608 - our own text

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
                version = events.version + 1
            FROM wanted
            WHERE events.id = ANY(ARRAY(SELECT id FROM locked))
                AND events.id = wanted.event
                AND events.revision = wanted.revision
                AND (
                    events.version = wanted.version
                    OR events.waiting_list_count = 0 AND events.available_tickets >= wanted.needs
                )
            RETURNING events.id, events.version, events.total_tickets, events.available_tickets,
                events.waiting_list_count, events.revision
        )
    """

    def sql(self, shape: Shape) -> str:
        """Return the swap of one event, or of many."""
        if not shape.many:
            return self._ONE
        skip = "SKIP LOCKED" if shape.skip else ""
        return self._MANY.format(wanted=self.ROWS.sql(lone=False), skip=skip)

    def parameters(self, commit: Commit, shape: Shape) -> Mapping[str, object]:
        """Return the conditions of each decision and how it changes the event."""
        rows: Sequence[Row] = [
            (
                each.before.event_id,
                each.before.terms.revision,
                each.before.version,
                each.taken,
                each.joined,
                each.needs,
            )
            for each in commit.decisions
        ]
        return self.ROWS.parameters(rows, lone=not shape.many)


class Change(Part):
    """New statuses of existing bookings. If one booking is not as it was read, all is undone."""

    ROWS: Final = Rows(
        "changed", {"id": "uuid", "event": "bigint", "was": "text", "status": "text"}
    )
    FOUND: Final = """
        1 / CASE
            WHEN (SELECT count(*) FROM changes) = (
                SELECT count(*) FROM unnest(CAST(:changed_event AS bigint[])) AS of(event)
                JOIN swapped ON swapped.id = of.event
            ) THEN 1 ELSE 0
        END AS found
    """
    """A column that divides by zero unless each booking is as it was read. This undoes the commit.

    A booking differs if its row was restored or removed by hand while the commit waited for a lock.
    """

    def is_in(self, shape: Shape) -> bool:
        """Whether a booking is changed."""
        return shape.changes

    def sql(self, shape: Shape) -> str:
        """Return the update."""
        del shape
        return f"""
            changes AS (
                UPDATE bookings SET status = changed.status
                FROM {self.ROWS.sql(lone=False)} JOIN swapped ON swapped.id = changed.event
                WHERE bookings.id = ANY(CAST(:changed_id AS uuid[])) AND bookings.id = changed.id
                    -- A trigger refuses bookings that were cancelled meanwhile.
                    AND bookings.status IN (changed.was, 'cancelled')
                RETURNING bookings.id
            )
        """  # noqa: S608 - our own text

    def parameters(self, commit: Commit, shape: Shape) -> Mapping[str, object]:
        """Return the bookings and their new statuses."""
        del shape
        rows: Sequence[Row] = [
            (booking_id, each.before.event_id, change.was, change.to)
            for each in commit.decisions
            for booking_id, change in each.changes.items()
        ]
        return self.ROWS.parameters(rows, lone=False)


class Facts(Part):
    """The changes of bookings, for the parts that insert and record them."""

    ROWS: Final = Rows(
        "fact",
        {
            "name": "text",
            "booking_id": "uuid",
            "user_id": "uuid",
            "inserted_as": "text",
            **ORIGIN_TYPES,
        },
    )
    OF_MANY: Final = Rows("fact", {**ROWS.columns, "event": "bigint"})

    def sql(self, shape: Shape) -> str:
        """Return the facts of the events whose swap was won."""
        rows, of_event = (
            (self.OF_MANY, "swapped.id = fact.event") if shape.many else (self.ROWS, "true")
        )
        return f"""
            facts AS MATERIALIZED (
                SELECT swapped.id AS event_id, fact.*
                FROM {rows.sql(lone=shape.lone)} JOIN swapped ON {of_event}
            )
        """  # noqa: S608 - our own text

    def parameters(self, commit: Commit, shape: Shape) -> Mapping[str, object]:
        """Return the facts in the columns of ROWS or OF_MANY."""
        if shape.many:
            of_many: Sequence[Row] = [
                (name, booking.id, booking.user_id, inserted_as, *origin, booking.event_id)
                for name, booking, origin, inserted_as in commit.facts
            ]
            return self.OF_MANY.parameters(of_many, lone=False)
        rows: Sequence[Row] = [
            (name, booking.id, booking.user_id, inserted_as, *origin)
            for name, booking, origin, inserted_as in commit.facts
        ]
        return self.ROWS.parameters(rows, lone=shape.lone)


class Insert(Part):
    """New bookings."""

    # If a person cancels and books again in one batch, the change must free the unique index first.
    _CHANGES_FIRST: Final = "AND (SELECT count(*) FROM changes) >= 0"

    def sql(self, shape: Shape) -> str:
        """Return the insert."""
        return f"""
            inserted AS (
                INSERT INTO bookings (id, event_id, user_id, status, created_at)
                SELECT booking_id, event_id, user_id, inserted_as, CAST(:at AS timestamptz)
                FROM facts
                WHERE inserted_as IS NOT NULL {self._CHANGES_FIRST if shape.changes else ""}
                ORDER BY place
            )
        """  # noqa: S608 - our own text

    def parameters(self, commit: Commit, shape: Shape) -> Mapping[str, object]:
        """Return the time of the decisions."""
        del shape
        return {"at": commit.at}


class Trail(Part):
    """The trail records of the bookings' changes."""

    def sql(self, shape: Shape) -> str:
        """Return the insert."""
        del shape
        return recorded(
            "'booking.' || name",
            of="facts ORDER BY place",
            event="event_id",
            subject="user_id",
            details="jsonb_build_object('bookingId', booking_id)",
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
    Facts(),
    Insert(),
    Trail(),
    Store(),
    Note(),
)
"""All parts, in the order of the statement."""
