"""Audits of a correct database, and of one that was corrupted by hand in each way."""

import asyncio
import json
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import UUID

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from tests.factories import make_event, make_people
from tests.serving import TICKETING
from ticketing.db.engine import connect
from ticketing.sale.repositories import recount
from ticketing.sale.repositories.bookings import BookingRepository
from ticketing.sale.repositories.recount import Recount, RecountRepository

# The constraints that refuse such rows.
UNGUARDED = (
    "ALTER TABLE events DROP CONSTRAINT ck_events_available",
    "ALTER TABLE events DROP CONSTRAINT ck_events_waiting",
    "ALTER TABLE events DROP CONSTRAINT ck_events_line_served",
    "ALTER TABLE bookings DROP CONSTRAINT ck_bookings_status",
    "DROP INDEX uq_bookings_active",
    "SET session_replication_role = replica",
)
ADD = "INSERT INTO bookings (id, event_id, user_id, status, created_at) SELECT gen_random_uuid(),"


@pytest.fixture
async def people(engine: AsyncEngine) -> list[UUID]:
    return await make_people(engine, 5)


@pytest.fixture
async def event(engine: AsyncEngine, people: list[UUID]) -> AsyncIterator[int]:
    """An event with 2 places, both taken, where two people wait and one has cancelled."""
    bookings = BookingRepository(engine)
    event = await make_event(engine, total=2, organiser=people[0])
    for person in people:
        await bookings.book(event, person)
    await bookings.cancel(event, people[1])
    yield event
    await bookings.close()


async def corrupt(engine: AsyncEngine, *statements: str) -> None:
    async with engine.begin() as connection:
        for statement in (*UNGUARDED, *statements, "SET session_replication_role = origin"):
            await connection.execute(text(statement))


async def ids(engine: AsyncEngine, condition: str) -> list[UUID]:
    async with engine.connect() as connection:
        query = text(f"SELECT id FROM bookings WHERE {condition} ORDER BY seq")
        return list((await connection.execute(query)).scalars())


def found(audit: Recount) -> list[dict[str, object]]:
    return [each.document() for each in audit.differences]


async def test_correct_counters_have_no_difference(engine: AsyncEngine, event: int) -> None:
    audit = await RecountRepository(engine).recount()
    assert audit == Recount(events=1, bookings=5, differences=[])
    assert event


async def test_an_empty_database_has_no_difference(engine: AsyncEngine) -> None:
    assert await RecountRepository(engine).recount() == Recount(0, 0, [])


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        (
            "UPDATE events SET total_tickets = 3",
            [
                {"kind": "places_miscounted", "recorded": 3, "counted": 2},
                {"kind": "line_not_served", "recorded": 1, "counted": 2},
            ],
        ),
        (
            "UPDATE events SET available_tickets = 1",
            [{"kind": "places_miscounted", "recorded": 1, "counted": 2}],
        ),
        (
            "UPDATE events SET total_tickets = 1, available_tickets = -1",
            [{"kind": "oversold", "recorded": 1, "counted": 2}],
        ),
        (
            "UPDATE events SET waiting_list_count = 5",
            [{"kind": "line_miscounted", "recorded": 5, "counted": 2}],
        ),
        (
            "UPDATE events SET total_tickets = 3, available_tickets = 1",
            [{"kind": "line_not_served", "recorded": 1, "counted": 2}],
        ),
    ],
)
async def test_counters_that_differ_from_the_rows_are_found(
    engine: AsyncEngine, event: int, statement: str, expected: list[dict[str, object]]
) -> None:
    await corrupt(engine, statement)
    audit = await RecountRepository(engine).recount()
    assert found(audit) == [{**each, "eventId": event} for each in expected]


async def test_a_person_who_overtook_the_waiting_list_is_found(
    engine: AsyncEngine, event: int
) -> None:
    first, last = await ids(engine, "status = 'waiting'")
    (holder, _) = await ids(engine, "status = 'booked'")
    await corrupt(
        engine,
        f"UPDATE bookings SET status = 'booked' WHERE id = '{last}'",
        f"UPDATE bookings SET status = 'cancelled' WHERE id = '{holder}'",
        "UPDATE events SET waiting_list_count = 1",
    )
    audit = await RecountRepository(engine).recount()
    assert found(audit) == [
        {"kind": "served_out_of_turn", "eventId": event, "bookingIds": [first, last]}
    ]


async def test_a_person_with_two_places_is_found(
    engine: AsyncEngine, event: int, people: list[UUID]
) -> None:
    await corrupt(
        engine,
        f"{ADD} {event}, '{people[0]}', 'waiting', now()",
        "UPDATE events SET waiting_list_count = 3",
    )
    (difference,) = (await RecountRepository(engine).recount()).differences
    assert (difference.kind, difference.event_id) == ("booked_twice", event)
    assert difference.user_id == people[0]
    assert sorted(difference.booking_ids) == sorted(
        await ids(engine, f"user_id = '{people[0]}' AND status <> 'cancelled'")
    )


