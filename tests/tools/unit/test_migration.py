"""The judge of `python -m benchmarks.migration`."""

import pytest
from benchmarks.migration import Attempt, Run, lost, main, report
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from tests.people import Visitor

COMMITS = ("0123abc", "4567def")


def attempt(start: float, status: int = 201, *, seconds: float = 0.01, code: str = "") -> Attempt:
    return Attempt(1, "ada", start, seconds, status, "booking", code)


def run() -> Run:
    return Run(
        before=[attempt(0), attempt(9.995), attempt(11, 202), attempt(13)],
        after=[attempt(20)],
        migration=(10, 12),
        attempts=1,
    )


def test_a_run_that_keeps_every_promise_is_not_blamed() -> None:
    good = run()
    assert good.judge() == []
    assert [each.start for each in good.during] == [9.995, 11]
    # A client that is told to come again was served as promised.
    good.before.append(attempt(11, 503, code="busy"))
    assert good.judge() == []
    assert "| acknowledged bookings lost | 0 |" in report(good, COMMITS, 1_000, 16)


@pytest.mark.parametrize(
    ("breaks", "blame"),
    [
        (lambda bad: bad.lost.append(attempt(1)), "1 acknowledged bookings are lost"),
        (lambda bad: bad.before.append(attempt(1, 500)), "unexpected responses: {'500': 1}"),
        (lambda bad: bad.after.append(attempt(1, 0)), "unexpected responses: {'0': 1}"),
        (
            lambda bad: bad.before.append(attempt(1, 503, code="database_unavailable")),
            "unexpected responses: {'503 database_unavailable': 1}",
        ),
        (lambda bad: bad.after.clear(), "no booking was acknowledged afterwards"),
        (lambda bad: bad.wrong.append("the recount differs"), "the recount differs"),
    ],
)
def test_each_broken_promise_is_named(breaks: object, blame: str) -> None:
    bad = run()
    breaks(bad)  # type: ignore[operator]
    assert bad.judge() == [blame]


async def test_a_booking_without_its_row_is_lost(
    visitor: Visitor, database_url: str, engine: AsyncEngine
) -> None:
    ada, bob = await visitor.register(), await visitor.register()
    event = await ada.organise(1)
    told = []
    for person in (ada, bob):
        response = await person.book(event)
        booking = response.json()["id"]
        told.append(Attempt(event, person.id, 0, 0, response.status_code, booking))
    refused = Attempt(event, ada.id, 0, 0, 409, code="already_booked")
    assert await lost(database_url, [*told, refused]) == []
    # A row that is another than the response says counts too.
    wrong = told[0]._replace(status=202), told[1]._replace(event=event + 1)
    assert await lost(database_url, wrong) == list(wrong)
    async with engine.begin() as connection:
        await connection.execute(text("SET session_replication_role = replica"))
        await connection.execute(text("DELETE FROM bookings WHERE user_id = :id"), {"id": bob.id})
    assert await lost(database_url, told) == [told[1]]


def test_a_base_that_is_no_commit_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--base", "no-such-commit", "--bookings", "1"]) == 1
    assert "no-such-commit" in capsys.readouterr().err
