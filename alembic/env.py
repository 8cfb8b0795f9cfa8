"""Run migrations online, one process at a time, without holding up the running service for long."""

import asyncio
import os
from typing import Final

from alembic import context
from sqlalchemy import Connection, text

from ticketing.db import engine, tables

ADVISORY_LOCK: Final = 0x7469636B  # "tick"
LOCK_TIMEOUT: Final = "5s"


def run(connection: Connection) -> None:
    """Migrate on `connection`, behind a lock that all replicas share."""
    # Taken for the session and before the transaction: whoever waits for it then sees what the
    # one before it has done. Waiting for it holds up nobody, and takes as long as it takes.
    connection.execute(text("SET lock_timeout = 0"))
    connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": ADVISORY_LOCK})
    connection.execute(text(f"SET lock_timeout = '{LOCK_TIMEOUT}'"))
    connection.commit()
    try:
        context.configure(
            connection=connection,
            target_metadata=tables.Base.metadata,
            compare_server_default=True,
            transaction_per_migration=True,
        )
        with context.begin_transaction():
            context.run_migrations()
    finally:
        connection.rollback()
        connection.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": ADVISORY_LOCK})
        connection.commit()


async def main() -> None:
    """Connect and migrate."""
    url = context.config.attributes.get("url") or os.environ["TICKETING_DATABASE_URL"]
    pool = engine.connect(url, pool_size=1, command_timeout=None)
    try:
        async with pool.connect() as connection:
            await connection.run_sync(run)
    finally:
        await pool.dispose()


asyncio.run(main())
