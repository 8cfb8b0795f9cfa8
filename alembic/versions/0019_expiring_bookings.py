"""Find the bookings that end by themselves, and groups that wait, without reading the others.

Revision ID: 0019
Revises: 0018
"""

from alembic import op

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None
loses = ""


def upgrade() -> None:
    """Migrate. Each statement is committed on its own, while a sale goes on."""
    with op.get_context().autocommit_block():
        op.execute("ALTER TABLE bookings VALIDATE CONSTRAINT ck_bookings_status")
        # A repeated attempt builds it anew.
        op.execute("DROP INDEX CONCURRENTLY IF EXISTS ix_bookings_expires_at")
        op.execute(
            "CREATE INDEX CONCURRENTLY ix_bookings_expires_at ON bookings (event_id, expires_at)"
            " WHERE expires_at IS NOT NULL AND status IN ('held', 'offered')"
        )
        op.execute("DROP INDEX CONCURRENTLY IF EXISTS ix_bookings_waiting_group")
        op.execute(
            "CREATE INDEX CONCURRENTLY ix_bookings_waiting_group"
            " ON bookings (event_id, ticket_type_id, seq) WHERE status = 'waiting' AND quantity > 1"
        )


def downgrade() -> None:
    """Migrate back."""
    op.drop_index("ix_bookings_waiting_group", "bookings")
    op.drop_index("ix_bookings_expires_at", "bookings")
