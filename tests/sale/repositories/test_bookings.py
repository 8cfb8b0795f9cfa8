"""The one writer of the inventory, on a real PostgreSQL."""

import asyncio
from uuid import uuid4

import pytest
from asyncpg import Record
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.ext.asyncio import AsyncEngine

from tests.factories import make_event, make_people
from tests.outcomes import counters, kinds, reading, rows, together
from ticketing.db.engine import connect
from ticketing.db.refusals import constraint_of
from ticketing.db.statements import Driver, Statement
from ticketing.errors import (
    AlreadyBooked,
    AlreadyWaiting,
    BookingNotFound,
    Busy,
    DatabaseUnavailable,
    EventNotFound,
    UserNotFound,
)
from ticketing.sale.inventory.model import Booked, BookingStatus, Cancelled, Waiting
from ticketing.sale.repositories.bookings import BookingRepository
from ticketing.sale.repositories.listings import ListingRepository
from ticketing.web.replay import KeyedRequest, nothing
from ticketing.web.repositories import stored_responses


async def test_a_batch_of_bookings_is_one_statement(
    engine: AsyncEngine, bookings: BookingRepository, sent: list[str]
) -> None:
    people = await make_people(engine, 41)
    show = await make_event(engine, total=10, organiser=people[0])
    await bookings.book(show, people[40])
    sent.clear()
    await together(*(bookings.book(show, person) for person in people[:40]))
    assert len(sent) == 1
    assert await counters(engine, show) == (0, 31, 3)


async def test_many_reads_of_one_event_share_one_statement_at_a_time(
    engine: AsyncEngine, sent: list[str]
) -> None:
    people = await make_people(engine, 1)
    show = await make_event(engine, total=10, organiser=people[0])
    async with reading(engine) as events:
        await events.get(show)  # What is on sale is remembered.
        sent.clear()
        crowd = (events.get(show) for _ in range(40))
        read = await together(events.get(show), *crowd, events.get(404))
    assert len(sent) == 1
    assert [event.id for event in read[:-1]] == [show] * 41
    assert isinstance(read[-1], EventNotFound)


async def test_a_batch_with_cancels_is_three_statements_for_any_number_of_events(
    engine: AsyncEngine, bookings: BookingRepository, sent: list[str]
) -> None:
    people = await make_people(engine, 4)
    shows = [await make_event(engine, total=1, organiser=people[0]) for _ in range(5)]
    await together(*(bookings.book(show, person) for show in shows for person in people[:3]))
    sent.clear()
    answers = await together(
        *(bookings.cancel(show, people[0]) for show in shows),
        *(bookings.book(show, people[3]) for show in shows),
    )
    assert len(sent) == 3
    assert kinds(answers) == [Cancelled] * 5 + [Waiting] * 5
    for show in shows:
        assert await rows(engine, show) == [
            (people[0], "cancelled"),
            (people[1], "booked"),
            (people[2], "waiting"),
            (people[3], "waiting"),
        ]


async def test_a_batch_is_decided_in_order_of_arrival(
    engine: AsyncEngine, bookings: BookingRepository
) -> None:
    people = await make_people(engine, 30)
    show = await make_event(engine, total=10, organiser=people[0])
    answers = await together(*(bookings.book(show, person) for person in people))
    assert kinds(answers) == [Booked] * 10 + [Waiting] * 20
    assert [answer.position for answer in answers[10:]] == list(range(1, 21))
    assert [user for user, _ in await rows(engine, show)] == people


async def test_a_person_who_has_a_booking_is_refused_and_the_rest_of_the_batch_is_not(
    engine: AsyncEngine, bookings: BookingRepository
) -> None:
    people = await make_people(engine, 6)
    show = await make_event(engine, total=2, organiser=people[0])
    await together(*(bookings.book(show, person) for person in people[:3]))
    answers = await together(
        bookings.book(show, people[3]),
        bookings.book(show, people[0]),
        bookings.book(show, people[2]),
        bookings.book(show, people[4]),
        bookings.book(show, people[4]),
        bookings.book(404, people[5]),
    )
    assert kinds(answers) == [
        Waiting,
        AlreadyBooked,
        AlreadyWaiting,
        Waiting,
        AlreadyWaiting,
        EventNotFound,
    ]
    assert [answers[0].position, answers[3].position] == [2, 3]
    assert await counters(engine, show) == (0, 3, 3)


