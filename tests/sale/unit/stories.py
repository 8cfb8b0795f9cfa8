"""Generated stories of events, told to the decisions and to the model at once."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import Enum, auto
from typing import NamedTuple, TypeAlias
from uuid import UUID

from hypothesis import note
from hypothesis import strategies as st

from tests.sale.unit.model import Model
from tests.sale.unit.rows import RefusedError, Rows
from ticketing.errors import AlreadyBooked, AlreadyHeld, AlreadyWaiting, CapacityBelowTaken
from ticketing.sale.inventory import resize
from ticketing.sale.inventory.book import Book
from ticketing.sale.inventory.cancel import Cancel, CancelBooking
from ticketing.sale.inventory.codes import Code, CodeKind, DiscountPer
from ticketing.sale.inventory.decision import Decision
from ticketing.sale.inventory.hold import Confirm, Expire, Extend
from ticketing.sale.inventory.kinds import InventoryRequest
from ticketing.sale.inventory.model import (
    Booked,
    BookingStatus,
    Cancelled,
    Counters,
    CountersMissing,
    Expired,
    Kept,
    Snapshot,
    Waiting,
)
from ticketing.sale.inventory.offer import Offer, TicketType
from ticketing.sale.inventory.terms import EventStatus, Terms, WaitingMode
from ticketing.sale.inventory.withdraw import Withdraw
from ticketing.sale.pricing import Policy, RefundKind

EVENT = 1
NOW = datetime(2026, 1, 1, tzinfo=UTC)
PEOPLE = [UUID(int=number) for number in range(1, 8)]
UNKNOWN = UUID(int=999)
ASKED = (Book, Cancel, CancelBooking, Withdraw, Confirm, Extend, Expire)
HAS_ONE = AlreadyBooked | AlreadyWaiting | AlreadyHeld
NO_TYPE = 999
MODES = list(WaitingMode)
NEXT_TICKET, OWN_ID, UNKNOWN_TICKET = 97, 98, 99
"""Picks of a ticket: of one that is issued next, of the booking itself, of one that is unknown."""


def ticket_id(number: int) -> UUID:
    return UUID(int=1_000_000 + number)


class Setup(NamedTuple):
    """An event at its start."""

    offer: Offer
    capacities: Sequence[int]
    terms: Terms
    codes: Sequence[Code]


class Ask(NamedTuple):
    """A request, before it is known which bookings there are."""

    kind: type[InventoryRequest]
    person: int
    """The index of a person. For a cancellation, among those who hold something."""
    lines: tuple[tuple[int | None, int], ...] = ((None, 1),)
    """Indexes of types."""
    by_team: bool = False
    booking: int = 0
    """The index among the person's bookings, the latest first; 3 for an unknown one."""
    tickets: tuple[int, ...] | None = None
    """The indexes among the booking's tickets."""
    holds: bool = False
    until: int | None = None
    """The end of a hold that the team chose, in minutes from now."""
    code: int | None = None
    """The index of a code; 3 for an unknown one."""


class What(Enum):
    """What is changed between batches."""

    CAPACITY = auto()
    CLOSED = auto()
    HIDDEN = auto()
    PRICE = auto()
    PAUSED = auto()
    MAX_BOOKINGS = auto()
    MAX_TICKETS = auto()
    MODE = auto()
    PATIENCE = auto()
    CODE_USES = auto()
    CODE_ACTIVE = auto()
    TIME = auto()
    CANCELLED = auto()


class Change(NamedTuple):
    """A change of the event."""

    what: What
    which: int
    """The index of a capacity or of a type."""
    to: int


Step: TypeAlias = Change | list[Ask]


class Story(NamedTuple):
    """An event and what happens to it."""

    setup: Setup
    steps: Sequence[Step]

    @property
    def length(self) -> int:
        """The number of requests and changes."""
        return sum(1 if isinstance(step, Change) else len(step) for step in self.steps)


