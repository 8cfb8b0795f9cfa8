"""Everybody who has a ticket of an event, in one snapshot, however many there are."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

import asyncpg
from sqlalchemy.ext.asyncio import AsyncEngine

from ticketing.db.statements import Driver, Statement, driver
from ticketing.door.repositories.tickets import HAS_ONE
from ticketing.errors import Busy, EventNotFound
from ticketing.sale.folding import folded
from ticketing.sale.inventory.model import TicketStatus

AT_ONCE: Final = 200
"""Tickets that are read at a time, so that a worker needs little memory and never pauses long."""
NAMES_AT_ONCE: Final = 2_000
"""Bookings whose names are compared with a text at a time."""
PATIENCE: Final = 10.0
"""Seconds that an export waits for another one of the same worker."""

EVENT: Final = Statement("SELECT now() AS at, organiser_id FROM events WHERE id = :event")
TYPES: Final = Statement("SELECT id, name FROM ticket_types WHERE event_id = :event")


def _page(bookings: str) -> Statement:
    # Bookings that never had places have no tickets, and are read to get on.
    return Statement(
        f"""
        SELECT page.seq, coalesce(own.ordinal, 0) AS ordinal, own.id
        FROM (
            {bookings}
            -- The first may be the last of the page before, which may have more tickets.
            WHERE event_id = CAST(:event AS bigint) AND seq >= CAST(:seq AS bigint)
            ORDER BY seq LIMIT CAST(:limit AS bigint) + 1
        ) AS page
        LEFT JOIN LATERAL (
            SELECT id, CAST(ordinal AS integer) AS ordinal, ticket_type_id, status FROM tickets
            WHERE tickets.booking_id = page.id
            UNION ALL
            SELECT bookings.id, 1, CAST(:first AS bigint),
                CASE bookings.status WHEN 'booked' THEN 'valid' ELSE 'cancelled' END
            FROM (SELECT page.*) AS bookings WHERE {HAS_ONE}
        ) AS own ON coalesce(own.ticket_type_id = CAST(:type AS bigint), true)
            AND (CAST(:status AS text) IS NULL OR CAST(:status AS text) = CASE page.status
                WHEN 'booked' THEN own.status ELSE 'cancelled' END)
        WHERE (page.seq, coalesce(own.ordinal, 0))
            > (CAST(:seq AS bigint), CAST(:ordinal AS integer))
        ORDER BY page.seq, coalesce(own.ordinal, 0) LIMIT CAST(:limit AS bigint)
        """  # noqa: S608 - our own text
    )


PAGE: Final = _page("SELECT * FROM bookings")
PAGE_OF: Final = _page(
    """
    SELECT theirs.* FROM unnest(CAST(:bookings AS uuid[])) AS asked(id)
    CROSS JOIN LATERAL (SELECT * FROM bookings WHERE bookings.id = asked.id LIMIT 1) AS theirs
    """
)
_OF_PERSON: Final = """
    concat_ws(E'\\n', (
        SELECT concat_ws(E'\\n', name, email, external_id) FROM (
            SELECT * FROM customers WHERE customers.user_id = {person} OFFSET 0
        ) AS theirs WHERE organiser_id = CAST(:organiser AS uuid)
    ), (
        SELECT username FROM users WHERE users.id = {person} AND password_hash IS NOT NULL LIMIT 1
    ))
"""
# All names that any ticket of a booking may have. So only those that may match are read whole.
NAMES: Final = Statement(
    f"""
    SELECT page.seq, page.id, {_OF_PERSON.format(person="page.user_id")} AS names, (
        SELECT string_agg(
            concat_ws(E'\\n', name, email, {_OF_PERSON.format(person="holder_id")}), E'\\n'
        ) FROM ticket_details WHERE ticket_details.booking_id = page.id
    ) AS more_names
    FROM (
        SELECT id, seq, user_id FROM bookings
        WHERE event_id = :event AND seq > CAST(:seq AS bigint)
        ORDER BY seq LIMIT CAST(:limit AS bigint)
    ) AS page
    ORDER BY page.seq
    """  # noqa: S608 - our own text
)
TICKETS: Final = Statement(
    """
    SELECT asked.id, booked.id AS booking_id, own.ticket_type_id AS type_id,
        coalesce(own.ordinal, 1) AS ordinal,
        booked.status = 'booked' AND coalesce(own.status, 'valid') = 'valid' AS is_valid,
        coalesce(details.name, customer.name, account.username) AS name,
        coalesce(details.email, customer.email) AS email,
        coalesce(details.holder_id, booked.user_id) AS holder_id,
        account.username, customer.external_id,
        coalesce(own.amount, booked.amount) AS amount, booked.currency, booked.created_at,
        (
            SELECT min(happened_at) FROM (
                SELECT * FROM check_ins
                WHERE ticket_id = asked.id AND passed AND undone_at IS NULL OFFSET 0
            ) AS passages WHERE direction = 'in'
        ) AS entered_at
    FROM unnest(CAST(:ids AS uuid[])) WITH ORDINALITY AS asked(id, place)
    LEFT JOIN LATERAL (
        SELECT * FROM tickets WHERE tickets.id = asked.id LIMIT 1
    ) AS own ON true
    CROSS JOIN LATERAL (
        SELECT * FROM bookings WHERE bookings.id = coalesce(own.booking_id, asked.id) LIMIT 1
    ) AS booked
    LEFT JOIN LATERAL (
        SELECT * FROM ticket_details WHERE ticket_details.ticket_id = asked.id LIMIT 1
    ) AS details ON true
    LEFT JOIN LATERAL (
        SELECT * FROM customers
        WHERE customers.user_id = coalesce(details.holder_id, booked.user_id) OFFSET 0
    ) AS customer ON customer.organiser_id = CAST(:organiser AS uuid)
    LEFT JOIN LATERAL (
        SELECT username FROM users
        WHERE users.id = coalesce(details.holder_id, booked.user_id)
            AND password_hash IS NOT NULL
        LIMIT 1
    ) AS account ON true
    ORDER BY asked.place
    """
)


@dataclass(frozen=True, slots=True)
class Attendee:
    """A ticket and its holder."""

    ticket_id: UUID
    booking_id: UUID
    type_id: int
    type_name: str
    ordinal: int
    status: TicketStatus
    name: str | None
    email: str | None
    external_id: str | None
    username: str | None
    holder_id: UUID
    amount: int
    currency: str | None
    booked_at: datetime
    entered_at: datetime | None
    """When somebody came in with it for the first time."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Some of the attendees of an event, as they were at one time."""

    at: datetime
    attendees: Sequence[Attendee]


