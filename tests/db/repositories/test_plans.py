"""Every statement uses an index, planned on empty tables as well as on large ones.

A prepared statement keeps its first plan. If that reads a whole table because the table was empty,
it gets slower with every booking.
"""

import re

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from tests.plans import (
    past_a_unique_index,
    plan,
    statements,
    unique_indexes,
    without_index_condition,
)
from ticketing.db.statements import Statement
from ticketing.identity.repositories import access

HOT = {name: each for name, each in statements().items() if not each.reads_tables}

FEW = {
    "ix_api_keys_user": "a person has few keys",
    "ix_event_roles_event": "an event has a small team",
    "ix_event_roles_user_id": "a person is in few teams",
    "ix_payments_booking_id": "a booking has few payments",
    "ix_refresh_tokens_session_id": "a session has few tokens",
    "ix_sessions_user_id": "a person has few sessions",
    "ix_webhooks_user_id": "a person has few webhooks",
}
"""Indexes that may be read instead of a unique one, because they find few rows."""

FILL = """
    INSERT INTO users (id, username, password_hash)
    SELECT gen_random_uuid(), 'user' || n, '' FROM generate_series(1, 5000) AS n;
    INSERT INTO events
        (name, organiser_id, total_tickets, available_tickets, waiting_list_count)
    SELECT 'event ' || n, (SELECT id FROM users LIMIT 1), 450, 0, 50
    FROM generate_series(1, 100) AS n;
    INSERT INTO bookings (id, event_id, user_id, status, created_at)
    SELECT gen_random_uuid(), events.id, person.id,
        CASE WHEN person.n % 500 < 450 THEN 'booked' ELSE 'waiting' END, now()
    FROM events
    JOIN (SELECT id, row_number() OVER () AS n FROM users) AS person
        ON person.n / 500 = events.id % 10;
"""


async def test_queries_planned_on_empty_tables_use_an_index(engine: AsyncEngine) -> None:
    async with engine.begin() as connection:
        await connection.execute(text("ANALYZE"))
        reading = {
            name: scans
            for name, query in HOT.items()
            if (scans := without_index_condition(await plan(connection, query)))
        }
    assert reading == {}


async def test_queries_planned_on_empty_tables_use_the_index_that_finds_one_row(
    engine: AsyncEngine,
) -> None:
    """On an empty table an index of all that an event has costs no more than a unique one."""
    async with engine.begin() as connection:
        await connection.execute(text("ANALYZE"))
        unique = await unique_indexes(connection)
        found = {
            (name, index): better
            for name, query in statements().items()
            for index, better in past_a_unique_index(await plan(connection, query), unique).items()
        }
    assert {name: better for name, better in found.items() if name[1] not in FEW} == {}
    assert {index for _, index in found} >= FEW.keys()


async def test_queries_planned_on_large_tables_use_an_index(engine: AsyncEngine) -> None:
    async with engine.begin() as connection:
        for statement in FILL.split(";")[:-1]:
            await connection.execute(text(statement))
        await connection.execute(text("ANALYZE"))
        reading = {
            name: scans
            for name, query in HOT.items()
            if (scans := without_index_condition(await plan(connection, query)))
        }
    assert reading == {}


async def test_the_query_of_every_second_reads_only_new_rows(engine: AsyncEngine) -> None:
    async with engine.begin() as connection:
        await connection.execute(text("ANALYZE"))
        found = without_index_condition(await plan(connection, access.CHANGES))
    # It reads all admins and organisers, and revocations by their index.
    assert [scan for scan in found if not re.search("admins|organisers", scan)] == []


async def test_the_check_finds_a_query_that_reads_the_whole_table(engine: AsyncEngine) -> None:
    async with engine.begin() as connection:
        found = await plan(connection, Statement("SELECT * FROM bookings WHERE created_at = :at"))
    assert without_index_condition(found) == ["Seq Scan of bookings"]


async def test_updates_of_an_event_stay_in_its_page(engine: AsyncEngine) -> None:
    async with engine.begin() as connection:
        for statement in FILL.split(";")[:-1]:
            await connection.execute(text(statement))
        await connection.execute(text("UPDATE events SET version = version + 1"))
        counted = await connection.execute(
            text(
                "SELECT pg_stat_get_xact_tuples_updated('events'::regclass),"
                " pg_stat_get_xact_tuples_hot_updated('events'::regclass)"
            )
        )
        assert tuple(counted.one()) == (100, 100)
