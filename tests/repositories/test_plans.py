"""Every hot query walks an index, planned on empty tables as well as on large ones.

A prepared statement keeps the plan of the day it was made: one that reads a whole table because
the table was empty gets slower with every booking.
"""

import json
from collections.abc import Iterator
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from ticketing.database import Statement
from ticketing.repositories import (
    access,
    audit,
    bookings,
    commits,
    events,
    keys,
    listings,
    sessions,
    team,
)

COMMITS = [
    *(
        {"many": many, "changes": parts, "answers": parts, "skip": skip}
        for many, skip in ((False, False), (True, False), (True, True))
        for parts in (False, True)
    ),
    {"lone": True, "answers": False},
    {"lone": True, "answers": True},
]

HOT: dict[str, Statement] = {
    **{f"commit {parts}": commits.statement(**parts) for parts in COMMITS},
    "strangers": bookings.STRANGERS,
    "snapshots": bookings.SNAPSHOTS,
    "active": bookings.ACTIVE,
    "lines": bookings.LINES,
    "of_user": listings.OF_USER,
    "of_event": listings.OF_EVENT,
    "last_cancelled": bookings.LAST_CANCELLED,
    "event": events.READ,
    "login": sessions.START,
    "refresh": sessions.ROTATE,
    "reuse": sessions.END_REUSED,
    "end": sessions.END,
    "end_others": sessions.END_OTHERS,
    "expired": access.CLEAN_SESSIONS,
    "key": keys.VERIFY,
    "keys": keys.OF_USER,
    "owner_of_keys": keys.OWNER,
    "make_key": keys.ADD,
    "roles": team.ROLES,
    "members": team.MEMBERS,
    "trail": audit.TRAIL,
}

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


async def plan(connection: AsyncConnection, query: Statement) -> dict[str, Any]:
    """Return the plan that a prepared statement keeps whatever its parameters."""
    nulls = f"({', '.join(['NULL'] * len(query.names))})" if query.names else ""
    await connection.exec_driver_sql("SET LOCAL plan_cache_mode = force_generic_plan")
    await connection.exec_driver_sql(f"PREPARE asked AS {query.sql}")
    explained = await connection.exec_driver_sql(f"EXPLAIN (FORMAT JSON) EXECUTE asked {nulls}")
    found = explained.scalar_one()
    await connection.exec_driver_sql("DEALLOCATE asked")
    (root,) = json.loads(found) if isinstance(found, str) else found
    top: dict[str, Any] = root["Plan"]
    return top


def nodes(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield node
    for child in node.get("Plans", ()):
        yield from nodes(child)


def without_index_condition(top: dict[str, Any]) -> list[str]:
    """Return the scans that read a table other than where an index condition points."""
    return [
        f"{node['Node Type']} of {node.get('Relation Name') or node.get('Index Name')}"
        for node in nodes(top)
        if (
            node["Node Type"] == "Seq Scan"
            or ("Index" in node["Node Type"] and "Index Cond" not in node)
        )
    ]


async def test_hot_queries_planned_on_empty_tables_walk_an_index(engine: AsyncEngine) -> None:
    async with engine.begin() as connection:
        await connection.execute(text("ANALYZE"))
        for name, query in HOT.items():
            assert (name, without_index_condition(await plan(connection, query))) == (name, [])


async def test_hot_queries_planned_on_large_tables_walk_an_index(engine: AsyncEngine) -> None:
    async with engine.begin() as connection:
        for statement in FILL.split(";")[:-1]:
            await connection.execute(text(statement))
        await connection.execute(text("ANALYZE"))
        for name, query in HOT.items():
            assert (name, without_index_condition(await plan(connection, query))) == (name, [])


async def test_what_workers_ask_every_second_reads_only_what_is_new(engine: AsyncEngine) -> None:
    async with engine.begin() as connection:
        await connection.execute(text("ANALYZE"))
        found = without_index_condition(await plan(connection, access.CHANGES))
    # All of the admins, and of the revocations what the index points at.
    assert [scan for scan in found if "admins" not in scan] == []


async def test_the_guard_sees_a_query_that_reads_the_whole_table(engine: AsyncEngine) -> None:
    async with engine.begin() as connection:
        found = await plan(connection, Statement("SELECT * FROM bookings WHERE created_at = :at"))
    assert without_index_condition(found) == ["Seq Scan of bookings"]


async def test_swapping_an_event_stays_in_its_page(engine: AsyncEngine) -> None:
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
