"""The access data of a process, if the database is replaced by another."""

import asyncio
from uuid import uuid4

from sqlalchemy.ext.asyncio import AsyncEngine

from tests.databases import execute
from ticketing.identity.callers import AccessList
from ticketing.identity.repositories.access import AccessRepository


async def test_all_revocations_are_read_again_after_a_connection_was_lost(
    engine: AsyncEngine, database_url: str
) -> None:
    known = AccessList()
    access = AccessRepository(engine, known)
    await access.refresh()
    # As after a failover that lost transactions: their numbers are used again.
    revoked = uuid4()
    await execute(
        database_url,
        "INSERT INTO revocations (id, xact, ends_at)"
        f" VALUES ('{revoked}', 1, now() + interval '1 hour')",
    )
    await access.refresh()
    assert revoked not in known.revoked
    await execute(
        database_url,
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
        " WHERE application_name = 'ticketing' AND datname = current_database()",
    )
    await asyncio.sleep(0.1)
    await access.refresh()
    assert revoked in known.revoked
