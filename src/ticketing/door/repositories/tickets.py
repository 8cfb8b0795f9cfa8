"""Tickets as the door knows them: what was booked, and what differs since."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple
from uuid import UUID

import asyncpg
import orjson
from sqlalchemy.ext.asyncio import AsyncEngine

from ticketing.db.facts import Origin, recorded
from ticketing.db.statements import Driver, Statement, driver
from ticketing.errors import (
    Forbidden,
    HolderFixed,
    TicketCancelled,
    TicketNotFound,
    TicketUsed,
    TransferNotFound,
)
from ticketing.identity.credentials import digest, new_token
from ticketing.identity.repositories.customers import Asked, Found, find_or_make
from ticketing.ops import logs
from ticketing.sale.inventory.model import TicketStatus
from ticketing.sale.rows import HAD_PLACES
from ticketing.web.keyed import KeyedRequest
from ticketing.web.repositories.stored_responses import once

OFFERED_FOR: Final = timedelta(days=7)
"""How long a link that passes a ticket on is valid."""

# A booking of one place without a type has no tickets of its own.
HAS_ONE: Final = f"bookings.ticket_type_id IS NULL AND bookings.quantity = 1 AND ({HAD_PLACES})"
TICKETS: Final = Statement(
    f"""
    SELECT asked.id, booked.event_id, booked.id AS booking_id, booked.user_id AS buyer_id,
        booked.seq AS booking_seq,
        coalesce(own.ticket_type_id, (
            SELECT min(types.id) FROM (
                SELECT id FROM ticket_types WHERE ticket_types.event_id = booked.event_id OFFSET 0
            ) AS types
        )) AS type_id,
        coalesce(own.ordinal, 1) AS ordinal,
        booked.status = 'booked' AND coalesce(own.status, 'valid') = 'valid' AS is_valid,
        coalesce(details.generation, 1) AS generation,
        coalesce(details.holder_id, booked.user_id) AS holder_id,
        coalesce(details.name, customer.name, account.username) AS name,
        coalesce(details.email, customer.email) AS email,
        details.valid_from, details.valid_until, details.transfer_hash, details.transfer_until,
        booked.amount > coalesce(booked.paid, 0) - coalesce(booked.refunded, 0)
            - coalesce(booked.kept, 0) AS owes,
        details.name AS own_name, details.email AS own_email, details.holder_id AS passed_to
    FROM unnest(CAST(:ids AS uuid[])) AS asked(id)
    LEFT JOIN LATERAL (
        SELECT * FROM tickets WHERE tickets.id = asked.id LIMIT 1
    ) AS own ON true
    CROSS JOIN LATERAL (
        SELECT * FROM bookings
        WHERE bookings.id = coalesce(own.booking_id, asked.id)
            AND (own.id IS NOT NULL OR ({HAS_ONE}))
        LIMIT 1
    ) AS booked
    LEFT JOIN LATERAL (
        SELECT * FROM ticket_details WHERE ticket_details.ticket_id = asked.id LIMIT 1
    ) AS details ON true
    LEFT JOIN LATERAL (
        SELECT * FROM customers
        WHERE customers.user_id = coalesce(details.holder_id, booked.user_id) OFFSET 0
    ) AS customer ON customer.organiser_id = (
        SELECT organiser_id FROM events WHERE events.id = booked.event_id
    )
    LEFT JOIN LATERAL (
        SELECT username FROM users
        WHERE users.id = coalesce(details.holder_id, booked.user_id)
            AND password_hash IS NOT NULL
        LIMIT 1
    ) AS account ON true
    ORDER BY booked.seq, ordinal
    """  # noqa: S608 - our own text
)
OF_BOOKINGS: Final = Statement(
    f"""
    SELECT coalesce(own.id, booked.id) AS id
    FROM unnest(CAST(:bookings AS uuid[])) AS asked(id)
    CROSS JOIN LATERAL (
        SELECT id, {HAS_ONE} AS has_one FROM bookings WHERE bookings.id = asked.id LIMIT 1
    ) AS booked
    LEFT JOIN LATERAL (
        SELECT id FROM tickets WHERE tickets.booking_id = booked.id OFFSET 0
    ) AS own ON true
    WHERE own.id IS NOT NULL OR booked.has_one
    """  # noqa: S608 - our own text
)
# Everything that changes an event's places or tickets, or lets somebody in, locks its row first.
LOCK: Final = Statement("SELECT id FROM events WHERE id = :event FOR NO KEY UPDATE")
NAMES_UNTIL: Final = Statement(
    """
    SELECT coalesce(doors.names_until, events.starts_at) <= clock_timestamp() AS is_over,
        clock_timestamp() AS now
    FROM events
    LEFT JOIN LATERAL (
        SELECT names_until FROM doors WHERE doors.event_id = events.id LIMIT 1
    ) AS doors ON true
    WHERE events.id = :event
    """
)
USED: Final = Statement(
    "SELECT 1 FROM check_ins WHERE ticket_id = :ticket AND passed AND undone_at IS NULL LIMIT 1"
)
OFFERED: Final = Statement(
    "SELECT ticket_id, booking_id FROM ticket_details WHERE transfer_hash = :hash"
)
PUT: Final = Statement(
    f"""
    WITH put AS (
        INSERT INTO ticket_details (ticket_id, booking_id, generation, holder_id, name, email,
            valid_from, valid_until, transfer_hash, transfer_until)
        VALUES (:ticket, :booking, :generation, :holder, :name, :email, :valid_from, :valid_until,
            :transfer_hash, :transfer_until)
        ON CONFLICT (ticket_id) DO UPDATE SET generation = excluded.generation,
            holder_id = excluded.holder_id, name = excluded.name, email = excluded.email,
            valid_from = excluded.valid_from, valid_until = excluded.valid_until,
            transfer_hash = excluded.transfer_hash, transfer_until = excluded.transfer_until
        RETURNING ticket_id
    ), {
        recorded(
            "CAST(:action AS text)",
            of="put",
            event="CAST(:event AS bigint)",
            subject="CAST(:subject AS uuid)",
            details="CAST(:told AS jsonb)",
        )
    }
    SELECT ticket_id FROM put
    """  # noqa: S608 - our own text
)
# Names that somebody gave to tickets of a person who is gone.
FORGET_HELD: Final = Statement(
    "UPDATE ticket_details SET name = NULL, email = NULL WHERE holder_id = :person"
)
FORGET_BOUGHT: Final = Statement(
    """
    UPDATE ticket_details SET name = NULL, email = NULL
    WHERE holder_id IS NULL AND booking_id = ANY(ARRAY(
        SELECT id FROM (SELECT id FROM bookings WHERE user_id = :person OFFSET 0) AS booked
    ))
    """
)
# Those whose account was deleted while this part was unavailable.
FORGET_DEPARTED: Final = Statement(
    """
    UPDATE ticket_details SET name = NULL, email = NULL FROM bookings, users
    WHERE (ticket_details.name IS NOT NULL OR ticket_details.email IS NOT NULL)
        AND bookings.id = ticket_details.booking_id
        AND users.id = coalesce(ticket_details.holder_id, bookings.user_id)
        AND users.username LIKE '~%'
    """,
    reads_tables="it runs once an hour, and only tickets that were changed have a row",
)


@dataclass(frozen=True, slots=True)
class Ticket:
    """A ticket with its holder: the person of the booking, unless it was passed on."""

    id: UUID
    event_id: int
    booking_id: UUID
    buyer_id: UUID
    type_id: int
    ordinal: int
    is_valid: bool
    generation: int
    holder_id: UUID
    name: str | None
    email: str | None
    valid_from: datetime | None
    valid_until: datetime | None
    owes: bool
    booking_seq: int

    @property
    def status(self) -> TicketStatus:
        """Whether it still admits somebody."""
        return TicketStatus.VALID if self.is_valid else TicketStatus.CANCELLED


# With the fields of a `Ticket` in their order.
KNOWN: Final = Statement(
    f"SELECT {', '.join(Ticket.__slots__)} FROM ({TICKETS.text}) AS known"  # noqa: S608 - our own text
)


class Detail(NamedTuple):
    """The row of a ticket in `ticket_details`, or that of a ticket without one."""

    generation: int
    holder: UUID | None
    name: str | None
    email: str | None
    valid_from: datetime | None
    valid_until: datetime | None
    transfer_hash: bytes | None
    transfer_until: datetime | None


class Offered(NamedTuple):
    """A link that passes a ticket on. It can't be shown again."""

    token: str
    expires_at: datetime


