"""Note the version of the time zone database that an event's instants were computed with.

The service computes them again for rows with an empty version, which existing rows have. No row is
rewritten, because PostgreSQL stores a constant default once for the whole table.

Revision ID: 0014
Revises: 0013
"""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None
loses = ""


def upgrade() -> None:
    """Migrate."""
    op.add_column(
        "event_details",
        sa.Column("zone_rules", sa.Text(collation="C"), nullable=True, server_default=""),
    )
    op.create_index(
        "ix_event_details_zone_rules",
        "event_details",
        ["zone_rules", "event_id"],
        postgresql_where=sa.text("zone_rules IS NOT NULL"),
    )


def downgrade() -> None:
    """Migrate back. The version is lost; newer versions compute the instants once more."""
    op.drop_index("ix_event_details_zone_rules", "event_details")
    op.drop_column("event_details", "zone_rules")
