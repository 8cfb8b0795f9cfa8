"""Run migrations one process at a time, without blocking the running service for long.

Alembic's offline mode prints their SQL instead.
"""

import os
import time
from typing import Final

from alembic import context
from alembic.runtime.migration import MigrationInfo
from sqlalchemy import Connection, text

from ticketing.db import engine, tables
from ticketing.ops import leaving
from ticketing.ops.progress import silent

ADVISORY_LOCK: Final = 0x7469636B  # "tick"
LOCK_TIMEOUT: Final = "5s"
ASK_EVERY: Final = 0.1
"""Seconds between two attempts to get the lock."""


def run(connection: Connection) -> None:
    """Migrate on `connection`, while holding a lock that all replicas share."""
    # The session takes the lock before the transaction begins. So a process that waited for it sees
    # what the previous one did. It asks again and again, because a statement that waits has a
    # snapshot, and CREATE INDEX CONCURRENTLY waits for all snapshots.
    while not _has_lock(connection):
        time.sleep(ASK_EVERY)
    connection.execute(text(f"SET lock_timeout = '{LOCK_TIMEOUT}'"))
    connection.commit()
    try:
        context.configure(
            connection=connection,
            target_metadata=tables.Base.metadata,
            compare_server_default=True,
            transaction_per_migration=True,
            on_version_apply=_tell,
        )
        with context.begin_transaction():
            context.run_migrations()
    finally:
        connection.rollback()
        connection.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": ADVISORY_LOCK})
        connection.commit()


def _has_lock(connection: Connection) -> bool:
    asked = connection.execute(text("SELECT pg_try_advisory_lock(:key)"), {"key": ADVISORY_LOCK})
    has_lock = bool(asked.scalar_one())
    connection.commit()
    return has_lock


def _tell(ctx: object, step: MigrationInfo, heads: object, run_args: object) -> None:  # noqa: ARG001 - Alembic names them
    old, new = (", ".join(ids) for ids in (step.source_revision_ids, step.destination_revision_ids))
    context.config.attributes.get("steps", []).append((old or None, new or None))
    context.config.attributes.get("tell", silent)(f"{old} -> {new} is done")


def write() -> None:
    """Print the SQL. It takes the same locks as `run`, with the same timeouts."""
    context.configure(
        dialect_name="postgresql",
        dialect_opts={"paramstyle": "named"},  # Other styles double each percent sign.
        literal_binds=True,
        transaction_per_migration=True,
    )
    context.execute(f"SELECT pg_advisory_lock({ADVISORY_LOCK})")
    context.execute(f"SET lock_timeout = '{LOCK_TIMEOUT}'")
    with context.begin_transaction():
        context.run_migrations()
    context.execute("RESET lock_timeout")
    context.execute(f"SELECT pg_advisory_unlock({ADVISORY_LOCK})")


async def main() -> None:
    """Connect and migrate."""
    url = context.config.attributes.get("url") or os.environ["TICKETING_DATABASE_URL"]
    pooler = context.config.attributes.get("pooler", "none")
    pool = engine.connect(url, pool_size=1, pooler=pooler, command_timeout=None)
    try:
        async with pool.connect() as connection:
            with leaving.cancellable():
                await connection.run_sync(run)
    finally:
        await pool.dispose()


if context.is_offline_mode():
    write()
else:
    leaving.run(main())