class TicketRepository:
    """Reads tickets and changes their holders."""

    def __init__(self, engine: AsyncEngine) -> None:
        """Work on `engine`."""
        self._engine = engine

    async def get(self, ticket_id: UUID) -> Ticket:
        """Return the ticket. Raises TicketNotFound."""
        async with driver(self._engine) as connection:
            return (await _locked(connection, ticket_id))[0]

    async def of_booking(self, booking_id: UUID) -> Sequence[Ticket]:
        """Return the tickets of the booking in order. A booking that waits has none."""
        async with driver(self._engine) as connection:
            return await read(connection, await of_bookings(connection, [booking_id]))

    async def change(
        self, before: Ticket, changes: Mapping[str, Any], origin: Origin, *, by_team: bool
    ) -> Ticket:
        """Change `name`, `email`, `valid_from` and `valid_until` as far as they are in `changes`.

        Raises TicketCancelled or Forbidden, or HolderFixed if it is too late for anybody but the
        team.
        """
        async with driver(self._engine) as connection, connection.transaction():
            ticket, detail = await self._held(connection, before, by_team=by_team)
            (time,) = await NAMES_UNTIL.fetch(connection, event=ticket.event_id)
            if time["is_over"] and not by_team:
                raise HolderFixed
            changed = detail._replace(**changes)
            told = {"fields": sorted(changes)}
            await _put(connection, ticket, changed, "ticket.changed", told, origin)
            return (await _locked(connection, ticket.id))[0]

    async def reissue(
        self, before: Ticket, origin: Origin, keyed: KeyedRequest | None = None, *, by_team: bool
    ) -> Ticket:
        """Make all codes of the ticket so far invalid. Raises TicketCancelled or Forbidden."""
        async with once(self._engine, keyed) as (connection, keep), connection.transaction():
            ticket, detail = await self._held(connection, before, by_team=by_team)
            changed = _next(detail)
            told = {"generation": changed.generation}
            await _put(connection, ticket, changed, "ticket.reissued", told, origin)
            found = (await _locked(connection, ticket.id))[0]
            await keep(found)
        return found

    async def offer(
        self, before: Ticket, origin: Origin, keyed: KeyedRequest | None = None, *, by_team: bool
    ) -> Offered:
        """Make a link that passes the ticket on once. It replaces an earlier one.

        Raises TicketCancelled, Forbidden or TicketUsed.
        """
        token = new_token()
        async with once(self._engine, keyed) as (connection, keep), connection.transaction():
            ticket, detail = await self._held(connection, before, by_team=by_team)
            await _require_unused(connection, ticket)
            (time,) = await NAMES_UNTIL.fetch(connection, event=ticket.event_id)
            made = Offered(token, time["now"] + OFFERED_FOR)
            changed = detail._replace(transfer_hash=digest(token), transfer_until=made.expires_at)
            await _put(connection, ticket, changed, "ticket.transfer_offered", {}, origin)
            await keep(made)
        return made

    async def offered(self, token: str) -> Ticket:
        """Return the ticket that this link passes on. Raises TransferNotFound."""
        async with driver(self._engine) as connection:
            return await _offered(connection, token)

    async def accept(
        self, token: str, to: UUID | Asked, origin: Origin, keyed: KeyedRequest | None = None
    ) -> Ticket:
        """Pass the ticket on: from now on only the code of its new holder is valid.

        A customer who takes it is made if there is none, unless the ticket stays. Raises
        TransferNotFound, TicketCancelled, TicketUsed or Busy.
        """
        async with once(self._engine, keyed) as (connection, keep), connection.transaction():
            before = await _offered(connection, token)
            made = Found({}, {}, {})
            if isinstance(to, Asked):
                # This may wait for an import of customers, so the event is locked after it.
                made = await find_or_make(connection, [to])
                to = made.ids[to.key]
            ticket, detail = await self._current(connection, before)
            (time,) = await NAMES_UNTIL.fetch(connection, event=ticket.event_id)
            until = detail.transfer_until
            if detail.transfer_hash != digest(token) or until is None or until <= time["now"]:
                raise TransferNotFound
            await _require_unused(connection, ticket)
            changed = _next(detail)._replace(holder=to, name=None, email=None)
            told = {"holderId": str(to), "generation": changed.generation}
            await _put(connection, ticket, changed, "ticket.transferred", told, origin)
            found = (await _locked(connection, ticket.id))[0]
            await keep(found)
        made.tell()
        return found

    async def forget(self, person_id: UUID) -> None:
        """Erase the names that were given to tickets of a person who is gone."""
        async with driver(self._engine) as connection:
            await FORGET_HELD.fetch(connection, person=person_id)
            await FORGET_BOUGHT.fetch(connection, person=person_id)

    async def forget_departed(self) -> None:
        """Do so for all people who are gone."""
        async with driver(self._engine) as connection:
            await FORGET_DEPARTED.fetch(connection)

    async def _current(self, connection: Driver, before: Ticket) -> tuple[Ticket, Detail]:
        """Lock the event, and return the ticket as it is then. Raises TicketCancelled."""
        await LOCK.fetch(connection, event=before.event_id)
        ticket, detail = await _locked(connection, before.id)
        if not ticket.is_valid:
            raise TicketCancelled
        return ticket, detail

    async def _held(
        self, connection: Driver, before: Ticket, *, by_team: bool
    ) -> tuple[Ticket, Detail]:
        """Do so for the holder, or for the team. Raises TicketCancelled.

        Raises Forbidden if it was passed on since the holder was looked up.
        """
        ticket, detail = await self._current(connection, before)
        if not by_team and ticket.holder_id != before.holder_id:
            raise Forbidden
        return ticket, detail


