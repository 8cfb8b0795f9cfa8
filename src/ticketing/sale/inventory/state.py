"""The state of an event, which each request of a decision changes in turn."""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from heapq import heapify, heappop
from operator import attrgetter
from typing import Final, NamedTuple
from uuid import UUID

from ticketing.errors import TicketingError
from ticketing.sale.inventory.codes import Code, Redeemed
from ticketing.sale.inventory.decision import (
    CONFIRMED,
    EXPIRED,
    EXTENDED,
    OFFERED,
    PASSED,
    PROMOTED,
    REDUCED,
    Change,
    Decision,
    Fact,
)
from ticketing.sale.inventory.keeping import kept_of
from ticketing.sale.inventory.model import (
    Booking,
    BookingStatus,
    Counters,
    CountersMissing,
    Line,
    Outcome,
    Place,
    Reading,
    Snapshot,
    StaleSnapshot,
    Ticket,
    type_of,
)
from ticketing.sale.inventory.offer import TicketType, left
from ticketing.sale.inventory.order import Order, order
from ticketing.sale.inventory.redemptions import Redemptions
from ticketing.sale.inventory.terms import ALLOWED, SaleState, WaitingMode
from ticketing.sale.inventory.waiting_list import WaitingList
from ticketing.sale.pricing import tax_in


class Shortage(NamedTuple):
    """A line of a request for which places are lacking."""

    line: Line
    capacity: int
    """The first capacity that lacks them, as in `TicketType.draws`."""
    left: int
    """How many places of the type a newcomer may take, beside the lines before."""


def _first(*times: datetime | None) -> datetime | None:
    return min((each for each in times if each is not None), default=None)


def _has_ended(held: Booking, at: datetime) -> bool:
    """Whether this is a hold or an offer that has ended."""
    return held.status.keeps and held.expires_at is not None and held.expires_at <= at


