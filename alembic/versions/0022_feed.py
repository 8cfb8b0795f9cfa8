"""Let the trail be followed: objects as they were, the records of each booking, and webhooks.

No row is rewritten: earlier records have no object.

Revision ID: 0022
Revises: 0021
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ARRAY, TIMESTAMP

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None
loses = "webhooks, and how events, ticket types and quotas were after each change"


def upgrade() -> None:
    """Migrate."""
    with op.get_context().autocommit_block():
        op.execute("ALTER TABLE audit_records ADD COLUMN IF NOT EXISTS whole jsonb")
        op.execute("DROP INDEX CONCURRENTLY IF EXISTS ix_audit_records_booking")
        op.execute(
            "CREATE INDEX CONCURRENTLY ix_audit_records_booking"
            " ON audit_records ((details ->> 'bookingId'), seq)"
            " WHERE action <> ALL (ARRAY['booking.booked', 'booking.waiting', 'booking.held'])"
            " AND (details ->> 'bookingId') IS NOT NULL"
        )
        # Each statement is committed on its own, so that no lock of a table is held while the next
        # one waits for another. A repeated attempt finds what is there.
        op.create_table(
            "webhooks",
            sa.Column("id", sa.Uuid(), nullable=False),
            sa.Column("seq", sa.BigInteger(), sa.Identity(always=True), nullable=False),
            sa.Column("user_id", sa.Uuid(), nullable=False),
            sa.Column("event_id", sa.BigInteger(), nullable=True),
            sa.Column("url", sa.Text(), nullable=False),
            sa.Column("types", ARRAY(sa.Text()), nullable=True),
            sa.Column("secret", sa.LargeBinary(), nullable=False),
            sa.Column("previous_secret", sa.LargeBinary(), nullable=True),
            _time("previous_until"),
            sa.Column("state", sa.Text(), server_default="active", nullable=False),
            _time("since", default="now()"),
            sa.Column("last_error", sa.Text(), nullable=True),
            _time("created_at", default="now()"),
            sa.Column("position", sa.BigInteger(), nullable=False),
            _time("due_at", default="'infinity'"),
            sa.Column("rests", sa.Boolean(), server_default=sa.text("true"), nullable=False),
            sa.Column("lease", sa.Uuid(), nullable=True),
            sa.Column("tries", sa.Integer(), server_default=sa.text("0"), nullable=False),
            _time("failing_since"),
            sa.PrimaryKeyConstraint("id", name="pk_webhooks"),
            sa.CheckConstraint("state in ('active', 'disabled')", name=op.f("ck_webhooks_state")),
            if_not_exists=True,
        )
        for constraint, of in (
            ("fk_webhooks_user_id", "(user_id) REFERENCES users (id)"),
            ("fk_webhooks_event_id", "(event_id) REFERENCES events (id) ON DELETE CASCADE"),
        ):
            op.execute(f"ALTER TABLE webhooks DROP CONSTRAINT IF EXISTS {constraint}")
            op.execute(f"ALTER TABLE webhooks ADD CONSTRAINT {constraint} FOREIGN KEY {of}")
        op.create_index("ix_webhooks_user_id", "webhooks", ["user_id", "seq"], if_not_exists=True)
        op.create_index("ix_webhooks_event_id", "webhooks", ["event_id"], if_not_exists=True)
        op.create_table(
            "webhook_retries",
            sa.Column("webhook_id", sa.Uuid(), nullable=False),
            sa.Column("record", sa.BigInteger(), nullable=False),
            sa.Column("about", sa.Text(), nullable=False),
            sa.Column("type", sa.Text(), nullable=False),
            sa.Column("body", sa.LargeBinary(), nullable=False),
            sa.Column("tries", sa.Integer(), nullable=False),
            _time("failing_since"),
            _time("next_at"),
            sa.Column("last_error", sa.Text(), nullable=True),
            sa.PrimaryKeyConstraint("webhook_id", "record", name="pk_webhook_retries"),
            sa.ForeignKeyConstraint(
                ["webhook_id"],
                ["webhooks.id"],
                name="fk_webhook_retries_webhook_id",
                ondelete="CASCADE",
            ),
            if_not_exists=True,
        )
        op.create_table(
            "webhook_deliveries",
            sa.Column("seq", sa.BigInteger(), sa.Identity(always=True), nullable=False),
            sa.Column("webhook_id", sa.Uuid(), nullable=False),
            sa.Column("message_id", sa.Text(), nullable=False),
            sa.Column("type", sa.Text(), nullable=False),
            sa.Column("attempt", sa.Integer(), nullable=False),
            sa.Column("at", TIMESTAMP(timezone=True), nullable=False),
            sa.Column("status", sa.Integer(), nullable=True),
            sa.Column("error", sa.Text(), nullable=True),
            sa.Column("milliseconds", sa.Integer(), nullable=False),
            sa.PrimaryKeyConstraint("seq", name="pk_webhook_deliveries"),
            sa.ForeignKeyConstraint(
                ["webhook_id"],
                ["webhooks.id"],
                name="fk_webhook_deliveries_webhook_id",
                ondelete="CASCADE",
            ),
            if_not_exists=True,
        )
        op.create_index(
            "ix_webhook_deliveries_webhook_id",
            "webhook_deliveries",
            ["webhook_id", "seq"],
            if_not_exists=True,
        )


def _time(name: str, default: str = "") -> sa.Column[object]:
    return sa.Column(
        name,
        TIMESTAMP(timezone=True),
        server_default=sa.text(default) if default else None,
        nullable=not default,
    )


def downgrade() -> None:
    """Migrate back."""
    for table in ("webhook_deliveries", "webhook_retries", "webhooks"):
        op.execute(f"DROP TABLE IF EXISTS {table}")
    with op.get_context().autocommit_block():
        op.execute("DROP INDEX CONCURRENTLY IF EXISTS ix_audit_records_booking")
        op.execute("ALTER TABLE audit_records DROP COLUMN IF EXISTS whole")