async def read(connection: Driver, ids: Sequence[UUID]) -> Sequence[Ticket]:
    """Return those of these tickets that exist, in the order of their bookings."""
    return [Ticket(*row) for row in await KNOWN.fetch(connection, ids=list(ids))]


async def of_bookings(connection: Driver, bookings: Sequence[UUID]) -> Sequence[UUID]:
    """Return the ids of the tickets of these bookings."""
    return [row["id"] for row in await OF_BOOKINGS.fetch(connection, bookings=list(bookings))]


async def _locked(connection: Driver, ticket_id: UUID) -> tuple[Ticket, Detail]:
    rows = await TICKETS.fetch(connection, ids=[ticket_id])
    if not rows:
        raise TicketNotFound
    (row,) = rows
    return _ticket(row), Detail(
        row["generation"],
        row["passed_to"],
        row["own_name"],
        row["own_email"],
        row["valid_from"],
        row["valid_until"],
        row["transfer_hash"],
        row["transfer_until"],
    )


async def _offered(connection: Driver, token: str) -> Ticket:
    rows = await OFFERED.fetch(connection, hash=digest(token))
    if not rows:
        raise TransferNotFound
    return (await _locked(connection, rows[0]["ticket_id"]))[0]


async def _require_unused(connection: Driver, ticket: Ticket) -> None:
    if await USED.fetch(connection, ticket=ticket.id):
        raise TicketUsed


def _next(detail: Detail) -> Detail:
    """Return the next generation. A link that would pass on the one before is void."""
    return detail._replace(
        generation=detail.generation + 1, transfer_hash=None, transfer_until=None
    )


async def _put(  # noqa: PLR0913, PLR0917 - what is written, and what the trail says of it
    connection: Driver,
    ticket: Ticket,
    detail: Detail,
    action: str,
    told: Mapping[str, object],
    origin: Origin,
) -> None:
    about = {"bookingId": str(ticket.booking_id), "ticketId": str(ticket.id)}
    await PUT.fetch(
        connection,
        ticket=ticket.id,
        booking=ticket.booking_id,
        event=ticket.event_id,
        action=action,
        # The holder so far, who is told that way that it was passed on.
        subject=ticket.holder_id,
        told=orjson.dumps(about | dict(told)).decode(),
        **detail._asdict(),
        **origin._asdict(),
    )
    logs.log.info(action, ticketId=ticket.id, eventId=ticket.event_id)


def _ticket(row: asyncpg.Record) -> Ticket:
    return Ticket(*(row[name] for name in Ticket.__slots__))
