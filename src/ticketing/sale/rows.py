"""Objects made from the rows of the tables."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple
from uuid import UUID

import asyncpg
import orjson

from ticketing.sale.definitions import DefinedQuota, DefinedType, Definitions
from ticketing.sale.details import Details
from ticketing.sale.inventory.codes import Code, CodeKind, DiscountPer
from ticketing.sale.inventory.model import Booking, BookingStatus, Counters, Place, Snapshot, Ticket
from ticketing.sale.inventory.offer import Offer
from ticketing.sale.inventory.terms import EventStatus, SaleState, Terms, WaitingMode
from ticketing.sale.pricing import Policy, policy
from ticketing.sale.times import When


class Event(NamedTuple):
    """An event at the time `read_at` of the database's clock."""

    id: int
    organiser_id: UUID
    details: Details
    terms: Terms
    total_tickets: int
    available_tickets: int
    waiting_list_count: int
    version: int
    created_at: datetime
    read_at: datetime
    definitions: Definitions
    counters: Counters | None
    """None while it is plain: one free type, whose numbers are the event's own."""

    @property
    def is_draft(self) -> bool:
        """Whether only its team may see it."""
        return self.terms.status is EventStatus.DRAFT

    @property
    def state(self) -> SaleState:
        """The state of its sale."""
        state = self.terms.state(self.read_at)
        is_sold_out = state is SaleState.OPEN and not self._has_places
        return SaleState.SOLD_OUT if is_sold_out else state

    @property
    def _has_places(self) -> bool:
        """Whether a ticket type that everybody may book, now or later, has places left."""
        if self.counters is None or not self.available_tickets:
            return self.available_tickets > 0
        available = self.counters.available
        return any(
            all(available[slot] for slot in each.quotas)
            for each in self.definitions.types.values()
            if not each.hidden
            and not each.closed
            and (each.sales_close is None or each.sales_close.at > self.read_at)
        )

    @property
    def available(self) -> Sequence[int]:
        """The places left of each capacity that types draw from: the event's own, then quotas."""
        own = self.available_tickets
        return [own] if self.counters is None else [own, *self.counters.available]

    @property
    def taken(self) -> Sequence[int]:
        """The places taken of each ticket type, by slot."""
        if self.counters is None:
            return [self.total_tickets - self.available_tickets]
        return self.counters.taken

    @property
    def waiting(self) -> Sequence[int]:
        """The waiting bookings of each ticket type, by slot."""
        return [self.waiting_list_count] if self.counters is None else self.counters.waiting

    def lacking(self, type_id: int, quantity: int) -> int | None:
        """Return the first capacity that lacks places of the type, as in `available`, or None."""
        of = next(each for each in self.definitions.types.values() if each.id == type_id)
        available = self.available
        return next((index for index in of.draws if available[index] < quantity), None)

    @property
    def etag(self) -> str:
        """The entity tag. It begins with the revision, which bookings do not change."""
        return f'"{self.terms.revision}-{self.version}-{self.state}"'


def event(row: asyncpg.Record, definitions: Definitions) -> Event:
    """Return the event from a row of `events` with its details, and its definitions."""
    sold_at = terms(row)
    refunds = sold_at.refunds
    details = Details(
        row["name"],
        row["description"],
        row["venue_name"],
        row["venue_address"],
        row["latitude"],
        row["longitude"],
        row["url"],
        row["timezone"],
        _when(row["starts_at"], row["starts_local"]),
        _when(row["ends_at"], row["ends_local"]),
        _when(row["sales_open_at"], row["sales_open_local"]),
        _when(row["sales_close_at"], row["sales_close_local"]),
        row["visibility"],
        row["max_bookings_per_person"],
        row["max_tickets_per_person"],
        row["hold_minutes"],
        row["waiting_list_mode"],
        row["offer_minutes"],
        row["group_patience_minutes"],
        refunds and refunds._replace(until=None),
        _when(refunds and refunds.until, row["refund_until_local"]),
    )
    return Event(
        row["id"],
        row["organiser_id"],
        details,
        sold_at,
        row["total_tickets"],
        row["available_tickets"],
        row["waiting_list_count"],
        row["version"],
        row["created_at"],
        row["read_at"],
        definitions,
        None if row["quota_available"] is None else _counters(row),
    )


