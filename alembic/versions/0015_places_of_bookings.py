"""Let a booking have several places, of a ticket type and at a price.

No row is rewritten: a booking without a type is one place of the event's first type.

Revision ID: 0015
Revises: 0014
"""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None
loses = "how many places a booking has, and their prices"


def upgrade() -> None:
    """Migrate. Events were changed before: locking two tables at once could be a deadlock."""
    for column in (
        sa.Column("slot", sa.SmallInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("ticket_type_id", sa.BigInteger(), nullable=True),
        sa.Column("quantity", sa.Integer(), server_default=sa.text("1"), nullable=False),
        sa.Column("amount", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("currency", sa.Text(), nullable=True),
    ):
        op.add_column("bookings", column)


def downgrade() -> None:
    """Migrate back."""
    for name in ("slot", "ticket_type_id", "quantity", "amount", "currency"):
        op.drop_column("bookings", name)
