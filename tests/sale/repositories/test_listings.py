"""The lists of bookings, and their cost."""

import itertools
from uuid import UUID

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from tests.factories import make_event, make_people
from tests.outcomes import together
from tests.plans import nodes
from ticketing.db.statements import driver
from ticketing.sale.inventory.model import BookingStatus
from ticketing.sale.repositories.bookings import BookingRepository
from ticketing.sale.repositories.listings import OF_EVENT, OF_USER, ListingRepository


async def test_every_position_is_exact_from_whichever_end_it_is_counted(
    engine: AsyncEngine, bookings: BookingRepository
) -> None:
    people = await make_people(engine, 16)
    shows = [await make_event(engine, total=1, organiser=people[0]) for _ in range(2)]
    # One list grows slowly and the other fast, so that middle and half are far apart.
    for number, person in enumerate(people):
        await bookings.book(shows[0], person)
        if number > 10:
            others = people[(number - 11) * 3 :][:3]
            await together(*(bookings.book(shows[1], other) for other in others))
    # From the middle, from both ends, and a place for the head of the waiting list.
    for number in (7, 1, 15, 0):
        await bookings.cancel(shows[0], people[number])
    line = [people[number] for number in (3, 4, 5, 6, 8, 9, 10, 11, 12, 13, 14)]
    listings = ListingRepository(engine)
    for place, person in enumerate(line, start=1):
        mine = (await listings.of_user(person, before=None, limit=5)).items
        assert [item.position for item in mine if item.event_id == shows[0]] == [place]
    for size in (1, 4, 20):
        seen: list[tuple[UUID, int | None]] = []
        after: int | None = None
        while True:
            page = await listings.of_event(
                shows[0], status=BookingStatus.WAITING, after=after, limit=size
            )
            seen += [(item.user_id, item.position) for item in page.items]
            if (after := page.next_after) is None:
                break
        assert seen == list(zip(line, itertools.count(1)))
    first = (await listings.of_event(shows[0], status=None, after=None, limit=3)).items[-1]
    assert (first.user_id, first.status, first.position) == (people[2], "booked", None)


FILL = """
    WITH people AS (
        INSERT INTO users (id, username, password_hash)
        SELECT gen_random_uuid(), 'user' || n, '' FROM generate_series(1, 401) AS n RETURNING id
    ), show AS (
        INSERT INTO events
            (name, organiser_id, total_tickets, available_tickets, waiting_list_count)
        SELECT 'An event', id, 1, 0, 400 FROM people LIMIT 1 RETURNING id
    )
    INSERT INTO bookings (id, event_id, user_id, status, created_at)
    SELECT gen_random_uuid(), show.id, people.id,
        CASE WHEN row_number() OVER () = 1 THEN 'booked' ELSE 'waiting' END, now()
    FROM people, show
"""


@pytest.mark.parametrize(("place", "most"), [(1, 5), (20, 25), (200, 205), (380, 25), (400, 5)])
async def test_the_cost_of_a_position_grows_with_its_distance_from_the_nearer_end(
    engine: AsyncEngine, place: int, most: int
) -> None:
    async with driver(engine) as connection:
        await connection.execute("ALTER TABLE bookings DISABLE TRIGGER USER")
        # Rows that earlier tests deleted would be read, too.
        await connection.execute("TRUNCATE bookings CASCADE")
        await connection.execute(FILL)
        # As on a large table, and whether or not PostgreSQL has counted these rows already.
        await connection.execute("ANALYZE bookings")
        await connection.execute("SET enable_seqscan = off")
        row = await connection.fetchrow(
            "SELECT event_id, user_id, seq FROM bookings WHERE status = 'waiting'"
            " ORDER BY seq OFFSET $1 LIMIT 1",
            place - 1,
        )
        assert row is not None
        for query, asked in (
            (OF_USER, {"user": row["user_id"], "before": None}),
            (
                OF_EVENT,
                {
                    "event": row["event_id"],
                    "after": row["seq"] - 1,
                    "status": "waiting",
                    "unpaid": False,
                },
            ),
        ):
            given = [(asked | {"limit": 1})[name] for name in query.names]
            explain = f"EXPLAIN (ANALYZE, FORMAT JSON) {query.sql}"
            (root,) = await connection.fetchval(explain, *given)
            reads = [
                node["Actual Rows"]
                for node in nodes(root["Plan"])
                if node.get("Index Name") == "ix_bookings_waiting"
            ]
            assert reads
            assert sum(reads) <= most
            (found,) = await query.fetch(connection, limit=1, **asked)
            assert found["position"] == place
