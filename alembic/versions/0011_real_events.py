"""Give events dates, a venue, and terms of sale.

Existing events stay published and on sale at any time. No row is rewritten, because PostgreSQL
stores a constant default once for the whole table.

Revision ID: 0011
Revises: 0010
"""

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import TIMESTAMP

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None
loses = "dates, venues and the terms of sales"

TIME = TIMESTAMP(timezone=True)
STATUS = "status in ('draft', 'published', 'cancelled')"
KINDS: dict[str, sa.types.TypeEngine[Any]] = {
    "description": sa.Text(),
    "venue_name": sa.Text(),
    "venue_address": sa.Text(),
    "latitude": sa.Float(),
    "longitude": sa.Float(),
    "url": sa.Text(),
    "timezone": sa.Text(),
    "starts_local": TIMESTAMP(),
    "ends_local": TIMESTAMP(),
    "sales_open_local": TIMESTAMP(),
    "sales_close_local": TIMESTAMP(),
}
VISIBILITY = "visibility in ('public', 'unlisted')"


def upgrade() -> None:
    """Migrate."""
    for column in (
        sa.Column("revision", sa.BigInteger(), nullable=False, server_default=sa.text("1")),
        sa.Column("status", sa.Text(), nullable=False, server_default="published"),
        sa.Column("visibility", sa.Text(), nullable=False, server_default="public"),
        sa.Column("sales_paused", sa.Boolean(), nullable=False, server_default=sa.false()),
        sa.Column("starts_at", TIME, nullable=True),
        sa.Column("ends_at", TIME, nullable=True),
        sa.Column("sales_open_at", TIME, nullable=True),
        sa.Column("sales_close_at", TIME, nullable=True),
    ):
        op.add_column("events", column)
    # Validated separately, because this needs only a lock under which a sale goes on.
    for name, condition in (("status", STATUS), ("visibility", VISIBILITY)):
        op.execute(
            f"ALTER TABLE events ADD CONSTRAINT ck_events_{name} CHECK ({condition}) NOT VALID"
        )
        op.execute(f"ALTER TABLE events VALIDATE CONSTRAINT ck_events_{name}")
    op.create_table(
        "event_details",
        sa.Column("event_id", sa.BigInteger(), nullable=False),
        *(sa.Column(name, kind, nullable=True) for name, kind in KINDS.items()),
        sa.ForeignKeyConstraint(["event_id"], ["events.id"], name="fk_event_details_event_id"),
        sa.PrimaryKeyConstraint("event_id", name="pk_event_details"),
    )
    op.create_table(
        "cancellations",
        sa.Column("event_id", sa.BigInteger(), nullable=False),
        sa.Column("actor", sa.Uuid(), nullable=True),
        sa.Column("cancelled_at", TIME, nullable=False, server_default=sa.func.now()),
        sa.ForeignKeyConstraint(["event_id"], ["events.id"], name="fk_cancellations_event_id"),
        sa.PrimaryKeyConstraint("event_id", name="pk_cancellations"),
    )
    op.create_index("ix_events_organiser_id", "events", ["organiser_id", "id"])
    op.create_index("ix_events_starts_at", "events", ["starts_at", "id"])


def downgrade() -> None:
    """Migrate back. Dates, venues and terms of sale are lost."""
    op.drop_index("ix_events_organiser_id", "events")
    op.drop_table("cancellations")
    op.drop_table("event_details")
    for column in (
        "sales_close_at",
        "sales_open_at",
        "ends_at",
        "starts_at",
        "sales_paused",
        "visibility",
        "status",
        "revision",
    ):
        op.drop_column("events", column)