quantities = st.sampled_from([1, 1, 1, 2, 2, 3, 4])
POLICIES = [
    None,
    Policy(RefundKind.FULL_UNTIL, NOW + timedelta(minutes=1)),
    Policy(RefundKind.FULL_UNTIL, NOW),
    Policy(RefundKind.PERCENTAGE, NOW + timedelta(minutes=1), percent=50),
    Policy(RefundKind.FLAT_FEE, fee=600),
]
people = st.integers(0, len(PEOPLE) - 1)
moments = st.sampled_from([*[None] * 8, NOW, NOW + timedelta(minutes=2)])


@st.composite
def offers(draw: st.DrawFn, *, few: int) -> tuple[Offer, list[int]]:
    """An offer with up to 4 types, and the capacities of its quotas: some are just `few`."""
    kind = draw(st.integers(0, 4))
    if kind == 0:
        return Offer({5: TicketType(5)}, {}), []
    if kind <= 2:
        # Always on sale, so that many wait.
        amount = draw(st.sampled_from([0, 0, 500]))
        return Offer(
            {5: TicketType(5, 0, (0,), amount, "EUR" if amount else None)}, {}, is_plain=False
        ), []
    quotas = draw(st.lists(st.integers(few, 6 + few), max_size=3))
    slots = draw(st.permutations(range(5)))[: draw(st.integers(1, 4))]
    types = {}
    for number, slot in enumerate(slots):
        drawn = draw(st.sets(st.integers(1, len(quotas)), max_size=2)) if quotas else ()
        least = draw(st.sampled_from([1, 1, 1, 1, 1, 2]))
        amount = draw(st.sampled_from([0, 0, 0, 0, 500, 700]))
        types[10 + number] = TicketType(
            10 + number,
            slot,
            (0, *sorted(drawn)),
            amount,
            "EUR" if amount else None,
            least,
            draw(st.sampled_from([None, None, least, 3])),
            draw(moments),
            draw(moments.map(lambda at: at and at + timedelta(minutes=2))),
            draw(st.sampled_from([*[False] * 5, True])),
            draw(st.sampled_from([*[False] * 8, True])),
        )
    return Offer(types, {slot: 70 + slot for slot in range(len(quotas))}, is_plain=False), quotas


modes = st.sampled_from(
    [*[WaitingMode.AUTO] * 3, *[WaitingMode.OFFER] * 4, WaitingMode.CLOSED],
)
# Without any patience a group is passed in the decision that first meets it, which may lack those
# behind it. The next look, which is due at once, goes on: see `test_hold_examples.py`.
patiences = st.sampled_from([None, 1, 1, 2])


@st.composite
def codes(draw: st.DrawFn, *, id: int) -> Code:  # noqa: A002 - of the code
    """A code whose discount leaves no odd price: nothing is rounded."""
    kind = draw(st.sampled_from(CodeKind))
    percent, amount, per = draw(
        st.sampled_from(
            [
                (20, None, DiscountPer.TICKET),
                (100, None, DiscountPer.BOOKING),
                (50, None, DiscountPer.BOOKING),
                (None, 600, DiscountPer.TICKET),
            ]
        )
    )
    return Code(
        id,
        f"code{id}",
        kind,
        None if kind is CodeKind.ACCESS else percent,
        None if kind is CodeKind.ACCESS else amount,
        per,
        draw(st.sampled_from([None, None, (5, 10), (11, 12)])),
        draw(moments),
        draw(moments.map(lambda at: at and at + timedelta(minutes=3))),
        draw(st.sampled_from([None, 1, 2, 3])),
        draw(st.sampled_from([None, None, 2, 4])),
    )


