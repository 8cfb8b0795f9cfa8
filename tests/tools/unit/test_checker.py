"""The checker of the fault harness passes correct histories and fails wrong ones."""

from math import inf
from pathlib import Path
from typing import Any

import pytest
from chaos.checker import Sighting, judge
from chaos.history import Books, Operation, Row, Verb, load, save

EVENT = 1


def book(  # noqa: PLR0913 - so many parts
    user: str, start: float, end: float, status: int = 201, *, row: str = "", position: int = 0
) -> Operation:
    answer: dict[str, Any] = {"status": status, "id": row or f"{user}1"}
    if status == 202:
        answer["position"] = position
    return Operation("book", EVENT, user, start, end, answer)


def cancel(user: str, start: float, end: float, *, row: str = "", promoted: int = 0) -> Operation:
    answer = {"status": 200, "id": row or f"{user}1", "promoted": promoted}
    return Operation("cancel", EVENT, user, start, end, answer)


def refused(verb: Verb, user: str, start: float, end: float, code: str) -> Operation:
    status = 404 if code == "booking_not_found" else 409
    return Operation(verb, EVENT, user, start, end, {"status": status, "code": code})


def read(start: float, end: float, available: int, waiting: int) -> Operation:
    seen = {"status": 200, "available": available, "waiting": waiting}
    return Operation("read", EVENT, "", start, end, seen)


def unknown(verb: Verb, user: str, start: float) -> Operation:
    return Operation(verb, EVENT, user, start)


def books(total: int, *rows: str) -> Books:
    """Rows in the order of `seq`. "a1 booked" is the first row of person a."""
    made = []
    for row in rows:
        name, status = row.split()
        made.append(Row(name, EVENT, name[0], status))
    statuses = [row.status for row in made]
    return Books(EVENT, total, total - statuses.count("booked"), statuses.count("waiting"), made)


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
        "2 places of 1 are sold",
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
        Books(EVENT, 1, 1, 0, [Row("a1", EVENT, "a", "booked")]),
        "its counters say",
    ),
}


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
