"""The checker of the fault harness passes correct histories of holds, and fails wrong ones."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from chaos.checker import judge, overdue
from chaos.history import Books, Operation, Row, Verb, load, save

from tests.operations import EVENT, book, cancel, read

END = 5.0
"""The end of a hold in most examples."""


def about(verb: Verb, user: str, start: float, end: float, became: str, **more: Any) -> Operation:  # noqa: ANN401 - JSON
    made = Operation(verb, EVENT, user, start, end, booking=f"{user}1")
    made.until = more.pop("until", None)
    made.answer = {"status": 200, "id": made.booking, "became": became, **more}
    return made


def hold(user: str, start: float, end: float, until: float | None = END) -> Operation:
    made = about("hold", user, start, end, "held", until=until)
    made.booking = ""
    made.answer = {**(made.answer or {}), "status": 201}
    return made


def waits(user: str, start: float, end: float, position: int = 1) -> Operation:
    return book(user, start, end, 202, position=position)


def over(verb: Verb, user: str, start: float, end: float, reason: str) -> Operation:
    answer = {"status": 410, "code": "hold_expired", "reason": reason}
    return Operation(verb, EVENT, user, start, end, answer, booking=f"{user}1")


def books(total: int, *rows: str, offers: bool = False, end: float = END) -> Books:
    """Rows in the order of `seq`. What is held, or has expired, has this end."""
    made = []
    for row in rows:
        name, status = row.split()
        has_end = status in {"held", "offered", "expired"}
        made.append(Row(name, EVENT, name[0], status, ends=end if has_end else None))
    taken = sum(row.status in {"booked", "held", "offered"} for row in made)
    waiting = sum(row.status == "waiting" for row in made)
    return Books(EVENT, total, total - taken, waiting, tuple(made), offers=offers)


HELD = hold("a", 0, 1)
WAITED = [hold("a", 0, 1), waits("b", 2, 3), waits("c", 3, 4, 2)]

GOOD = {
    "a hold is confirmed, twice": (
        [HELD, about("confirm", "a", 2, 3, "booked"), about("confirm", "a", 7, 8, "booked")],
        books(1, "a1 booked"),
    ),
    "a hold takes its place": (
        [HELD, read(2, 3, 0, 0), waits("b", 3, 4)],
        books(1, "a1 expired", "b1 booked"),
    ),
    "nobody has noticed its end": ([HELD, read(6, 7, 0, 0)], books(1, "a1 held")),
    "the next request has its place": (
        [HELD, read(6, 7, 0, 0), book("b", 8, 9)],
        books(1, "a1 expired", "b1 booked"),
    ),
    "it is confirmed late": (
        [HELD, read(6, 7, 1, 0), about("confirm", "a", 8, 9, "booked")],
        books(1, "a1 booked"),
    ),
    "it is confirmed too late": (
        [HELD, book("b", 6, 7), over("confirm", "a", 8, 9, "sold_out")],
        books(1, "a1 expired", "b1 booked"),
    ),
    "its person has booked since": (
        [HELD, book("a", 6, 7, row="a2"), over("confirm", "a", 8, 9, "limit")],
        books(2, "a1 expired", "a2 booked"),
    ),
    "it is extended": (
        [HELD, about("extend", "a", 2, 3, "held", until=9.0), read(6, 7, 0, 0)],
        books(1, "a1 expired", end=9.0),
    ),
    "it is released, twice": (
        [
            *WAITED,
            about("release", "a", 4, 4.5, "cancelled", promoted=1),
            about("release", "a", 6, 7, "cancelled", promoted=0),
        ],
        books(1, "a1 cancelled", "b1 booked", "c1 waiting"),
    ),
    "its place is offered, and the offer is accepted": (
        [*WAITED, about("confirm", "b", 6, 7, "booked")],
        books(1, "a1 expired", "b1 booked", "c1 waiting", offers=True),
    ),
    "an offer that ended goes to the next": (
        [
            *WAITED,
            about("extend", "b", 6, 7, "offered", until=8.0),
            over("confirm", "b", 9, 10, "sold_out"),
        ],
        books(1, "a1 expired", "b1 expired", "c1 offered", offers=True),
    ),
    "an end that was over before the request was served": (
        [
            Operation(
                *("hold", EVENT, "a", 0, 6),
                {"status": 422, "code": "validation_failed"},
                until=END,
            )
        ],
        books(1),
    ),
}

BAD = {
    "a place is taken again without a request": (
        [HELD, read(6, 7, 1, 0), read(8, 9, 0, 0)],
        books(1, "a1 expired"),
        "no order",
    ),
    "a hold ends early": ([HELD, read(2, 3, 1, 0)], books(1, "a1 expired"), "no order"),
    "somebody waits for a place that is free": (
        [HELD, waits("b", 7, 8)],
        books(1, "a1 expired", "b1 booked"),
        "no order",
    ),
    "a place is given to two": (
        [HELD, book("b", 6, 7), about("confirm", "a", 8, 9, "booked")],
        books(1, "a1 booked", "b1 booked"),
        "2 places of 1 are taken",
    ),
    "a place was given to two for a while": (
        [HELD, book("b", 6, 7), about("confirm", "a", 8, 9, "booked"), cancel("b", 10, 11)],
        books(1, "a1 booked", "b1 cancelled"),
        "no order",
    ),
    "it is confirmed before those who wait": (
        [*WAITED, about("confirm", "a", 7, 8, "booked")],
        books(1, "a1 booked", "b1 waiting", "c1 waiting"),
        "no order",
    ),
    "a late confirmation is refused though the place is free": (
        [HELD, over("confirm", "a", 7, 8, "sold_out")],
        books(1, "a1 expired"),
        "no order",
    ),
    "a confirmation is lost": (
        [HELD, about("confirm", "a", 2, 3, "booked")],
        books(1, "a1 expired"),
        "was confirmed, and is expired",
    ),
    "what was confirmed is released": (
        [
            HELD,
            about("confirm", "a", 2, 3, "booked"),
            about("release", "a", 2, 4, "cancelled", promoted=0),
            read(3.5, 3.6, 0, 0),
        ],
        books(1, "a1 cancelled"),
        "no order",
    ),
    "an extension is lost": (
        [HELD, about("extend", "a", 2, 3, "held", until=9.0)],
        books(1, "a1 held"),
        "no order",
    ),
    "a hold that ended is extended": (
        [HELD, about("extend", "a", 7, 8, "held", until=9.0)],
        books(1, "a1 held", end=9.0),
        "no order",
    ),
    "the second in line gets the offer": (
        [*WAITED, about("release", "a", 4, 4.5, "cancelled", promoted=1)],
        books(1, "a1 cancelled", "b1 waiting", "c1 offered", offers=True),
        "no order",
    ),
    "nobody gets the offer": (
        [HELD, waits("b", 2, 3)],
        books(1, "a1 expired", "b1 waiting", offers=True),
        "no order",
    ),
    "a hold is lost": ([HELD], books(1), "is lost"),
    "the counters forget a hold": (
        [HELD],
        replace(books(1, "a1 held"), available=1),
        "its counters say",
    ),
}


@pytest.mark.parametrize("name", GOOD)
def test_a_good_history_of_holds_passes(name: str) -> None:
    operations, found = GOOD[name]
    assert judge(operations, [found]) == []


@pytest.mark.parametrize("name", BAD)
def test_a_bad_history_of_holds_fails(name: str) -> None:
    operations, found, why = BAD[name]
    wrong = judge(operations, [found])
    assert wrong
    assert why in wrong[0]


@pytest.mark.parametrize("name", BAD)
def test_a_saved_history_of_holds_gets_the_same_result(name: str, tmp_path: Path) -> None:
    operations, found, _ = BAD[name]
    save(tmp_path / "one.json", operations, [found])
    assert load(tmp_path / "one.json") == (operations, [found])


def test_a_hold_that_nobody_ends_is_reported() -> None:
    found = books(1, "a1 held")
    assert list(overdue(found, END - 1)) == []
    assert list(overdue(found, END + 1)) == ["booking a1 is held, but ended 1.0 s ago"]


def test_a_worker_may_notice_an_end_within_its_lag() -> None:
    operations = [HELD, waits("b", 7, 8)]
    found = books(1, "a1 expired", "b1 booked")
    assert judge(operations, [replace(found, lag=3.0)]) == []