@st.composite
def setups(draw: st.DrawFn, *, few: int = 0, most_bookings: int = 3) -> Setup:
    offer, quotas = draw(offers(few=few))
    most = draw(st.sampled_from([1, 1, *range(2, most_bookings + 1)]))
    terms = Terms(
        closes_at=draw(st.sampled_from([*[None] * 5, NOW + timedelta(minutes=5)])),
        max_bookings=most,
        max_tickets=draw(st.sampled_from([2, 4, 10, 10])),
        had_several=most > 1,
        ends_at=draw(st.sampled_from([*[None] * 7, NOW + timedelta(minutes=7)])),
        waiting=WaitingMode.AUTO if offer.is_plain else draw(modes),
        hold_minutes=draw(st.integers(1, 2)),
        offer_minutes=draw(st.integers(1, 2)),
        patience_minutes=draw(patiences),
        refunds=draw(st.sampled_from(POLICIES)),
    )
    made = [draw(codes(id=number)) for number in range(draw(st.sampled_from([0, 2, 3, 3])))]
    return Setup(offer, [draw(st.integers(1 + few, 8 + few)), *quotas], terms, made)


kinds = st.sampled_from([*range(4), *range(4), NO_TYPE])
one_type = st.tuples(st.tuples(kinds, quantities))
several_types = st.dictionaries(st.integers(0, 3), quantities, min_size=1, max_size=3).map(
    lambda wanted: tuple(wanted.items())
)
unnamed = quantities.map(lambda quantity: ((None, quantity),))
lines = st.sampled_from([one_type, one_type, one_type, several_types, unnamed]).flatmap(
    lambda kind: kind
)
picks = st.sampled_from([0, 1, 2, 3, NEXT_TICKET, OWN_ID, UNKNOWN_TICKET])
tickets = st.sampled_from(
    [st.none(), *[st.sampled_from([(0,), (1,), (0, 1), (0, 2), (2, 1, 1)])] * 3, st.lists(picks)]
).flatmap(lambda kind: kind.map(lambda some: some if some is None else tuple(some)))


def _cancel(person: int, booking: int, picks: tuple[int, ...] | None) -> Ask:
    return Ask(CancelBooking, person, booking=booking, tickets=picks)


# `builds` of a class would also generate the fields that have a default.
named_codes = st.sampled_from([*[None] * 8, 0, 0, 0, 1, 1, 2, 3])
books = st.tuples(people, lines, st.sampled_from([False, False, True]), named_codes).map(
    lambda of: Ask(Book, *of[:3], code=of[3])
)
untils = st.sampled_from([*[None] * 9, 1, 2, 4, 9, 0])
holds = st.tuples(people, lines, st.booleans(), untils, named_codes).map(
    lambda of: Ask(Book, of[0], of[1], of[2], holds=True, until=of[3], code=of[4])
)
confirms = st.tuples(people, st.booleans(), st.sampled_from([*[0] * 9, 2, 2, 3])).map(
    lambda of: Ask(Confirm, of[0], by_team=of[1], booking=of[2])
)
extensions = st.tuples(people, st.sampled_from([*[0] * 9, 2, 3]), untils).map(
    lambda of: Ask(Extend, of[0], booking=of[1], until=of[2])
)
cancels = people.map(lambda person: Ask(Cancel, person))
partial_cancels = st.tuples(people, st.integers(0, 3), tickets).map(lambda of: _cancel(*of))
others = st.tuples(
    st.sampled_from([Withdraw, Book, CancelBooking, Confirm, Expire, Expire]), people
).map(lambda of: Ask(*of))
asks = st.sampled_from(
    [
        *[books] * 7,
        *[holds] * 5,
        *[confirms] * 4,
        extensions,
        *[cancels] * 3,
        *[partial_cancels] * 3,
        others,
    ],
).flatmap(lambda kind: kind)
withdrawals = st.tuples(st.sampled_from([Withdraw, Withdraw, Withdraw, Book, Cancel]), people).map(
    lambda of: Ask(*of)
)
changes = st.builds(
    Change,
    st.sampled_from(
        [
            What.CAPACITY,
            What.CLOSED,
            What.MODE,
            *(each for each in What if each != What.CANCELLED),
        ]
    ),
    st.integers(0, 4),
    st.integers(0, 9),
)
times = st.builds(Change, st.just(What.TIME), st.just(0), st.sampled_from([3, 6, 6, 12, 15]))
batches = st.lists(asks, min_size=1, max_size=8)
endings: st.SearchStrategy[list[Step]] = st.just([]) | st.lists(
    st.lists(withdrawals, min_size=1, max_size=6), min_size=1, max_size=3
).map(lambda last: [Change(What.CANCELLED, 0, 0), *last])
stories = st.builds(
    lambda setup, steps, ending: Story(setup, [*steps, *ending]),
    setups(),
    st.lists(
        st.sampled_from([*[batches] * 4, changes, changes, times, times]).flatmap(
            lambda kind: kind
        ),
        min_size=2,
        max_size=16,
    ),
    endings,
)
small_batches = st.lists(asks, min_size=1, max_size=4)
beginnings = st.builds(
    Story, setups(few=6, most_bookings=1), st.lists(batches, min_size=1, max_size=2)
)
"""Of events at which mostly nobody has to wait."""


