"""Lists of the bookings of a person, and of an event."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, NamedTuple
from uuid import UUID

import asyncpg
from sqlalchemy.ext.asyncio import AsyncEngine

from ticketing.db.pages import Page, page
from ticketing.db.statements import Statement, driver
from ticketing.identity.repositories.users import NAME
from ticketing.sale.inventory.model import Booking, BookingStatus, Ticket
from ticketing.sale.repositories.held import read
from ticketing.sale.rows import BOOKING, OWES, STATUS, booking


def _place(booking: str) -> str:
    """Return an SQL expression for the position of a row of bookings on its waiting list.

    It counts from the end of the list to which the booking is closer. From the far end, it
    subtracts from the number of bookings that wait.
    """
    line = f"""
        FROM bookings AS line WHERE line.event_id = {booking}.event_id AND line.status = 'waiting'
            AND line.ticket_type_id IS NOT DISTINCT FROM {booking}.ticket_type_id
    """
    return f"""
    (
        SELECT CASE
            WHEN 2 * {booking}.seq < (SELECT min(seq) {line}) + (SELECT max(seq) {line})
            THEN (SELECT count(*) {line} AND line.seq <= {booking}.seq)
            ELSE coalesce(type_waiting[slot + 1], waiting_list_count)
                - (SELECT count(*) {line} AND line.seq > {booking}.seq)
        END
        FROM events
        LEFT JOIN LATERAL (
            SELECT slot FROM ticket_types WHERE ticket_types.id = {booking}.ticket_type_id LIMIT 1
        ) AS types ON true
        WHERE events.id = {booking}.event_id
    )
    """  # noqa: S608 - our own text


OF_USER: Final = Statement(
    f"""
    SELECT {BOOKING}, seq, CASE WHEN status = 'waiting' THEN {_place("bookings")} END AS position
    FROM bookings
    WHERE user_id = :user AND seq < coalesce(CAST(:before AS bigint), 9223372036854775807)
    ORDER BY seq DESC LIMIT :limit
    """  # noqa: S608 - our own text
)
ONE: Final = Statement(
    f"""
    SELECT {BOOKING}, CASE WHEN status = 'waiting' THEN {_place("bookings")} END AS position,
        -- Those of groups, besides one for each booking. Only events with counters have groups.
        CASE WHEN status = 'waiting' THEN (
            SELECT coalesce(sum(quantity - 1), 0) FROM (
                SELECT quantity FROM bookings AS line
                WHERE line.event_id = bookings.event_id AND line.status = 'waiting'
                    AND line.quantity > 1 AND line.ticket_type_id = bookings.ticket_type_id
                    AND line.seq < bookings.seq
                OFFSET 0
            ) AS groups
        ) END AS more_places_ahead,
        (
            SELECT min(id) FROM (
                SELECT id FROM ticket_types WHERE ticket_types.event_id = bookings.event_id OFFSET 0
            ) AS types
        ) AS first_type,
        (SELECT code FROM codes WHERE codes.id = bookings.code_id) AS code
    FROM bookings WHERE id = :booking
    """  # noqa: S608 - our own text
)

# The bookings ahead of the page are counted once per type. Within the page, positions are
# consecutive.
OF_EVENT: Final = Statement(
    f"""
    WITH page AS (
        SELECT {BOOKING}, seq FROM bookings
        WHERE event_id = :event AND seq > coalesce(CAST(:after AS bigint), 0)
            AND (CAST(:status AS text) IS NULL OR {STATUS} = CAST(:status AS text))
            AND (NOT CAST(:unpaid AS boolean) OR {OWES} < 0)
        ORDER BY seq LIMIT :limit
    ), heads AS (
        SELECT DISTINCT ON (ticket_type_id) * FROM page WHERE status = 'waiting'
        ORDER BY ticket_type_id, seq
    ), counted AS (
        SELECT ticket_type_id, {_place("heads")} AS place FROM heads
    )
    SELECT page.*, {NAME} AS username,
        CASE WHEN status = 'waiting' THEN
            row_number() OVER (PARTITION BY status, ticket_type_id ORDER BY seq) - 1 + (
                SELECT place FROM counted
                WHERE counted.ticket_type_id IS NOT DISTINCT FROM page.ticket_type_id
            )
        END AS position
    FROM page ORDER BY seq
    """  # noqa: S608 - our own text
)


_OWNER: Final = "(SELECT organiser_id FROM events WHERE events.id = :event)"
# Those of one person are few. OFFSET makes every plan look up the rows by user.
OF_CUSTOMER: Final = Statement(
    f"""
    WITH page AS (
        SELECT * FROM (
            SELECT {BOOKING}, seq FROM bookings
            WHERE user_id = (
                SELECT user_id FROM (
                    SELECT * FROM customers WHERE external_id = CAST(:external_id AS text) OFFSET 0
                ) AS named
                WHERE organiser_id = {_OWNER}
            )
            OFFSET 0
        ) AS theirs
        WHERE event_id = :event AND seq > coalesce(CAST(:after AS bigint), 0)
            AND (CAST(:status AS text) IS NULL OR {STATUS} = CAST(:status AS text))
            AND (NOT CAST(:unpaid AS boolean) OR {OWES} < 0)
        ORDER BY seq LIMIT :limit
    )
    SELECT page.*, {NAME} AS username,
        CASE WHEN status = 'waiting' THEN {_place("page")} END AS position
    FROM page ORDER BY seq
    """  # noqa: S608 - our own text
)
# Another organiser's customers are none of this one's business.
CUSTOMERS: Final = Statement(
    f"""
    SELECT known.user_id, known.external_id, known.name, known.email
    FROM unnest(CAST(:people AS uuid[])) AS asked(user_id)
    CROSS JOIN LATERAL (
        SELECT user_id, external_id, name, email, organiser_id FROM customers
        WHERE customers.user_id = asked.user_id OFFSET 0
    ) AS known
    WHERE known.organiser_id = {_OWNER}
    """  # noqa: S608 - our own text
)


@dataclass(frozen=True, slots=True)
class Standing:
    """A booking in a list, with its position in the waiting list if it waits."""

    id: UUID
    event_id: int
    user_id: UUID
    status: BookingStatus
    created_at: datetime
    quantity: int
    amount: int
    currency: str | None
    expires_at: datetime | None
    position: int | None


class BookedCustomer(NamedTuple):
    """The data of a customer that the event's owner has."""

    external_id: str
    name: str | None
    email: str | None


