"""The rules of a sale, one request at a time: which response each gets, and what it changes.

They are written anew from docs/reference/api.md, and share no code with the service, so that a
mistake in one of them is seen.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from math import inf
from typing import Any, Final, NamedTuple, TypeAlias

from chaos.history import Books, Operation, Row

BOOKED, WAITING, CANCELLED = "booked", "waiting", "cancelled"
HELD, OFFERED, EXPIRED = "held", "offered", "expired"
EARLY: Final = 0.05
"""Seconds by which two readings of the clock may differ."""

Lines: TypeAlias = Sequence[tuple[int, int]]
"""Ids of ticket types, each with a quantity."""
Answer: TypeAlias = Mapping[str, Any]
PERSONAL: Final = {"already_booked", "already_waiting", "already_held", "limit_reached"}
"""Refusals that rest on other bookings of the person."""


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
    kept: tuple[tuple[float, int], ...] = ()
    """Holds and offers, each with its end, by end. It is infinite if it is minutes away."""
    offered: frozenset[int] = frozenset()
    """Those of them that are offers."""
    over: frozenset[int] = frozenset()
    """Holds and offers that ended."""

    def ends(self, number: int) -> float | None:
        """Return the end of a hold or an offer, or None if it is not kept."""
        return next((end for end, each in self.kept if each == number), None)

    def keep(self, number: int, end: float) -> "State":
        """Return the state in which the hold has this end."""
        others = [each for each in self.kept if each[1] != number]
        return self._replace(kept=tuple(sorted([*others, (end, number)])))

    def drop(self, number: int) -> "State":
        """Return the state without the hold. Its places stay taken."""
        kept = tuple(each for each in self.kept if each[1] != number)
        return self._replace(kept=kept, offered=self.offered - {number})


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
        self.offers = books.offers
        self.lag = books.lag
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
        if (each.answer or {}).get("code") == "validation_failed":
            # The end that was chosen may be over when the request is decided.
            is_over = each.until is not None and each.end >= each.until - EARLY
            return (state, each.answer or {}) if is_over else None
        verbs = {
            "book": self._book,
            "hold": self._book,
            "cancel": self._cancel,
            "release": self._release,
            "confirm": self._confirm,
            "extend": self._extend,
        }
        served = verbs[each.verb](each, state)
        if served is None or self._overlooks(each, state, served[1]):
            return None
        return served

    def expired(self, state: State, now: float) -> Iterator[State]:
        """Yield the states that time can make until now: the first holds and offers end."""
        for count, (end, number) in enumerate(state.kept, 1):
            if end == inf or end > now + EARLY:
                return
            if self.rows[number].status in {HELD, OFFERED, WAITING}:
                return
            if count == len(state.kept) or state.kept[count][0] > end:
                yield self._expire(state, count)

    def _expire(self, state: State, count: int) -> State:
        gone, free = [number for _, number in state.kept[:count]], state.free
        for number in gone:
            free = self._moved(free, self.lines[number], -1)
        after = state._replace(
            free=free,
            kept=state.kept[count:],
            offered=state.offered.difference(gone),
            over=state.over.union(gone),
        )
        return self._promote(after)[0]

    def _overlooks(self, each: Operation, state: State, answer: Answer) -> bool:
        """Whether the response rests on places that were not kept any more when it was asked for.

        What would be the same without them may be served before anybody notices their end.
        """
        ended = {number for end, number in state.kept if end + self.lag < each.start}
        if each.verb in {"book", "hold"}:
            if answer.get("code") in PERSONAL:
                ended.intersection_update(self.of_user[each.user])
            return bool(ended) and answer["status"] != 201  # noqa: PLR2004 - HTTP
        if each.verb == "confirm" and not state.line:
            return False
        return each.verb in {"confirm", "extend"} and self._numbers.get(each.booking) in ended

    def is_end(self, state: State) -> bool:
        """Whether the rows are as they are at the end."""
        return state.made == len(self.rows) and all(
            row.status == self._status(n, state)
            and self._ends(n, state)
            and row.quantity == self._quantity(n, state)
            and all(
                ticket.is_valid == (row.status == BOOKED and ticket.id not in state.void)
                for ticket in row.tickets
            )
            for n, row in enumerate(self.rows)
        )

    def _status(self, number: int, state: State) -> str:
        if state.ends(number) is not None:
            return OFFERED if number in state.offered else HELD
        if number in state.over:
            return EXPIRED
        return BOOKED if number in state.booked else WAITING if number in state.line else CANCELLED

    def _ends(self, number: int, state: State) -> bool:
        """Whether a hold ends when its row says so."""
        end, stored = state.ends(number), self.rows[number].ends
        if end is None or end == inf:
            return True
        return stored is not None and abs(end - stored) < EARLY

    def _lines(self, row: Row) -> Counter[int]:
        """Return what was asked for. Only the tickets still show it if some were cancelled."""
        if row.tickets:
            return Counter(each.kind for each in row.tickets)
        if row.places:
            return Counter(self.first if kind is None else kind for kind in row.places)
        return Counter({self.first if row.kind is None else row.kind: row.quantity})

    def _quantity(self, number: int, state: State) -> int:
        void = sum(each.id in state.void for each in self.rows[number].tickets)
        return self.lines[number].total() - void

    def _active(self, user: str, state: State) -> list[int]:
        kept = {number for _, number in state.kept}
        return [n for n in self.of_user[user] if n in state.booked or n in state.line or n in kept]

    def _read(self, state: State) -> Answer:
        taken: Counter[int] = Counter()
        for number in (*state.booked, *(number for _, number in state.kept)):
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
        by_team = each.until is not None
        reasons = []
        if len(held) >= self.most and not by_team:
            reasons += self._has_enough(held, state)
        never_waits = by_team or each.has_code
        joined, refused = self._unless_room(lines, state, never_waits=never_waits)
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
        free = self._moved(state.free, self.lines[number], 1)
        after = state._replace(made=number + 1, free=free)
        if each.verb == "hold":
            after = after.keep(number, inf if each.until is None else each.until)
            return after, {**made, "status": 201, "became": HELD}
        after = after._replace(booked=state.booked | {number})
        return after, {**made, "status": 201, "became": BOOKED}

    def _has_enough(self, held: Sequence[int], state: State) -> list[Answer]:
        if self.most > 1:
            numbers = {"limit": self.most, "has": len(held), "requested": 1}
            return [{"status": 409, "code": "limit_reached", **numbers}]
        # There are several if the team holds places for a person.
        codes = {BOOKED: "already_booked", WAITING: "already_waiting"}
        found = [codes.get(self._status(number, state), "already_held") for number in held]
        return [{"status": 409, "code": code} for code in found]

    def _unless_room(
        self, lines: Lines, state: State, *, never_waits: bool
    ) -> tuple[Answer | None, list[Answer]]:
        """Return the place in the waiting list, or the refusals, if not all lines fit."""
        closed = self._closed(state)
        free: Sequence[int] = state.free
        short = []
        for kind, quantity in lines:
            short += [(kind, quantity, i) for i in self._lacking(kind, quantity, free, closed)]
            free = self._moved(free, {kind: quantity}, 1)
        if not short:
            return None, []
        if len(lines) > 1 or never_waits:
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
            past = [n for n in self.of_user[each.user] if n < state.made and n not in state.over]
            if not past:
                return state, {"status": 404, "code": "booking_not_found"}
            number = held[0] if held else past[-1]
        if number not in held:  # It is cancelled again.
            return state, self._cancelled(number, state, self._status(number, state), 0)
        if each.tickets:
            return self._cancel_tickets(number, each, state)
        return self._cancel_all(number, state)

    def _cancel_all(self, number: int, state: State) -> tuple[State, Answer] | None:
        if self.rows[number].status != CANCELLED:
            return None
        if number in state.booked:
            free = self._moved(state.free, self._held(number, state), -1)
            after = state._replace(booked=state.booked - {number}, free=free)
        elif state.ends(number) is not None:
            free = self._moved(state.free, self.lines[number], -1)
            after = state.drop(number)._replace(free=free)
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
        if number not in state.booked or not its.keys() >= set(each.tickets):
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

    def _release(self, each: Operation, state: State) -> tuple[State, Answer] | None:
        number = self._numbers.get(each.booking, len(self.rows))
        if number >= state.made:
            return None
        if number in state.booked or number in state.line:
            return state, self._not_held(number, state)
        if state.ends(number) is None:
            return state, self._cancelled(number, state, self._status(number, state), 0)
        return self._cancel_all(number, state)

    def _not_held(self, number: int, state: State) -> Answer:
        return {"status": 409, "code": "not_held", "state": self._status(number, state)}

    def _confirm(self, each: Operation, state: State) -> tuple[State, Answer] | None:
        number = self._numbers.get(each.booking, len(self.rows))
        if number >= state.made:
            return None
        done = {
            "status": 200,
            "id": self.rows[number].id,
            "quantity": self._quantity(number, state),
            "became": BOOKED,
        }
        if number in state.booked:
            return state, done
        if number in state.line:
            return state, self._not_held(number, state)
        if reasons := self._lost(number, state):
            told = (each.answer or {}).get("reason")
            return state, _expired(told if told in reasons else reasons[0])
        after = state
        if number in state.over:
            free = self._moved(state.free, self.lines[number], 1)
            after = state._replace(over=state.over - {number}, free=free)
        if self.rows[number].status not in {BOOKED, CANCELLED}:
            return None
        return after.drop(number)._replace(booked=state.booked | {number}), done

    def _lost(self, number: int, state: State) -> list[str]:
        """Return why a hold can't be confirmed any more; empty if it can."""
        if state.ends(number) is not None:
            return []
        if number not in state.over:
            return ["released"]
        reasons = ["waiting_list"] if state.line else []
        free = self._moved(state.free, self.lines[number], 1)
        if min(free) < 0:
            reasons.append("sold_out")
        if len(self._active(self.rows[number].user, state)) >= self.most:
            reasons.append("limit")
        return reasons

    def _extend(self, each: Operation, state: State) -> tuple[State, Answer] | None:
        number = self._numbers.get(each.booking, len(self.rows))
        if number >= state.made:
            return None
        if number in state.booked or number in state.line:
            return state, self._not_held(number, state)
        if state.ends(number) is None:
            return state, _expired("over" if number in state.over else "released")
        if each.until is None and number in state.offered:
            return state, {"status": 409, "code": "hold_limit_reached"}
        became = OFFERED if number in state.offered else HELD
        answer = {
            "status": 200,
            "id": self.rows[number].id,
            "quantity": self._quantity(number, state),
            "became": became,
        }
        return state.keep(number, inf if each.until is None else each.until), answer

    def _promote(self, state: State) -> tuple[State, int]:
        """Give free places to the heads of the lines, in order of joining, and count them.

        One that does not fit closes the capacities that lack room for it to everybody behind it.
        """
        served, left, free = set(), [], state.free
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
                served.add(number)
                free = self._moved(free, self.lines[number], 1)
        after = state._replace(line=tuple(left), free=free)
        if not self.offers:
            return after._replace(booked=state.booked | served), len(served)
        for number in served:
            after = after.keep(number, inf)
        return after._replace(offered=state.offered | served), len(served)


def _expired(reason: str) -> Answer:
    return {"status": 410, "code": "hold_expired", "reason": reason}
