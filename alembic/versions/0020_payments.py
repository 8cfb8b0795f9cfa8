"""Create payments and refunds, refund policies and taxes.

No row is rewritten: the new columns are null for whatever is free, and for what was sold before.

Revision ID: 0020
Revises: 0019
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import TIMESTAMP

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None
loses = "payments, refunds, refund policies, and the taxes of tickets"

COLUMNS = {
    "events": {"refund_policy": "jsonb"},
    "event_details": {"refund_until_local": "timestamp"},
    "ticket_types": {"tax_rate": "integer"},
    "tickets": {"tax": "bigint"},
    "bookings": {
        "paid": "bigint",
        "refunded": "bigint",
        "kept": "bigint",
        "refund_policy": "jsonb",
    },
}
CHECKS = {
    "ck_events_refund_policy": (
        "events",
        "refund_policy ->> 'kind' in ('fullUntil', 'percentage', 'flatFee')",
    ),
    "ck_ticket_types_tax_rate": ("ticket_types", "tax_rate between 0 and 1000000"),
    "ck_tickets_tax": ("tickets", "tax between 0 and amount"),
    "ck_bookings_refunded": ("bookings", "coalesce(refunded, 0) between 0 and coalesce(paid, 0)"),
    "ck_bookings_kept": ("bookings", "kept >= 0"),
}


def upgrade() -> None:
    """Migrate."""
    # Each statement is committed on its own, so that no lock of a table is held while the next one
    # waits for another. A repeated attempt finds what is there.
    with op.get_context().autocommit_block():
        for table, columns in COLUMNS.items():
            added = ", ".join(f"ADD COLUMN IF NOT EXISTS {n} {of}" for n, of in columns.items())
            op.execute(f"ALTER TABLE {table} {added}")
        for name, (table, condition) in CHECKS.items():
            op.execute(f"ALTER TABLE {table} DROP CONSTRAINT IF EXISTS {name}")
            op.execute(f"ALTER TABLE {table} ADD CONSTRAINT {name} CHECK ({condition}) NOT VALID")
            op.execute(f"ALTER TABLE {table} VALIDATE CONSTRAINT {name}")
        op.execute("DROP INDEX CONCURRENTLY IF EXISTS ix_bookings_paid")
        op.execute(
            "CREATE INDEX CONCURRENTLY ix_bookings_paid ON bookings (event_id, seq) WHERE paid > 0"
        )
    op.create_table(
        "payments",
        sa.Column("seq", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("booking_id", sa.Uuid(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("reference", sa.Text(), nullable=False),
        sa.Column("amount", sa.BigInteger(), nullable=False),
        sa.Column("paid_at", TIMESTAMP(timezone=True), nullable=True),
        sa.Column(
            "recorded_at",
            TIMESTAMP(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.ForeignKeyConstraint(["booking_id"], ["bookings.id"], name="fk_payments_booking_id"),
        sa.PrimaryKeyConstraint("seq", name="pk_payments"),
        sa.CheckConstraint("kind in ('payment', 'refund')", name=op.f("ck_payments_kind")),
        sa.CheckConstraint("amount > 0", name=op.f("ck_payments_amount")),
        sa.CheckConstraint(
            "(kind = 'payment') = (paid_at is not null)", name=op.f("ck_payments_paid_at")
        ),
    )
    op.create_index(
        "uq_payments_reference", "payments", ["booking_id", "kind", "reference"], unique=True
    )
    op.create_index("ix_payments_booking_id", "payments", ["booking_id", "kind", "seq"])


def downgrade() -> None:
    """Migrate back. Columns take their constraints with them."""
    op.execute("DROP TABLE IF EXISTS payments")
    with op.get_context().autocommit_block():
        op.execute("DROP INDEX CONCURRENTLY IF EXISTS ix_bookings_paid")
        for table, columns in COLUMNS.items():
            gone = ", ".join(f"DROP COLUMN IF EXISTS {name}" for name in columns)
            op.execute(f"ALTER TABLE {table} {gone}")
