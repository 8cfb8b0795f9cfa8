"""Bookings: book, hold, cancel, and what happens without a request."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from typing import Final, TypeAlias, cast
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncEngine

from ticketing.db.clock import DatabaseClock
from ticketing.db.combiner import Combiner
from ticketing.db.facts import COMMAND_LINE, Origin
from ticketing.db.ids import uuid7
from ticketing.db.statements import CONFIRM, Statement, driver
from ticketing.errors import (
    BookingNotFound,
    NotHeld,
    SaleClosed,
)
from ticketing.sale.inventory.book import Book
from ticketing.sale.inventory.cancel import Cancel, CancelBooking
from ticketing.sale.inventory.hold import Confirm, Expire, Extend
from ticketing.sale.inventory.model import (
    Booked,
    Booking,
    Cancelled,
    CountersMissing,
    Expired,
    Kept,
    Outcome,
    SeveralMissing,
    Waiting,
)
from ticketing.sale.inventory.withdraw import Withdraw
from ticketing.sale.repositories.batches import Batches, Queued
from ticketing.sale.repositories.definitions import expect_several, give_counters
from ticketing.sale.repositories.events import locked
from ticketing.sale.repositories.held import (
    last_cancelled,
    read,
    read_several,
)
from ticketing.web.keyed import KeyedRequest
from ticketing.web.repositories import stored_responses

WITHDRAWN_AT_ONCE: Final = 100
"""How many bookings of a cancelled event are cancelled in one batch."""
HEARD: Final = 3.0
"""Seconds after which every worker knows that an account was deleted."""


# Statements reach every table by conditions for which every plan uses an index (`= ANY`, LATERAL
# with LIMIT), because a statement that was prepared while a table was empty keeps its plan.


# Bookings that wait or are held, that did when the account was deleted, or that were made since.
LEFT_BEHIND: Final = Statement(
    """
    SELECT event_id, id FROM bookings
    JOIN departures ON departures.user_id = CAST(:user AS uuid)
    WHERE bookings.user_id = CAST(:user AS uuid) AND status <> 'cancelled'
        AND (
            status IN ('waiting', 'held', 'offered') OR id = ANY(waiting) OR created_at >= left_at
        )
    """
)
# Deletions that every worker knows of: these users can't book any more.
DEPARTED: Final = Statement(
    """
    SELECT user_id FROM departures WHERE left_at < now() - make_interval(secs => :heard)
    ORDER BY user_id LIMIT 100 FOR UPDATE SKIP LOCKED
    """,
    reads_tables="all of the departures, which are few",
)
GONE: Final = Statement("DELETE FROM departures WHERE user_id = :user")

EXPIRING: Final = 0x65787069
"""The key of the advisory lock of the worker that ends holds and offers."""
EXPIRING_ROUNDS: Final = 100
EXPIRING_ALONE: Final = Statement("SELECT pg_try_advisory_xact_lock(:lock) AS is_ours")
EXPIRING_EVENTS: Final = Statement(
    """
    SELECT id FROM events WHERE next_expiry <= now() ORDER BY next_expiry LIMIT 100
    """
)

CANCELLATION: Final = Statement(
    """
    SELECT event_id, actor FROM cancellations ORDER BY cancelled_at LIMIT 1
    FOR UPDATE SKIP LOCKED
    """,
    reads_tables="all of the cancellations, which are few",
)
# Waiting bookings come first. Cancelled bookings are in neither index.
STILL_WAITING: Final = Statement(
    """
    SELECT user_id FROM bookings WHERE event_id = :event AND status = 'waiting'
    ORDER BY seq LIMIT :limit
    """
)
STILL_ACTIVE: Final = Statement(
    """
    SELECT user_id FROM bookings WHERE event_id = :event AND status <> 'cancelled'
    ORDER BY user_id LIMIT :limit
    """
)
WITHDRAWN: Final = Statement("DELETE FROM cancellations WHERE event_id = :event")


Lines: TypeAlias = Sequence[tuple[int | None, int]]
"""Ids of ticket types, None for the only one, each with a quantity."""
ONE_PLACE: Final[Lines] = ((None, 1),)


class BookingRepository:
    """Books, holds and cancels. Each call is a request, or several, to `Batches`."""

    def __init__(
        self,
        engine: AsyncEngine,
        committing: AsyncEngine | None = None,
        clock: DatabaseClock | None = None,
    ) -> None:
        """Read from `engine`. Commit on `committing`, so that commits do not wait behind reads.

        `clock` gives the time of decisions.
        """
        self._engine = engine
        self._batches = Batches(engine, committing or engine, clock or DatabaseClock())
        self._reads = Combiner[UUID, Booking](self._read, name="bookings by id")
        self.samples = [self._batches.sample, self._reads.sample]

    async def close(self) -> None:
        """Finish the queued requests and refuse new ones."""
        await self._reads.close()
        await self._batches.close()

    async def book(  # noqa: PLR0913 - what, for whom, and by whom
        self,
        event_id: int,
        user_id: UUID,
        origin: Origin = COMMAND_LINE,
        keyed: KeyedRequest | None = None,
        *,
        lines: Lines = ONE_PLACE,
        by_team: bool = False,
        code: str | None = None,
    ) -> Booked | Waiting:
        """Book places for the person, or put them at the end of the waiting list.

        `lines` has the id of a ticket type, or None for the only one, and a quantity; each type
        once. All places are booked or none. Only places of one free type can be waited for.
        With `by_team` a price counts as paid, and hidden types can be booked. `code` is a folded
        code of the event; a request with one never waits.

        Raises CodeUnknown, CodeNotStarted, CodeExpired, CodeNotApplicable, CodeQuantityNotAllowed,
        CodeUsedUp, AlreadyBooked, AlreadyWaiting, LimitReached, SoldOut, GroupTooLarge,
        PaymentRequired, QuantityNotAllowed, TicketTypeNotFound, TicketTypeRequired, EventNotFound,
        UserNotFound, SaleNotOpen, SaleClosed, or Busy. Busy means that nothing was changed, because
        of overload. With `keyed`, also raises Replayed if the request was carried out before,
        RequestInProgress, or IdempotencyKeyReused.
        """
        request = Book(event_id, user_id, uuid7(), lines, by_team, code=code)
        return cast("Booked | Waiting", await self._place(Queued(request, origin, keyed)))

    async def hold(  # noqa: PLR0913 - what, for whom, and by whom
        self,
        event_id: int,
        user_id: UUID,
        origin: Origin = COMMAND_LINE,
        keyed: KeyedRequest | None = None,
        *,
        lines: Lines = ONE_PLACE,
        by_team: bool = False,
        until: datetime | None = None,
        code: str | None = None,
    ) -> Kept | Waiting:
        """Keep places for the person, or put them at the end of the waiting list.

        As `book`, but prices do not matter, because nothing is sold yet. `until` is an end that the
        event's team chose: such a hold is made at any time before the event ends, has no limits per
        person, and never waits. Raises the same errors, and ValidationFailed if `until` is past.
        """
        request = Book(
            event_id, user_id, uuid7(), lines, by_team, holds=True, until=until, code=code
        )
        return cast("Kept | Waiting", await self._place(Queued(request, origin, keyed)))

    async def confirm(
        self,
        held: Booking,
        origin: Origin = COMMAND_LINE,
        keyed: KeyedRequest | None = None,
        *,
        by_team: bool = False,
    ) -> Booked:
        """Make a hold or an offer a booking. Confirming again returns the same booking.

        An expired one is confirmed if its places are free and nobody waits. With `by_team` a price
        counts as paid. Raises HoldExpired, NotHeld, PaymentRequired, SaleClosed, or Busy. With
        `keyed`, also raises the same errors as `book`.
        """
        request = Confirm(held.event_id, held.user_id, held.id, by_team)
        return cast("Booked", await self._batches.submit(Queued(request, origin, keyed)))

    async def extend(
        self,
        held: Booking,
        origin: Origin = COMMAND_LINE,
        keyed: KeyedRequest | None = None,
        *,
        until: datetime | None = None,
    ) -> Kept:
        """Keep the places of a hold for longer. `until` is an end that the event's team chose.

        Raises HoldExpired, HoldLimitReached, NotHeld, SaleClosed, ValidationFailed, or Busy. With
        `keyed`, also raises the same errors as `book`.
        """
        request = Extend(held.event_id, held.user_id, held.id, until)
        return cast("Kept", await self._batches.submit(Queued(request, origin, keyed)))

    async def _place(self, queued: Queued) -> Outcome:
        try:
            return await self._batches.submit(queued)
        except CountersMissing:
            event_id = queued.request.event_id
            async with locked(self._engine, event_id) as (connection, _):
                await give_counters(connection, event_id)
        except SeveralMissing:
            event_id = queued.request.event_id
            async with locked(self._engine, event_id) as (connection, _):
                await expect_several(connection, event_id)
        # The old snapshot stays, because a commit may be using it: its revision is refused.
        return await self._batches.submit(queued)

    async def cancel(
        self,
        event_id: int,
        user_id: UUID,
        origin: Origin = COMMAND_LINE,
        keyed: KeyedRequest | None = None,
    ) -> Cancelled:
        """Cancel a person's only booking and give its places to the head of the waiting list.

        A second call returns the same booking and frees nothing. Raises BookingNotFound if the
        person never booked this event, BookingAmbiguous if they have several bookings there,
        EventNotFound, SaleClosed, or Busy. With `keyed`, also raises the same errors as `book`.
        """
        try:
            outcome = await self._batches.submit(Queued(Cancel(event_id, user_id), origin, keyed))
        except BookingNotFound:
            # Stored too, because a late resend must not cancel a booking that was made since.
            async with stored_responses.once(self._engine, keyed) as (connection, keep):
                cancelled = Cancelled(await last_cancelled(connection, event_id, user_id))
                await CONFIRM.fetch(connection)
                await keep(cancelled)
            return cancelled
        return cast("Cancelled", outcome)

    async def cancel_booking(
        self,
        held: Booking,
        ticket_ids: Sequence[UUID] | None = None,
        origin: Origin = COMMAND_LINE,
        keyed: KeyedRequest | None = None,
    ) -> Cancelled:
        """Cancel this booking, or only these tickets of it.

        A second call changes nothing. Raises TicketNotFound, EventNotFound, SaleClosed, or Busy.
        With `keyed`, also raises the same errors as `book`.
        """
        request = CancelBooking(held.event_id, held.user_id, held.id, ticket_ids)
        return await self._cancel(request, origin, keyed)

    async def release(
        self, held: Booking, origin: Origin = COMMAND_LINE, keyed: KeyedRequest | None = None
    ) -> Cancelled:
        """Give back the places of a hold or an offer.

        A second call changes nothing. Raises NotHeld if it is confirmed, SaleClosed, or Busy. With
        `keyed`, also raises the same errors as `book`.
        """
        request = CancelBooking(held.event_id, held.user_id, held.id, only_kept=True)
        return await self._cancel(request, origin, keyed)

    async def _cancel(
        self, request: CancelBooking, origin: Origin, keyed: KeyedRequest | None
    ) -> Cancelled:
        try:
            return cast("Cancelled", await self._batches.submit(Queued(request, origin, keyed)))
        except BookingNotFound:
            async with stored_responses.once(self._engine, keyed) as (connection, keep):
                found = await read(connection, request.booking_id)
                if request.only_kept and found.status.is_active:
                    raise NotHeld(found.status) from None
                cancelled = Cancelled(found)
                await CONFIRM.fetch(connection)
                await keep(cancelled)
            return cancelled

    async def get(self, booking_id: UUID) -> Booking:
        """Return the booking without its tickets. Raises BookingNotFound, or Busy.

        Requests that arrive during a read share the next read.
        """
        return await self._reads.submit(booking_id)

    async def _read(self, ids: Sequence[UUID]) -> Sequence[Booking | BookingNotFound]:
        async with driver(self._engine) as connection:
            found = await read_several(connection, ids)
        return [found.get(booking_id) or BookingNotFound() for booking_id in ids]

    async def leave(self, user_id: UUID) -> None:
        """Remove a person whose account was deleted from every waiting list.

        Also cancels what they booked, or were promoted to, since the deletion, so that the place
        goes to the next person. Raises Unavailable.
        """
        async with driver(self._engine) as connection:
            rows = await LEFT_BEHIND.fetch(connection, user=user_id)
        for row in rows:
            request = CancelBooking(row["event_id"], user_id, row["id"])
            # Another worker cancelled it, or the event is over.
            with suppress(BookingNotFound, SaleClosed):
                await self._batches.submit(Queued(request, COMMAND_LINE, None))

    async def finish_departures(self) -> None:
        """Do as `leave` once more for accounts that were deleted more than HEARD seconds ago.

        A worker may have been killed before it finished. A worker that did not know of the deletion
        may have booked for the account.
        """
        async with driver(self._engine) as connection, connection.transaction():
            for row in await DEPARTED.fetch(connection, heard=HEARD):
                await self.leave(row["user_id"])
                await GONE.fetch(connection, user=row["user_id"])

    async def expire(self) -> None:
        """End the holds and offers whose time is over, so that waiting lists move on.

        Any later request at such an event does the same. One worker does it at a time.
        """
        async with driver(self._engine) as connection, connection.transaction():
            (row,) = await EXPIRING_ALONE.fetch(connection, lock=EXPIRING)
            if not row["is_ours"]:
                return
            for _ in range(EXPIRING_ROUNDS):
                rows = await EXPIRING_EVENTS.fetch(connection)
                if not rows:
                    return
                requests = [Queued(Expire(row["id"]), COMMAND_LINE, None) for row in rows]
                outcomes = await self._submit_all(requests)
                if not any(isinstance(outcome, Expired) for outcome in outcomes):
                    return

    async def finish_cancellations(self) -> None:
        """Cancel the bookings of cancelled events, in batches.

        Each batch is one transaction. So other events do not wait for long. If this worker dies,
        another worker continues with the rest.
        """
        while await self._withdraw_some():
            pass

    async def _withdraw_some(self) -> bool:
        """Cancel one batch. Return whether there may be more that can be cancelled now."""
        async with driver(self._engine) as connection, connection.transaction():
            rows = await CANCELLATION.fetch(connection)
            if not rows:
                return False
            event_id, actor = rows[0]
            asked = {"event": event_id, "limit": WITHDRAWN_AT_ONCE}
            people = await STILL_WAITING.fetch(connection, **asked)
            people = people or await STILL_ACTIVE.fetch(connection, **asked)
            if not people:
                await WITHDRAWN.fetch(connection, event=event_id)
                return True
            origin = Origin(actor=actor)
            requests = [Queued(Withdraw(event_id, row["user_id"]), origin, None) for row in people]
            outcomes = await self._submit_all(requests)
            return any(isinstance(outcome, Cancelled) for outcome in outcomes)

    async def _submit_all(self, requests: Sequence[Queued]) -> Sequence[object]:
        """Return the outcomes of requests that share a batch, refusals too."""
        return await asyncio.gather(
            *(self._batches.submit(request) for request in requests), return_exceptions=True
        )
