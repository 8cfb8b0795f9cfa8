"""Search names without case and accents, independently of the database's locale.

The service fills the column, also for events that the previous version creates meanwhile. The index
is created while the column is empty, so no event is locked for long.

Revision ID: 0009
Revises: 0008
"""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None
loses = ""


def upgrade() -> None:
    """Migrate."""
    op.add_column("events", sa.Column("name_folded", sa.Text(), nullable=True))
    op.create_index(
        "ix_events_name_folded",
        "events",
        ["name_folded"],
        postgresql_using="gin",
        postgresql_ops={"name_folded": "gin_trgm_ops"},
    )
    op.create_index(
        "ix_events_not_folded",
        "events",
        ["id"],
        postgresql_where=sa.text("name_folded IS NULL"),
    )
    op.drop_index("ix_events_name_trigrams", "events")


def downgrade() -> None:
    """Migrate back. Events can't be written while their names are indexed."""
    op.create_index(
        "ix_events_name_trigrams",
        "events",
        ["name"],
        postgresql_using="gin",
        postgresql_ops={"name": "gin_trgm_ops"},
    )
    op.drop_column("events", "name_folded")
