"""Payments and refunds: records of a booking. The money itself moves elsewhere."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final, NamedTuple
from uuid import UUID

import asyncpg
from sqlalchemy.ext.asyncio import AsyncEngine

from ticketing.db.facts import Origin, recorded
from ticketing.db.pages import Page, page
from ticketing.db.statements import Driver, Statement, driver
from ticketing.errors import (
    BookingFree,
    BookingNotFound,
    ReferenceReused,
    RefundExceedsPaid,
    ValidationFailed,
)
from ticketing.ops import logs
from ticketing.sale.details import failure
from ticketing.sale.inventory.model import Booking, BookingStatus
from ticketing.sale.rows import BOOKING, OWES, booking
from ticketing.web.keyed import KeyedRequest
from ticketing.web.repositories.stored_responses import once


class Kind(StrEnum):
    """A record of money."""

    PAYMENT = "payment"
    REFUND = "refund"


TOLD: Final = {Kind.PAYMENT: "payment.recorded", Kind.REFUND: "refund.recorded"}
"""What the trail and the log say of a record."""
MOST_PAID: Final = 10**15
"""The most that can be paid for one booking. Every JSON client reads sums of it exactly."""

# Taken before the row of the booking, as commits do. So commits and other records of money at the
# event wait, and the next statements see what they wrote.
LOCK: Final = Statement("SELECT id FROM events WHERE id = :event FOR NO KEY UPDATE")
NOW: Final = Statement(
    f"""
    SELECT {BOOKING}, clock_timestamp() AS now FROM bookings WHERE id = :booking
    """  # noqa: S608 - our own text
)
KNOWN: Final = Statement(
    """
    SELECT * FROM payments
    WHERE booking_id = :booking AND kind = :kind AND reference = :reference
    """
)


def _record(kind: Kind, total: str) -> Statement:
    return Statement(
        f"""
        WITH made AS (
            INSERT INTO payments (booking_id, kind, reference, amount, paid_at, recorded_at)
            VALUES (:booking, '{kind}', :reference, :amount, :paid_at, :now)
            RETURNING *
        ), booked AS (
            UPDATE bookings SET {total} = coalesce({total}, 0) + made.amount
            FROM made WHERE bookings.id = made.booking_id
            RETURNING bookings.event_id, bookings.user_id, bookings.currency, made.*
        ), {
            recorded(
                f"'{TOLD[kind]}'",
                of="booked",
                event="event_id",
                subject="user_id",
                details="jsonb_build_object('bookingId', booking_id, 'reference', reference,"
                " 'amount', amount, 'currency', currency)",
            )
        }
        SELECT * FROM booked
        """  # noqa: S608 - our own text
    )


RECORD: Final = {
    Kind.PAYMENT: _record(Kind.PAYMENT, "paid"),
    Kind.REFUND: _record(Kind.REFUND, "refunded"),
}
LIST: Final = Statement(
    """
    SELECT payments.* FROM payments
    WHERE booking_id = :booking AND kind = :kind AND seq > coalesce(CAST(:after AS bigint), 0)
    ORDER BY seq LIMIT :limit
    """
)
OWED: Final = Statement(
    f"""
    SELECT {BOOKING}, seq FROM bookings
    WHERE event_id = :event AND seq > coalesce(CAST(:after AS bigint), 0) AND paid > 0
        AND ({OWES}) > 0
    ORDER BY seq LIMIT :limit
    """  # noqa: S608 - our own text
)
TOTALS: Final = Statement(
    f"""
    SELECT max(currency) AS currency, coalesce(sum(paid), 0) AS paid,
        coalesce(sum(refunded), 0) AS refunded,
        coalesce(sum(greatest({OWES}, 0)), 0) AS owed
    FROM bookings WHERE event_id = :event AND paid > 0
    """  # noqa: S608 - our own text
)


@dataclass(frozen=True, slots=True)
class Record:
    """A payment for a booking, or a refund. `paid_at` is None for a refund."""

    reference: str
    amount: int
    currency: str | None
    paid_at: datetime | None
    recorded_at: datetime


class Asked(NamedTuple):
    """A record to make. Without `paid_at`, a payment was made when it is recorded."""

    kind: Kind
    reference: str
    amount: int
    paid_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Owed:
    """A booking whose payer gets money back."""

    booking_id: UUID
    user_id: UUID
    status: BookingStatus
    amount: int
    kept: int
    paid: int
    refunded: int
    owed: int


@dataclass(frozen=True, slots=True)
class Totals:
    """The sums over all bookings of an event."""

    currency: str | None
    paid: int
    refunded: int
    owed: int


class PaymentRepository:
    """Records payments and refunds, and lists what is owed."""

    def __init__(self, engine: AsyncEngine) -> None:
        """Work on `engine`."""
        self._engine = engine

    async def record(
        self, held: Booking, asked: Asked, origin: Origin, keyed: KeyedRequest | None = None
    ) -> tuple[Record, bool]:
        """Record a payment or a refund of the booking. Return it, and whether it is new.

        The same reference again returns the first record. Refunds are never more than what was
        paid. Raises ReferenceReused, RefundExceedsPaid, BookingFree, ValidationFailed, Busy. With
        `keyed`, also raises the errors of `once`.
        """
        async with once(self._engine, keyed) as (connection, keep), connection.transaction():
            found = await self._recorded(connection, held, asked, origin)
            await keep(found)
        record, is_new = found
        if is_new:
            logs.log.info(
                TOLD[asked.kind],
                bookingId=str(held.id),
                eventId=held.event_id,
                amount=record.amount,
                currency=record.currency,
            )
        return found

    async def _recorded(
        self, connection: Driver, held: Booking, asked: Asked, origin: Origin
    ) -> tuple[Record, bool]:
        await LOCK.fetch(connection, event=held.event_id)
        named = {"booking": held.id, "kind": asked.kind, "reference": asked.reference}
        known = await KNOWN.fetch(connection, **named)
        rows = await NOW.fetch(connection, booking=held.id)
        if not rows:
            raise BookingNotFound
        now = booking(rows[0])
        if known:
            first = _of(known[0], now.currency)
            if first.amount != asked.amount:
                raise ReferenceReused(first.amount)
            return first, False
        _check(now, asked)
        at = rows[0]["now"]
        paid_at = (asked.paid_at or at) if asked.kind is Kind.PAYMENT else None
        (row,) = await RECORD[asked.kind].fetch(
            connection,
            booking=held.id,
            reference=asked.reference,
            amount=asked.amount,
            paid_at=paid_at,
            now=at,
            **origin._asdict(),
        )
        return _of(row, now.currency), True

    async def list(
        self, held: Booking, kind: Kind, *, after: int | None, limit: int
    ) -> Page[Record]:
        """Return the booking's payments or refunds with keys above `after`, oldest first."""
        async with driver(self._engine) as connection:
            rows = await LIST.fetch(
                connection, booking=held.id, kind=kind, after=after, limit=limit + 1
            )
        return page(rows, limit, lambda row: _of(row, held.currency))

    async def settlement(
        self, event_id: int, *, after: int | None, limit: int
    ) -> tuple[Page[Owed], Totals]:
        """Return the event's bookings that are owed money, with keys above `after`, and sums."""
        async with (
            driver(self._engine) as connection,
            connection.transaction(isolation="repeatable_read", readonly=True),
        ):
            rows = await OWED.fetch(connection, event=event_id, after=after, limit=limit + 1)
            (totals,) = await TOTALS.fetch(connection, event=event_id)
        sums = {name: int(totals[name]) for name in ("paid", "refunded", "owed")}
        return page(rows, limit, _owed), Totals(totals["currency"], **sums)


def _check(now: Booking, asked: Asked) -> None:
    if asked.kind is Kind.REFUND:
        if now.refunded + asked.amount > now.paid:
            raise RefundExceedsPaid(asked.amount, now.paid, now.refunded)
    elif now.currency is None:
        raise BookingFree
    elif now.paid + asked.amount > MOST_PAID:
        most = f"All payments for a booking are at most {MOST_PAID}"
        raise ValidationFailed(errors=[failure("#/amount", "less_than_equal", most)])


def _of(row: asyncpg.Record, currency: str | None) -> Record:
    return Record(row["reference"], row["amount"], currency, row["paid_at"], row["recorded_at"])


def _owed(row: asyncpg.Record) -> Owed:
    each = booking(row)
    return Owed(
        each.id,
        each.user_id,
        each.status,
        each.amount,
        each.kept,
        each.paid,
        each.refunded,
        each.owed,
    )