class AttendeeRepository:
    """Reads attendees."""

    def __init__(self, engine: AsyncEngine) -> None:
        """Work on `engine`."""
        self._engine = engine
        # Each export takes a connection for seconds, and requests need the others.
        self.turn = asyncio.Lock()

    async def every(
        self,
        event_id: int,
        *,
        type_id: int | None = None,
        status: TicketStatus | None = None,
        text: str | None = None,
    ) -> AsyncGenerator[Snapshot, None]:
        """Yield all tickets of the event in pages, in the order in which they were booked.

        With `text`, only those whose holder has it in a name, an address or an id, folded. All
        pages are of one snapshot, so take them fast: its transaction is open meanwhile. Raises
        EventNotFound, or Busy if other exports take too long.
        """
        try:
            await asyncio.wait_for(self.turn.acquire(), PATIENCE)
        except TimeoutError:
            raise Busy from None
        try:
            async with (
                driver(self._engine) as connection,
                connection.transaction(isolation="repeatable_read", readonly=True),
            ):
                found = await EVENT.fetch(connection, event=event_id)
                if not found:
                    raise EventNotFound
                (event,) = found
                rows = await TYPES.fetch(connection, event=event_id)
                types = {row["id"]: row["name"] for row in rows}
                wanted = {"event": event_id, "first": min(types), "type": type_id, "status": status}
                part = None if text is None else folded(text)
                read = _Read(connection, types, event["organiser_id"], wanted)
                async for tickets in read.every() if part is None else read.named(part):
                    yield Snapshot(event["at"], tickets)
                yield Snapshot(event["at"], [])
        finally:
            self.turn.release()


@dataclass(frozen=True)
class _Read:
    """An export that is under way."""

    connection: Driver
    types: dict[int, str]
    organiser_id: UUID
    wanted: dict[str, object]

    async def every(
        self, bookings: Sequence[UUID] | None = None
    ) -> AsyncGenerator[Sequence[Attendee], None]:
        """Yield the tickets of these bookings, or of all, in pages."""
        page_of = PAGE if bookings is None else PAGE_OF
        seq = ordinal = 0
        while page := await page_of.fetch(
            self.connection,
            **self.wanted,
            bookings=bookings,
            seq=seq,
            ordinal=ordinal,
            limit=AT_ONCE,
        ):
            seq, ordinal = page[-1]["seq"], page[-1]["ordinal"]
            ids = [row["id"] for row in page if row["id"] is not None]
            yield await _read(self.connection, ids, self.types, self.organiser_id)

    async def named(self, part: str) -> AsyncGenerator[Sequence[Attendee], None]:
        """Yield the tickets whose holder has this folded text in a name, an address or an id."""
        asked = {"event": self.wanted["event"], "organiser": self.organiser_id}
        seq = 0
        while rows := await NAMES.fetch(self.connection, **asked, seq=seq, limit=NAMES_AT_ONCE):
            seq = rows[-1]["seq"]
            some = [row["id"] for row in rows if _has(part, row["names"], row["more_names"])]
            # A page without a match too, so that the response begins soon.
            yield []
            async for tickets in self.every(some):
                yield [
                    each
                    for each in tickets
                    if _has(part, each.name, each.email, each.username, each.external_id)
                ]


def _has(part: str, *told: str | None) -> bool:
    return any(part in folded(each) for each in told if each)


async def _read(
    connection: Driver, ids: Sequence[UUID], types: dict[int, str], organiser_id: UUID
) -> Sequence[Attendee]:
    if not ids:
        return []
    rows = await TICKETS.fetch(connection, ids=ids, organiser=organiser_id)
    return [_attendee(row, types) for row in rows]


def _attendee(row: asyncpg.Record, types: dict[int, str]) -> Attendee:
    type_id = row["type_id"] or min(types)
    return Attendee(
        row["id"],
        row["booking_id"],
        type_id,
        types[type_id],
        row["ordinal"],
        TicketStatus.VALID if row["is_valid"] else TicketStatus.CANCELLED,
        row["name"],
        row["email"],
        row["external_id"],
        row["username"],
        row["holder_id"],
        row["amount"],
        row["currency"],
        row["created_at"],
        row["entered_at"],
    )
