"""Two processes at one event: one has a cached snapshot, the other changes the event."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final
from uuid import UUID

import pytest
from asyncpg import Record
from chaos.history import read_books
from sqlalchemy.ext.asyncio import AsyncEngine

from tests.factories import make_event, make_people
from tests.outcomes import counters, kinds, rows, together
from ticketing.db.statements import Driver, Statement, driver
from ticketing.errors import AlreadyBooked, GroupTooLarge, SoldOut
from ticketing.sale.definitions import DefinedType, Definitions
from ticketing.sale.inventory.model import Booked, BookingStatus, Cancelled, Waiting
from ticketing.sale.repositories.batches import SNAPSHOTS
from ticketing.sale.repositories.bookings import BookingRepository
from ticketing.sale.repositories.definitions import GIVE_COUNTERS
from ticketing.sale.repositories.held import ACTIVE

Meddle = Callable[[int], Awaitable[object]]
"""Called with the number of reads of active bookings so far, including this one."""

TWO_TYPES: Final = Definitions({0: DefinedType(0, 0, "A"), 1: DefinedType(0, 1, "B")}, {})


async def idle(_: int) -> None:
    pass


class Asking:
    """Runs another change just before and just after active bookings are read."""

    def __init__(self, *, before: Meddle = idle, after: Meddle = idle) -> None:
        self.times = 0
        self._before, self._after = before, after
        self._fetch: Final = Statement.fetch
        self._is_meddling = False

    async def fetch(
        self, statement: Statement, connection: Driver, parameters: dict[str, object]
    ) -> list[Record]:
        if statement is not ACTIVE or self._is_meddling:
            return await self._fetch(statement, connection, **parameters)
        self.times += 1
        await self._meddle(self._before)
        found = await self._fetch(statement, connection, **parameters)
        await self._meddle(self._after)
        return found

    async def _meddle(self, meddle: Meddle) -> None:
        # The other change may read them too.
        self._is_meddling = True
        await meddle(self.times)
        self._is_meddling = False


def asking(
    monkeypatch: pytest.MonkeyPatch, *, before: Meddle = idle, after: Meddle = idle
) -> Asking:
    made = Asking(before=before, after=after)

    async def fetch(statement: Statement, connection: Driver, **parameters: object) -> list[Record]:
        return await made.fetch(statement, connection, parameters)

    monkeypatch.setattr(Statement, "fetch", fetch)
    return made


async def test_places_are_booked_in_one_statement_although_another_process_booked_some(
    engine: AsyncEngine,
    bookings: BookingRepository,
    elsewhere: BookingRepository,
    sent: list[str],
) -> None:
    people = await make_people(engine, 6)
    show = await make_event(engine, total=3, organiser=people[0])
    await bookings.book(show, people[0])
    await elsewhere.book(show, people[1])
    sent.clear()
    assert isinstance(await bookings.book(show, people[2]), Booked)
    assert len(sent) == 1
    # Its snapshot has a place that is gone by now, and then an empty waiting list.
    waiting = await elsewhere.book(show, people[3])
    assert isinstance(waiting, Waiting)
    assert waiting.position == 1
    waiting = await bookings.book(show, people[4])
    assert isinstance(waiting, Waiting)
    assert waiting.position == 2
    assert await counters(engine, show) == (0, 2, 6)


async def test_a_process_with_an_old_snapshot_of_free_places_does_not_pass_the_waiting_list(
    engine: AsyncEngine, bookings: BookingRepository, elsewhere: BookingRepository
) -> None:
    people = await make_people(engine, 6)
    show = await make_event(engine, total=2, organiser=people[0])
    await bookings.book(show, people[0])
    for person in people[1:4]:
        await elsewhere.book(show, person)
    # Now `bookings` has a free place cached. One is freed, and goes to the waiting list.
    await elsewhere.cancel(show, people[0])
    assert isinstance(await bookings.book(show, people[4]), Waiting)
    assert [status for _, status in await rows(engine, show)] == [
        *("cancelled", "booked", "booked", "waiting", "waiting")
    ]


async def test_places_are_freed_in_two_statements_although_another_process_freed_some(
    engine: AsyncEngine,
    bookings: BookingRepository,
    elsewhere: BookingRepository,
    sent: list[str],
) -> None:
    people = await make_people(engine, 6)
    show = await make_event(engine, total=6, organiser=people[0])
    await together(*(bookings.book(show, person) for person in people[:3]))
    await together(*(elsewhere.book(show, person) for person in people[3:5]))
    await elsewhere.cancel(show, people[0])
    sent.clear()
    answers = await together(
        bookings.cancel(show, people[1]),
        bookings.cancel(show, people[3]),
        bookings.book(show, people[5]),
    )
    assert kinds(answers) == [Cancelled, Cancelled, Booked]
    assert len(sent) == 2
    assert await counters(engine, show) == (3, 0, 5)


async def test_a_process_with_an_old_snapshot_of_an_empty_waiting_list_promotes_people(
    engine: AsyncEngine, bookings: BookingRepository, elsewhere: BookingRepository
) -> None:
    people = await make_people(engine, 3)
    show = await make_event(engine, total=2, organiser=people[0])
    await bookings.book(show, people[0])
    for person in people[1:]:
        await elsewhere.book(show, person)
    cancelled = await bookings.cancel(show, people[0])
    assert [booking.user_id for booking in cancelled.promoted] == [people[2]]
    assert await counters(engine, show) == (0, 0, 5)


async def test_an_event_is_not_read_before_each_commit_after_nobody_waits(
    engine: AsyncEngine,
    bookings: BookingRepository,
    elsewhere: BookingRepository,
    sent: list[str],
) -> None:
    people = await make_people(engine, 10)
    show = await make_event(engine, total=4, organiser=people[0])
    await bookings.book(show, people[0])
    await elsewhere.book(show, people[1])
    # The commit is lost, because two places are left. It is decided again, and the third waits.
    answers = await together(*(bookings.book(show, person) for person in people[2:5]))
    assert kinds(answers) == [Booked, Booked, Waiting]
    for person in people[1:5]:
        await elsewhere.cancel(show, person)
    await bookings.book(show, people[5])
    await elsewhere.book(show, people[6])
    sent.clear()
    await bookings.book(show, people[7])
    assert len(sent) == 1


async def test_a_person_who_cancels_and_books_elsewhere_during_a_decision_is_refused(
    engine: AsyncEngine,
    bookings: BookingRepository,
    elsewhere: BookingRepository,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (user,) = await make_people(engine, 1)
    event = await make_event(engine, total=5, organiser=user)
    await elsewhere.book(event, user)

    async def cancel(times: int) -> None:
        if times == 1:
            await elsewhere.cancel(event, user)

    async def book(times: int) -> None:
        if times == 1:
            await elsewhere.book(event, user)

    asking(monkeypatch, before=cancel, after=book)
    with pytest.raises(AlreadyBooked):
        await bookings.book(event, user)
    assert [status for _, status in await rows(engine, event)] == ["cancelled", "booked"]


@pytest.mark.parametrize("times_and_others", [(1, 0), (1, 1), (3, 0), (3, 1)])
async def test_a_booking_that_is_cancelled_elsewhere_during_a_decision_frees_one_place(
    engine: AsyncEngine,
    bookings: BookingRepository,
    elsewhere: BookingRepository,
    monkeypatch: pytest.MonkeyPatch,
    times_and_others: tuple[int, int],
) -> None:
    times, others = times_and_others
    people = await make_people(engine, 1 + others)
    user = people[0]
    event = await make_event(engine, total=5, organiser=user)
    await together(*(bookings.book(event, each) for each in people))

    async def cancel(asked: int) -> None:
        if asked <= times:
            await elsewhere.cancel(event, user)
        if asked < times:
            await elsewhere.book(event, user)

    asked = asking(monkeypatch, after=cancel)
    answers = await together(*(bookings.cancel(event, each) for each in people))
    assert kinds(answers) == [Cancelled] * (1 + others)
    assert asked.times > times
    assert [status for _, status in await rows(engine, event)] == ["cancelled"] * (times + others)
    assert (await counters(engine, event))[:2] == (5, 0)


async def test_a_person_who_books_elsewhere_during_a_decision_is_not_booked_and_cancelled_again(
    engine: AsyncEngine,
    bookings: BookingRepository,
    elsewhere: BookingRepository,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (user,) = await make_people(engine, 1)
    event = await make_event(engine, total=5, organiser=user)

    async def book(times: int) -> None:
        if times == 1:
            await elsewhere.book(event, user)

    asking(monkeypatch, after=book)
    answers = await together(bookings.book(event, user), bookings.cancel(event, user))
    assert kinds(answers) == [AlreadyBooked, Cancelled]
    assert await rows(engine, event) == [(user, "cancelled")]
    assert (await counters(engine, event))[:2] == (5, 0)


async def test_two_processes_sell_each_place_once_and_keep_one_waiting_list(
    engine: AsyncEngine, bookings: BookingRepository, elsewhere: BookingRepository
) -> None:
    people = await make_people(engine, 120)
    shows = [await make_event(engine, total=20, organiser=people[0]) for _ in range(3)]
    answers = await together(
        *(
            (bookings, elsewhere)[number % 2].book(show, person)
            for number, person in enumerate(people)
            for show in shows
        )
    )
    assert kinds(answers).count(Booked) == 60
    for which, show in enumerate(shows):
        positions = sorted(a.position for a in answers[which::3] if isinstance(a, Waiting))
        assert positions == list(range(1, 101))
        line = [user for user, status in await rows(engine, show) if status == "waiting"]
        said = {
            answer.booking.user_id: answer.position
            for answer in answers[which::3]
            if isinstance(answer, Waiting)
        }
        assert [said[user] for user in line] == positions


async def test_counters_match_rows_after_a_mixed_race_between_processes(
    engine: AsyncEngine, bookings: BookingRepository, elsewhere: BookingRepository
) -> None:
    people = await make_people(engine, 40)
    show = await make_event(engine, total=7, organiser=people[0])

    async def come_and_go(number: int, person: UUID) -> None:
        for turn in range(6):
            repository = (bookings, elsewhere)[(number + turn) % 2]
            if turn % 2:
                await repository.cancel(show, person)
            else:
                await repository.book(show, person)

    await asyncio.gather(*(come_and_go(*each) for each in enumerate(people[:30])))
    await together(*(bookings.book(show, person) for person in people[30:]))
    statuses = [status for _, status in await rows(engine, show)]
    available, waiting, _ = await counters(engine, show)
    assert statuses.count("booked") == 7 - available == 7
    assert statuses.count("waiting") == waiting == 3
    assert statuses.count("cancelled") == 90


async def test_a_waiting_list_that_another_process_shortened_is_read_again(
    engine: AsyncEngine, bookings: BookingRepository, elsewhere: BookingRepository
) -> None:
    people = await make_people(engine, 3)
    show = await make_event(engine, total=1, organiser=people[0])
    await bookings.book(show, people[0])
    await bookings.book(show, people[1])
    await elsewhere.cancel(show, people[1])
    cancelled = await bookings.cancel(show, people[0])
    assert cancelled.promoted == []
    assert await counters(engine, show) == (1, 0, 5)


async def test_a_ticket_that_another_process_cancels_in_between_is_counted_once(
    engine: AsyncEngine,
    bookings: BookingRepository,
    elsewhere: BookingRepository,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (person,) = await make_people(engine, 1)
    show = await make_event(engine, total=5, organiser=person)
    held = (await bookings.book(show, person, lines=[(None, 3)])).booking
    first, second = [ticket.id for ticket in held.tickets[:2]]

    async def cancel_too(times: int) -> None:
        if times == 1:
            await elsewhere.cancel_booking(held, [first])

    with monkeypatch.context() as patch:
        asking(patch, after=cancel_too)
        cancelled = await bookings.cancel_booking(held, [first])
    assert (cancelled.booking.quantity, cancelled.promoted) == (2, ())

    async def cancel_another(times: int) -> None:
        if times == 1:
            await elsewhere.cancel_booking(held, [second])

    asking(monkeypatch, after=cancel_another)
    cancelled = await bookings.cancel_booking(held)
    assert cancelled.booking.quantity == 1
    assert (await bookings.get(held.id)).quantity == 1
    assert await counters(engine, show) == (5, 0, 5)


async def test_a_person_with_a_booking_learns_of_it_although_the_rest_is_sold_out(
    engine: AsyncEngine, bookings: BookingRepository
) -> None:
    # A client that got no response asks again, and must not believe that it has nothing.
    organiser, person, stranger = await make_people(engine, 3)
    show = await make_event(engine, total=2, organiser=organiser, definitions=TWO_TYPES)
    async with driver(engine) as connection:
        kinds = [kind.id for kind in (await read_books(connection, show)).kinds]
    lines = [(kind, 1) for kind in kinds]
    await bookings.book(show, person, lines=lines)
    with pytest.raises(AlreadyBooked):
        await bookings.book(show, person, lines=lines)
    with pytest.raises(SoldOut):
        await bookings.book(show, stranger, lines=lines)


async def test_a_batch_that_is_decided_again_finds_every_event(
    engine: AsyncEngine, bookings: BookingRepository, elsewhere: BookingRepository
) -> None:
    people = await make_people(engine, 4)
    hall, show = [await make_event(engine, total=1, organiser=people[0]) for _ in range(2)]
    for event in (hall, show):
        await bookings.book(event, people[0])
        await bookings.book(event, people[1])
    # `bookings` remembers both waiting lists. One is empty by now, and the other one grew.
    await elsewhere.cancel(hall, people[1])
    await elsewhere.book(show, people[2])
    cancelled, refused = await together(
        bookings.cancel(hall, people[0]), bookings.book(show, people[3], lines=[(None, 2)])
    )
    assert isinstance(cancelled, Cancelled)
    assert isinstance(refused, GroupTooLarge)


async def test_an_event_that_gets_its_counters_during_a_commit_is_found(
    engine: AsyncEngine, bookings: BookingRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    people = await make_people(engine, 3)
    hall, show = [await make_event(engine, total=2, organiser=people[0]) for _ in range(2)]
    await bookings.book(hall, people[0], lines=[(None, 2)])
    begun, given = asyncio.Event(), asyncio.Event()
    others: list[asyncio.Task[Sequence[Any]]] = []
    fetch = Statement.fetch

    async def meddle(
        statement: Statement, connection: Driver, **parameters: object
    ) -> list[Record]:
        if statement is GIVE_COUNTERS:
            calls = bookings.cancel(hall, people[0]), bookings.book(show, people[2])
            others.append(asyncio.create_task(together(*calls)))
            await begun.wait()
            asyncio.get_running_loop().call_later(0.2, given.set)
        if statement is SNAPSHOTS and parameters["ids"] == [show]:
            begun.set()
            await given.wait()
        return await fetch(statement, connection, **parameters)

    monkeypatch.setattr(Statement, "fetch", meddle)
    group = await bookings.book(hall, people[1], lines=[(None, 2)])
    assert kinds(await others[0]) == [Cancelled, Booked]
    assert (await bookings.get(group.booking.id)).status is BookingStatus.BOOKED