@dataclass(frozen=True, slots=True)
class Attendance(Standing):
    """A booking in an event's list.

    `username` is None without an account. `customer` is None unless the person is a customer of the
    event's owner.
    """

    username: str | None
    customer: BookedCustomer | None


@dataclass(frozen=True, slots=True)
class Detailed:
    """A booking with its tickets, and its position in the waiting list if it waits."""

    booking: Booking
    position: int | None
    places_ahead: int | None
    """Places for which bookings wait that come first."""
    lines: Mapping[int, int]
    """Places by ticket type."""
    code: str | None
    """The code that it was booked or held with, as its organiser wrote it."""

    @property
    def tickets(self) -> Sequence[Ticket]:
        """All tickets in order. That of a booking without own ones has the id of the booking."""
        booking = self.booking
        had_none = booking.status not in {BookingStatus.BOOKED, BookingStatus.CANCELLED}
        if booking.has_tickets or had_none:
            return booking.tickets
        (kind,) = self.lines
        is_valid = booking.status is BookingStatus.BOOKED
        return [Ticket(booking.id, kind, 1, booking.amount, is_valid)]


class ListingRepository:
    """Lists bookings, with positions in the waiting list."""

    def __init__(self, engine: AsyncEngine) -> None:
        """Work on `engine`."""
        self._engine = engine

    async def one(self, booking_id: UUID) -> Detailed:
        """Return the booking with its tickets. Raises BookingNotFound."""
        async with driver(self._engine) as connection, connection.transaction(readonly=True):
            found = await read(connection, booking_id)
            (row,) = await ONE.fetch(connection, booking=booking_id)
        ahead = None
        if row["position"] is not None:
            ahead = row["position"] - 1 + row["more_places_ahead"]
        lines = _lines(found, row["first_type"])
        return Detailed(found, row["position"], ahead, lines, row["code"])

    async def of_user(self, user_id: UUID, *, before: int | None, limit: int) -> Page[Standing]:
        """Return the person's bookings with keys below `before`, newest first."""
        wanted = {"user": user_id, "before": before, "limit": limit + 1}
        async with driver(self._engine) as connection:
            rows = await OF_USER.fetch(connection, **wanted)
        return page(rows, limit, _standing)

    async def of_event(  # noqa: PLR0913 - the filters
        self,
        event_id: int,
        *,
        status: BookingStatus | None,
        external_id: str | None = None,
        unpaid: bool = False,
        after: int | None,
        limit: int,
    ) -> Page[Attendance]:
        """Return the event's bookings with keys above `after`, oldest first.

        With `external_id`, return only those of this customer of the event's owner, and with
        `unpaid` only those that are not paid in full.
        """
        wanted = {"event": event_id, "status": status, "unpaid": unpaid, "after": after}
        wanted["limit"] = limit + 1
        async with driver(self._engine) as connection:
            if external_id is None:
                rows = await OF_EVENT.fetch(connection, **wanted)
            else:
                rows = await OF_CUSTOMER.fetch(connection, **wanted, external_id=external_id)
            people = list({row["user_id"] for row in rows})
            known = await CUSTOMERS.fetch(connection, event=event_id, people=people)
        customers = {row["user_id"]: BookedCustomer(*list(row)[1:]) for row in known}
        return page(rows, limit, lambda row: _attendance(row, customers))


def _lines(found: Booking, first_type: int) -> Mapping[int, int]:
    """Return the number of places by type: those that it has, waits for, or had."""
    is_over = found.status is BookingStatus.CANCELLED
    kinds = [ticket.type_id for ticket in found.tickets if ticket.is_valid or is_over]
    kinds = kinds or [place.type_id or first_type for place in found.places]
    return Counter(kinds) if kinds else {found.type_id or first_type: found.quantity}


def _standing(row: asyncpg.Record) -> Standing:
    return Standing(**_common(row))


def _attendance(row: asyncpg.Record, customers: Mapping[UUID, BookedCustomer]) -> Attendance:
    customer = customers.get(row["user_id"])
    return Attendance(**_common(row), username=row["username"], customer=customer)


def _common(row: asyncpg.Record) -> dict[str, Any]:
    each = booking(row)
    return {
        "id": each.id,
        "event_id": each.event_id,
        "user_id": each.user_id,
        "status": each.status,
        "created_at": each.created_at,
        "quantity": each.quantity,
        "amount": each.amount,
        "currency": each.currency,
        "expires_at": each.ends_at,
        "position": row["position"],
    }
