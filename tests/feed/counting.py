"""Waiting until statistics are counted."""

import asyncio

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from ticketing.feed.repositories.activity import ActivityRepository

PATIENCE = 20.0


async def count_all(engine: AsyncEngine, *repositories: ActivityRepository) -> None:
    """Count until everything is counted. A transaction of another database may still run."""
    end = text("SELECT coalesce(max(seq), 0) FROM audit_records")
    at = text("SELECT coalesce(max(seq), 0) FROM activity_cursor")
    async with asyncio.timeout(PATIENCE), engine.connect() as connection:
        await connection.execution_options(isolation_level="AUTOCOMMIT")
        last = await connection.scalar(end)
        while await connection.scalar(at) < last:
            await asyncio.gather(*(each.count() for each in repositories))