async def test_a_row_that_refers_to_nothing_is_found(
    engine: AsyncEngine, event: int, people: list[UUID]
) -> None:
    await corrupt(
        engine,
        f"{ADD} {event + 1}, '{people[0]}', 'booked', now()",
        f"{ADD} -7, '{people[0]}', 'booked', now()",
        f"DELETE FROM users WHERE id = '{people[0]}'",
    )
    audit = await RecountRepository(engine).recount()
    of_user = f"user_id = '{people[0]}' AND event_id"
    stranded = {each: (await ids(engine, f"{of_user} = {each}")) for each in (-7, event, event + 1)}
    missing = [
        {"kind": "event_missing", "eventId": -7, "counted": 1, "bookingIds": stranded[-7]},
        {"kind": "user_missing", "eventId": -7, "counted": 1, "bookingIds": stranded[-7]},
        {"kind": "organiser_missing", "eventId": event, "userId": people[0]},
        {"kind": "user_missing", "eventId": event, "counted": 1, "bookingIds": stranded[event]},
        {"kind": "event_missing", "eventId": event + 1, "counted": 1}
        | {"bookingIds": stranded[event + 1]},
        {"kind": "user_missing", "eventId": event + 1, "counted": 1}
        | {"bookingIds": stranded[event + 1]},
    ]
    assert sorted(map(str, found(audit))) == sorted(map(str, missing))
    assert audit.events == 1


async def test_an_invalid_status_is_found(engine: AsyncEngine, event: int) -> None:
    (cancelled,) = await ids(engine, "status = 'cancelled'")
    await corrupt(engine, "UPDATE bookings SET status = 'lost' WHERE status = 'cancelled'")
    kinds = {each["kind"]: each for each in found(await RecountRepository(engine).recount())}
    assert kinds["status_unknown"] == {
        "kind": "status_unknown",
        "eventId": event,
        "bookingIds": [cancelled],
    }


async def test_every_event_is_audited_whatever_the_size_of_a_batch(
    engine: AsyncEngine, event: int, people: list[UUID], monkeypatch: pytest.MonkeyPatch
) -> None:
    others = [await make_event(engine, total=4, organiser=people[0]) for _ in range(6)]
    await corrupt(engine, f"UPDATE events SET available_tickets = 3 WHERE id > {event}")
    for events, bookings in ((2, 200_000), (1000, 1), (1000, 0)):
        monkeypatch.setattr(recount, "EVENTS_AT_ONCE", events)
        monkeypatch.setattr(recount, "BOOKINGS_AT_ONCE", bookings)
        found = await RecountRepository(engine).recount()
        assert [each.event_id for each in found.differences] == others
        assert (found.events, found.bookings) == (7, 5)


async def test_bookings_during_the_audit_make_no_difference(
    engine: AsyncEngine, people: list[UUID]
) -> None:
    bookings = BookingRepository(engine)
    events = [await make_event(engine, total=1, organiser=people[0]) for _ in range(3)]
    is_over = False

    async def go_on(person: UUID) -> None:
        while not is_over:
            for event in events:
                await bookings.book(event, person)
            for event in events:
                await bookings.cancel(event, person)

    async with asyncio.TaskGroup() as tasks:
        for person in people:
            tasks.create_task(go_on(person))
        for _ in range(20):
            assert (await RecountRepository(engine).recount()).differences == []
        is_over = True
    await bookings.close()


async def test_one_process_audits_until_it_ends(database_url: str, event: int) -> None:
    engines = [connect(database_url, pool_size=1) for _ in range(2)]
    first, second = map(RecountRepository, engines)
    for _ in range(2):
        assert await first.take_turn()
        assert not await second.take_turn()
    await engines[0].dispose()
    async with asyncio.timeout(10):
        while not await second.take_turn():  # its server process has yet to notice
            pass
    await engines[1].dispose()
    assert event


def audit(cwd: Path, url: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    (cwd / ".env").write_text(f"TICKETING_DATABASE_URL={url}\nTICKETING_JWT_SECRET={'x' * 32}\n")
    return subprocess.run(
        [*TICKETING, "audit", *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


async def test_the_command_fails_and_names_each_difference(
    engine: AsyncEngine, database_url: str, event: int, people: list[UUID], tmp_path: Path
) -> None:
    done = await asyncio.to_thread(audit, tmp_path, database_url)
    assert (done.returncode, done.stdout) == (0, "Events: 1, bookings: 5, differences: 0.\n")
    done = await asyncio.to_thread(audit, tmp_path, database_url, "--json")
    assert (done.returncode, done.stdout) == (0, "")
    await corrupt(
        engine,
        "UPDATE events SET waiting_list_count = 7",
        f"{ADD} {event}, '{people[0]}', 'waiting', now()",
    )
    twice = await ids(engine, f"user_id = '{people[0]}'")
    done = await asyncio.to_thread(audit, tmp_path, database_url)
    assert done.returncode == 1
    miscounted, two_places, end = done.stdout.splitlines()
    assert miscounted.split() == ["event", str(event), "line_miscounted", "recorded=7", "counted=3"]
    assert "booked_twice" in two_places
    assert all(str(each) in two_places for each in twice)
    assert end == "Events: 1, bookings: 6, differences: 2."
    done = await asyncio.to_thread(audit, tmp_path, database_url, "--json")
    assert done.returncode == 1
    documents = [json.loads(line) for line in done.stdout.splitlines()]
    assert [each["kind"] for each in documents] == ["line_miscounted", "booked_twice"]
    logged = [
        json.loads(line) for line in (tmp_path / "logs/combined.log").read_text().splitlines()
    ]
    told = [line for line in logged if line["event"] == "audit.difference"]
    assert [line["level"] for line in told] == ["error"] * 4
    assert sorted(told[1]["bookingIds"]) == sorted(map(str, twice))
