"""The checker of the fault harness passes correct histories and fails wrong ones."""

from math import inf
from pathlib import Path

import pytest
from chaos.checker import Sighting, judge
from chaos.history import Books, Kind, Operation, Quota, Row, Ticket, Verb, load, save

from tests.operations import EVENT, book, cancel, read


def refused(verb: Verb, user: str, start: float, end: float, code: str) -> Operation:
    status = 404 if code == "booking_not_found" else 409
    return Operation(verb, EVENT, user, start, end, {"status": status, "code": code})


def unknown(verb: Verb, user: str, start: float) -> Operation:
    return Operation(verb, EVENT, user, start)


def books(total: int, *rows: str) -> Books:
    """Rows in the order of `seq`. "a1 booked" is the first row of person a."""
    made = []
    for row in rows:
        name, status = row.split()
        made.append(Row(name, EVENT, name[0], status))
    statuses = [row.status for row in made]
    return Books(
        EVENT, total, total - statuses.count("booked"), statuses.count("waiting"), tuple(made)
    )


GOOD = {
    "nothing": ([], books(1)),
    "one": ([book("a", 0, 1)], books(1, "a1 booked")),
    "a line": (
        [book("a", 0, 1), book("b", 2, 3, 202, position=1)],
        books(1, "a1 booked", "b1 waiting"),
    ),
    "two at once, the later answered first": (
        [book("a", 0, 3), book("b", 0, 1, 202, position=1)],
        books(1, "a1 booked", "b1 waiting"),
    ),
    "the head of the line is served": (
        [
            book("a", 0, 1),
            book("b", 2, 3, 202, position=1),
            book("c", 4, 5, 202, position=2),
            cancel("a", 6, 7, promoted=1),
        ],
        books(1, "a1 cancelled", "b1 booked", "c1 waiting"),
    ),
    "cancelling again": (
        [book("a", 0, 1), cancel("a", 2, 3), cancel("a", 4, 5)],
        books(1, "a1 cancelled"),
    ),
    "leaving the line": (
        [book("a", 0, 1), book("b", 2, 3, 202, position=1), cancel("b", 4, 5)],
        books(1, "a1 booked", "b1 cancelled"),
    ),
    "coming again": (
        [book("a", 0, 1), cancel("a", 2, 3), book("a", 4, 5, row="a2")],
        books(1, "a1 cancelled", "a2 booked"),
    ),
    "an unknown one that was done": ([unknown("book", "a", 0)], books(1, "a1 booked")),
    "an unknown one that was not": ([unknown("book", "a", 0)], books(1)),
    "an unknown one that was done late": (
        [unknown("book", "a", 0), book("b", 1, 2), refused("book", "a", 4, 5, "already_waiting")],
        books(1, "b1 booked", "a1 waiting"),
    ),
    "an unknown one, and then again": (
        [unknown("book", "a", 0), refused("book", "a", 1, 2, "already_booked")],
        books(1, "a1 booked"),
    ),
    "an unknown cancel promoted": (
        [book("a", 0, 1), book("b", 2, 3, 202, position=1), unknown("cancel", "a", 4)],
        books(1, "a1 cancelled", "b1 booked"),
    ),
    "an unknown cancel that never was": (
        [book("a", 0, 1), unknown("cancel", "a", 2), read(3, 4, 0, 0)],
        books(1, "a1 booked"),
    ),
    "refusals": (
        [
            refused("cancel", "a", 0, 1, "booking_not_found"),
            book("a", 2, 3),
            refused("book", "a", 4, 5, "already_booked"),
        ],
        books(1, "a1 booked"),
    ),
    "what was seen": (
        [read(0, 1, 1, 0), book("a", 2, 5), read(3, 4, 0, 0), read(6, 7, 0, 0)],
        books(1, "a1 booked"),
    ),
}

