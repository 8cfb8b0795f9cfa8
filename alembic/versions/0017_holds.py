"""Let events keep places for a while: for people who pay, and for those who wait.

No row is rewritten, because PostgreSQL stores a constant default once for the whole table.

Revision ID: 0017
Revises: 0016
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import TIMESTAMP

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None
loses = "when holds and offers end, and the rules of waiting lists"

CHECKS = {
    "hold_minutes": "hold_minutes between 1 and 10080",
    "offer_minutes": "offer_minutes between 1 and 10080",
    "group_patience_minutes": "group_patience_minutes between 0 and 10080",
    "waiting_list_mode": "waiting_list_mode in ('auto', 'offer', 'closed')",
}


def upgrade() -> None:
    """Migrate. Bookings are changed later: locking two tables at once could be a deadlock."""
    for column in (
        sa.Column("next_expiry", TIMESTAMP(timezone=True), nullable=True),
        sa.Column("hold_minutes", sa.Integer(), server_default=sa.text("10"), nullable=False),
        sa.Column("waiting_list_mode", sa.Text(), server_default="auto", nullable=False),
        sa.Column("offer_minutes", sa.Integer(), server_default=sa.text("60"), nullable=False),
        sa.Column("group_patience_minutes", sa.Integer(), nullable=True),
    ):
        op.add_column("events", column)
    # Validated separately, because this needs only a lock under which a sale goes on.
    for name, condition in CHECKS.items():
        op.execute(
            f"ALTER TABLE events ADD CONSTRAINT ck_events_{name} CHECK ({condition}) NOT VALID"
        )
        op.execute(f"ALTER TABLE events VALIDATE CONSTRAINT ck_events_{name}")
    # Few events have an expiry, so this reads the table and writes nearly nothing.
    op.create_index(
        "ix_events_next_expiry",
        "events",
        ["next_expiry"],
        postgresql_where=sa.text("next_expiry IS NOT NULL"),
    )


def downgrade() -> None:
    """Migrate back."""
    op.drop_index("ix_events_next_expiry", "events")
    for name in (
        "next_expiry",
        "hold_minutes",
        "waiting_list_mode",
        "offer_minutes",
        "group_patience_minutes",
    ):
        op.drop_column("events", name)
