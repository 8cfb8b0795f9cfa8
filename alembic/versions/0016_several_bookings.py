"""Give every event a ticket type, and let a person have several bookings at an event.

Revision ID: 0016
Revises: 0015
"""

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None
loses = ""

GIVE_TYPES = """
    INSERT INTO ticket_types (event_id, slot, name)
    SELECT id, 0, 'General admission' FROM events
    WHERE NOT EXISTS (SELECT FROM ticket_types WHERE event_id = events.id)
    ORDER BY id
"""
"""Locks the events in the order in which commits do."""


def upgrade() -> None:
    """Migrate."""
    # The indexes are built while a sale goes on. Each statement is committed on its own, so that no
    # lock is held while the next one waits. A repeated attempt builds them anew.
    with op.get_context().autocommit_block():
        op.execute(GIVE_TYPES)
        op.execute("DROP INDEX CONCURRENTLY IF EXISTS uq_bookings_slot")
        op.execute(
            "CREATE UNIQUE INDEX CONCURRENTLY uq_bookings_slot"
            " ON bookings (event_id, user_id, slot) WHERE status <> 'cancelled'"
        )
        op.execute("DROP INDEX CONCURRENTLY IF EXISTS ix_bookings_waiting_type")
        op.execute(
            "CREATE INDEX CONCURRENTLY ix_bookings_waiting_type"
            " ON bookings (event_id, ticket_type_id, seq) WHERE status = 'waiting'"
        )
    # The previous version knows the name.
    op.execute("DROP INDEX uq_bookings_active")
    op.execute("ALTER INDEX uq_bookings_slot RENAME TO uq_bookings_active")


def downgrade() -> None:
    """Migrate back. Fails while a person has several active bookings at an event."""
    op.drop_index("ix_bookings_waiting_type", "bookings")
    op.drop_index("uq_bookings_active", "bookings")
    op.create_index(
        "uq_bookings_active",
        "bookings",
        ["event_id", "user_id"],
        unique=True,
        postgresql_where=sa.text("status <> 'cancelled'"),
    )