@dataclass
class Told:
    """A story as far as it is told: the rows, and the model that they must equal."""

    rows: Rows
    model: Model
    requests: int = 0
    most_tickets: int = 0
    """The largest limits so far."""
    most_bookings: int = 0
    decisions: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    """How often each kind of outcome occurred."""

    @classmethod
    def begin(cls, setup: Setup) -> "Told":
        offer, capacities, terms, made = setup
        counters = None
        if not offer.is_plain:
            none = [0] * (1 + max(each.slot for each in offer.types.values()))
            counters = Counters(capacities[1:], capacities[1:], none, none)
        total = capacities[0]
        snapshot = Snapshot(EVENT, 1, total, total, 0, terms, offer, counters)
        model = Model(
            EVENT,
            terms,
            dict(offer.types),
            dict(offer.quotas),
            list(capacities),
            offer.is_plain,
            NOW,
            ticket_id,
            list(made),
        )
        rows = Rows(snapshot, NOW, ticket_id, codes={each.id: each for each in made})
        told = cls(rows, model)
        told.allow()
        return told

    def allow(self) -> None:
        self.most_tickets = max(self.most_tickets, self.model.terms.max_tickets)
        self.most_bookings = max(self.most_bookings, self.model.terms.max_bookings)

    def make(self, asked: Sequence[Ask]) -> list[InventoryRequest]:
        """Make the requests of a batch."""
        made: list[InventoryRequest] = []
        for ask in asked:
            self.requests += 1
            made.append(self._make(ask, made))
        return made

    def _make(self, ask: Ask, earlier: Sequence[InventoryRequest]) -> InventoryRequest:
        user = PEOPLE[ask.person]
        if ask.kind in {Confirm, Extend}:
            found = self._of_hold(ask, earlier)
            if found is not None:
                return found
            ask = Ask(Book, ask.person, ask.lines, ask.by_team, holds=True)
        if ask.kind in {Cancel, CancelBooking} and user != PEOPLE[-1]:
            # Of those who have something, if there are any.
            holding = [each for each in PEOPLE if self.model.held(each)]
            holding += [each.user_id for each in earlier if isinstance(each, Book)]
            if not holding:
                ask = Ask(Book, ask.person)
            else:
                user = holding[ask.person % len(holding)]
        if ask.kind is Book:
            types = list(self.model.types)
            lines = {
                None
                if kind is None
                else NO_TYPE
                if kind == NO_TYPE
                else types[kind % len(types)]: n
                for kind, n in ask.lines
            }
            booking_id = UUID(int=10_000 + self.requests)
            until = None if ask.until is None else self._moment(ask.until)
            # At other events a person's second booking is seen only if it has the first slot.
            is_known = self.model.terms.had_several or not (
                self.model.held(user) or any(each.user_id == user for each in earlier)
            )
            return Book(
                EVENT,
                user,
                booking_id,
                tuple(lines.items()),
                ask.by_team,
                ask.holds,
                until if is_known else None,
                None if ask.code is None else f"code{ask.code}",
            )
        if ask.kind is not CancelBooking:
            return ask.kind(EVENT, user)  # type: ignore[call-arg]
        # The latest come first, among them those that the batch may make.
        ids = [
            each.booking_id for each in earlier if isinstance(each, Book) and each.user_id == user
        ]
        ids = [*(each.id for each in self.model.held(user)), *ids]
        known = ask.booking < 3 and ids
        booking_id = ids[-1 - ask.booking % len(ids)] if known else UNKNOWN
        if ask.tickets is None:
            return CancelBooking(EVENT, user, booking_id)
        return CancelBooking(
            EVENT, user, booking_id, [self._ticket(booking_id, pick) for pick in ask.tickets]
        )

    def _of_hold(self, ask: Ask, earlier: Sequence[InventoryRequest]) -> InventoryRequest | None:
        """Make a request about a hold or an offer, or about one that was, if there are any."""
        found = [
            (each.user_id, each.id)
            for each in self.model.bookings
            if each.status in {BookingStatus.HELD, BookingStatus.OFFERED, BookingStatus.EXPIRED}
        ]
        found += [
            (each.user_id, each.booking_id)
            for each in earlier
            if isinstance(each, Book) and each.holds
        ]
        if ask.booking == 2:
            found = [(each.user_id, each.id) for each in self.model.bookings]
        user, booking_id = PEOPLE[ask.person], UNKNOWN
        if ask.booking < 3:
            if not found:
                return None
            user, booking_id = found[-1 - ask.person % len(found)]
        if ask.kind is Confirm:
            return Confirm(EVENT, user, booking_id, ask.by_team)
        until = None if ask.until is None else self._moment(ask.until)
        return Extend(EVENT, user, booking_id, until)

    def _moment(self, minutes: int) -> datetime:
        return self.model.at + timedelta(minutes=minutes)

    def _ticket(self, booking_id: UUID, pick: int) -> UUID:
        of_it = self.rows.read(booking_id).tickets if booking_id in self.rows.bookings else ()
        if pick == OWN_ID:
            return booking_id
        if pick == UNKNOWN_TICKET:
            return UNKNOWN
        if pick == NEXT_TICKET or not of_it:
            return ticket_id(len(self.rows.tickets) + pick % 2)
        return of_it[pick % len(of_it)].id

    def serve(self, requests: Sequence[InventoryRequest]) -> None:
        """Serve a batch at once, and its requests one by one, and compare."""
        rows, model = self.rows, self.model
        model.facts = []
        version, before = rows.snapshot.version, list(model.bookings)
        try:
            decision = rows.commit(requests)
        except RefusedError:
            middle = len(requests) // 2
            assert middle
            self.serve(requests[:middle])
            self.serve(requests[middle:])
            return
        self.decisions += 1
        model.look()
        self.outcomes.update(f"({fact.name})" for fact in decision.facts)
        self.outcomes.update(kind_of(outcome) for outcome in decision.outcomes)
        answers = zip(requests, decision.outcomes, strict=True)
        for model.request, (request, outcome) in enumerate(answers):
            self._count_confirmed(request, outcome)
            expected = model.serve(request)
            if isinstance(expected, AlreadyBooked | AlreadyWaiting | AlreadyHeld) and seen(
                outcome
            ) != seen(expected):
                # What the person holds was not read, and the request was refused without it.
                expected = model.serve_newcomer(request)
                assert isinstance(outcome, Exception)
            assert seen(outcome) == seen(expected), request
        self._compare_facts(decision)
        has_changed = model.bookings != before or bool(model.facts)
        assert not (decision.is_empty and has_changed)
        assert decision.is_empty or has_changed or decision.moves_expiry
        assert rows.snapshot.version == version + (not decision.is_empty)
        self.check()
        self._check_looked()
        again = [
            request
            for request, outcome in zip(requests, decision.outcomes, strict=True)
            if isinstance(outcome, CountersMissing)
        ]
        if again and rows.snapshot.counters is None:
            rows.give_counters()
            model.give_counters()
            model.terms = rows.snapshot.terms
        for request in again:
            self.serve([request])

    def _count_confirmed(self, request: InventoryRequest, outcome: object) -> None:
        """Count the bookings that were made from holds and offers, by what they were."""
        if isinstance(request, Confirm) and isinstance(outcome, Booked):
            (was,) = [each for each in self.model.bookings if each.id == request.booking_id]
            self.outcomes[f"Confirmed, was {was.status}"] += 1

    def _compare_facts(self, decision: Decision) -> None:
        """Compare what is told. Groups that were passed are told of as far as they were read."""
        told, expected = (
            [each for each in facts if each.name != "passed"]
            for facts in (decision.facts, self.model.facts)
        )
        assert told == expected
        rest = iter(self.model.facts)
        assert all(each in rest for each in decision.facts)

    def _check_looked(self) -> None:
        """Check what holds after a decision at this time, but not after time alone."""
        for each in self.rows.kept():
            assert each.expires_at is not None
            is_over = self.model.terms.status is EventStatus.CANCELLED
            assert each.expires_at > self.model.at or is_over

    def check(self) -> None:
        """Compare all rows with the model, and the counters with the rows."""
        rows, model = self.rows, self.model
        assert rows.all() == model.bookings
        assert rows.snapshot.total == model.capacities[0]
        rows.check()
        first, known = model.first_end(), rows.snapshot.next_expiry
        if first is not None and model.terms.status is not EventStatus.CANCELLED:
            assert known is not None
            assert known <= first
        if known is None or known > model.at:
            model.closed()  # It asserts that nobody who waits could be served.
        for person in PEOPLE:
            held = model.held(person)
            assert len(held) == len({each.slot for each in held})
            held = [each for each in held if each.id not in model.by_team]
            assert len(held) <= self.most_bookings
            assert sum(each.quantity for each in held) <= self.most_tickets

    def change(self, change: Change) -> None:
        """Change the event, and serve those who wait."""
        model, (what, which, to) = self.model, change
        model.facts, model.request = [], None
        if what is What.CAPACITY:
            self._resize(which % len(model.capacities), to)
        elif what is What.TIME:
            self.rows.at = model.at = model.at + timedelta(seconds=10 * to)
        elif what in {What.CODE_USES, What.CODE_ACTIVE}:
            self._change_code(what, which, to)
        elif what in {What.CLOSED, What.HIDDEN, What.PRICE}:
            if not model.is_plain:
                self._offer(what, list(model.types.values())[which % len(model.types)], to)
        elif what is not What.MODE or self._may_change_mode(to):
            self._terms(revised(model.terms, what, to))
            if what not in {What.PAUSED, What.CANCELLED} and not model.is_plain:
                self._serve_line(1 + to)
        self.check()

    def _change_code(self, what: What, which: int, to: int) -> None:
        codes = self.model.codes
        if not codes:
            return
        place = which % len(codes)
        code = self.rows.codes[codes[place].id]
        if what is What.CODE_ACTIVE:
            code = code._replace(active=not code.active)
        else:
            code = code._replace(max_uses=None if to > 5 else max(to, 1))
        codes[place] = self.rows.codes[code.id] = code

    def _may_change_mode(self, to: int) -> bool:
        """Do as `_write`: an event that makes offers has counters."""
        if MODES[to % 3] is WaitingMode.OFFER and self.rows.snapshot.counters is None:
            self.rows.give_counters()
            self.model.give_counters()
            self.model.terms = self.rows.snapshot.terms
        return True

    def _terms(self, terms: Terms) -> None:
        self.model.terms = terms._replace(revision=terms.revision + 1)
        self.rows.snapshot = self.rows.snapshot._replace(terms=self.model.terms)
        self.allow()

    def _offer(self, what: What, kind: TicketType, to: int) -> None:
        if what is What.CLOSED:
            kind = kind._replace(closed=not kind.closed)
        elif what is What.HIDDEN:
            kind = kind._replace(hidden=not kind.hidden)
        else:
            amount = to // 3 * 100
            kind = kind._replace(amount=amount, currency="EUR" if amount else None)
        now = self.rows.snapshot
        self.model.types[kind.id] = kind
        self.rows.snapshot = now._replace(offer=now.offer._replace(types=dict(self.model.types)))
        self._terms(self.model.terms)
        self._serve_line(1 + to)

    def _resize(self, index: int, to: int) -> None:
        """Change a capacity, but not below what is taken."""
        now, model = self.rows.snapshot, self.model
        if now.counters is None:
            self._resize_plain(max(to, 1))
            return
        taken = model.taken(index)
        to = max(to, taken)
        model.capacities[index] = to
        capacity, available = list(now.counters.capacity), list(now.counters.available)
        if index:
            capacity[index - 1], available[index - 1] = to, to - taken
            counters = now.counters._replace(capacity=capacity, available=available)
            self.rows.snapshot = now._replace(counters=counters)
        else:
            self.rows.snapshot = now._replace(total=to, available=to - taken)
        self._terms(model.terms)
        self._serve_line(1 + to)

    def _resize_plain(self, to: int) -> None:
        rows, model = self.rows, self.model
        more = to - rows.snapshot.total
        if more >= 0:
            line = rows.line(more)
            decision = resize.grow(rows.snapshot, more, line=line, at=rows.at, new_id=rows.new_id())
        else:
            taken = model.taken(0)
            try:
                decision = resize.shrink(rows.snapshot, -more, at=rows.at, new_id=rows.new_id())
            except CapacityBelowTaken:
                assert taken > to
                return
            assert taken <= to
        assert decision.needs is None
        model.capacities[0] = to
        rows.snapshot = rows.snapshot._replace(total=to)
        # Written even if nobody is promoted.
        available, waiting = rows.snapshot.available - decision.taken, decision.after.waiting
        promoted = model.promote()
        assert list(decision.changes) == [each.id for each in promoted]
        if decision.is_empty:
            rows.snapshot = rows.snapshot._replace(available=available, waiting=waiting)
        else:
            rows.write(decision)
        assert decision.facts == model.facts

    def _serve_line(self, limit: int) -> None:
        """Do as `serve_line`: promote at most `limit` at once, until nobody can be."""
        rows, model = self.rows, self.model
        while rows.snapshot.waiting:
            model.facts = []
            line = rows.line(0, limit)
            decision = resize.serve(
                rows.snapshot, limit, line=line, at=rows.at, new_id=rows.new_id()
            )
            promoted = model.promote(limit)
            changed = [each for each, now in decision.changes.items() if now.to is not now.was]
            assert changed == [each.id for each in promoted]
            assert decision.needs is None
            rows.write(decision)
            self._compare_facts(decision)
            if decision.is_empty:
                break


