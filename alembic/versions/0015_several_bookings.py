"""Give every event a ticket type, and let a person have several bookings at an event.

Revision ID: 0015
Revises: 0014
"""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None
loses = ""

GIVE_TYPES = """
    INSERT INTO ticket_types (event_id, slot, name)
    SELECT id, 0, 'General admission' FROM events
    WHERE NOT EXISTS (SELECT FROM ticket_types WHERE event_id = events.id)
"""


def upgrade() -> None:
    """Migrate."""
    # Built while a sale goes on, and committed on its own. A repeated attempt builds it anew.
    with op.get_context().autocommit_block():
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
    op.execute(GIVE_TYPES)
    # Last, because this locks the bookings until the end. The previous version knows the name.
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
