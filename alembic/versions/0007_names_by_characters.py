"""Let names have as many code points as their characters take: the service counts characters.

Revision ID: 0007
Revises: 0006
"""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None
loses = "the end of names of events and API keys that are longer than 100 code points"

NAMES = ("events", "api_keys")


def upgrade() -> None:
    """Apply. No row is written anew."""
    for table in NAMES:
        op.alter_column(table, "name", type_=sa.Text())


def downgrade() -> None:
    """Take back: what is longer in code points than the version before can keep is cut."""
    for table in NAMES:
        op.execute(f"UPDATE {table} SET name = left(name, 100) WHERE char_length(name) > 100")  # noqa: S608
        op.alter_column(table, "name", type_=sa.String(100))