def revised(terms: Terms, what: What, to: int) -> Terms:
    """Return the terms after a change."""
    match what:
        case What.PAUSED:
            return terms._replace(paused=to < 3)
        case What.MAX_BOOKINGS:
            most = 1 + to % 3
            return terms._replace(max_bookings=most, had_several=terms.had_several or most > 1)
        case What.MODE:
            return terms._replace(waiting=MODES[to % 3])
        case What.PATIENCE:
            return terms._replace(patience_minutes=[None, 1, 1, 2][to % 4])
        case What.MAX_TICKETS:
            return terms._replace(max_tickets=1 + to)
        case _:
            return terms._replace(status=EventStatus.CANCELLED)


def kind_of(outcome: object) -> str:
    name = type(outcome).__name__
    if isinstance(outcome, Cancelled):
        if outcome.booking.status is BookingStatus.BOOKED:
            name = "Cancelled in part"
        if outcome.promoted:
            name += ", others promoted"
    return name


def seen(outcome: object) -> object:
    """Return an outcome in a form that can be compared."""
    match outcome:
        case Booked() | Waiting() | Kept() | Expired():
            return outcome
        case Cancelled(booking=booking, promoted=promoted):
            return booking, list(promoted)
        case _:
            return type(outcome), getattr(outcome, "members", None)


def tell(story: Story) -> Told:
    """Tell the whole story. Raises AssertionError at the first difference."""
    note(str(story))
    told = Told.begin(story.setup)
    for step in story.steps:
        if isinstance(step, Change):
            told.change(step)
        else:
            told.serve(told.make(step))
    return told