def recounted(known: Event, row: asyncpg.Record) -> Event:
    """Return the event with the numbers of a row of the same revision."""
    return Event(
        known.id,
        known.organiser_id,
        known.details,
        known.terms,
        row["total_tickets"],
        row["available_tickets"],
        row["waiting_list_count"],
        row["version"],
        known.created_at,
        row["read_at"],
        known.definitions,
        None if row["quota_available"] is None else _counters(row),
    )


def _counters(row: asyncpg.Record) -> Counters:
    return Counters(
        row["quota_capacity"], row["quota_available"], row["type_taken"], row["type_waiting"]
    )


def definitions(rows: Sequence[asyncpg.Record]) -> Definitions:
    """Return the definitions of an event from its rows: one for each ticket type."""
    first = rows[0]
    types = {
        row["slot"]: DefinedType(
            row["id"],
            row["slot"],
            row["name"],
            frozenset(row["quotas"]),
            row["description"],
            row["amount"],
            row["currency"],
            row["min_per_booking"],
            row["max_per_booking"],
            _when(row["sales_open_at"], row["sales_open_local"]),
            _when(row["sales_close_at"], row["sales_close_local"]),
            row["position"],
            row["hidden"],
            row["closed"],
            row["tax_rate"],
        )
        for row in rows
    }
    slots = {each.id: each.slot for each in types.values()}
    quotas = {
        slot: DefinedQuota(quota_id, slot, first["quota_capacity"][slot], name, slots.get(of))
        for slot, quota_id, name, of in zip(
            *(first[f"quota_{column}"] or () for column in ("slots", "ids", "names", "types")),
            strict=True,
        )
    }
    return Definitions(types, quotas)


def _when(at: datetime | None, local: datetime | None) -> When | None:
    return None if at is None else When(at.astimezone(UTC), local)


BOOKING: Final = """
    bookings.id, bookings.event_id, bookings.user_id, bookings.status, bookings.created_at,
    bookings.slot, bookings.quantity, bookings.ticket_type_id, bookings.amount, bookings.currency,
    bookings.refund_policy, bookings.kept, bookings.paid, bookings.refunded, bookings.expires_at,
    bookings.places, bookings.code_id, bookings.code_tickets
"""
"""The columns from which `booking` makes a booking."""


def booking(row: asyncpg.Record, tickets: Sequence[Ticket] = ()) -> Booking:
    """Return the booking from a row with the columns of BOOKING."""
    return Booking(
        row["id"],
        row["event_id"],
        row["user_id"],
        _status(row["status"], row["expires_at"]),
        row["created_at"],
        row["slot"],
        row["quantity"],
        row["ticket_type_id"],
        row["amount"],
        row["currency"],
        _policy(row["refund_policy"]),
        row["kept"] or 0,
        row["paid"] or 0,
        row["refunded"] or 0,
        tickets,
        row["expires_at"],
        tuple(Place(*each) for each in row["places"] or ()),
        row["code_id"],
        row["code_tickets"] or 0,
    )


def code(row: asyncpg.Record) -> Code:
    """Return the code from a row of `codes`."""
    return Code(
        row["id"],
        row["folded"],
        CodeKind(row["kind"]),
        row["percent"],
        row["amount"],
        DiscountPer(row["per"]),
        row["ticket_type_ids"],
        row["starts_at"],
        row["ends_at"],
        row["max_uses"],
        row["max_tickets"],
        row["uses"],
        row["tickets"],
        row["active"],
    )