BAD = {
    "a booking is lost": ([book("a", 0, 1)], books(1), "is lost"),
    "a cancel is lost": (
        [book("a", 0, 1), cancel("a", 2, 3)],
        books(1, "a1 booked"),
        "no order",
    ),
    "a booking appears": ([], books(1, "a1 booked"), "unacknowledged"),
    "one intention is done twice": (
        [book("a", 0, 1), cancel("a", 2, 3)],
        books(2, "a1 cancelled", "a2 booked"),
        "unacknowledged",
    ),
    "one unknown intention is done twice": (
        [unknown("book", "a", 0), unknown("cancel", "a", 1)],
        books(1, "a1 cancelled", "a2 booked"),
        "2 unacknowledged bookings",
    ),
    "a place is sold twice": (
        [book("a", 0, 1), book("b", 0, 1)],
        books(1, "a1 booked", "b1 booked"),
        "2 places of 1 are taken",
    ),
    "a place was sold twice for a while": (
        [book("a", 0, 1), book("b", 2, 3), cancel("a", 4, 5)],
        books(1, "a1 cancelled", "b1 booked"),
        "no order",
    ),
    "one booking is given to two": (
        [book("a", 0, 1), book("a", 2, 3)],
        books(1, "a1 booked"),
        "returned 2 times",
    ),
    "somebody else's booking": (
        [book("a", 0, 1, row="b1"), unknown("book", "b", 0)],
        books(1, "b1 booked"),
        "is lost",
    ),
    "two active bookings": (
        [book("a", 0, 1), book("a", 2, 3, row="a2")],
        books(2, "a1 booked", "a2 booked"),
        "2 active bookings",
    ),
    "the line is jumped": (
        [
            book("a", 0, 1),
            book("b", 2, 3, 202, position=1),
            book("c", 4, 5, 202, position=2),
            cancel("a", 6, 7, promoted=1),
        ],
        books(1, "a1 cancelled", "b1 waiting", "c1 booked"),
        "no order",
    ),
    "the line is told wrongly": (
        [book("a", 0, 1), book("b", 2, 3, 202, position=2)],
        books(1, "a1 booked", "b1 waiting"),
        "no order",
    ),
    "a newcomer is served past the line": (
        [
            book("a", 0, 1),
            book("b", 2, 3, 202, position=1),
            unknown("cancel", "a", 4),
            book("c", 5, 6),
        ],
        books(1, "a1 cancelled", "b1 waiting", "c1 booked"),
        "no order",
    ),
    "nobody waits for a place that is free": (
        [book("a", 0, 1, 202, position=1)],
        books(1, "a1 waiting"),
        "no order",
    ),
    "the second before the first": (
        [book("a", 0, 1, 202, position=1), book("b", 2, 3)],
        books(1, "b1 booked", "a1 waiting"),
        "no order",
    ),
    "what was seen is old": (
        [book("a", 0, 1), read(2, 3, 1, 0)],
        books(1, "a1 booked"),
        "no order",
    ),
    "an effect before its cause": (
        [read(0, 1, 0, 0), unknown("book", "a", 2)],
        books(1, "a1 booked"),
        "no order",
    ),
    "refused for nothing": (
        [refused("book", "a", 0, 1, "already_booked")],
        books(1),
        "no order",
    ),
    "a wrong promotion is told": (
        [book("a", 0, 1), cancel("a", 2, 3, promoted=1)],
        books(1, "a1 cancelled"),
        "no order",
    ),
    "the counters are wrong": (
        [book("a", 0, 1)],
        Books(EVENT, 1, 1, 0, (Row("a1", EVENT, "a", "booked"),)),
        "its counters say",
    ),
}


# An event of 3 places with two types that share a quota of 2. B has its own quota of 2 too.
A, B = 10, 20
HALL, OWN = 100, 200


def lines(operation: Operation, *asked: tuple[int, int]) -> Operation:
    operation.lines = asked
    if operation.answer is not None and operation.answer["status"] < 300:
        operation.answer["quantity"] = sum(quantity for _, quantity in asked)
    return operation


def of_booking(cancelled: Operation, row: str, *tickets: str, quantity: int = 0) -> Operation:
    cancelled.booking, cancelled.tickets = row, tickets
    assert cancelled.answer is not None
    became = "booked" if quantity else "cancelled"
    cancelled.answer |= {"id": row, "became": became}
    if quantity:
        cancelled.answer["quantity"] = quantity
    return cancelled


