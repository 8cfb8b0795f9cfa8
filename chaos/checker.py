"""Checks a history: is there an order of its operations, one at a time, that explains everything?

Wing and Gong, "Testing and verifying concurrent objects" (1993), with the memory of visited states
by Lowe, "Testing for linearizability" (2017). An operation takes effect at one moment between its
start and its end. If its outcome is unknown, it takes effect at any moment after its start, or
never. The rows of an event show the order in which bookings took effect (`seq`), so the search is
small.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import inf
from typing import Final, NamedTuple, TypeAlias

from chaos.history import Books, Operation

MAX_STEPS: Final = 400_000
"""States after which a search gives up. A round needs a few for each operation."""
BOOKED_NOW, JOINED = 201, 202
BOOKED, WAITING, CANCELLED = "booked", "waiting", "cancelled"


class State(NamedTuple):
    """An event at one moment. Bookings are numbers of rows."""

    made: int
    """Number of rows that exist already."""
    booked: frozenset[int]
    line: tuple[int, ...]


class _Node(NamedTuple):
    """Progress of a search: the known and unknown operations that are done, as bits."""

    done: int
    tried: int
    state: State


Step: TypeAlias = tuple[State, bool]
"""The state after an operation, and whether it changed."""


def judge(operations: Sequence[Operation], books: Sequence[Books]) -> list[str]:
    """Return sentences about what is wrong; none if the history is explained."""
    by_event: dict[int, list[Operation]] = defaultdict(list)
    for each in operations:
        by_event[each.event].append(each)
    found = []
    for its in books:
        wrong = list(_plainly_wrong(by_event[its.event], its))
        # The search would find the same faults, with a less clear message.
        wrong = wrong or _Search(by_event[its.event], its).run()
        found += [f"event {its.event}: {what}" for what in wrong]
    return found


def _plainly_wrong(operations: Sequence[Operation], books: Books) -> Iterator[str]:
    """Yield faults that can be seen without an order."""
    status = Counter(row.status for row in books.rows)
    if status[BOOKED] > books.total:
        yield f"{status[BOOKED]} places of {books.total} are sold"
    if books.total - books.available != status[BOOKED] or books.waiting != status[WAITING]:
        yield (
            f"its counters say {books.total - books.available} booked and {books.waiting} waiting,"
            f" its rows {status[BOOKED]} and {status[WAITING]}"
        )
    active = Counter(row.user for row in books.rows if row.status != CANCELLED)
    yield from (f"{user} has {n} active bookings" for user, n in active.items() if n > 1)
    rows = {row.id: row for row in books.rows}
    acknowledged: Counter[str] = Counter()
    unknown: Counter[str] = Counter()
    for each in operations:
        if each.answer is None:
            unknown[each.user] += each.verb == "book"
        elif each.answer["status"] in {200, 201, 202} and each.verb != "read":
            row = rows.get(each.answer["id"])
            if row is None or row.user != each.user:
                yield f"the {each.verb} of {each.user} with the response {each.answer} is lost"
            elif each.verb == "book":
                acknowledged[row.id] += 1
    yield from (f"booking {row} was returned {n} times" for row, n in acknowledged.items() if n > 1)
    own = Counter(row.user for row in books.rows if row.id not in acknowledged)
    for user, n in own.items():
        if n > unknown[user]:
            yield f"{user} has {n} unacknowledged bookings, but {unknown[user]} unanswered requests"


class _Search:
    """The search for an order of one event's operations."""

    def __init__(self, operations: Sequence[Operation], books: Books) -> None:
        # Requests that were refused without effect don't constrain the order.
        told = [each for each in operations if each.answer is None or _tells(each)]
        told.sort(key=lambda each: each.start)
        self.known = [each for each in told if each.is_known]
        self.unknown = [each for each in told if not each.is_known and each.verb != "read"]
        self.books = books
        self.rows = books.rows
        self.claimed = {
            each.answer["id"]
            for each in self.known
            if each.answer is not None and each.verb == "book" and "id" in each.answer
        }
        self.of_user: dict[str, list[int]] = defaultdict(list)
        for number, row in enumerate(self.rows):
            self.of_user[row.user].append(number)

    def run(self) -> list[str]:
        """Return no sentence, or one."""
        everything = (1 << len(self.known)) - 1
        stack = [_Node(self._settle(0, State(0, frozenset(), ())), 0, State(0, frozenset(), ()))]
        seen: set[_Node] = set()
        furthest = stack[0]
        while stack:
            node = stack.pop()
            if node in seen:
                continue
            seen.add(node)
            if len(seen) > MAX_STEPS:
                return [f"undecided after {MAX_STEPS} steps"]
            if node.done == everything and self._is_end(node.state):
                return []
            if node.done.bit_count() > furthest.done.bit_count():
                furthest = node
            stack += self._next(node)
        return [f"no order explains it: {self._say(furthest)}"]

    def _next(self, node: "_Node") -> Iterator["_Node"]:
        """Yield the possible next steps. The last one is tried first."""
        candidates, horizon = self._candidates(node.done)
        for number, each in reversed(list(enumerate(self.unknown))):
            if not node.tried >> number & 1 and each.start <= horizon:
                after = self._effect(each, node.state)
                if after is not None:
                    yield _Node(self._settle(node.done, after), node.tried | 1 << number, after)
        for number in sorted(candidates, key=lambda n: self.known[n].end, reverse=True):
            step = self._answered(self.known[number], node.state)
            if step is not None:
                done = self._settle(node.done | 1 << number, step[0])
                yield _Node(done, node.tried, step[0])

    def _settle(self, done: int, state: State) -> int:
        """Do all possible operations that change nothing, because they can't affect others."""
        while True:
            before = done
            for number in self._candidates(done)[0]:
                step = self._answered(self.known[number], state)
                if step is not None and not step[1]:
                    done |= 1 << number
            if done == before:
                return done

    def _candidates(self, done: int) -> tuple[list[int], float]:
        """Return the known operations that may be next, and the latest start of the next one."""
        found = []
        horizon = inf
        first = ((~done) & (done + 1)).bit_length() - 1
        for number in range(first, len(self.known)):
            each = self.known[number]
            if each.start > horizon:
                break
            if not done >> number & 1:
                found.append(number)
                horizon = min(horizon, each.end)
        return [number for number in found if self.known[number].start <= horizon], horizon

    def _active(self, user: str, state: State) -> int | None:
        for number in self.of_user[user]:
            if number in state.booked or number in state.line:
                return number
        return None

    def _has_place(self, state: State) -> bool:
        return len(state.booked) < self.books.total and not state.line

    def _answered(self, each: Operation, state: State) -> Step | None:
        """Return the step that gives exactly this response, if any."""
        answer = each.answer or {}
        if each.verb == "read":
            seen = (answer["available"], answer["waiting"])
            fits = seen == (self.books.total - len(state.booked), len(state.line))
            return (state, False) if fits else None
        active = self._active(each.user, state)
        if "code" in answer:
            return (state, False) if answer["code"] == self._refusal(each, state, active) else None
        if each.verb == "cancel":
            return self._cancelled(each, state, active)
        has_place = self._has_place(state)
        fits = (
            state.made < len(self.rows)
            and self.rows[state.made].id == answer["id"]
            and answer["status"] == (BOOKED_NOW if has_place else JOINED)
            and (has_place or answer["position"] == len(state.line) + 1)
        )
        after = self._book(state, active) if fits else None
        return None if after is None else (after, True)

    def _refusal(self, each: Operation, state: State, active: int | None) -> str | None:
        """Return the code with which the state refuses the operation."""
        if active is not None:
            return "already_booked" if active in state.booked else "already_waiting"
        came_before = any(number < state.made for number in self.of_user[each.user])
        return None if came_before else "booking_not_found"

    def _cancelled(self, each: Operation, state: State, active: int | None) -> Step | None:
        answer = each.answer or {}
        if active is None:
            # The last booking is cancelled again, and nobody is promoted.
            past = [n for n in self.of_user[each.user] if n < state.made]
            fits = past and self.rows[past[-1]].id == answer["id"] and answer["promoted"] == 0
            return (state, False) if fits else None
        promoted = int(active in state.booked and bool(state.line))
        if self.rows[active].id != answer["id"] or answer["promoted"] != promoted:
            return None
        after = self._cancel(state, active)
        return None if after is None else (after, True)

    def _effect(self, each: Operation, state: State) -> State | None:
        """Return the state after an operation of unknown outcome, if it can take effect."""
        active = self._active(each.user, state)
        if each.verb == "cancel":
            return None if active is None else self._cancel(state, active)
        if state.made == len(self.rows) or self.rows[state.made].id in self.claimed:
            return None
        return self._book(state, active) if self.rows[state.made].user == each.user else None

    def _book(self, state: State, active: int | None) -> State | None:
        if active is not None:
            return None
        if self._has_place(state):
            return State(state.made + 1, state.booked | {state.made}, state.line)
        return State(state.made + 1, state.booked, (*state.line, state.made))

    def _cancel(self, state: State, active: int) -> State | None:
        if self.rows[active].status != CANCELLED:
            return None
        if active in state.line:
            line = tuple(each for each in state.line if each != active)
            return State(state.made, state.booked, line)
        booked = state.booked - {active}
        if not state.line:
            return State(state.made, booked, ())
        head, *rest = state.line
        return State(state.made, booked | {head}, tuple(rest))

    def _is_end(self, state: State) -> bool:
        return state.made == len(self.rows) and all(
            row.status
            == (BOOKED if n in state.booked else WAITING if n in state.line else CANCELLED)
            for n, row in enumerate(self.rows)
        )

    def _say(self, node: "_Node") -> str:
        state = node.state
        booked, line = ([self.rows[n].id for n in some] for some in (state.booked, state.line))
        left = [self.known[number] for number in self._candidates(node.done)[0]]
        return (
            f"after {node.done.bit_count()} operations {booked} are booked, {line} wait,"
            f" {state.made} rows are made, and none of {left} fits"
        )


def _tells(each: Operation) -> bool:
    answer = each.answer or {}
    return each.verb == "read" or answer["status"] < 300 or answer["status"] in {404, 409}  # noqa: PLR2004


@dataclass(frozen=True, slots=True)
class Sighting:
    """An event and its rows, read in one statement under load."""

    event: int
    total: int
    available: int
    waiting: int
    booked_rows: int
    waiting_rows: int

    def wrong(self) -> list[str]:
        """Return sentences about states that must never be seen."""
        found = []
        if self.booked_rows > self.total or self.available < 0:
            found.append(f"{self.booked_rows} places of {self.total} were sold")
        if (self.total - self.available, self.waiting) != (self.booked_rows, self.waiting_rows):
            found.append(f"counters and rows disagreed: {self}")
        if self.available and self.waiting:
            found.append(f"places were free while people waited: {self}")
        return [f"event {self.event}: {what}" for what in found]