def _status(stored: str, expires_at: datetime | None) -> BookingStatus:
    status = BookingStatus(stored)
    has_expired = status is BookingStatus.CANCELLED and expires_at is not None
    return BookingStatus.EXPIRED if has_expired else status


def stored_status(status: BookingStatus) -> str:
    """Return the status in the table. An expired booking is a cancelled one that has an end."""
    return BookingStatus.CANCELLED if status is BookingStatus.EXPIRED else status


STATUS: Final = """
    CASE WHEN status = 'cancelled' AND expires_at IS NOT NULL THEN 'expired' ELSE status END
"""
"""The status of a booking as clients see it, in SQL."""


# One that waited, or whose hold ended, never had any. If it was cancelled while it waited or was
# held, the record says so.
HAD_PLACES: Final = """
    bookings.status = 'booked' OR (
        bookings.status = 'cancelled' AND bookings.expires_at IS NULL AND (
            SELECT count(*) FROM (
                SELECT details, action FROM audit_records
                WHERE (details ->> 'bookingId') = CAST(bookings.id AS text)
                    AND action <> ALL (
                        ARRAY['booking.booked', 'booking.waiting', 'booking.held']
                    )
                OFFSET 0
            ) AS records WHERE action = 'booking.cancelled' AND details ? 'was'
        ) = 0
    )
"""
"""Whether a booking is or was booked, in SQL."""
OWES: Final = """
    coalesce(paid, 0) - coalesce(refunded, 0) - coalesce(kept, 0)
        - CASE WHEN status IN ('booked', 'held', 'offered') THEN amount ELSE 0 END
"""
"""What `Booking.owed` is, in SQL."""


def stored_places(held: Sequence[Place]) -> str | None:
    """Return the JSON in the table of the places of a hold or an offer."""
    return orjson.dumps(held, default=list).decode() if held else None


def stored_policy(refunds: Policy | None) -> str | None:
    """Return the JSON in the table of a refund policy."""
    return refunds and orjson.dumps(refunds.document()).decode()


def _policy(document: Mapping[str, Any] | None) -> Policy | None:
    return None if document is None else policy(document)


def snapshot(row: asyncpg.Record, offer: Offer) -> Snapshot:
    """Return the inventory from a row of `events`. The offer is plain if it has no counters."""
    counters = None
    if row["quota_available"] is not None:
        counters = Counters(
            row["quota_capacity"], row["quota_available"], row["type_taken"], row["type_waiting"]
        )
    return Snapshot(
        row["id"],
        row["version"],
        row["total_tickets"],
        row["available_tickets"],
        row["waiting_list_count"],
        terms(row),
        offer._replace(is_plain=counters is None),
        counters,
        row["next_expiry"],
    )


def after(before: Snapshot, row: asyncpg.Record) -> Snapshot:
    """Return the inventory from the row of a swap, with the terms and the offer from before."""
    counters = before.counters
    if counters is not None:
        counters = Counters(
            counters.capacity, row["quota_available"], row["type_taken"], row["type_waiting"]
        )
    return Snapshot(
        row["id"],
        row["version"],
        row["total_tickets"],
        row["available_tickets"],
        row["waiting_list_count"],
        before.terms,
        before.offer,
        counters,
        row["next_expiry"],
    )


def terms(row: asyncpg.Record) -> Terms:
    """Return the terms of the sale from a row of `events`."""
    return Terms(
        row["revision"],
        EventStatus(row["status"]),
        row["sales_paused"],
        row["sales_open_at"],
        row["sales_close_at"],
        row["ends_at"],
        row["max_bookings_per_person"],
        row["max_tickets_per_person"],
        row["had_several_bookings"],
        WaitingMode(row["waiting_list_mode"]),
        row["hold_minutes"],
        row["offer_minutes"],
        row["group_patience_minutes"],
        _policy(row["refund_policy"]),
    )