def sold_out(user: str, start: float, end: float, **numbers: object) -> Operation:
    answer = {"status": 409, "code": "sold_out", **numbers}
    return Operation("book", EVENT, user, start, end, answer)


def too_large(user: str, start: float, end: float, requested: int, capacity: int) -> Operation:
    answer = {"status": 422, "code": "group_too_large"}
    answer |= {"requested": requested, "capacity": capacity}
    return Operation("book", EVENT, user, start, end, answer)


def row(name: str, status: str, kinds: str) -> Row:
    """`kinds` has the type of each place, in lower case if its ticket was cancelled."""
    ids = [{"a": A, "b": B}[kind.lower()] for kind in kinds]
    kind = ids[0] if len(set(ids)) == 1 else None
    if status == "waiting":
        return Row(name, EVENT, name[0], status, len(kinds), kind)
    tickets = tuple(
        Ticket(f"{name}.{n}", kind, letter.isupper())
        for n, (kind, letter) in enumerate(zip(ids, kinds, strict=True), 1)
    )
    valid = sum(ticket.is_valid for ticket in tickets)
    return Row(name, EVENT, name[0], status, valid or len(kinds), kind, tickets)


def hall(*rows: Row, **wrong: int) -> Books:
    """The event with these rows, and the counters that fit them, unless they are given."""
    tickets = [ticket for row in rows for ticket in row.tickets if ticket.is_valid]
    taken = {kind: sum(ticket.kind == kind for ticket in tickets) for kind in (A, B)}
    waits = {
        kind: sum((row.kind, row.status) == (kind, "waiting") for row in rows) for kind in taken
    }
    return Books(
        EVENT,
        total=3,
        available=3 - len(tickets),
        waiting=sum(waits.values()),
        rows=rows,
        quotas=(
            Quota(HALL, 2, wrong.get("shared", 2 - len(tickets))),
            Quota(OWN, 2, 2 - taken[B], shared=False),
        ),
        kinds=(
            Kind(A, (0, 1), taken[A], waits[A]),
            Kind(B, (0, 1, 2), wrong.get("taken", taken[B]), waits[B]),
        ),
    )


GOOD_TYPED = {
    "both types at once": (
        [lines(book("a", 0, 1), (A, 1), (B, 1))],
        hall(row("a1", "booked", "AB")),
    ),
    "one type waits for the place of the other": (
        [
            lines(book("a", 0, 1), (A, 1), (B, 1)),
            lines(book("b", 2, 3, 202, position=1), (A, 1)),
            lines(book("c", 4, 5, 202, position=1), (B, 1)),
            of_booking(cancel("a", 6, 7, promoted=1), "a1", "a1.2", quantity=1),
        ],
        hall(row("a1", "booked", "Ab"), row("b1", "booked", "A"), row("c1", "waiting", "B")),
    ),
    "a group that waits keeps the places from newcomers": (
        [
            lines(book("a", 0, 1), (A, 1)),
            lines(book("b", 2, 3, 202, position=1), (A, 2)),
            lines(book("c", 4, 5, 202, position=1), (B, 1)),
            of_booking(cancel("a", 6, 7, promoted=1), "a1"),
        ],
        hall(row("a1", "cancelled", "a"), row("b1", "booked", "AA"), row("c1", "waiting", "B")),
    ),
    "a group that leaves lets those behind it have the places": (
        [
            lines(book("a", 0, 1), (A, 1)),
            lines(book("b", 2, 3, 202, position=1), (A, 2)),
            lines(book("c", 4, 5, 202, position=1), (B, 1)),
            of_booking(cancel("b", 6, 7, promoted=1), "b1"),
        ],
        hall(
            row("a1", "booked", "A"),
            Row("b1", EVENT, "b", "cancelled", 2, A),
            row("c1", "booked", "B"),
        ),
    ),
    "refusals": (
        [
            lines(too_large("a", 0, 1, 3, 2), (A, 3)),
            lines(book("a", 2, 3), (A, 1)),
            lines(
                sold_out("b", 4, 5, requested=1, available=0, ticketTypeId=B, quotaId=HALL),
                *((A, 1), (B, 1)),
            ),
            lines(refused("book", "a", 6, 7, "already_booked"), (A, 1)),
        ],
        hall(row("a1", "booked", "A")),
    ),
    "a ticket is cancelled twice": (
        [
            lines(book("a", 0, 1), (A, 2)),
            of_booking(cancel("a", 2, 3), "a1", "a1.1", quantity=1),
            of_booking(cancel("a", 4, 5), "a1", "a1.1", quantity=1),
        ],
        hall(row("a1", "booked", "aA")),
    ),
    "all tickets one by one": (
        [
            lines(book("a", 0, 1), (A, 2)),
            of_booking(cancel("a", 2, 3), "a1", "a1.1", quantity=1),
            of_booking(cancel("a", 4, 5), "a1", "a1.2"),
        ],
        hall(Row("a1", EVENT, "a", "cancelled", 1, A, row("a1", "cancelled", "aa").tickets)),
    ),
    "an unknown cancel of a ticket promoted": (
        [
            lines(book("a", 0, 1), (A, 2)),
            lines(book("b", 2, 3, 202, position=1), (B, 1)),
            Operation("cancel", EVENT, "a", 4, booking="a1", tickets=("a1.2",)),
        ],
        hall(row("a1", "booked", "Aa"), row("b1", "booked", "B")),
    ),
}

