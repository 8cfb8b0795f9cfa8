"""Create what is counted of each event by time.

The service counts the earlier records of the trail after its start.

Revision ID: 0023
Revises: 0022
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import TIMESTAMP

revision = "0023"
down_revision = "0022"
branch_labels = None
depends_on = None
loses = ""


def upgrade() -> None:
    """Migrate."""
    op.create_table(
        "activity",
        sa.Column("event_id", sa.BigInteger(), nullable=False),
        sa.Column("minutes", sa.SmallInteger(), nullable=False),
        sa.Column("at", TIMESTAMP(timezone=True), nullable=False),
        sa.Column("bookings", sa.BigInteger(), nullable=False),
        sa.Column("places", sa.BigInteger(), nullable=False),
        sa.Column("cancels", sa.BigInteger(), nullable=False),
        sa.Column("waiting", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("event_id", "minutes", "at", name="pk_activity"),
        sa.CheckConstraint("minutes in (1, 15)", name=op.f("ck_activity_minutes")),
    )
    op.create_table(
        "revenues",
        sa.Column("event_id", sa.BigInteger(), nullable=False),
        sa.Column("ticket_type_id", sa.BigInteger(), nullable=False),
        sa.Column("amount", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("event_id", "ticket_type_id", name="pk_revenues"),
    )
    op.create_table(
        "reduced_tickets",
        sa.Column("ticket_id", sa.Uuid(), nullable=False),
        sa.PrimaryKeyConstraint("ticket_id", name="pk_reduced_tickets"),
    )
    op.create_table(
        "activity_cursor",
        sa.Column("id", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("drawn", sa.BigInteger(), nullable=False),
        sa.Column("next_xact", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_activity_cursor"),
        sa.CheckConstraint("id", name=op.f("ck_activity_cursor_one")),
    )


def downgrade() -> None:
    """Migrate back. The counts are made again from the trail."""
    for table in ("activity_cursor", "reduced_tickets", "revenues", "activity"):
        op.drop_table(table)
