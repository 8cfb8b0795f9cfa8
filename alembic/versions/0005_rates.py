"""Create the counts of rate limits.

Revision ID: 0005
Revises: 0004
"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None
loses = ""


def upgrade() -> None:
    """Migrate."""
    op.create_table(
        "rates",
        sa.Column("key", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("until", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("key", name="pk_rates"),
        # Unlogged: after a crash of the database, all counts start at zero.
        prefixes=["UNLOGGED"],
    )
    op.create_index("ix_rates_until", "rates", ["until"])


def downgrade() -> None:
    """Migrate back."""
    op.drop_table("rates")