async def test_no_batch_waits_for_reads(engine: AsyncEngine, database_url: str) -> None:
    people = await make_people(engine, 3)
    event = await make_event(engine, total=5, organiser=people[0])
    readers = connect(database_url, pool_size=1)
    bookings = BookingRepository(readers, engine)
    await bookings.book(event, people[0])
    keyed = KeyedRequest(people[0], "a key", b"a digest", nothing)
    async with readers.connect():  # The only connection.
        answers = await together(
            bookings.book(event, people[0], keyed=keyed),
            bookings.book(event, people[1]),
            bookings.book(event, people[2]),
        )
    await bookings.close()
    await readers.dispose()
    assert kinds(answers) == [AlreadyBooked, Booked, Booked]
    assert [user for user, _ in await rows(engine, event)] == people


async def test_a_broken_look_up_of_a_stored_response_fails_only_its_own_request(
    engine: AsyncEngine, bookings: BookingRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    people = await make_people(engine, 3)
    event = await make_event(engine, total=5, organiser=people[0])
    await bookings.book(event, people[0])
    keyed = KeyedRequest(people[0], "a key", b"a digest", nothing)
    fetch = Statement.fetch

    async def lose(self: Statement, connection: Driver, **parameters: object) -> list[Record]:
        if self is stored_responses.FIND:
            connection.terminate()
        return await fetch(self, connection, **parameters)

    monkeypatch.setattr(Statement, "fetch", lose)
    answers = await together(
        bookings.book(event, people[0], keyed=keyed),
        bookings.book(event, people[1]),
        bookings.book(event, people[2]),
    )
    assert kinds(answers) == [DatabaseUnavailable, Booked, Booked]
    monkeypatch.setattr(Statement, "fetch", fetch)
    with pytest.raises(AlreadyBooked):
        await bookings.book(event, people[0], keyed=keyed)
    assert [user for user, _ in await rows(engine, event)] == people


async def test_an_unknown_user_fails_nobody_elses_booking(
    engine: AsyncEngine, bookings: BookingRepository
) -> None:
    people = await make_people(engine, 9)
    show = await make_event(engine, total=20, organiser=people[0])
    strangers = [uuid4(), uuid4()]
    everybody = [*people[:4], strangers[0], *people[4:], strangers[1]]
    answers = await together(*(bookings.book(show, person) for person in everybody))
    refused = [
        person
        for person, answer in zip(everybody, answers, strict=True)
        if isinstance(answer, UserNotFound)
    ]
    assert refused == strangers
    assert [user for user, _ in await rows(engine, show)] == people


async def test_cancel_and_book_again_in_one_batch_goes_to_the_end_of_the_waiting_list(
    engine: AsyncEngine, bookings: BookingRepository
) -> None:
    people = await make_people(engine, 3)
    show = await make_event(engine, total=1, organiser=people[0])
    await together(*(bookings.book(show, person) for person in people))
    cancelled, again = await together(
        bookings.cancel(show, people[0]), bookings.book(show, people[0])
    )
    assert [booking.user_id for booking in cancelled.promoted] == [people[1]]
    assert again.position == 2
    assert await rows(engine, show) == [
        (people[0], "cancelled"),
        (people[1], "booked"),
        (people[2], "waiting"),
        (people[0], "waiting"),
    ]


async def test_cancelling_again_changes_nothing_and_returns_the_same(
    engine: AsyncEngine, bookings: BookingRepository
) -> None:
    people = await make_people(engine, 2)
    show = await make_event(engine, total=1, organiser=people[0])
    with pytest.raises(BookingNotFound):
        await bookings.cancel(show, people[0])
    await bookings.book(show, people[0])
    await bookings.book(show, people[1])
    first = await bookings.cancel(show, people[0])
    before = await counters(engine, show)
    again = await bookings.cancel(show, people[0])
    assert again.booking == first.booking
    assert (len(first.promoted), len(again.promoted)) == (1, 0)
    assert await counters(engine, show) == before


async def test_no_booking_is_acknowledged_at_a_deleted_event(
    engine: AsyncEngine, bookings: BookingRepository
) -> None:
    people = await make_people(engine, 2)
    show = await make_event(engine, total=1, organiser=people[0])
    await bookings.book(show, people[0])
    async with engine.begin() as connection:
        await connection.execute(text("DELETE FROM bookings"))
        await connection.execute(text("DELETE FROM events"))
    with pytest.raises(EventNotFound):
        await bookings.book(show, people[1])


async def test_unknown_users_cost_a_batch_two_statements_and_not_a_split(
    engine: AsyncEngine, bookings: BookingRepository, sent: list[str]
) -> None:
    people = await make_people(engine, 20)
    show = await make_event(engine, total=30, organiser=people[0])
    await together(*(bookings.book(show, person) for person in people[:2]))
    sent.clear()
    answers = await together(
        *(bookings.book(show, person) for person in people[2:]),
        bookings.book(show, uuid4()),
        bookings.book(show, people[0]),
        bookings.book(show, uuid4()),
    )
    assert kinds(answers) == [Booked] * 18 + [UserNotFound, AlreadyBooked, UserNotFound]
    assert len(sent) == 6  # refused, active, refused, strangers, active, committed


async def test_a_locked_event_stops_no_other(
    engine: AsyncEngine, bookings: BookingRepository
) -> None:
    people = await make_people(engine, 2)
    locked, free = [await make_event(engine, total=5, organiser=people[0]) for _ in range(2)]
    async with engine.begin() as connection:
        await connection.execute(
            text("SELECT FROM events WHERE id = :id FOR UPDATE"), {"id": locked}
        )
        waits = asyncio.create_task(bookings.book(locked, people[0]))
        for person in people:
            assert isinstance(await bookings.book(free, person), Booked)
        assert not waits.done()
    assert isinstance(await waits, Booked)


async def test_a_replica_that_accepts_no_writes_is_an_unavailable_database(
    engine: AsyncEngine, bookings: BookingRepository
) -> None:
    people = await make_people(engine, 1)
    show = await make_event(engine, total=5, organiser=people[0])
    async with engine.begin() as connection:
        name = (await connection.execute(text("SELECT current_database()"))).scalar_one()
        await connection.execute(
            text(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
        )
    await engine.dispose()
    with pytest.raises(DatabaseUnavailable):
        await bookings.book(show, people[0])


BOOKED_BY = (
    "INSERT INTO bookings (id, event_id, user_id, status, created_at) "
    "VALUES (gen_random_uuid(), {event}, {user}, 'booked', now())"
)


@pytest.mark.parametrize(
    ("statement", "constraint"),
    [
        ("UPDATE events SET available_tickets = -1", "ck_events_available"),
        ("UPDATE events SET available_tickets = 3", "ck_events_available"),
        ("UPDATE events SET available_tickets = 0, waiting_list_count = -1", "ck_events_waiting"),
        ("UPDATE events SET waiting_list_count = 1", "ck_events_line_served"),
        ("UPDATE events SET total_tickets = 0, available_tickets = 0", "ck_events_total"),
        ("UPDATE bookings SET status = 'sold'", "ck_bookings_status"),
        ("UPDATE bookings SET status = 'booked'", "cancelled_stays"),
        (
            (
                "INSERT INTO bookings (id, event_id, user_id, status, created_at) "
                "SELECT gen_random_uuid(), event_id, user_id, 'waiting', now() FROM bookings"
            ),
            "uq_bookings_active",
        ),
        (
            (
                "INSERT INTO users (id, username, password_hash) "
                "VALUES (gen_random_uuid(), 'USER0', '')"
            ),
            "uq_users_username",
        ),
        ("DELETE FROM users WHERE username = 'user0'", "fk_events_organiser_id"),
        ("DELETE FROM users WHERE username = 'user1'", "fk_bookings_user_id"),
        ("DELETE FROM events", "fk_bookings_event_id"),
        (BOOKED_BY.format(event="1", user="gen_random_uuid()"), "fk_bookings_user_id"),
        (
            BOOKED_BY.format(event="2", user="(SELECT id FROM users LIMIT 1)"),
            "fk_bookings_event_id",
        ),
        ("UPDATE bookings SET user_id = gen_random_uuid()", "references_stay"),
        ("UPDATE bookings SET event_id = 2", "references_stay"),
        ("UPDATE users SET id = gen_random_uuid()", "id_stays"),
        ("UPDATE events SET id = DEFAULT", "id_stays"),
    ],
)
async def test_the_database_refuses_invalid_rows(
    engine: AsyncEngine, bookings: BookingRepository, statement: str, constraint: str
) -> None:
    people = await make_people(engine, 3)
    show = await make_event(engine, total=2, organiser=people[0])
    await together(*(bookings.book(show, person) for person in people[1:]))
    await bookings.cancel(show, people[2])
    async with engine.connect() as connection:
        with pytest.raises(IntegrityError) as refused:
            await connection.execute(text(statement))
    assert constraint_of(refused.value) == constraint


async def test_a_user_who_is_being_deleted_can_not_be_booked_for(
    engine: AsyncEngine, bookings: BookingRepository
) -> None:
    people = await make_people(engine, 2)
    show = await make_event(engine, total=2, organiser=people[0])
    async with engine.connect() as remover:
        await remover.execute(text("DELETE FROM users WHERE username = 'user1'"))
        with pytest.raises(Busy):
            await bookings.book(show, people[1])
        await remover.commit()
    with pytest.raises(UserNotFound):
        await bookings.book(show, people[1])
    assert await counters(engine, show) == (2, 0, 1)


async def test_a_user_who_is_being_booked_for_can_not_be_deleted(engine: AsyncEngine) -> None:
    people = await make_people(engine, 2)
    show = await make_event(engine, total=2, organiser=people[0])
    async with engine.connect() as booker, engine.connect() as remover:
        await booker.execute(text(BOOKED_BY.format(event=show, user=f"'{people[1]}'")))
        removal = remover.execute(text("DELETE FROM users WHERE username = 'user1'"))
        with pytest.raises(DBAPIError, match="lock timeout"):
            await removal
        await remover.rollback()
        await booker.commit()
        with pytest.raises(IntegrityError, match="bookings refer to a row of users"):
            await remover.execute(text("DELETE FROM users WHERE username = 'user1'"))


async def test_more_events_than_the_cache_holds_are_served(
    engine: AsyncEngine, bookings: BookingRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ticketing.sale.repositories.batches.MAX_SNAPSHOTS", 2)
    people = await make_people(engine, 4)
    shows = [await make_event(engine, total=2, organiser=people[0]) for _ in range(6)]
    for person in people:
        answers = await together(*(bookings.book(show, person) for show in shows))
        expected = Booked if person in people[:2] else Waiting
        assert kinds(answers) == [expected] * 6


async def test_lists_have_each_persons_position(
    engine: AsyncEngine, bookings: BookingRepository
) -> None:
    people = await make_people(engine, 7)
    show = await make_event(engine, total=2, organiser=people[0])
    await together(*(bookings.book(show, person) for person in people))
    await bookings.cancel(show, people[3])

    listings = ListingRepository(engine)
    page = await listings.of_event(show, status=BookingStatus.WAITING, after=None, limit=2)
    rest = await listings.of_event(
        show, status=BookingStatus.WAITING, after=page.next_after, limit=2
    )
    seen = [(item.user_id, item.position) for item in [*page.items, *rest.items]]
    assert seen == [(people[2], 1), (people[4], 2), (people[5], 3), (people[6], 4)]
    assert rest.next_after is None
    (mine,) = (await listings.of_user(people[5], before=None, limit=5)).items
    assert mine.position == 3
