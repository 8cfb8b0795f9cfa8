"""The simplest program that sells places: it serves one request at a time and counts anew."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from uuid import UUID

from ticketing.errors import (
    AlreadyBooked,
    AlreadyWaiting,
    BookingAmbiguous,
    BookingNotFound,
    Busy,
    EventState,
    GroupTooLarge,
    LimitReached,
    PaymentRequired,
    QuantityNotAllowed,
    SaleClosed,
    SaleNotOpen,
    SoldOut,
    TicketingError,
    TicketNotFound,
    TicketTypeNotFound,
    TicketTypeRequired,
)
from ticketing.sale.inventory.book import Book
from ticketing.sale.inventory.cancel import Cancel, CancelBooking
from ticketing.sale.inventory.decision import Fact
from ticketing.sale.inventory.kinds import InventoryRequest
from ticketing.sale.inventory.model import (
    Booked,
    Booking,
    BookingStatus,
    Cancelled,
    CountersMissing,
    Outcome,
    Ticket,
    Waiting,
)
from ticketing.sale.inventory.offer import TicketType
from ticketing.sale.inventory.terms import ALLOWED, SaleState, Terms
from ticketing.sale.pricing import RefundKind

NOBODY = UUID(int=0)
Wanted = Sequence[tuple[TicketType, int]]


@dataclass
class Model:
    """An event: what it offers, and all bookings in order of arrival."""

    event_id: int
    terms: Terms
    types: dict[int, TicketType]
    quotas: dict[int, int]
    capacities: list[int]
    """Of the event, then of the quotas by slot."""
    is_plain: bool
    at: datetime
    ticket_id: Callable[[int], UUID]
    """The id of the ticket of this number."""
    bookings: list[Booking] = field(default_factory=list)
    facts: list[Fact] = field(default_factory=list)
    request: int = 0

    def serve(self, request: InventoryRequest) -> Outcome:
        """Serve one request. A refusal must come before the first change."""
        before = list(self.bookings)
        try:
            match request:
                case Book():
                    return self._book(request)
                case Cancel():
                    return self._cancel_only(request.user_id)
                case CancelBooking():
                    return self._cancel_one(request)
                case _:
                    return self._withdraw(request.user_id)
        except (TicketingError, CountersMissing) as refusal:
            assert self.bookings == before
            return refusal

    def serve_newcomer(self, request: InventoryRequest) -> Outcome:
        """Return the outcome if the person had nothing yet, and change nothing."""
        bookings = [
            each._replace(user_id=NOBODY) if each.user_id == request.user_id else each
            for each in self.bookings
        ]
        return replace(self, bookings=bookings, facts=[]).serve(request)

    def give_counters(self) -> None:
        """Have every booking that waits name its type."""
        first = min(self.types)
        self.is_plain = False
        for each in self.waiting():
            self._put(each._replace(type_id=first))

    def promote(self, limit: int | None = None) -> list[Booking]:
        """Give free places to those who wait, in order. Return who got some."""
        promoted: list[Booking] = []
        closed: set[int] = set()
        blocked: set[int] = set()
        for each in self.waiting():
            kind = self.types[self._type_id(each)]
            if kind.closed or kind.id in blocked or len(promoted) == limit:
                continue
            if lacking := self._lacking(kind, each.quantity, closed):
                closed |= lacking
                blocked.add(kind.id)
                continue
            booked = each._replace(status=BookingStatus.BOOKED)
            if each.type_id is not None:
                booked = booked._replace(tickets=self._issue([(kind, each.quantity)], 0))
            self._put(booked)
            self._tell("promoted", booked)
            promoted.append(booked)
        return promoted

    def waiting(self) -> list[Booking]:
        return [each for each in self.bookings if each.status is BookingStatus.WAITING]

    def held(self, user_id: UUID) -> list[Booking]:
        """Return the active bookings of the person, by slot."""
        return sorted(
            (
                each
                for each in self.bookings
                if each.user_id == user_id and each.status is not BookingStatus.CANCELLED
            ),
            key=lambda each: each.slot,
        )

    def taken(self, index: int) -> int:
        """Return how many places of the capacity are taken."""
        return sum(index in self.types[kind].draws for kind in self.sold())

    def sold(self) -> list[int]:
        """Return the type of each place that is taken."""
        sold: list[int] = []
        for each in self.bookings:
            if each.status is BookingStatus.BOOKED:
                valid = [ticket.type_id for ticket in each.tickets if ticket.is_valid]
                sold += valid or [min(self.types)]
        return sold

    def closed(self) -> set[int]:
        """Return the capacities that those who wait close to newcomers."""
        closed: set[int] = set()
        blocked: set[int] = set()
        for each in self.waiting():
            kind = self.types[self._type_id(each)]
            if not (kind.closed or kind.id in blocked):
                lacking = self._lacking(kind, each.quantity, closed)
                assert lacking, "places are free for somebody who waits"
                closed |= lacking
                blocked.add(kind.id)
        return closed

    def _book(self, request: Book) -> Outcome:
        user_id = request.user_id
        self._require_open()
        slot = self._free_slot(user_id)
        wanted = [(self._find(kind, request), quantity) for kind, quantity in request.lines]
        for kind, quantity in wanted:
            self._require_on_sale(kind, quantity)
        amount, currency = self._price(wanted)
        if currency is not None and not request.by_team:
            raise PaymentRequired(amount, currency)
        has = sum(each.quantity for each in self.held(user_id))
        asked = sum(quantity for _, quantity in wanted)
        if has + asked > self.terms.max_tickets:
            raise LimitReached("tickets", self.terms.max_tickets, has, asked)
        refusal = self._refusal(wanted)
        if refusal is not None:
            if len(wanted) > 1 or amount:
                raise refusal
            ((kind, quantity),) = wanted
            size = min(self.capacities[index] for index in kind.draws)
            if quantity > size:
                raise GroupTooLarge(quantity, size)
            if quantity > 1 and self.is_plain:
                raise CountersMissing
        has_tickets = asked > 1 or not self.is_plain
        booking = Booking(
            request.booking_id,
            self.event_id,
            user_id,
            BookingStatus.BOOKED if refusal is None else BookingStatus.WAITING,
            self.at,
            slot,
            asked,
            wanted[0][0].id if has_tickets and len(wanted) == 1 else None,
            amount,
            currency,
            self.terms.refunds if amount else None,
        )
        if refusal is None and has_tickets:
            booking = booking._replace(tickets=self._issue(wanted))
        self.bookings.append(booking)
        self._tell(booking.status, booking, is_new=True)
        if refusal is None:
            return Booked(booking)
        line = [each for each in self.waiting() if self._type_id(each) == wanted[0][0].id]
        return Waiting(booking, len(line))

    def _require_open(self) -> None:
        if not ALLOWED[self.terms.state(self.at)].book:
            raise self.terms.refusal(self.at)

    def _free_slot(self, user_id: UUID) -> int:
        held, allowed = self.held(user_id), self.terms.max_bookings
        if len(held) >= allowed > 1:
            raise LimitReached("bookings", allowed, len(held), 1)
        if len(held) >= allowed:
            raise AlreadyBooked if held[0].status is BookingStatus.BOOKED else AlreadyWaiting
        return min(set(range(allowed)) - {each.slot for each in held})

    def _find(self, type_id: int | None, request: Book) -> TicketType:
        if type_id is None and len(self.types) > 1:
            shown = [each for each in self.types.values() if not each.hidden and not each.closed]
            if len(shown) != 1:
                raise TicketTypeRequired
            return shown[0]
        kind = self.types.get(min(self.types) if type_id is None else type_id)
        if kind is None or (kind.hidden and not request.by_team):
            raise TicketTypeNotFound
        return kind

    def _require_on_sale(self, kind: TicketType, quantity: int) -> None:
        if kind.closed or (kind.closes_at and kind.closes_at <= self.at):
            raise SaleClosed(SaleState.CLOSED, kind.id)
        if kind.opens_at and kind.opens_at > self.at:
            raise SaleNotOpen(SaleState.SCHEDULED, kind.opens_at, self.at, kind.id)
        if not kind.min_per_booking <= quantity <= (kind.max_per_booking or quantity):
            raise QuantityNotAllowed(kind.id, kind.min_per_booking, kind.max_per_booking)

    @staticmethod
    def _price(wanted: Wanted) -> tuple[int, str | None]:
        amount = sum(kind.amount * quantity for kind, quantity in wanted)
        currencies = {kind.currency for kind, _ in wanted if kind.amount > 0}
        assert len(currencies) <= 1
        return amount, currencies.pop() if currencies else None

    def _refusal(self, wanted: Wanted) -> SoldOut | None:
        """Return why the places can't be had now, or None."""
        closed = self.closed()
        left = [capacity - self.taken(index) for index, capacity in enumerate(self.capacities)]
        for kind, quantity in wanted:
            rest = 0 if closed & set(kind.draws) else min(left[index] for index in kind.draws)
            for index in kind.draws:
                if index in closed or left[index] < quantity:
                    quota = self.quotas[index - 1] if index else None
                    return SoldOut(quantity, rest, kind.id, quota)
            for index in kind.draws:
                left[index] -= quantity
        return None

    def _cancel_only(self, user_id: UUID) -> Outcome:
        self._require_cancel()
        held = self.held(user_id)
        if not held:
            raise BookingNotFound
        if len(held) > 1:
            raise BookingAmbiguous([each.id for each in held])
        return self._cancel(held[0])

    def _cancel_one(self, request: CancelBooking) -> Outcome:
        self._require_cancel()
        found = [each for each in self.held(request.user_id) if each.id == request.booking_id]
        if not found:
            raise BookingNotFound
        (booking,) = found
        if request.ticket_ids is None:
            return self._cancel(booking)
        has_tickets = booking.type_id is not None or booking.quantity > 1
        # The only place of a booking without tickets has the id of the booking.
        known = {each.id: each.is_valid for each in booking.tickets}
        if not has_tickets:
            known = {booking.id: True}
        asked = set(request.ticket_ids)
        if asked - known.keys():
            raise TicketNotFound
        gone = [each for each, is_valid in known.items() if is_valid and each in asked]
        if not gone:
            raise BookingNotFound
        if len(gone) == sum(known.values()):
            return self._cancel(booking)
        return self._reduce(booking, gone)

    def _reduce(self, booking: Booking, gone: Sequence[UUID]) -> Outcome:
        tickets = tuple(
            each._replace(is_valid=each.is_valid and each.id not in gone)
            for each in booking.tickets
        )
        valid = [each for each in tickets if each.is_valid]
        kinds = {each.type_id for each in valid}
        reduced = booking._replace(
            quantity=len(valid),
            amount=sum(each.amount for each in valid),
            type_id=min(kinds) if len(kinds) == 1 else None,
            kept=self._kept(booking, [each for each in tickets if not each.is_valid]),
            tickets=tickets,
        )
        self._put(reduced)
        self._tell("reduced", reduced, tickets=list(gone))
        back = booking.amount - reduced.amount - (reduced.kept - booking.kept)
        return Cancelled(reduced, self.promote(), back)

    def _kept(self, booking: Booking, gone: Sequence[Ticket]) -> int:
        """Return what the organiser keeps of a booking of which these tickets are cancelled."""
        price = sum(each.amount for each in gone)
        policy = booking.refunds
        if policy is None or (policy.until is not None and policy.until <= self.at):
            return price
        if policy.kind is RefundKind.FLAT_FEE:
            assert policy.fee is not None
            return min(policy.fee, price)
        if policy.kind is RefundKind.FULL_UNTIL:
            return 0
        assert policy.percent == 50  # No price is odd, so nothing is rounded.
        return price // 2

    def _withdraw(self, user_id: UUID) -> Outcome:
        state = self.terms.state(self.at)
        if state is not SaleState.CANCELLED:
            raise EventState(state)
        held = self.held(user_id)
        if not held:
            raise BookingNotFound
        waiting = [each for each in held if each.status is BookingStatus.WAITING]
        if self.waiting() and not waiting:
            raise Busy
        return self._cancel(waiting[0] if waiting else held[0], promotes=False)

    def _require_cancel(self) -> None:
        if not ALLOWED[self.terms.state(self.at)].cancel:
            raise self.terms.refusal(self.at)

    def _cancel(self, booking: Booking, *, promotes: bool = True) -> Outcome:
        # A cancelled event gives everything back.
        kept = self._kept(booking, booking.tickets) if promotes else booking.kept
        cancelled = booking._replace(
            status=BookingStatus.CANCELLED,
            kept=kept,
            tickets=tuple(each._replace(is_valid=False) for each in booking.tickets),
        )
        self._put(cancelled)
        self._tell("cancelled", cancelled)
        if not promotes:
            return Cancelled(cancelled)
        back = booking.amount - (kept - booking.kept)
        return Cancelled(cancelled, self.promote(), back)

    def _lacking(self, kind: TicketType, quantity: int, closed: Iterable[int]) -> set[int]:
        return {
            index
            for index in kind.draws
            if index in closed or self.capacities[index] - self.taken(index) < quantity
        }

    def _type_id(self, booking: Booking) -> int:
        return min(self.types) if booking.type_id is None else booking.type_id

    def _issue(self, wanted: Wanted, amount: int | None = None) -> tuple[Ticket, ...]:
        """Make tickets, at the price of their type or for this amount each."""
        number = sum(len(each.tickets) for each in self.bookings)
        kinds = [kind for kind, quantity in wanted for _ in range(quantity)]
        return tuple(
            Ticket(
                self.ticket_id(number + place),
                kind.id,
                place + 1,
                kind.amount if amount is None else amount,
            )
            for place, kind in enumerate(kinds)
        )

    def _put(self, booking: Booking) -> None:
        self.bookings = [booking if each.id == booking.id else each for each in self.bookings]

    def _tell(
        self,
        name: str,
        booking: Booking,
        *,
        is_new: bool = False,
        tickets: Sequence[UUID] = (),
    ) -> None:
        self.facts.append(Fact(name, booking, self.request, is_new, tickets))
