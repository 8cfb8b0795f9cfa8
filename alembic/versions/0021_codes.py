"""Create codes, and let a booking name the code that it was made with.

No row is rewritten: the new columns are null for what is booked without a code.

Revision ID: 0021
Revises: 0020
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ARRAY, TIMESTAMP

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None
loses = "codes, and which bookings were made with one"

COLUMNS = {"code_id": "bigint", "code_tickets": "integer"}


def upgrade() -> None:
    """Migrate."""
    # Each statement is committed on its own, so that no lock of a table is held while the next one
    # waits for another. A repeated attempt finds what is there.
    with op.get_context().autocommit_block():
        added = ", ".join(f"ADD COLUMN IF NOT EXISTS {n} {of}" for n, of in COLUMNS.items())
        op.execute(f"ALTER TABLE bookings {added}")
        op.execute("DROP INDEX CONCURRENTLY IF EXISTS ix_bookings_code_id")
        op.execute(
            "CREATE INDEX CONCURRENTLY ix_bookings_code_id ON bookings (code_id)"
            " WHERE code_id IS NOT NULL"
        )
    op.create_table(
        "codes",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("event_id", sa.BigInteger(), nullable=False),
        sa.Column("code", sa.Text(), nullable=False),
        sa.Column("folded", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("percent", sa.Integer(), nullable=True),
        sa.Column("amount", sa.BigInteger(), nullable=True),
        sa.Column("per", sa.Text(), server_default=sa.text("'ticket'"), nullable=False),
        sa.Column("ticket_type_ids", ARRAY(sa.BigInteger()), nullable=True),
        sa.Column("starts_at", TIMESTAMP(timezone=True), nullable=True),
        sa.Column("ends_at", TIMESTAMP(timezone=True), nullable=True),
        sa.Column("max_uses", sa.Integer(), nullable=True),
        sa.Column("max_tickets", sa.Integer(), nullable=True),
        sa.Column("uses", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("tickets", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("active", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        sa.Column(
            "created_at",
            TIMESTAMP(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.ForeignKeyConstraint(
            ["event_id"], ["events.id"], name="fk_codes_event_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_codes"),
        sa.CheckConstraint("kind in ('access', 'discount')", name=op.f("ck_codes_kind")),
        sa.CheckConstraint("per in ('ticket', 'booking')", name=op.f("ck_codes_per")),
        sa.CheckConstraint(
            "(kind = 'discount') = (num_nonnulls(percent, amount) = 1)",
            name=op.f("ck_codes_discount"),
        ),
        sa.CheckConstraint("percent between 1 and 100", name=op.f("ck_codes_percent")),
        sa.CheckConstraint("amount > 0", name=op.f("ck_codes_amount")),
        sa.CheckConstraint("uses >= 0 and tickets >= uses", name=op.f("ck_codes_counters")),
        postgresql_with={"fillfactor": "80"},
    )
    op.create_index("uq_codes_folded", "codes", ["folded", "event_id"], unique=True)
    op.create_index("ix_codes_event_id", "codes", ["event_id", "id"])


def downgrade() -> None:
    """Migrate back."""
    op.execute("DROP TABLE IF EXISTS codes")
    with op.get_context().autocommit_block():
        op.execute("DROP INDEX CONCURRENTLY IF EXISTS ix_bookings_code_id")
        gone = ", ".join(f"DROP COLUMN IF EXISTS {name}" for name in COLUMNS)
        op.execute(f"ALTER TABLE bookings {gone}")
