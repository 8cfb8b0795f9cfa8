"""Remove the limit of code points from names, because the service counts characters.

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
    """Migrate. No row is rewritten."""
    for table in NAMES:
        op.alter_column(table, "name", type_=sa.Text())


def downgrade() -> None:
    """Migrate back. Names are cut to 100 code points, the limit of the previous version."""
    for table in NAMES:
        op.execute(f"UPDATE {table} SET name = left(name, 100) WHERE char_length(name) > 100")  # noqa: S608
        op.alter_column(table, "name", type_=sa.String(100))
