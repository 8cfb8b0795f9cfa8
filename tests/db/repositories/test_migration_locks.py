"""A migration under load never waits for a transaction of the service that waits for it."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import asyncpg
from sqlalchemy import event
from sqlalchemy.engine import Engine

from ticketing.db import migrations, revision

HELD = """
    SELECT relname, mode FROM pg_locks JOIN pg_class ON pg_class.oid = relation
    WHERE pid = pg_backend_pid() AND granted AND relkind = 'r'
        AND relnamespace = 'public'::regnamespace AND relname <> 'alembic_version'
"""
TABLES = "SELECT tablename FROM pg_tables WHERE schemaname = 'public'"
FIRST_RELEASE = "0009"
"""Nothing is sold during the migrations up to this one."""

STOPS_READERS = "AccessExclusiveLock"
STOPS_WRITERS = {"ShareLock", "ShareRowExclusiveLock", "ExclusiveLock", STOPS_READERS}

Locks = list[dict[str, set[str]]]
"""The modes in which each table is locked, after each statement."""


@contextmanager
def watched() -> Iterator[Locks]:
    """Note the locks of every statement that SQLAlchemy executes meanwhile."""
    seen: Locks = []

    def note(connection: Any, *_: object) -> None:  # noqa: ANN401 - SQLAlchemy's
        cursor = connection.connection.cursor()
        cursor.execute(HELD)
        held: dict[str, set[str]] = {}
        for table, mode in cursor.fetchall():
            held.setdefault(table, set()).add(mode)
        cursor.close()
        seen.append(held)

    event.listen(Engine, "after_cursor_execute", note)
    try:
        yield seen
    finally:
        event.remove(Engine, "after_cursor_execute", note)


async def tables(url: str) -> set[str]:
    connection = await asyncpg.connect(url)
    try:
        return {row[0] for row in await connection.fetch(TABLES)}
    finally:
        await connection.close()


def raised(seen: Locks, known: set[str]) -> set[str]:
    """Return the tables whose writers were stopped first, and whose readers only later."""
    return {
        table
        for before, after in pairwise(seen)
        for table in known & before.keys() & after.keys()
        if before[table] & STOPS_WRITERS and STOPS_READERS in after[table] - before[table]
    }


def together(seen: Locks, known: set[str]) -> set[str]:
    """Return the tables whose writers were stopped while those of another were."""
    stopped = [
        {each for each in known & held.keys() if held[each] & STOPS_WRITERS} for held in seen
    ]
    return set().union(*(tables for tables in stopped if len(tables) > 1))


async def test_a_migration_stops_one_table_at_a_time_and_its_readers_no_later_than_its_writers(
    empty_url: str,
) -> None:
    wrong = {}
    for to in revision.known():
        known = await tables(empty_url) if to > FIRST_RELEASE else set()
        with watched() as seen:
            await asyncio.to_thread(migrations.upgrade, empty_url, to)
        assert seen
        if found := raised(seen, known) | together(seen, known):
            wrong[to] = found
    assert wrong == {}