BAD_TYPED = {
    "a place of the shared quota is sold twice though each type has room": (
        [lines(book("a", 0, 1), (A, 2)), lines(book("b", 2, 3), (B, 1))],
        hall(row("a1", "booked", "AA"), row("b1", "booked", "B")),
        "3 places of 2 of quota 100 are taken",
    ),
    "a place of the shared quota was sold twice for a while": (
        [
            lines(book("a", 0, 1), (A, 2)),
            lines(book("b", 2, 3), (B, 1)),
            of_booking(cancel("a", 4, 5), "a1", "a1.1", quantity=1),
        ],
        hall(row("a1", "booked", "aA"), row("b1", "booked", "B")),
        "no order",
    ),
    "a newcomer passes a group": (
        [
            lines(book("a", 0, 1), (A, 1)),
            lines(book("b", 2, 3, 202, position=1), (A, 2)),
            lines(book("c", 4, 5), (B, 1)),
        ],
        hall(row("a1", "booked", "A"), row("b1", "waiting", "AA"), row("c1", "booked", "B")),
        "no order",
    ),
    "one who waits passes a group": (
        [
            lines(book("a", 0, 1), (A, 2)),
            lines(book("b", 2, 3, 202, position=1), (A, 2)),
            lines(book("c", 4, 5, 202, position=1), (B, 1)),
            of_booking(cancel("a", 6, 7, promoted=1), "a1", "a1.1", quantity=1),
        ],
        hall(row("a1", "booked", "aA"), row("b1", "waiting", "AA"), row("c1", "booked", "B")),
        "no order",
    ),
    "a group is promoted in part": (
        [
            lines(book("a", 0, 1), (A, 2)),
            lines(book("b", 2, 3, 202, position=1), (A, 2)),
            of_booking(cancel("a", 4, 5, promoted=1), "a1", "a1.1", quantity=1),
        ],
        hall(row("a1", "booked", "aA"), row("b1", "booked", "A")),
        "no order",
    ),
    "a partial cancel frees twice": (
        [
            lines(book("a", 0, 1), (A, 2)),
            lines(book("b", 2, 3, 202, position=1), (B, 1)),
            lines(book("c", 4, 5, 202, position=2), (B, 1)),
            of_booking(cancel("a", 6, 7, promoted=1), "a1", "a1.1", quantity=1),
            of_booking(cancel("a", 8, 9, promoted=1), "a1", "a1.1", quantity=1),
            of_booking(cancel("b", 10, 11), "b1"),
        ],
        hall(row("a1", "booked", "aA"), row("b1", "cancelled", "b"), row("c1", "booked", "B")),
        "no order",
    ),
    "a partial cancel frees twice in the counters": (
        [
            lines(book("a", 0, 1), (A, 2)),
            of_booking(cancel("a", 2, 3), "a1", "a1.1", quantity=1),
        ],
        hall(row("a1", "booked", "aA"), shared=2),
        "its counters say 0 places of quota 100 are taken, its rows 1",
    ),
    "the counters of a type are wrong": (
        [lines(book("a", 0, 1), (B, 2))],
        hall(row("a1", "booked", "BB"), taken=1),
        "its counters say 1 places of type 20",
    ),
    "a booking lacks a ticket": (
        [lines(book("a", 0, 1), (A, 2))],
        hall(Row("a1", EVENT, "a", "booked", 2, A, (Ticket("a1.1", A),))),
        "has 1 of 2 places",
    ),
    "a cancelled booking has a valid ticket": (
        [lines(book("a", 0, 1), (A, 1)), of_booking(cancel("a", 2, 3), "a1")],
        hall(row("a1", "cancelled", "A")),
        "has 1 of 0 places",
    ),
    "another type than asked for": (
        [lines(book("a", 0, 1), (A, 1))],
        hall(row("a1", "booked", "B")),
        "no order",
    ),
    "the wrong ticket is cancelled": (
        [
            lines(book("a", 0, 1), (A, 2)),
            of_booking(cancel("a", 2, 3), "a1", "a1.1", quantity=1),
        ],
        hall(row("a1", "booked", "Aa")),
        "no order",
    ),
    "the position counts both types": (
        [
            lines(book("a", 0, 1), (A, 2)),
            lines(book("b", 2, 3, 202, position=1), (A, 1)),
            lines(book("c", 4, 5, 202, position=2), (B, 1)),
        ],
        hall(row("a1", "booked", "AA"), row("b1", "waiting", "A"), row("c1", "waiting", "B")),
        "no order",
    ),
    "sold out though there is room": (
        [
            lines(
                sold_out("a", 0, 1, requested=1, available=0, ticketTypeId=B, quotaId=HALL),
                *((A, 1), (B, 1)),
            ),
        ],
        hall(),
        "no order",
    ),
    "sold_out names the wrong numbers": (
        [
            lines(book("a", 0, 1), (A, 1)),
            lines(
                sold_out("b", 2, 3, requested=1, available=1, ticketTypeId=B, quotaId=HALL),
                *((A, 1), (B, 1)),
            ),
        ],
        hall(row("a1", "booked", "A")),
        "no order",
    ),
    "a group that fits is too large": (
        [lines(too_large("a", 0, 1, 2, 1), (A, 2))],
        hall(),
        "no order",
    ),
}
GOOD |= GOOD_TYPED
BAD |= BAD_TYPED


