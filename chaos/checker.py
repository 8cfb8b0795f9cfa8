"""Checks a history: is there an order of its operations, one at a time, that explains everything?

Wing and Gong, "Testing and verifying concurrent objects" (1993), with the memory of visited states
by Lowe, "Testing for linearizability" (2017). An operation takes effect at one moment between its
start and its end. If its outcome is unknown, it takes effect at any moment after its start, or
never. The rows of an event show the order in which bookings took effect (`seq`), so the search is
small.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import Final, NamedTuple

from chaos.history import Books, Operation
from chaos.model import BOOKED, CANCELLED, EXPIRED, HELD, OFFERED, WAITING, Sale, State, fits

MAX_STEPS: Final = 400_000
"""States after which a search gives up. A round needs a few for each operation."""


class _Node(NamedTuple):
    """Progress of a search: the known and unknown operations that are done, as bits."""

    done: int
    tried: int
    state: State


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
    yield from miscounted(books)
    yield from _too_many(operations, books)
    rows = {row.id: row for row in books.rows}
    acknowledged: Counter[str] = Counter()
    unknown: Counter[str] = Counter()
    for each in operations:
        if each.answer is None:
            unknown[each.user] += each.verb in {"book", "hold"}
        elif each.answer["status"] in {200, 201, 202} and each.verb != "read":
            row = rows.get(each.answer["id"])
            if row is None or row.user != each.user:
                yield f"the {each.verb} of {each.user} with the response {each.answer} is lost"
            elif each.verb in {"book", "hold"}:
                acknowledged[row.id] += 1
            elif each.verb == "confirm" and row.status not in {BOOKED, CANCELLED}:
                yield f"booking {row.id} was confirmed, and is {row.status}"
    yield from (f"booking {row} was returned {n} times" for row, n in acknowledged.items() if n > 1)
    own = Counter(row.user for row in books.rows if row.id not in acknowledged)
    for user, n in own.items():
        if n > unknown[user]:
            yield f"{user} has {n} unacknowledged bookings, but {unknown[user]} unanswered requests"


def _too_many(operations: Sequence[Operation], books: Books) -> Iterator[str]:
    """Yield the people who have more active bookings than they may."""
    active = Counter(row.user for row in books.rows if row.status not in {CANCELLED, EXPIRED})
    # The limits of people do not apply to the holds that the event's team makes.
    team = Counter(each.user for each in operations if each.until and each.verb == "hold")
    for user, n in active.items():
        if n > books.most + team[user]:
            yield f"{user} has {n} active bookings"


def miscounted(books: Books) -> Iterator[str]:
    """Yield faults of the rows, tickets and counters, compared with each other."""
    taken: Counter[int] = Counter()
    waits: Counter[int] = Counter()
    first = min(kind.id for kind in books.kinds)
    for row in books.rows:
        kind = first if row.kind is None else row.kind
        valid = Counter(each.kind for each in row.tickets if each.is_valid)
        has = Counter({kind: 1}) if row.status == BOOKED and not row.tickets else valid
        if row.status in {HELD, OFFERED}:
            kinds = (first if each is None else each for each in row.places)
            has += Counter(kinds) if row.places else Counter({kind: row.quantity})
        expected = row.quantity if row.status in {BOOKED, HELD, OFFERED} else 0
        if has.total() != expected:
            yield f"booking {row.id} is {row.status}, and has {has.total()} of {expected} places"
        taken += has
        waits[kind] += row.status == WAITING
    yield from _oversold(books, taken)
    if books.waiting != waits.total():
        yield f"its counters say {books.waiting} wait, its rows {waits.total()}"
    for each in books.kinds:
        if each.taken not in {None, taken[each.id]} or each.waiting not in {None, waits[each.id]}:
            yield (
                f"its counters say {each.taken} places of type {each.id} are taken and"
                f" {each.waiting} wait, its rows {taken[each.id]} and {waits[each.id]}"
            )


def overdue(books: Books, before: float) -> Iterator[str]:
    """Yield the holds and offers that are still kept though they ended before that time."""
    for row in books.rows:
        if row.status in {HELD, OFFERED} and row.ends is not None and row.ends < before:
            yield f"booking {row.id} is {row.status}, but ended {before - row.ends:.1f} s ago"


def _oversold(books: Books, taken: Mapping[int, int]) -> Iterator[str]:
    """Yield faults of the capacities, when so many places of each type are taken."""
    capacities = [(books.total, books.available, "")]
    capacities += [(each.capacity, each.available, f" of quota {each.id}") for each in books.quotas]
    for index, (capacity, available, name) in enumerate(capacities):
        sold = sum(taken[kind.id] for kind in books.kinds if index in kind.draws)
        if sold > capacity:
            yield f"{sold} places of {capacity}{name} are taken"
        if capacity - available != sold:
            yield f"its counters say {capacity - available} places{name} are taken, its rows {sold}"


class _Search:
    """The search for an order of one event's operations."""

    def __init__(self, operations: Sequence[Operation], books: Books) -> None:
        # Requests that were refused without effect don't constrain the order.
        told = [each for each in operations if each.answer is None or _tells(each)]
        told.sort(key=lambda each: each.start)
        self.known = [each for each in told if each.is_known]
        self.unknown = [each for each in told if not each.is_known and each.verb != "read"]
        self.sale = Sale(books)
        self.rows = books.rows
        self.claimed = {
            each.answer["id"]
            for each in self.known
            if each.answer is not None and each.verb in {"book", "hold"} and "id" in each.answer
        }

    def run(self) -> list[str]:
        """Return no sentence, or one."""
        everything = (1 << len(self.known)) - 1
        start = self.sale.start()
        stack = [_Node(self._settle(0, start), 0, start)]
        seen: set[_Node] = set()
        furthest = stack[0]
        while stack:
            node = stack.pop()
            if node in seen:
                continue
            seen.add(node)
            if len(seen) > MAX_STEPS:
                return [f"undecided after {MAX_STEPS} steps"]
            if node.done == everything and self.sale.is_end(node.state):
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
        for after in self.sale.expired(node.state, horizon):
            yield _Node(self._settle(node.done, after), node.tried, after)
        for number in sorted(candidates, key=lambda n: self.known[n].end, reverse=True):
            after = self._answered(self.known[number], node.state)
            if after is not None:
                done = self._settle(node.done | 1 << number, after)
                yield _Node(done, node.tried, after)

    def _settle(self, done: int, state: State) -> int:
        """Do all possible operations that change nothing, because they can't affect others."""
        while True:
            before = done
            for number in self._candidates(done)[0]:
                if self._answered(self.known[number], state) == state:
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

    def _answered(self, each: Operation, state: State) -> State | None:
        """Return the state after it, if it gets exactly this response."""
        served = self.sale.serve(each, state)
        return served[0] if served is not None and fits(each.answer or {}, served[1]) else None

    def _effect(self, each: Operation, state: State) -> State | None:
        """Return the state after an operation of unknown outcome, if it has an effect."""
        served = self.sale.serve(each, state)
        if served is None or served[0] == state:
            return None
        if each.verb in {"book", "hold"} and self.rows[state.made].id in self.claimed:
            return None
        return served[0]

    def _say(self, node: "_Node") -> str:
        state = node.state
        booked, line, over = (
            [self.rows[n].id for n in some] for some in (state.booked, state.line, state.over)
        )
        kept = [(self.rows[n].id, end) for end, n in state.kept]
        left = [self.known[number] for number in self._candidates(node.done)[0]]
        return (
            f"after {node.done.bit_count()} operations {booked} are booked, {line} wait,"
            f" {kept} are held or offered, {over} have expired,"
            f" {sorted(state.void)} are cancelled tickets, {state.free} places are free,"
            f" {state.made} rows are made, and none of {left} fits"
        )


def _tells(each: Operation) -> bool:
    answer = each.answer or {}
    told = {404, 409, 410, 422}
    return each.verb == "read" or answer["status"] < 300 or answer["status"] in told  # noqa: PLR2004


@dataclass(frozen=True, slots=True)
class Sighting:
    """An event and its rows, read in one statement under load."""

    event: int
    total: int
    available: int
    waiting: int
    taken_rows: int
    waiting_rows: int

    def wrong(self) -> list[str]:
        """Return sentences about states that must never be seen."""
        found = []
        if self.taken_rows > self.total or self.available < 0:
            found.append(f"{self.taken_rows} places of {self.total} were taken")
        if (self.total - self.available, self.waiting) != (self.taken_rows, self.waiting_rows):
            found.append(f"counters and rows disagreed: {self}")
        if self.available and self.waiting:
            found.append(f"places were free while people waited: {self}")
        return [f"event {self.event}: {what}" for what in found]