class State:
    """An event after the requests that are decided so far.

    It begins with what time has done: holds and offers that ended are expired, and their places go
    to the waiting list. A kind of request changes the event only by these methods. Each of them
    keeps the invariants.
    """

    __slots__ = (
        *("_active", "_available", "_codes", "_decision", "_named", "_needs", "_new_id"),
        *("_rests_on_version", "_taken", "_total", "_waiting"),
        *("allows", "at", "offer", "request", "sale", "terms"),
    )

    def __init__(
        self,
        snapshot: Snapshot,
        reading: Reading,
        *,
        at: datetime,
        new_id: Callable[[], UUID],
    ) -> None:
        """Start from the snapshot and what was read. `new_id` makes the ids of tickets."""
        counters = snapshot.counters
        self.terms: Final = snapshot.terms
        self.offer: Final = snapshot.offer
        self.at: Final = at
        self._new_id = new_id
        self._total = snapshot.total
        self._available = [snapshot.available]
        """The places left of each capacity: of the event's own, then of the quotas by slot."""
        self._taken: list[int] = []
        if counters is not None:
            self._available += counters.available
            self._taken = list(counters.taken)
        self._needs = [0] * len(self._available)
        # The bookings of a person who has several may change until the decision is written.
        self._rests_on_version = snapshot.waiting > 0 or self.terms.had_several
        self._active = dict(reading.active)
        self._named = dict(reading.named)
        self._waiting: Final = WaitingList(
            snapshot.waiting,
            [snapshot.waiting] if counters is None else list(counters.waiting),
            reading.line,
            offer=self.offer,
            available=self._available,
            patience=self.terms.patience_minutes,
            at=at,
        )
        self._decision = Decision(snapshot, snapshot)
        self._codes: Final = Redemptions(reading.codes, self._decision.redeemed)
        terms = snapshot.terms
        self.sale: Final = SaleState.OPEN if terms.are_plain else terms.state(at)
        self.allows: Final = ALLOWED[self.sale]
        """The actions that the terms of the sale allow at this time."""
        self.request: int | None = None
        """The index of the request that is being decided."""
        if reading.due is None:
            return
        if snapshot.next_expiry is not None and snapshot.next_expiry <= at:
            self._expire(reading.due, reading.next_due)
        elif self.sale is not SaleState.CANCELLED and any(
            _has_ended(each, at) for held in self._active.values() for each in held
        ):
            # Another process made this hold after the snapshot was read.
            raise StaleSnapshot

    def refusal(self) -> TicketingError:
        """Return the error that says why the terms of the sale refuse the request."""
        return self.terms.refusal(self.at)

    def active(self, user_id: UUID) -> Sequence[Booking]:
        """Return the person's active bookings by slot, as far as they are known."""
        return self._active.get(user_id, ())

    def named(self, user_id: UUID, booking_id: UUID) -> Booking | None:
        """Return this booking of the person, whatever its status; None if there is none."""
        for booking in self.active(user_id):
            if booking.id == booking_id:
                return booking
        return self._named.get(booking_id)

    def rest_on_version(self) -> None:
        """Make the decision valid at this version only."""
        self._rests_on_version = True

    @property
    def has_line(self) -> bool:
        """Whether anybody waits."""
        return self._waiting.count > 0

    def largest(self, kind: TicketType) -> int:
        """Return how many places of the type there are, taken or not."""
        counters = self._decision.before.counters
        return left(kind.draws, (self._total, *(counters.capacity if counters else ())))

    def lacking(self, lines: Sequence[Line]) -> Shortage | None:
        """Return the first line that does not fit beside those before it. None if all fit."""
        closed = self._waiting.closed()
        rest = self._available.copy()
        for line in lines:
            draws = line.type.draws
            for index in draws:
                if index in closed or rest[index] < line.quantity:
                    return Shortage(line, index, 0 if closed & {*draws} else left(draws, rest))
            for index in draws:
                rest[index] -= line.quantity
        return None

    def code(self, folded: str) -> Code:
        """Return the code of this form. Raises the errors of `usable`."""
        return self._codes.usable(folded, self.at)

    def has_uses(self, expired: Booking) -> bool:
        """Whether the code of an expired hold, if it had one, may be used for it again."""
        return self._codes.has_uses(expired)

    def take(self, booking_id: UUID, user_id: UUID, slot: int, wanted: Order) -> Booking:
        """Give free places to a newcomer."""
        self._take(wanted)
        return self._insert(self._new(booking_id, user_id, slot, BookingStatus.BOOKED, wanted))

    def hold(
        self, booking_id: UUID, user_id: UUID, slot: int, wanted: Order, until: datetime
    ) -> Booking:
        """Keep free places for a newcomer until this time."""
        self._take(wanted)
        booking = self._new(booking_id, user_id, slot, BookingStatus.HELD, wanted)
        return self._insert(self._kept(booking, wanted, until))

    def confirm(self, held: Booking) -> Booking:
        """Make a hold or an offer a booking."""
        tickets = self._issue(held.id, held.kept_places) if held.has_tickets else ()
        booked = held._replace(
            status=BookingStatus.BOOKED, expires_at=None, places=(), tickets=tickets
        )
        booked = self._write(held, booked)
        self._record(CONFIRMED, booked)
        return booked

    def retake(self, expired: Booking, slot: int) -> Booking:
        """Make an expired hold a booking, because its places are free again.

        The caller has made the decision rest on the version.
        """
        if expired.code_id is not None:
            self._redeem(Redeemed(expired.code_id, expired.code_tickets))
        for place in expired.kept_places:
            self._move(Line(self.type(place.type_id), 1), 1)
        return self.confirm(expired._replace(slot=slot))

    def extend(self, held: Booking, until: datetime) -> Booking:
        """Give a hold another end."""
        # Another one at the same time may have given it another end.
        self._rests_on_version = True
        extended = self._write(held, held._replace(expires_at=until))
        self._expires(until)
        self._record(EXTENDED, extended)
        return extended

    def join(self, booking_id: UUID, user_id: UUID, slot: int, line: Line) -> tuple[Booking, int]:
        """Put a newcomer at the end of the waiting list. Return the booking and its position.

        Raises CountersMissing if a group has to wait at an event without counters.
        """
        if line.quantity > 1 and self.offer.is_plain:
            raise CountersMissing
        booking = self._new(booking_id, user_id, slot, BookingStatus.WAITING, order([line]))
        if self._waiting.gathers(line, self._waiting.closed()):
            booking = self._gathered(booking)
        booking = self._insert(booking)
        self._rests_on_version = True
        return booking, self._waiting.join(booking, line.type.slot)

    def cancel(self, held: Booking, *, in_full: bool = False) -> Booking:
        """Cancel an active booking: its places become free, or it leaves the waiting list.

        With `in_full` its price is given back whatever its refund policy says.
        """
        if held.id in self._decision.inserts:
            # It is inserted as cancelled, so no constraint checks that the person had none active.
            self._rests_on_version = True
        if held.status is BookingStatus.WAITING:
            self._waiting.leave(held, self.type(held.type_id).slot)
            self._rests_on_version = True
        else:
            if held.tickets and sum(each.is_valid for each in held.tickets) < held.quantity:
                # Some were cancelled between the two reads, so its quantity and amount are old.
                self._rests_on_version = True
            self._release(held, held.tickets)
            self._codes.give_back(held)
        gone = tuple(ticket._replace(is_valid=False) for ticket in held.tickets)
        kept = held.kept if in_full else kept_of(held, held.tickets, self.at)
        now = held._replace(
            status=BookingStatus.CANCELLED, kept=kept, tickets=gone, expires_at=None
        )
        cancelled = self._write(held, now)
        self._record(BookingStatus.CANCELLED, cancelled)
        return cancelled

    def reduce(self, held: Booking, tickets: Sequence[Ticket]) -> Booking:
        """Cancel these valid tickets of a booking, but not its last one."""
        self._rests_on_version = True
        self._release(held, tickets)
        gone = {ticket.id for ticket in tickets}
        reduced = held._replace(
            quantity=held.quantity - len(tickets),
            amount=held.amount - sum(ticket.amount for ticket in tickets),
            kept=kept_of(held, tickets, self.at),
            tickets=tuple(
                ticket._replace(is_valid=False) if ticket.id in gone else ticket
                for ticket in held.tickets
            ),
        )
        kinds = {ticket.type_id for ticket in reduced.tickets if ticket.is_valid}
        reduced = reduced._replace(type_id=kinds.pop() if len(kinds) == 1 else None)
        reduced = self._write(held, reduced)
        self._record(REDUCED, reduced, [ticket.id for ticket in tickets])
        return reduced

    def promote(self, limit: int | None = None) -> list[Booking]:
        """Give the free places to the head of the waiting list.

        The first bookings of all types are looked at in order. One that does not fit closes the
        capacities that lack room for it to everybody behind it, unless its patience is over. The
        bookings of a closed type are left out. No offer is made after the close of the sale: one
        that waits for an offer then keeps the rest of its type waiting too.

        Raises StaleSnapshot if the list is longer than it is known, unless there is a `limit`: then
        the known ones are promoted, at most that many.
        """
        promoted: list[Booking] = []
        waiting = self._waiting
        if not (waiting.count and self._available[0]):
            return promoted
        if self._is_over and self.terms.waiting is WaitingMode.OFFER:
            return promoted
        closed: set[int] = set()
        passed: list[tuple[Booking, TicketType]] = []
        heads = waiting.heads()
        while heads and self._available[0] and len(promoted) != limit:
            place, slot, booking = heappop(heads)
            line = Line(self.type(booking.type_id), booking.quantity)
            if booking.amount and self._is_over:
                continue
            if lacking := waiting.lacking(line, closed):
                if waiting.gathers(line, closed):
                    booking = self._gather(booking, slot)
                if waiting.is_impatient(booking):
                    passed.append((booking, line.type))
                    heads += waiting.behind(slot, place)
                    heapify(heads)
                    continue
                closed.update(lacking)
                continue
            self._pass(passed, line.type)
            waiting.leave(booking, slot)
            self._move(line, 1)
            promoted.append(self._promoted(booking, line))
            if waiting.counts[slot] and self._available[0]:
                if limit is not None and not waiting.knows_some(slot):
                    break
                heads += waiting.behind(slot, place)
                heapify(heads)
        return promoted

    @property
    def _is_over(self) -> bool:
        return self.sale in {SaleState.CLOSED, SaleState.ENDED, SaleState.CANCELLED}

    def grow(self, places: int) -> None:
        """Add free places. The caller promotes the waiting list afterwards."""
        self._total += places
        self._available[0] += places
        self._rests_on_version = True

    def shrink(self, places: int) -> None:
        """Remove free places."""
        self.grow(-places)

    def decided(self, outcomes: list[Outcome]) -> Decision:
        """Return the decision, with the outcomes of all requests."""
        decision, before = self._decision, self._decision.before
        decision.outcomes = outcomes
        counters = before.counters
        if counters is not None:
            counters = Counters(
                counters.capacity, self._available[1:], self._taken, self._waiting.counts
            )
        decision.after = Snapshot(
            before.event_id,
            before.version + 1,
            self._total,
            self._available[0],
            self._waiting.count,
            before.terms,
            before.offer,
            counters,
            self._next_expiry(),
        )
        if not self._rests_on_version:
            # If a cancellation comes first, fewer would be enough.
            decision.needs = self._needs
        return decision

    def _next_expiry(self) -> datetime | None:
        decision = self._decision
        if decision.knows_expiry:
            return decision.next_expiry
        return _first(decision.before.next_expiry, decision.next_expiry)

    def _expire(self, first: Sequence[Booking], next_due: datetime | None) -> None:
        """End the holds and offers that end by now, and serve the waiting list."""
        self._rests_on_version = True
        self._decision.knows_expiry = True
        if self.sale is SaleState.CANCELLED:
            # Its holds are withdrawn, after those who wait.
            return
        self._expires(next_due)
        due = {each.id: each for each in first}
        # Those of the people of this batch may end later than all that were read.
        due |= {each.id: each for held in self._active.values() for each in held}
        for held in due.values():
            if not _has_ended(held, self.at):
                continue
            self._release(held)
            self._codes.give_back(held)
            expired = self._write(held, held._replace(status=BookingStatus.EXPIRED))
            self._record(EXPIRED, expired)
        # A place of a plain event is free only while nobody waits, even after its end.
        if self.allows.cancel or self.offer.is_plain:
            self.promote()

    def _expires(self, at: datetime | None) -> None:
        self._decision.next_expiry = _first(self._decision.next_expiry, at)

    def _take(self, wanted: Order) -> None:
        for line in wanted.lines:
            self._move(line, 1)
            for index in line.type.draws:
                self._needs[index] += line.quantity
        if wanted.redeemed is not None:
            self._redeem(wanted.redeemed)

    def _redeem(self, taken: Redeemed) -> None:
        # Every change of a code or of its counters swaps the version.
        self._rests_on_version = True
        self._codes.take(taken)

    def type(self, type_id: int | None) -> TicketType:
        """Return the ticket type. Raises StaleSnapshot if it was added since."""
        return type_of(self.offer, type_id)

    def _gather(self, booking: Booking, slot: int) -> Booking:
        """Let free places gather for a group that waits."""
        gathered = self._gathered(booking)
        if gathered is not booking:
            self._write(booking, gathered)
            self._waiting.replace(gathered, slot)
        return gathered

    def _gathered(self, booking: Booking) -> Booking:
        """Return the group with the end of its patience, which begins when places gather."""
        if self._waiting.is_impatient(booking):
            return booking
        if booking.expires_at is None:
            patience = timedelta(minutes=self.terms.patience_minutes or 0)
            booking = booking._replace(expires_at=self.at + patience)
        self._expires(booking.expires_at)
        return booking

    def _pass(self, groups: Sequence[tuple[Booking, TicketType]], kind: TicketType) -> None:
        """Record that a booking of this type is served before these groups."""
        for group, theirs in groups:
            if not {*theirs.draws}.isdisjoint(kind.draws):
                self._record(PASSED, group)

    def _move(self, line: Line, sign: int) -> None:
        """Take the places of the line, or free them with a `sign` of -1."""
        for index in line.type.draws:
            self._available[index] -= sign * line.quantity
        if self._taken:
            self._taken[line.type.slot] += sign * line.quantity

    def _release(self, held: Booking, tickets: Sequence[Ticket] = ()) -> None:
        """Free the places of these tickets, or of a booking that has none of its own."""
        if held.status.keeps:
            for place in held.kept_places:
                self._move(Line(self.type(place.type_id), 1), -1)
            return
        if not held.has_tickets:
            self._move(Line(self.offer.first, held.quantity), -1)
            return
        for ticket in tickets:
            if ticket.is_valid:
                self._move(Line(self.type(ticket.type_id), 1), -1)
                if ticket.id in self._decision.issued:
                    void = ticket._replace(is_valid=False)
                    self._decision.issued[ticket.id] = held.id, void
                else:
                    self._decision.voided[ticket.id] = held.id

    def _issue(self, booking_id: UUID, places: Sequence[Place]) -> Sequence[Ticket]:
        """Return a new ticket of the booking for each place."""
        tickets: list[Ticket] = []
        for type_id, amount in places:
            kind = self.type(type_id)
            tax = tax_in(amount, kind.tax_rate) if kind.tax_rate else 0
            ticket = Ticket(self._new_id(), kind.id, len(tickets) + 1, amount, tax=tax)
            self._decision.issued[ticket.id] = booking_id, ticket
            tickets.append(ticket)
        return tuple(tickets)

    def _new(
        self,
        booking_id: UUID,
        user_id: UUID,
        slot: int,
        status: BookingStatus,
        wanted: Order,
    ) -> Booking:
        event_id, at = self._decision.before.event_id, self.at
        kind, quantity = wanted.lines[0]
        taken = wanted.redeemed
        if quantity == 1 and self.offer.is_plain and taken is None:
            return Booking(booking_id, event_id, user_id, status, at, slot)
        is_booked = status is BookingStatus.BOOKED
        tickets = self._issue(booking_id, wanted.places) if is_booked else ()
        return Booking(
            booking_id,
            event_id,
            user_id,
            status,
            at,
            slot,
            len(wanted.places),
            kind.id if len(wanted.lines) == 1 else None,
            wanted.amount,
            wanted.currency,
            self.terms.refunds if wanted.amount else None,
            tickets=tickets,
            code_id=taken and taken.code_id,
            code_tickets=taken.tickets if taken else 0,
        )

    def _kept(self, booking: Booking, wanted: Order, until: datetime) -> Booking:
        """Return the booking with its places, which are kept until this time."""
        self._expires(until)
        is_simple = len(wanted.lines) == 1 and not booking.amount
        return booking._replace(expires_at=until, places=() if is_simple else wanted.places)

    def _insert(self, booking: Booking) -> Booking:
        decision = self._decision
        self._add(booking, self.active(booking.user_id))
        decision.inserts[booking.id] = booking
        decision.facts.append(Fact(booking.status, booking, self.request, True))  # noqa: FBT003
        return booking

    def _add(self, booking: Booking, others: Sequence[Booking]) -> None:
        """Put the booking among the active ones of its person, by slot as they are read."""
        held = (*others, booking)
        if others:
            held = tuple(sorted(held, key=attrgetter("slot")))
        self._active[booking.user_id] = held

    def _promoted(self, waiting: Booking, line: Line) -> Booking:
        """Return the booking with the free places, or with the offer of them."""
        # One that waits for what has a price never gets it unasked.
        if self.terms.waiting is WaitingMode.OFFER or waiting.amount:
            wanted = order([line])
            offered = waiting._replace(
                status=BookingStatus.OFFERED,
                amount=wanted.amount,
                currency=wanted.currency,
                refunds=self.terms.refunds if wanted.amount else None,
            )
            offered = self._kept(offered, wanted, self.terms.offer_end(self.at))
            offered = self._write(waiting, offered)
            self._record(OFFERED, offered)
            return offered
        booked = waiting._replace(status=BookingStatus.BOOKED, expires_at=None)
        # It waits for free places, even if the type has a price since.
        if booked.has_tickets:
            free = (Place(line.type.id, 0),) * line.quantity
            booked = booked._replace(tickets=self._issue(booked.id, free))
        booked = self._write(waiting, booked)
        self._record(PROMOTED, booked)
        return booked

    def _write(self, was: Booking, now: Booking) -> Booking:
        """Put the booking as it is `now` into the decision, and among the active ones."""
        others = [each for each in self.active(was.user_id) if each.id != was.id]
        if not now.status.is_active:
            self._active[was.user_id] = others
            self._named[now.id] = now
        else:
            self._add(now, others)
        if was.id in self._decision.inserts:
            self._decision.inserts[was.id] = now
        else:
            changes = self._decision.changes
            before = changes.get(was.id)
            changes[was.id] = Change(
                was.status if before is None else before.was,
                now.status,
                now.quantity,
                now.amount,
                now.type_id,
                now.kept,
                now.slot,
                now.expires_at,
                now.places,
                now.currency,
                now.refunds,
                any((was.expires_at, now.expires_at, before and before.concerns_end)),
            )
        return now

    def _record(self, name: str, booking: Booking, tickets: Sequence[UUID] = ()) -> None:
        self._decision.facts.append(Fact(name, booking, self.request, tickets=tickets))