@pytest.mark.parametrize("name", GOOD)
def test_a_good_history_passes(name: str) -> None:
    operations, found = GOOD[name]
    assert judge(operations, [found]) == []


@pytest.mark.parametrize("name", BAD)
def test_a_bad_history_fails(name: str) -> None:
    operations, found, why = BAD[name]
    wrong = judge(operations, [found])
    assert wrong
    assert why in wrong[0]


@pytest.mark.parametrize("name", BAD)
def test_a_saved_history_gets_the_same_result(name: str, tmp_path: Path) -> None:
    operations, found, _ = BAD[name]
    save(tmp_path / "one.json", operations, [found], seed="a")
    assert load(tmp_path / "one.json") == (operations, [found])


def test_a_search_that_takes_too_long_is_no_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chaos.checker.MAX_STEPS", 1)
    operations, found = GOOD["a line"]
    assert "undecided" in judge(operations, [found])[0]


@pytest.mark.parametrize(
    ("seen", "why"),
    [
        (Sighting(EVENT, 1, 0, 0, 2, 0), "2 places of 1"),
        (Sighting(EVENT, 2, 1, 0, 2, 0), "disagreed"),
        (Sighting(EVENT, 2, 1, 1, 1, 1), "free while people waited"),
    ],
)
def test_responses_that_must_never_be_seen_are_reported(seen: Sighting, why: str) -> None:
    assert why in "".join(seen.wrong())
    assert Sighting(EVENT, 2, 0, 1, 2, 1).wrong() == []
    assert unknown("book", "a", 0).end == inf
