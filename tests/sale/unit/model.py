"""The simplest program that sells places: it serves one request at a time and counts anew.

Time is a number that stories advance. Before each batch the program looks at it.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from uuid import UUID

from ticketing.errors import (
    AlreadyBooked,
    AlreadyHeld,
    AlreadyWaiting,
    BookingAmbiguous,
    BookingNotFound,
    Busy,
    CodeExpired,
    CodeNotApplicable,
    CodeNotStarted,
    CodeQuantityNotAllowed,
    CodeUnknown,
    CodeUsedUp,
    EventState,
    GroupTooLarge,
    HoldExpired,
    HoldLimitReached,
    LimitReached,
    NotHeld,
    PaymentRequired,
    QuantityNotAllowed,
    SaleClosed,
    SaleNotOpen,
    SoldOut,
    TicketingError,
    TicketNotFound,
    TicketTypeNotFound,
    TicketTypeRequired,
    ValidationFailed,
)
from ticketing.sale.inventory.book import Book
from ticketing.sale.inventory.cancel import Cancel, CancelBooking
from ticketing.sale.inventory.codes import Code, CodeKind, DiscountPer
from ticketing.sale.inventory.decision import Fact
from ticketing.sale.inventory.hold import Confirm, Expire, Extend
from ticketing.sale.inventory.kinds import InventoryRequest
from ticketing.sale.inventory.model import (
    Booked,
    Booking,
    BookingStatus,
    Cancelled,
    CountersMissing,
    Expired,
    Kept,
    Outcome,
    Place,
    Ticket,
    Waiting,
)
from ticketing.sale.inventory.offer import TicketType
from ticketing.sale.inventory.terms import ALLOWED, EventStatus, SaleState, Terms, WaitingMode
from ticketing.sale.pricing import RefundKind

NOBODY = UUID(int=0)
KEEPS = {BookingStatus.HELD, BookingStatus.OFFERED}
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
    codes: list[Code] = field(default_factory=list)
    """Their counters are not looked at."""
    bookings: list[Booking] = field(default_factory=list)
    facts: list[Fact] = field(default_factory=list)
    request: int | None = 0
    by_team: set[UUID] = field(default_factory=set)
    """Holds with an end that the team chose. The limits of people do not count them."""

    def look(self) -> None:
        """Do what time alone does: end holds and offers, and serve those who wait."""
        self.request = None
        if self.terms.status is EventStatus.CANCELLED:
            return
        kept = [each for each in self.bookings if each.status in KEEPS]
        for each in sorted(kept, key=self._end):
            if self._end(each) <= self.at:
                expired = each._replace(status=BookingStatus.EXPIRED)
                self._put(expired)
                self._tell("expired", expired)
        if ALLOWED[self.terms.state(self.at)].cancel or self.is_plain:
            self.promote()

    def first_end(self) -> datetime | None:
        """Return when time does something next: a hold ends, or the patience of a group."""
        ends = [self._end(each) for each in self.bookings if each.status in KEEPS]
        if self._may_serve:
            ends += [self._end(each) for each in self._gathering() if each.expires_at]
        return min(ends, default=None)

    def serve(self, request: InventoryRequest) -> Outcome:  # noqa: PLR0911 - one per kind
        """Serve one request. A refusal must come before the first change."""
        before = list(self.bookings)
        try:
            match request:
                case Book(until=datetime()):
                    return self._hold_for_team(request)
                case Book():
                    return self._book(request)
                case Confirm():
                    return self._confirm(request)
                case Extend():
                    return self._extend(request)
                case Expire():
                    return Expired()
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
        passed: list[Booking] = []
        for each in self.waiting() if self._may_serve else ():
            kind = self.types[self._type_id(each)]
            if len(promoted) == limit:
                break
            if kind.closed or kind.id in blocked:
                continue
            if lacking := self._lacking(kind, each.quantity, closed):
                group = self._let_gather(each, kind, closed)
                if self._is_impatient(group):
                    passed.append(group)
                    continue
                closed |= lacking
                blocked.add(kind.id)
                continue
            for group in passed:
                if set(self.types[self._type_id(group)].draws) & set(kind.draws):
                    self._tell("passed", group)
            promoted.append(self._serve(each, kind))
        return promoted

    def _serve(self, waiting: Booking, kind: TicketType) -> Booking:
        """Book the places for somebody who waited, or offer them if they may have a price."""
        wanted = [(kind, waiting.quantity)]
        if self.terms.waiting is WaitingMode.OFFER or waiting.amount:
            amount, currency = self._price(wanted)
            ends = [self.at + timedelta(minutes=self.terms.offer_minutes)]
            ends += [self.terms.closes_at] if self.terms.closes_at else []
            offered = waiting._replace(
                status=BookingStatus.OFFERED,
                amount=amount,
                currency=currency,
                refunds=self.terms.refunds if amount else None,
                expires_at=min(ends),
                places=self._places(wanted),
            )
            self._put(offered)
            self._tell("offered", offered)
            return offered
        booked = waiting._replace(status=BookingStatus.BOOKED, expires_at=None)
        if waiting.type_id is not None:
            booked = booked._replace(tickets=self._issue(self._free(kind.id, waiting.quantity)))
        self._put(booked)
        self._tell("promoted", booked)
        return booked

    def _let_gather(self, group: Booking, kind: TicketType, closed: set[int]) -> Booking:
        """Start the patience of a group for which free places gather, and for nobody before it."""
        some = min(self.left()[index] for index in kind.draws)
        minutes = self.terms.patience_minutes
        if minutes is not None and some and not closed & set(kind.draws) and not group.expires_at:
            group = group._replace(expires_at=self.at + timedelta(minutes=minutes))
            self._put(group)
        return group

    def _gathering(self) -> list[Booking]:
        """Return the groups for which free places gather now."""
        found: list[Booking] = []
        if self.terms.patience_minutes is None:
            return found
        closed: set[int] = set()
        blocked: set[int] = set()
        for each in self.waiting():
            kind = self.types[self._type_id(each)]
            if kind.closed or kind.id in blocked or self._is_impatient(each):
                continue
            if min(self.left()[index] for index in kind.draws) and not closed & {*kind.draws}:
                found.append(each)
            closed |= self._lacking(kind, each.quantity, closed)
            blocked.add(kind.id)
        return found

    def _is_impatient(self, each: Booking) -> bool:
        has_patience = self.terms.patience_minutes is not None
        return has_patience and each.expires_at is not None and each.expires_at <= self.at

    @property
    def _may_serve(self) -> bool:
        """Whether places go to those who wait. Nothing is offered after the close of the sale."""
        is_open = self.terms.state(self.at) not in {
            SaleState.CLOSED,
            SaleState.ENDED,
            SaleState.CANCELLED,
        }
        return is_open or self.terms.waiting is not WaitingMode.OFFER

    def waiting(self) -> list[Booking]:
        return [each for each in self.bookings if each.status is BookingStatus.WAITING]

    def held(self, user_id: UUID) -> list[Booking]:
        """Return the active bookings of the person, by slot."""
        return sorted(
            (each for each in self.bookings if each.user_id == user_id and each.status.is_active),
            key=lambda each: each.slot,
        )

    def taken(self, index: int) -> int:
        """Return how many places of the capacity are taken."""
        return sum(index in self.types[kind].draws for kind in self.sold())

    def sold(self) -> list[int]:
        """Return the type of each place that is taken: booked, held or offered."""
        sold: list[int] = []
        for each in self.bookings:
            if each.status is BookingStatus.BOOKED:
                valid = [ticket.type_id for ticket in each.tickets if ticket.is_valid]
                sold += valid or [min(self.types)]
            elif each.status in KEEPS:
                sold += [kind for kind, _ in self._kept_places(each)]
        return sold

    def left(self) -> list[int]:
        """Return how many places each capacity has left."""
        return [capacity - self.taken(index) for index, capacity in enumerate(self.capacities)]

    def closed(self) -> set[int]:
        """Return the capacities that those who wait close to newcomers."""
        closed: set[int] = set()
        blocked: set[int] = set()
        for each in self.waiting():
            kind = self.types[self._type_id(each)]
            if kind.closed or kind.id in blocked:
                continue
            lacking = self._lacking(kind, each.quantity, closed)
            if lacking and self._is_impatient(each):
                continue
            may_cancel = ALLOWED[self.terms.state(self.at)].cancel
            assert lacking or not (self._may_serve and may_cancel), "somebody who waits fits"
            closed |= lacking or set(kind.draws)
            blocked.add(kind.id)
        return closed

    def _book(self, request: Book) -> Outcome:
        user_id = request.user_id
        self._require_open()
        slot = self._free_slot(user_id)
        code = self._code(request)
        wanted = [(self._find(kind, request, code), quantity) for kind, quantity in request.lines]
        for kind, quantity in wanted:
            self._require_on_sale(kind, quantity)
        asked = sum(quantity for _, quantity in wanted)
        self._require_uses(code, self._tickets_under(code, wanted))
        self._require_few(user_id, asked)
        amount, currency = self._price(wanted, code)
        refusal = self._refusal(wanted)
        if refusal is not None and code is not None:
            raise refusal
        has_mode = self.terms.waiting
        must_pay = currency is not None and not request.by_team and not request.holds
        can_wait = len(wanted) == 1 and (not amount or has_mode is WaitingMode.OFFER)
        if must_pay and (refusal is None or not can_wait):
            assert currency is not None
            raise PaymentRequired(amount, currency)
        if refusal is None and request.holds:
            end = self.at + timedelta(minutes=self.terms.hold_minutes)
            return self._keep(request, slot, wanted, end, code)
        if refusal is None:
            booking = self._made(request, slot, wanted, BookingStatus.BOOKED, code)
            tickets = self._tickets_of(wanted, code)
            return Booked(self._insert(booking._replace(tickets=tickets)))
        if not can_wait or has_mode is WaitingMode.CLOSED:
            raise refusal
        ((kind, quantity),) = wanted
        size = min(self.capacities[index] for index in kind.draws)
        if quantity > size:
            raise GroupTooLarge(quantity, size)
        if quantity > 1 and self.is_plain:
            raise CountersMissing
        waiting = self._made(request, slot, wanted, BookingStatus.WAITING)
        closed = self.closed()
        self.bookings.append(waiting)
        self._let_gather(waiting, kind, closed)
        waiting = self.bookings[-1]
        self._tell(waiting.status, waiting, is_new=True)
        line = [each for each in self.waiting() if self._type_id(each) == kind.id]
        return Waiting(waiting, len(line))

    def _hold_for_team(self, request: Book) -> Outcome:
        """Keep places until an end that the team chose. The limits of people do not apply."""
        assert request.until is not None
        self._require_cancel()
        self._require_future(request.until)
        used = {each.slot for each in self.held(request.user_id)}
        code = self._code(request)
        wanted = [(self._find(kind, request, code), quantity) for kind, quantity in request.lines]
        for kind, _ in wanted:
            if kind.closed:
                raise SaleClosed(SaleState.CLOSED, kind.id)
        refusal = self._refusal(wanted)
        if refusal is not None:
            raise refusal
        self._require_uses(code, self._tickets_under(code, wanted))
        self.by_team.add(request.booking_id)
        slot = min({*range(len(used) + 1)} - used)
        return self._keep(request, slot, wanted, request.until, code)

    def _keep(
        self, request: Book, slot: int, wanted: Wanted, until: datetime, code: Code | None
    ) -> Outcome:
        held = self._made(request, slot, wanted, BookingStatus.HELD, code)
        held = held._replace(expires_at=until, places=self._places(wanted, code))
        return Kept(self._insert(held), self.at)

    def _made(
        self,
        request: Book,
        slot: int,
        wanted: Wanted,
        status: BookingStatus,
        code: Code | None = None,
    ) -> Booking:
        amount, currency = self._price(wanted, code)
        asked = sum(quantity for _, quantity in wanted)
        is_named = len(wanted) == 1 and (asked > 1 or not self.is_plain or code is not None)
        return Booking(
            request.booking_id,
            self.event_id,
            request.user_id,
            status,
            self.at,
            slot,
            asked,
            wanted[0][0].id if is_named else None,
            amount,
            currency,
            self.terms.refunds if amount else None,
            code_id=code.id if code else None,
            code_tickets=self._tickets_under(code, wanted),
        )

    def _insert(self, booking: Booking) -> Booking:
        self.bookings.append(booking)
        self._tell(booking.status, booking, is_new=True)
        return booking

    def _confirm(self, request: Confirm) -> Outcome:
        found = self._named(request)
        if found.status is BookingStatus.BOOKED:
            return Booked(found)
        if found.status is BookingStatus.WAITING:
            raise NotHeld(found.status)
        if found.status is BookingStatus.CANCELLED:
            raise HoldExpired("released")
        if found.amount and not request.by_team:
            assert found.currency is not None
            raise PaymentRequired(found.amount, found.currency)
        if found.status is BookingStatus.EXPIRED:
            found = found._replace(slot=self._slot_again(found))
        else:
            self._require_cancel()
        kept = self._kept_places(found)
        has_tickets = found.type_id is not None or len(kept) > 1
        booked = found._replace(
            status=BookingStatus.BOOKED,
            expires_at=None,
            places=(),
            tickets=self._issue(kept) if has_tickets else (),
        )
        self._put(booked)
        self._tell("confirmed", booked)
        return Booked(booked)

    def _slot_again(self, expired: Booking) -> int:
        if not ALLOWED[self.terms.state(self.at)].book:
            raise HoldExpired("sale")
        if self.waiting():
            raise HoldExpired("waiting_list")
        counted: dict[int, int] = {}
        for kind, _ in self._kept_places(expired):
            counted[kind] = counted.get(kind, 0) + 1
        wanted = [(self.types[kind], quantity) for kind, quantity in counted.items()]
        if any(kind.closed for kind, _ in wanted):
            raise HoldExpired("sale")
        if self._refusal(wanted) is not None:
            raise HoldExpired("sold_out")
        used = [code for code in self.codes if code.id == expired.code_id]
        try:
            for code in used:
                self._require_uses(code, expired.code_tickets)
        except TicketingError:
            raise HoldExpired("code") from None
        if not self.held(expired.user_id):
            return 0
        try:
            self._require_few(expired.user_id, expired.quantity)
            return self._free_slot(expired.user_id)
        except TicketingError:
            raise HoldExpired("limit") from None

    def _extend(self, request: Extend) -> Outcome:
        found = self._named(request)
        if found.status is BookingStatus.CANCELLED:
            raise HoldExpired("released")
        if found.status is BookingStatus.EXPIRED:
            raise HoldExpired("over")
        if found.status not in KEEPS:
            raise NotHeld(found.status)
        self._require_cancel()
        until = request.until
        if until is not None:
            self._require_future(until)
        else:
            usual = timedelta(minutes=self.terms.hold_minutes)
            until = min(self.at + usual, found.created_at + usual + usual + usual)
            if found.status is BookingStatus.OFFERED or until <= self._end(found):
                raise HoldLimitReached(self._end(found))
        extended = found._replace(expires_at=until)
        self._put(extended)
        self._tell("extended", extended)
        return Kept(extended, self.at)

    def _named(self, request: Confirm | Extend) -> Booking:
        for each in self.bookings:
            if each.id == request.booking_id and each.user_id == request.user_id:
                return each
        raise BookingNotFound

    def _require_future(self, until: datetime) -> None:
        if until <= self.at:
            raise ValidationFailed(
                errors=[
                    {
                        "in": "body",
                        "pointer": "#/expiresAt",
                        "type": "time_passed",
                        "detail": "Choose a time to come",
                    }
                ]
            )

    def _require_few(self, user_id: UUID, more: int) -> None:
        has, most = sum(each.quantity for each in self.held(user_id)), self.terms.max_tickets
        if has + more > most:
            raise LimitReached("tickets", most, has, more)

    @staticmethod
    def _end(booking: Booking) -> datetime:
        assert booking.expires_at is not None
        return booking.expires_at

    def _code(self, request: Book) -> Code | None:
        """Return the code that the request names, if it may be used now."""
        if request.code is None:
            return None
        for code in self.codes:
            if code.folded == request.code and code.active:
                if code.starts_at and self.at < code.starts_at:
                    raise CodeNotStarted(code.starts_at, self.at)
                if code.ends_at and self.at >= code.ends_at:
                    raise CodeExpired(code.ends_at)
                return code
        raise CodeUnknown

    @staticmethod
    def _is_under(code: Code, kind: TicketType) -> bool:
        is_named = code.type_ids is None or kind.id in code.type_ids
        return is_named and (code.kind is CodeKind.ACCESS or kind.amount > 0)

    def _tickets_under(self, code: Code | None, wanted: Wanted) -> int:
        """Return for how many of the places the code counts."""
        if code is None:
            return 0
        return sum(quantity for kind, quantity in wanted if self._is_under(code, kind))

    def _require_uses(self, code: Code | None, tickets: int) -> None:
        """Raise if the code can't be used for so many tickets more."""
        if code is None:
            return
        if tickets == 0:
            raise CodeNotApplicable
        using = [each for each in self.bookings if each.code_id == code.id]
        using = [each for each in using if each.status.is_active]
        sold = sum(each.code_tickets for each in using)
        if code.max_tickets is not None and tickets > code.max_tickets:
            raise CodeQuantityNotAllowed(tickets, code.max_tickets)
        if code.max_uses is not None and len(using) + 1 > code.max_uses:
            raise CodeUsedUp("uses", code.max_uses, len(using), 1)
        if code.max_tickets is not None and sold + tickets > code.max_tickets:
            raise CodeUsedUp("tickets", code.max_tickets, sold, tickets)

    def _prices(self, wanted: Wanted, code: Code | None = None) -> list[tuple[int, int]]:
        """Return the type and the price of each place."""
        return [
            (kind.id, self._reduced(code, kind))
            for kind, quantity in wanted
            for _ in range(quantity)
        ]

    def _reduced(self, code: Code | None, kind: TicketType) -> int:
        if code is None or code.kind is CodeKind.ACCESS or not self._is_under(code, kind):
            return kind.amount
        if code.percent is not None:
            # The parts of a discount of the whole are even too, so nothing is rounded.
            assert kind.amount * code.percent % 100 == 0
            return kind.amount - kind.amount * code.percent // 100
        assert code.per is DiscountPer.TICKET
        assert code.amount is not None
        return max(kind.amount - code.amount, 0)

    def _places(self, wanted: Wanted, code: Code | None = None) -> tuple[Place, ...]:
        """Return each place with its price, unless all are of one type and free."""
        places = tuple(Place(*each) for each in self._prices(wanted, code))
        return places if len(wanted) > 1 or any(each.amount for each in places) else ()

    def _kept_places(self, held: Booking) -> list[tuple[int, int]]:
        """Return the type and the price of each place that is kept."""
        if held.places:
            return [(self._of(each.type_id), each.amount) for each in held.places]
        return self._free(held.type_id, held.quantity)

    def _free(self, kind: int | None, quantity: int) -> list[tuple[int, int]]:
        return [(self._of(kind), 0)] * quantity

    def _of(self, kind: int | None) -> int:
        return min(self.types) if kind is None else kind

    def _tickets_of(self, wanted: Wanted, code: Code | None) -> tuple[Ticket, ...]:
        places = self._prices(wanted, code)
        has_tickets = len(places) > 1 or not self.is_plain or code is not None
        return self._issue(places) if has_tickets else ()

    def _require_open(self) -> None:
        if not ALLOWED[self.terms.state(self.at)].book:
            raise self.terms.refusal(self.at)

    def _free_slot(self, user_id: UUID) -> int:
        held, allowed = self.held(user_id), self.terms.max_bookings
        if len(held) >= allowed > 1:
            raise LimitReached("bookings", allowed, len(held), 1)
        if len(held) >= allowed:
            if held[0].status in KEEPS:
                raise AlreadyHeld(held[0].id, self._end(held[0]))
            raise AlreadyBooked if held[0].status is BookingStatus.BOOKED else AlreadyWaiting
        return min(set(range(allowed)) - {each.slot for each in held})

    def _find(self, type_id: int | None, request: Book, code: Code | None) -> TicketType:
        if type_id is None and len(self.types) > 1:
            shown = [each for each in self.types.values() if not each.hidden and not each.closed]
            if len(shown) != 1:
                raise TicketTypeRequired
            return shown[0]
        kind = self.types.get(min(self.types) if type_id is None else type_id)
        if kind is None:
            raise TicketTypeNotFound
        opens = code and code.kind is CodeKind.ACCESS and self._is_under(code, kind)
        if kind.hidden and not request.by_team and not opens:
            raise TicketTypeNotFound
        return kind

    def _require_on_sale(self, kind: TicketType, quantity: int) -> None:
        if kind.closed or (kind.closes_at and kind.closes_at <= self.at):
            raise SaleClosed(SaleState.CLOSED, kind.id)
        if kind.opens_at and kind.opens_at > self.at:
            raise SaleNotOpen(SaleState.SCHEDULED, kind.opens_at, self.at, kind.id)
        if not kind.min_per_booking <= quantity <= (kind.max_per_booking or quantity):
            raise QuantityNotAllowed(kind.id, kind.min_per_booking, kind.max_per_booking)

    def _price(self, wanted: Wanted, code: Code | None = None) -> tuple[int, str | None]:
        amount = sum(price for _, price in self._prices(wanted, code))
        currencies = {kind.currency for kind, _ in wanted if kind.amount > 0}
        assert len(currencies) <= 1
        return amount, currencies.pop() if amount else None

    def _refusal(self, wanted: Wanted) -> SoldOut | None:
        """Return why the places can't be had now, or None."""
        closed = self.closed()
        left = self.left()
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
        before = sum(each.amount for each in booking.tickets if not each.is_valid)
        price = sum(each.amount for each in gone) - before
        policy = booking.refunds
        if policy is None or (policy.until is not None and policy.until <= self.at):
            return booking.kept + price
        if policy.kind is RefundKind.FLAT_FEE:
            assert policy.fee is not None
            return min(policy.fee, before + price)
        if policy.kind is RefundKind.FULL_UNTIL:
            return booking.kept
        assert policy.percent == 50  # No price is odd, so nothing is rounded.
        return booking.kept + price // 2

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
            expires_at=None,
            tickets=tuple(each._replace(is_valid=False) for each in booking.tickets),
        )
        self._put(cancelled)
        self._tell("cancelled", cancelled)
        if not promotes:
            return Cancelled(cancelled)
        was_sold = booking.status is BookingStatus.BOOKED
        back = booking.amount - (kept - booking.kept) if was_sold else 0
        return Cancelled(cancelled, self.promote(), back)

    def _lacking(self, kind: TicketType, quantity: int, closed: Iterable[int]) -> set[int]:
        return {
            index
            for index in kind.draws
            if index in closed or self.capacities[index] - self.taken(index) < quantity
        }

    def _type_id(self, booking: Booking) -> int:
        return min(self.types) if booking.type_id is None else booking.type_id

    def _issue(self, places: Sequence[tuple[int, int]]) -> tuple[Ticket, ...]:
        """Make a ticket for each of these types and prices."""
        number = sum(len(each.tickets) for each in self.bookings)
        return tuple(
            Ticket(self.ticket_id(number + place), kind, place + 1, amount)
            for place, (kind, amount) in enumerate(places)
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
