"""Two processes at one hold or offer: every order of their statements.

Whatever the order, the responses and the rows are those of one request after the other.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple, TypeAlias, TypeVar
from uuid import UUID

import pytest
from asyncpg import Record
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from tests.factories import make_people
from ticketing.db.clock import DatabaseClock
from ticketing.db.engine import connect
from ticketing.db.facts import Origin
from ticketing.db.statements import Driver, Statement
from ticketing.errors import TicketingError
from ticketing.sale.details import Details
from ticketing.sale.inventory.model import Booking
from ticketing.sale.inventory.terms import WaitingMode
from ticketing.sale.repositories.bookings import BookingRepository
from ticketing.sale.repositories.events import EventRepository
from ticketing.sale.repositories.recount import RecountRepository

T = TypeVar("T")
LAG: Final = timedelta(seconds=60)
MOST: Final = 1000
"""Orders of one story. It is an error if there are more."""
Seen: TypeAlias = tuple[Sequence[object], Mapping[UUID, str], tuple[int, int]]
"""The two responses, the statuses of the bookings, and the places that are left and waited for."""


class Lagging(DatabaseClock):
    """A clock that has not heard from the database for a while, so that holds seem to go on."""

    def now(self) -> datetime:
        return super().now() - LAG


class Turns:
    """Lets two processes run one statement at a time, in a chosen order."""

    def __init__(self) -> None:
        self._names: dict[Driver, str] = {}
        """The connection of each process, on which it decides."""
        self._waiting: dict[str, asyncio.Future[None]] = {}
        self._running: set[str] = set()
        self._changed = asyncio.Event()
        self._is_on = False

    def know(self, name: str, connection: Driver) -> None:
        self._names[connection] = name

    async def before(self, connection: Driver) -> None:
        """Wait for the turn of the process."""
        name = self._names.get(connection)
        if not self._is_on or name not in self._running:
            return
        turn = self._waiting[name] = asyncio.get_running_loop().create_future()
        self._changed.set()
        await turn

    async def run(
        self, order: str, works: Mapping[str, Callable[[], Awaitable[T]]]
    ) -> tuple[str, list[T]]:
        """Run both, in this order and then as names sort. Return the whole order, and results.

        `order` has the name of a process for each statement.
        """
        self._is_on, self._running, done = True, set(works), ""
        tasks = {name: asyncio.create_task(self._work(name, works[name])) for name in works}
        while True:
            while len(self._waiting) < len(self._running):
                self._changed.clear()
                await self._changed.wait()
            if not self._running:
                break
            wanted = order[len(done) : len(done) + 1]
            name = wanted if wanted in self._waiting else min(self._waiting)
            done += name
            self._waiting.pop(name).set_result(None)
        self._is_on = False
        return done, [await tasks[name] for name in sorted(tasks)]

    async def _work(self, name: str, work: Callable[[], Awaitable[T]]) -> T:
        try:
            return await work()
        finally:
            self._running.remove(name)
            self._changed.set()


class Two(NamedTuple):
    """Two processes, `a` and `b`. The clock of `a` lags, so that holds have not ended for it."""

    engine: AsyncEngine
    a: BookingRepository
    b: BookingRepository
    turns: Turns
    people: Sequence[UUID]

    async def event(self, *, total: int, offers: bool = False) -> int:
        details = Details("An event", hold_minutes=5)
        if offers:
            details = details._replace(waiting_list_mode=WaitingMode.OFFER)
        made = await EventRepository(self.engine).make(self.people[0], details, total, Origin())
        return made.id

    async def end(self, event: int) -> None:
        """Let all holds and offers of the event be over for `b`, but not yet for `a`."""
        async with self.engine.begin() as connection:
            for statement in (
                """
                UPDATE bookings SET expires_at = now() - interval '20 seconds'
                WHERE event_id = :event AND status IN ('held', 'offered')
                """,
                """
                UPDATE events SET next_expiry = now() - interval '20 seconds', version = version + 1
                WHERE id = :event
                """,
            ):
                await connection.execute(text(statement), {"event": event})

    async def statuses(self, event: int) -> tuple[Mapping[UUID, str], tuple[int, int]]:
        async with self.engine.begin() as connection:
            rows = await connection.execute(
                text(
                    "SELECT user_id, status, expires_at IS NULL FROM bookings"
                    " WHERE event_id = :event ORDER BY seq"
                ),
                {"event": event},
            )
            found = {
                user: f"{status}{'' if is_plain else ' until'}" for user, status, is_plain in rows
            }
            row = (
                await connection.execute(
                    text(
                        "SELECT available_tickets, waiting_list_count FROM events WHERE id = :event"
                    ),
                    {"event": event},
                )
            ).one()
        return found, (row[0], row[1])


@pytest.fixture
async def two(
    engine: AsyncEngine, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Two]:
    other = connect(database_url, pool_size=4)
    one, two = BookingRepository(engine, clock=Lagging()), BookingRepository(other)
    turns, fetch = Turns(), Statement.fetch

    async def in_turn(
        statement: Statement, connection: Driver, **parameters: object
    ) -> list[Record]:
        await turns.before(connection)
        return await fetch(statement, connection, **parameters)

    monkeypatch.setattr(Statement, "fetch", in_turn)
    yield Two(engine, one, two, turns, await make_people(engine, 5))
    await one.close()
    await two.close()
    await other.dispose()


Story: TypeAlias = Callable[[Two], Awaitable[tuple[int, Callable[[], Any], Callable[[], Any]]]]
"""Prepares an event. Returns it, and the requests of `a` and of `b`."""


async def seen(work: Callable[[], Awaitable[Any]]) -> object:
    try:
        outcome = await work()
    except TicketingError as error:
        return error.code, error.members.get("reason")
    if outcome is None:
        return None
    promoted = len(getattr(outcome, "promoted", ()))
    return type(outcome).__name__, outcome.booking.status.value, promoted


async def told(two: Two, story: Story, order: str) -> tuple[str, Seen]:
    """Tell the story with the statements in this order. Return the whole order and what is seen."""
    event, of_a, of_b = await story(two)
    for name, process in (("a", two.a), ("b", two.b)):
        # It loads the event, so that its snapshot is old when the other one writes.
        await seen(lambda process=process: process.cancel(event, two.people[4]))  # type: ignore[misc]
        connection = process._batches._connection._connection
        assert connection is not None
        two.turns.know(name, connection)
    done, responses = await two.turns.run(order, {"a": lambda: seen(of_a), "b": lambda: seen(of_b)})
    return done, (responses, *await two.statuses(event))


async def assert_every_order_is_explained(two: Two, story: Story) -> tuple[int, list[Seen]]:
    """Return how many orders there are, and what may be seen."""
    first, second = await told(two, story, "a" * 99), await told(two, story, "b" * 99)
    may_be = [first[1], second[1]]
    orders, left = {first[0], second[0]}, [first[0], second[0]]
    begun = {order[:place] for order in orders for place in range(len(order) + 1)}
    while left:
        order = left.pop()
        for place, name in enumerate(order):
            # The same beginning, and then the turn of the other one.
            other = order[:place] + ("b" if name == "a" else "a")
            if other in begun:
                continue
            done, found = await told(two, story, other)
            assert found in may_be, done
            begun |= {other, *(done[:place] for place in range(len(done) + 1))}
            if done not in orders:
                orders.add(done)
                left.append(done)
        assert len(orders) <= MOST
    recount = await RecountRepository(two.engine).recount()
    assert recount.differences == []
    return len(orders), may_be


async def hold(two: Two, event: int, person: int, quantity: int = 1) -> Booking:
    kept = await two.b.hold(event, two.people[person], lines=((None, quantity),))
    return kept.booking


async def expiry_and_confirmation(two: Two) -> tuple[int, Any, Any]:
    event = await two.event(total=1)
    held = await hold(two, event, 0)
    await two.end(event)
    return event, lambda: two.a.confirm(held), two.b.expire


async def expiry_and_confirmation_while_somebody_waits(two: Two) -> tuple[int, Any, Any]:
    event = await two.event(total=1)
    held = await hold(two, event, 0)
    await two.b.book(event, two.people[1])
    await two.end(event)
    return event, lambda: two.a.confirm(held), two.b.expire


async def expiry_and_release(two: Two) -> tuple[int, Any, Any]:
    event = await two.event(total=2)
    held = await hold(two, event, 0)
    await two.end(event)
    return event, lambda: two.a.cancel_booking(held), two.b.expire


async def expiry_and_release_while_somebody_waits(two: Two) -> tuple[int, Any, Any]:
    event = await two.event(total=1)
    held = await hold(two, event, 0)
    await two.b.book(event, two.people[1])
    await two.end(event)
    return event, lambda: two.a.cancel_booking(held), two.b.expire


async def expiry_and_extension(two: Two) -> tuple[int, Any, Any]:
    event = await two.event(total=1)
    held = await hold(two, event, 0)
    await two.end(event)
    until = datetime.now(held.created_at.tzinfo) + timedelta(days=1)
    return event, lambda: two.a.extend(held, until=until), two.b.expire


async def offer_accepted_and_expired(two: Two) -> tuple[int, Any, Any]:
    event = await two.event(total=1, offers=True)
    await two.b.book(event, two.people[0])
    waits = await two.b.book(event, two.people[1])
    await two.b.book(event, two.people[2])
    await two.b.cancel(event, two.people[0])
    await two.end(event)
    return event, lambda: two.a.confirm(waits.booking), two.b.expire


async def offer_accepted_and_declined(two: Two) -> tuple[int, Any, Any]:
    event = await two.event(total=1, offers=True)
    await two.b.book(event, two.people[0])
    waits = await two.b.book(event, two.people[1])
    await two.b.book(event, two.people[2])
    await two.b.cancel(event, two.people[0])
    offered = waits.booking
    return event, lambda: two.a.confirm(offered), lambda: two.b.cancel_booking(offered)


async def hold_and_booking_of_the_last_place(two: Two) -> tuple[int, Any, Any]:
    event = await two.event(total=2)
    await two.b.book(event, two.people[0])
    return (
        event,
        lambda: two.a.hold(event, two.people[1]),
        lambda: two.b.book(event, two.people[2]),
    )


async def confirmation_and_release(two: Two) -> tuple[int, Any, Any]:
    event = await two.event(total=1)
    held = await hold(two, event, 0)
    return event, lambda: two.a.confirm(held), lambda: two.b.cancel_booking(held)


async def two_late_confirmations(two: Two) -> tuple[int, Any, Any]:
    event = await two.event(total=2)
    held = await hold(two, event, 0, 2)
    await two.end(event)
    await two.b.expire()
    return event, lambda: two.a.confirm(held), lambda: two.b.confirm(held)


async def late_confirmation_and_booking(two: Two) -> tuple[int, Any, Any]:
    event = await two.event(total=1)
    held = await hold(two, event, 0)
    await two.end(event)
    await two.b.expire()
    return event, lambda: two.a.confirm(held), lambda: two.b.book(event, two.people[1])


STORIES: Final[Sequence[tuple[Story, bool]]] = [
    (expiry_and_confirmation, False),
    (expiry_and_confirmation_while_somebody_waits, True),
    (expiry_and_release, True),
    (expiry_and_release_while_somebody_waits, True),
    (expiry_and_extension, True),
    (offer_accepted_and_expired, True),
    (offer_accepted_and_declined, True),
    (hold_and_booking_of_the_last_place, True),
    (confirmation_and_release, True),
    (two_late_confirmations, False),
    (late_confirmation_and_booking, True),
]
"""Each with whether the order can be seen."""


@pytest.mark.usefixtures("unmeasured")
@pytest.mark.parametrize(("story", "matters"), STORIES, ids=lambda of: getattr(of, "__name__", ""))
async def test_every_order_of_the_statements_of_two_processes_is_explained(
    two: Two,
    story: Story,
    *,
    matters: bool,
) -> None:
    orders, (one, other) = await assert_every_order_is_explained(two, story)
    assert orders >= 2
    assert (one != other) is matters
