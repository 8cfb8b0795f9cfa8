"""Changes are read once and rendered once, and sent to all who listen."""

import time
from collections.abc import AsyncIterator, Sequence
from uuid import UUID

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from tests.factories import make_event, make_people
from tests.feed.live.ears import ears
from ticketing.db.engine import connect
from ticketing.db.facts import Origin
from ticketing.errors import DatabaseUnavailable
from ticketing.feed.live import BEAT, SENDS, SLOWEST, Hub, Live
from ticketing.feed.routers.live_fields import Availability, Seen, Shown
from ticketing.sale.repositories.bookings import BookingRepository
from ticketing.sale.repositories.events import EventRepository
from ticketing.sale.repositories.revisions import RevisionRepository
from ticketing.web.streams import Streams


class Sale:
    """An event that people book, and the hub of its listeners. The test polls."""

    def __init__(self, engine: AsyncEngine) -> None:
        self.engine = engine
        self.events = EventRepository(engine)
        self.streams = Streams()
        self.hub: Hub[Seen, Shown] = Hub(Availability(self.events), self.streams)
        self.people: Sequence[UUID] = ()
        self.event = 0

    async def open(self, people: int, total: int = 10) -> None:
        self.people = await make_people(self.engine, people)
        self.event = await make_event(self.engine, total=total, organiser=self.people[0])

    async def live(self, *, last: str = "", lasts: float = 60.0) -> Live[Seen, Shown]:
        read_at = time.monotonic()
        shown = Shown(await self.events.get(self.event), team=False)
        ends_at = time.monotonic() + lasts
        return Live(self.hub, (self.event, False), shown, read_at, last=last, ends_at=ends_at)

    async def poll(self) -> None:
        """Poll as after a pause."""
        for topic in self.hub._topics.values():
            topic.due_at = 0.0
        await self.hub.poll()


@pytest.fixture
async def sale(engine: AsyncEngine) -> AsyncIterator[Sale]:
    sale = Sale(engine)
    yield sale
    await sale.events.close()


async def test_all_who_listen_share_one_read_and_get_the_same_bytes(
    sale: Sale, bookings: BookingRepository, sent: list[str]
) -> None:
    await sale.open(people=3)
    async with ears(*[await sale.live() for _ in range(100)]) as crowd:
        await bookings.book(sale.event, sale.people[1])
        await bookings.book(sale.event, sale.people[2])
        sent.clear()
        await sale.poll()
        assert len(sent) == 1
        for ear in crowd:
            first, change = await ear.until(2)
            assert (first.name, first.data["availableTickets"]) == ("availability", 10)
            assert (change.name, change.data["availableTickets"]) == ("change", 8)
        assert len({id(ear.heard[-1]) for ear in crowd}) == 1


async def test_nothing_is_read_without_listeners_and_nothing_is_sent_without_a_change(
    sale: Sale, sent: list[str]
) -> None:
    await sale.open(people=1)
    async with ears(await sale.live()) as (ear,):
        await sale.poll()
        assert len(ear.heard) == 1
    sent.clear()
    await sale.poll()
    assert sent == []
    assert sale.hub._topics == {}


async def test_who_reads_slowly_gets_the_last_numbers_as_a_whole(
    sale: Sale, bookings: BookingRepository
) -> None:
    await sale.open(people=4)
    async with ears(await sale.live(), await sale.live()) as (slow, quick):
        slow.reads.clear()
        for number, person in enumerate(sale.people[1:], 2):
            await bookings.book(sale.event, person)
            await sale.poll()
            await quick.until(number)
        slow.reads.set()
        *_, last = await slow.until(3)
        assert (last.name, last.data["availableTickets"]) == ("availability", 7)
        assert [each.name for each in quick.news] == ["availability", *["change"] * 3]


async def test_a_change_of_more_than_numbers_is_sent_as_a_whole(sale: Sale) -> None:
    await sale.open(people=1)
    revisions = RevisionRepository(sale.engine)
    async with ears(await sale.live()) as (ear,):
        await revisions.pause(sale.event, Origin())
        await sale.poll()
        _, news = await ear.until(2)
        assert (news.name, news.data["state"]) == ("availability", "paused")


async def test_who_comes_back_gets_nothing_that_they_have(
    sale: Sale, bookings: BookingRepository
) -> None:
    await sale.open(people=2)
    async with ears(await sale.live()) as (ear,):
        (first,) = ear.news
    async with ears(await sale.live(last=first.id)) as (ear,):
        assert ear.news[0].name == ""
        assert ear.news[0].retry is not None
        await bookings.book(sale.event, sale.people[1])
        await sale.poll()
        assert (await ear.until(2))[1].data["availableTickets"] == 9
    async with ears(await sale.live(last=first.id)) as (ear,):
        assert ear.news[0].data["availableTickets"] == 9


async def test_a_read_that_began_earlier_changes_nothing(
    sale: Sale, bookings: BookingRepository
) -> None:
    await sale.open(people=2)
    early = await sale.live()
    await bookings.book(sale.event, sale.people[1])
    async with ears(await sale.live()) as (ear,):
        async with ears(early) as (other,):
            assert other.news[0].data["availableTickets"] == 9
        await sale.poll()
        assert len(ear.heard) == 1


async def test_there_are_fewer_messages_for_each_as_more_listen(sale: Sale) -> None:
    await sale.open(people=1)
    live = await sale.live()
    pauses = []
    for _ in range(3):
        pauses.append(sale.hub._pause())
        for _ in range(SENDS // 2):
            sale.hub.join(live._key, live._state, live._read_at)
    quick, slower, slowest = pauses
    assert quick < 0 < slower < slowest < SLOWEST


async def test_something_is_sent_while_nothing_changes_and_while_the_database_is_gone(
    sale: Sale, monkeypatch: pytest.MonkeyPatch
) -> None:
    await sale.open(people=1)
    nowhere = connect("postgresql://nobody@127.0.0.1:1/nothing", pool_size=1)
    async with ears(await sale.live()) as (ear,):
        monkeypatch.setattr(sale.hub._reader, "_events", EventRepository(nowhere))
        for topic in sale.hub._topics.values():
            topic.sent_at -= 60.0
        with pytest.raises(DatabaseUnavailable):
            await sale.poll()
        await ear.until(2)
        assert ear.heard[1:] == [BEAT]


async def test_a_stream_ends_at_a_drain_with_a_time_to_come_back_that_differs(sale: Sale) -> None:
    await sale.open(people=1)
    async with ears(*[await sale.live() for _ in range(20)]) as crowd:
        sale.streams.end()
        for ear in crowd:
            await ear.task
        assert len({ear.heard[-1] for ear in crowd}) > 10
        assert all(500 <= int(ear.heard[-1].split()[1]) < 5_000 for ear in crowd)
    assert sale.hub._topics == {}


async def test_a_stream_ends_with_its_event_and_with_its_time(
    sale: Sale,
) -> None:
    await sale.open(people=1)
    revisions = RevisionRepository(sale.engine)
    async with ears(await sale.live(), await sale.live(lasts=0.0)) as (ear, short):
        await short.task
        async with sale.engine.begin() as connection:
            await connection.execute(text("UPDATE events SET status = 'draft'"))
        await revisions.delete(sale.event, Origin())
        await sale.poll()
        await ear.task
