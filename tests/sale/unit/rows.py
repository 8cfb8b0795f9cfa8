"""The rows of one event, as the database keeps them, with its constraints and what may be read."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import count
from uuid import UUID

from ticketing.sale.inventory.book import Book
from ticketing.sale.inventory.codes import Code
from ticketing.sale.inventory.decision import Decision
from ticketing.sale.inventory.hold import Confirm, Extend
from ticketing.sale.inventory.kinds import KINDS, InventoryRequest, decide
from ticketing.sale.inventory.model import (
    Booking,
    BookingStatus,
    Counters,
    Reading,
    Snapshot,
    Ticket,
)
from ticketing.sale.repositories.held import DUE_AT_ONCE, heads
from ticketing.sale.rows import stored_status


class RefusedError(Exception):
    """A constraint refuses a batch whatever was read: an expired hold is booked and cancelled."""


@dataclass
class Rows:
    """The row of an event, its bookings in order of `seq`, and its tickets."""

    snapshot: Snapshot
    at: datetime
    ticket_id: Callable[[int], UUID]
    """The id of the ticket of this number."""
    bookings: dict[UUID, Booking] = field(default_factory=dict)
    """Without tickets."""
    tickets: dict[UUID, tuple[UUID, Ticket]] = field(default_factory=dict)
    """By id, with the id of the booking."""
    codes: dict[int, Code] = field(default_factory=dict)
    due_at_once: int = DUE_AT_ONCE

    def copy(self) -> "Rows":
        return Rows(
            self.snapshot,
            self.at,
            self.ticket_id,
            dict(self.bookings),
            dict(self.tickets),
            dict(self.codes),
        )

    def read(self, booking_id: UUID) -> Booking:
        """Return the booking with its tickets."""
        of_it = [ticket for owner, ticket in self.tickets.values() if owner == booking_id]
        of_it.sort(key=lambda ticket: ticket.ordinal)
        return self.bookings[booking_id]._replace(tickets=tuple(of_it))

    def all(self) -> list[Booking]:
        """Return all bookings with their tickets, in order."""
        return [self.read(each) for each in self.bookings]

    def with_status(self, status: BookingStatus) -> list[Booking]:
        return [each for each in self.bookings.values() if each.status is status]

    def active(self, users: Iterable[UUID]) -> dict[UUID, tuple[Booking, ...]]:
        """Return what `_read_active` reads."""
        found: dict[UUID, tuple[Booking, ...]] = {}
        asked = set(users)
        for each in sorted(self.bookings.values(), key=lambda each: each.slot):
            if each.user_id in asked and each.status.is_active:
                found[each.user_id] = (*found.get(each.user_id, ()), self.read(each.id))
        return found

    def line(self, freed: int, limit: int | None = None) -> list[Booking]:
        """Return what `_read_lines` reads if so many places may be freed."""
        waiting = self.with_status(BookingStatus.WAITING)
        if self.snapshot.counters is None:
            return waiting[:freed]
        known = []
        for kind, length in heads(self.snapshot, freed):
            of_kind = [each for each in waiting if each.type_id == kind]
            most = length if limit is None else min(length, limit)
            known += of_kind[:most]
            if self.snapshot.terms.patience_minutes is not None:
                known += [each for each in of_kind if self._may_fit(each, length)][:most]
        return [each for each in waiting if each in known]

    def _may_fit(self, waiting: Booking, length: int) -> bool:
        """Whether it may get places although groups before it do not fit: see TYPE_LINES."""
        is_patient = waiting.expires_at is None or waiting.expires_at > self.at
        return is_patient or waiting.quantity < length

    def due(self) -> tuple[list[Booking], datetime | None]:
        """Return what `read_due` reads."""
        first = self.snapshot.next_expiry
        if first is None or first > self.at:
            return [], None
        kept = sorted(self.kept(), key=lambda each: each.expires_at or self.at)
        ends = [each.expires_at for each in kept if each.expires_at is not None]
        assert len(ends) == len(kept)
        due = [each for each, end in zip(kept, ends, strict=True) if end <= self.at]
        due = due[: self.due_at_once]
        return due, next(iter(ends[len(due) :]), None)

    def kept(self) -> list[Booking]:
        """Return the holds and offers."""
        return [each for each in self.bookings.values() if each.status.keeps]

    def decide(
        self,
        requests: Sequence[InventoryRequest],
        *,
        all_ask: bool = False,
        new_id: Callable[[], UUID] | None = None,
    ) -> Decision:
        """Decide with only the rows that a decision may read."""
        kinds = [KINDS[type(request)] for request in requests]
        asking = zip(requests, kinds, strict=True)
        all_ask |= self.snapshot.terms.had_several
        active = self.active(
            request.user_id for request, kind in asking if kind.needs_active or all_ask
        )
        named = {
            request.booking_id: self.bookings[request.booking_id]
            for request in requests
            if isinstance(request, (Confirm, Extend)) and request.booking_id in self.bookings
        }
        due, next_due = self.due()
        freed = sum(each.quantity for each in due) + sum(
            booking.quantity
            for request, kind in zip(requests, kinds, strict=True)
            if kind.frees
            for booking in active.get(request.user_id, ())
        )
        decision = decide(
            self.snapshot,
            requests,
            Reading(
                active,
                self.line(freed),
                due,
                next_due,
                {key: each for key, each in named.items() if not each.status.is_active},
                codes=self._named_codes(requests),
            ),
            at=self.at,
            new_id=new_id or self.new_id(),
        )
        for fact in decision.facts:
            assert not fact.is_new or (fact.by is not None and kinds[fact.by].inserts)
        return decision

    def _named_codes(self, requests: Sequence[InventoryRequest]) -> list[Code]:
        """Return what `read_codes` reads."""
        named = {each.code for each in requests if isinstance(each, Book)}
        confirmed = {each.booking_id for each in requests if isinstance(each, Confirm)}
        theirs = {self.bookings[each].code_id for each in confirmed & self.bookings.keys()}
        return [each for each in self.codes.values() if each.folded in named or each.id in theirs]

    def check(self) -> None:
        """Check that the counters equal the rows, and that no place is sold twice."""
        now, types = self.snapshot, self.snapshot.offer.types
        counters = now.counters or Counters()
        capacities = [now.total, *counters.capacity]
        taken = [0] * len(capacities)
        of_types = dict.fromkeys(types, 0)
        for booking in [*self.with_status(BookingStatus.BOOKED), *self.kept()]:
            for type_id in self.places(booking):
                of_types[type_id] += 1
                for index in types[type_id].draws:
                    taken[index] += 1
        left = [capacity - used for capacity, used in zip(capacities, taken, strict=True)]
        assert [now.available, *counters.available] == left
        assert min(left) >= 0
        for booking in self.with_status(BookingStatus.CANCELLED):
            assert booking.expires_at is None  # It would be an expired one: see `stored_status`.
        active = [each for each in self.bookings.values() if each.status.is_active]
        for code in self.codes.values():
            using = [each for each in active if each.code_id == code.id]
            assert code.uses == len(using)
            assert code.tickets == sum(each.code_tickets for each in using)
        waiting = self.with_status(BookingStatus.WAITING)
        assert now.waiting == len(waiting)
        if now.counters is None:
            assert not (now.available and now.waiting)  # ck_events_line_served
            return
        for kind in types.values():
            assert counters.taken[kind.slot] == of_types[kind.id]
            line = [each for each in waiting if each.type_id == kind.id]
            assert counters.waiting[kind.slot] == len(line)

    def places(self, booking: Booking) -> list[int]:
        """Return the type of each place of a booking that has places."""
        first = min(self.snapshot.offer.types)
        if booking.status.keeps:
            assert len(booking.kept_places) == booking.quantity
            assert sum(each.amount for each in booking.kept_places) == booking.amount
            assert bool(booking.amount) is (booking.currency is not None)
            return [first if each.type_id is None else each.type_id for each in booking.kept_places]
        if not booking.has_tickets:
            return [first]
        valid = [each for each in self.read(booking.id).tickets if each.is_valid]
        assert len(valid) == booking.quantity > 0
        assert sum(each.amount for each in valid) == booking.amount
        kinds = {each.type_id for each in valid}
        assert booking.type_id == (min(kinds) if len(kinds) == 1 else None)
        return [each.type_id for each in valid]

    def commit(self, requests: Sequence[InventoryRequest]) -> Decision:
        """Decide and write. A refused batch is decided again with all active bookings.

        Raises RefusedError if it is refused again. Then its halves are decided on their own.
        """
        decision = self.decide(requests)
        if self.refuses(decision) == "uq_bookings_active":
            decision = self.decide(requests, all_ask=True)
        if self.refuses(decision) is not None:
            raise RefusedError
        self.write(decision)
        return decision

    def new_id(self) -> Callable[[], UUID]:
        """Return a function that makes the ids of the next tickets."""
        numbers = count(len(self.tickets))
        return lambda: self.ticket_id(next(numbers))

    def refuses(self, decision: Decision) -> str | None:
        """Return the constraint that refuses the decision, if one does."""
        for booking_id, change in decision.changes.items():
            row = self.bookings[booking_id]
            was = stored_status(row.status)
            is_again = was == stored_status(change.to) == BookingStatus.CANCELLED
            if not is_again and was != stored_status(change.was):
                return "not as read"
            may_return = row.status is BookingStatus.EXPIRED and change.to is BookingStatus.BOOKED
            if was == BookingStatus.CANCELLED and not may_return:
                return "cancelled_stays"
        for ticket_id, booking_id in decision.voided.items():
            owner, ticket = self.tickets[ticket_id]
            assert owner == booking_id
            if not ticket.is_valid:
                return "not as read"
        active = [
            (each.user_id, each.slot)
            for each in self._after(decision).values()
            if each.status.is_active
        ]
        return "uq_bookings_active" if len(set(active)) < len(active) else None

    def write(self, decision: Decision) -> None:
        """Write what changes, as the statement does: the counters grow by differences."""
        assert decision.is_empty or self.refuses(decision) is None
        before, after = decision.before, decision.after
        assert after == before._replace(
            version=before.version + 1,
            total=after.total,
            available=after.available,
            waiting=after.waiting,
            counters=after.counters,
            next_expiry=after.next_expiry,
        )
        if before.version == self.snapshot.version:
            assert after.next_expiry == self._next_expiry(decision)
        if decision.is_empty:
            assert after == before._replace(version=before.version + 1)
            assert not [*decision.facts, *decision.issued, *decision.voided, *decision.redeemed]
            return
        assert not decision.inserts.keys() & self.bookings.keys()
        self.bookings = self._after(decision)
        for code_id, redemption in decision.redeemed.items():
            code = self.codes[code_id]
            assert redemption.read in (None, code)
            self.codes[code_id] = code._replace(
                uses=code.uses + redemption.uses, tickets=code.tickets + redemption.tickets
            )
        for booking_id, ticket in decision.issued.values():
            assert ticket.id not in self.tickets
            self.tickets[ticket.id] = booking_id, ticket
        for ticket_id, booking_id in decision.voided.items():
            voided = self.tickets[ticket_id][1]._replace(is_valid=False)
            self.tickets[ticket_id] = booking_id, voided
        now = self.snapshot
        counters = now.counters
        if (more := decision.counted) is not None:
            assert counters is not None
            counters = Counters(*(_sum(*each) for each in zip(counters, more, strict=True)))
        self.snapshot = now._replace(
            version=now.version + 1,
            total=after.total,
            available=now.available - decision.taken,
            waiting=now.waiting + decision.joined,
            counters=counters,
            next_expiry=self._next_expiry(decision),
        )

    def _next_expiry(self, decision: Decision) -> datetime | None:
        """Do as `Swap`."""
        if not decision.concerns_holds:
            return self.snapshot.next_expiry
        if decision.knows_expiry:
            return decision.next_expiry
        known = [self.snapshot.next_expiry, decision.next_expiry]
        return min((each for each in known if each is not None), default=None)

    def give_counters(self) -> None:
        """Do as GIVE_COUNTERS."""
        now = self.snapshot
        first = min(now.offer.types)
        taken = now.total - now.available
        self.snapshot = now._replace(
            version=now.version + 1,
            terms=now.terms._replace(revision=now.terms.revision + 1),
            offer=now.offer._replace(is_plain=False),
            counters=Counters([], [], [taken], [now.waiting]),
        )
        for each in self.with_status(BookingStatus.WAITING):
            self.bookings[each.id] = each._replace(type_id=first)

    def _after(self, decision: Decision) -> dict[UUID, Booking]:
        """Return the bookings with the changes of the decision, as `Change` and `Insert` write."""
        after = dict(self.bookings)
        for booking_id, change in decision.changes.items():
            now = self.bookings[booking_id]._replace(
                status=change.to,
                quantity=change.quantity,
                amount=change.amount,
                type_id=change.type_id,
                kept=change.kept,
            )
            if decision.concerns_holds:
                now = now._replace(
                    slot=change.slot,
                    currency=change.currency,
                    refunds=change.refunds,
                    expires_at=change.expires_at,
                    places=change.places,
                )
            after[booking_id] = now
        for each in decision.inserts.values():
            after[each.id] = each._replace(tickets=())
            assert decision.concerns_holds or not (each.expires_at or each.places)
        return after


def _sum(numbers: Sequence[int], more: Sequence[int]) -> list[int]:
    return [one + other for one, other in zip(numbers, more, strict=True)]
