"""The rules of a sale, one request at a time: which response each gets, and what it changes.

They are written anew from docs/reference/api.md, and share no code with the service, so that a
mistake in one of them is seen.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

from chaos.history import Books, Operation, Row

BOOKED, WAITING, CANCELLED = "booked", "waiting", "cancelled"

Lines: TypeAlias = Sequence[tuple[int, int]]
"""Ids of ticket types, each with a quantity."""
Answer: TypeAlias = Mapping[str, Any]


class State(NamedTuple):
    """An event at one moment. Bookings are numbers of rows."""

    made: int
    """Number of rows that exist already."""
    booked: frozenset[int]
    line: tuple[int, ...]
    """Bookings that wait, for any type, in order of joining."""
    void: frozenset[str]
    """Tickets that were cancelled while the rest of their booking stayed."""
    free: tuple[int, ...]
    """Places that are left: of the event, then of the quotas."""


def fits(answer: Answer, expected: Answer) -> bool:
    """Whether a response is the expected one, in the members that it has."""
    return answer.get("code") == expected.get("code") and all(
        value in wanted if isinstance(wanted := expected.get(name), range) else value == wanted
        for name, value in answer.items()
    )


class Sale:
    """The sale of an event whose rows are known from the end.

    They say which bookings were made, in which order, and for what. The rest is decided here.
    """

    def __init__(self, books: Books) -> None:
        """Start from the rows of the end, which also have the ids of bookings and tickets."""
        self.rows = books.rows
        self.most = books.most
        self.capacities = (books.total, *(each.capacity for each in books.quotas))
        self.quotas = [None, *(each.id if each.shared else None for each in books.quotas)]
        self._shared = [
            (each.id, index) for index, each in enumerate(books.quotas, 1) if each.shared
        ]
        self.draws = {each.id: each.draws for each in books.kinds}
        self.first = min(self.draws)
        self.lines = [self._lines(row) for row in self.rows]
        self._kinds = {each.id: each.kind for row in self.rows for each in row.tickets}
        self._numbers = {row.id: number for number, row in enumerate(self.rows)}
        self.of_user: dict[str, list[int]] = defaultdict(list)
        for number, row in enumerate(self.rows):
            self.of_user[row.user].append(number)

    def start(self) -> State:
        """Return the event before its first booking."""
        return State(0, frozenset(), (), frozenset(), self.capacities)

    def serve(self, each: Operation, state: State) -> tuple[State, Answer] | None:
        """Return the state after an operation and its response.

        None if the rows of the end show that it can't have happened in this state.
        """
        if each.verb == "read":
            return state, self._read(state)
        return (self._book if each.verb == "book" else self._cancel)(each, state)

    def is_end(self, state: State) -> bool:
        """Whether the rows are as they are at the end."""
        return state.made == len(self.rows) and all(
            row.status
            == (BOOKED if n in state.booked else WAITING if n in state.line else CANCELLED)
            and row.quantity == self._quantity(n, state)
            and all(
                ticket.is_valid == (row.status == BOOKED and ticket.id not in state.void)
                for ticket in row.tickets
            )
            for n, row in enumerate(self.rows)
        )

    def _lines(self, row: Row) -> Counter[int]:
        """Return what was asked for. Only the tickets still show it if some were cancelled."""
        if row.tickets:
            return Counter(each.kind for each in row.tickets)
        return Counter({self.first if row.kind is None else row.kind: row.quantity})

    def _quantity(self, number: int, state: State) -> int:
        void = sum(each.id in state.void for each in self.rows[number].tickets)
        return self.lines[number].total() - void

    def _active(self, user: str, state: State) -> list[int]:
        return [n for n in self.of_user[user] if n in state.booked or n in state.line]

    def _read(self, state: State) -> Answer:
        taken: Counter[int] = Counter()
        for number in state.booked:
            taken += self._held(number, state)
        waits = Counter(kind for number in state.line for kind in self.lines[number])
        return {
            "status": 200,
            "available": state.free[0],
            "waiting": len(state.line),
            "types": [
                [kind, self._left(kind, state.free), taken[kind], waits[kind]]
                for kind in sorted(self.draws)
            ],
            "quotas": [[quota, state.free[index]] for quota, index in sorted(self._shared)],
        }

    def _left(self, kind: int, free: Sequence[int]) -> int:
        return min(free[index] for index in self.draws[kind])

    def _held(self, number: int, state: State) -> Counter[int]:
        """Return the places of a booking that has them, by type."""
        tickets = self.rows[number].tickets
        if not tickets:
            return self.lines[number]
        return Counter(each.kind for each in tickets if each.id not in state.void)

    def _moved(self, free: Sequence[int], places: Mapping[int, int], sign: int) -> tuple[int, ...]:
        """Return what is left after these places were taken, or freed with a `sign` of -1."""
        left = list(free)
        for kind, quantity in places.items():
            for index in self.draws[kind]:
                left[index] -= sign * quantity
        return tuple(left)

    def _heads(self, line: Sequence[int]) -> Iterator[tuple[int, int, int]]:
        """Yield the first booking of the line of each type, with type and quantity."""
        seen = set()
        for number in line:
            ((kind, quantity),) = self.lines[number].items()
            if kind not in seen:
                seen.add(kind)
                yield number, kind, quantity

    def _lacking(
        self, kind: int, quantity: int, free: Sequence[int], closed: set[int]
    ) -> list[int]:
        return [i for i in self.draws[kind] if i in closed or free[i] < quantity]

    def _closed(self, state: State) -> set[int]:
        """Return the capacities without room for the heads of the lines, who come first."""
        closed: set[int] = set()
        for _, kind, quantity in self._heads(state.line):
            closed.update(self._lacking(kind, quantity, state.free, closed))
        return closed

    def _book(self, each: Operation, state: State) -> tuple[State, Answer] | None:
        held = self._active(each.user, state)
        lines = [(self.first if kind is None else kind, n) for kind, n in each.lines]
        reasons = [self._has_enough(held, state)] if len(held) >= self.most else []
        joined, refused = self._unless_room(lines, state)
        reasons += refused
        if reasons:
            # If several are true, the response may have any of them.
            told = each.answer or {}
            return state, next((reason for reason in reasons if fits(told, reason)), reasons[0])
        number = state.made
        if number == len(self.rows) or self.rows[number].user != each.user:
            return None
        if self.lines[number] != Counter(dict(lines)):
            return None
        made = {"id": self.rows[number].id, "quantity": self.lines[number].total()}
        if joined is not None:
            after = state._replace(made=number + 1, line=(*state.line, number))
            return after, {**joined, **made, "became": WAITING}
        after = state._replace(
            made=number + 1,
            booked=state.booked | {number},
            free=self._moved(state.free, self.lines[number], 1),
        )
        return after, {**made, "status": 201, "became": BOOKED}

    def _has_enough(self, held: Sequence[int], state: State) -> Answer:
        if self.most > 1:
            numbers = {"limit": self.most, "has": len(held), "requested": 1}
            return {"status": 409, "code": "limit_reached", **numbers}
        is_booked = held[0] in state.booked
        return {"status": 409, "code": "already_booked" if is_booked else "already_waiting"}

    def _unless_room(self, lines: Lines, state: State) -> tuple[Answer | None, list[Answer]]:
        """Return the place in the waiting list, or the refusals, if not all lines fit."""
        closed = self._closed(state)
        free: Sequence[int] = state.free
        short = []
        for kind, quantity in lines:
            short += [(kind, quantity, i) for i in self._lacking(kind, quantity, free, closed)]
            free = self._moved(free, {kind: quantity}, 1)
        if not short:
            return None, []
        if len(lines) > 1:
            return None, [
                {
                    "status": 409,
                    "code": "sold_out",
                    "requested": quantity,
                    # Bookings of other workers may have come in between.
                    "available": range(quantity),
                    "ticketTypeId": kind,
                    "quotaId": self.quotas[index],
                }
                for kind, quantity, index in short
            ]
        kind, quantity = lines[0]
        capacity = self._left(kind, self.capacities)
        if quantity > capacity:
            code = "group_too_large"
            numbers = {"requested": quantity, "capacity": capacity}
            return None, [{"status": 422, "code": code, **numbers}]
        waiting = sum(kind in self.lines[number] for number in state.line)
        return {"status": 202, "position": waiting + 1}, []

    def _cancel(self, each: Operation, state: State) -> tuple[State, Answer] | None:
        held = self._active(each.user, state)
        if each.booking:
            number = self._numbers.get(each.booking, len(self.rows))
            if number >= state.made:
                return None
        elif len(held) > 1:
            return state, {"status": 409, "code": "booking_ambiguous"}
        else:
            past = [n for n in self.of_user[each.user] if n < state.made]
            if not past:
                return state, {"status": 404, "code": "booking_not_found"}
            number = held[0] if held else past[-1]
        if number not in held:  # It is cancelled again.
            return state, self._cancelled(number, state, CANCELLED, 0)
        if each.tickets:
            return self._cancel_tickets(number, each, state)
        return self._cancel_all(number, state)

    def _cancel_all(self, number: int, state: State) -> tuple[State, Answer] | None:
        if self.rows[number].status != CANCELLED:
            return None
        if number in state.booked:
            free = self._moved(state.free, self._held(number, state), -1)
            after = state._replace(booked=state.booked - {number}, free=free)
        else:
            after = state._replace(line=tuple(each for each in state.line if each != number))
        after, promoted = self._promote(after)
        return after, self._cancelled(number, after, CANCELLED, promoted)

    def _cancel_tickets(
        self, number: int, each: Operation, state: State
    ) -> tuple[State, Answer] | None:
        row = self.rows[number]
        if not row.tickets and each.tickets == (row.id,):
            # One place of an event without further types: its ticket has the booking's id.
            return self._cancel_all(number, state)
        its = {ticket.id: ticket for ticket in row.tickets}
        if number in state.line or not its.keys() >= set(each.tickets):
            return state, {"status": 404, "code": "ticket_not_found"}
        gone = {id_ for id_ in each.tickets if id_ not in state.void}
        if not gone:
            return state, self._cancelled(number, state, BOOKED, 0)
        if len(gone) == self._held(number, state).total():
            return self._cancel_all(number, state)
        if any(its[id_].is_valid for id_ in gone):
            return None
        free = self._moved(state.free, Counter(its[id_].kind for id_ in gone), -1)
        after, promoted = self._promote(state._replace(void=state.void | gone, free=free))
        return after, self._cancelled(number, after, BOOKED, promoted)

    def _cancelled(self, number: int, state: State, became: str, promoted: int) -> Answer:
        return {
            "status": 200,
            "id": self.rows[number].id,
            "quantity": self._quantity(number, state),
            "became": became,
            "promoted": promoted,
        }

    def _promote(self, state: State) -> tuple[State, int]:
        """Give free places to the heads of the lines, in order of joining, and count them.

        One that does not fit closes the capacities that lack room for it to everybody behind it.
        """
        booked, left, free = set(state.booked), [], state.free
        closed: set[int] = set()
        held_up = set()
        for number in state.line:
            ((kind, quantity),) = self.lines[number].items()
            lacking = [] if kind in held_up else self._lacking(kind, quantity, free, closed)
            if lacking or kind in held_up:
                held_up.add(kind)
                closed.update(lacking)
                left.append(number)
            else:
                booked.add(number)
                free = self._moved(free, self.lines[number], 1)
        after = state._replace(booked=frozenset(booked), line=tuple(left), free=free)
        return after, len(state.line) - len(left)
