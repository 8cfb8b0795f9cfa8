"""Create stored responses by Idempotency-Key, and commits, so that each request is done once.

Revision ID: 0004
Revises: 0003
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ARRAY, TIMESTAMP

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None
loses = "stored responses of Idempotency-Key: a request that a client repeats is carried out twice"


def upgrade() -> None:
    """Migrate."""
    op.create_table(
        "idempotency_keys",
        sa.Column("owner", sa.Uuid(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("status", sa.SmallInteger(), nullable=False),
        sa.Column("location", sa.Text(), nullable=True),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column(
            "created_at",
            TIMESTAMP(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.PrimaryKeyConstraint("owner", "key", name="pk_idempotency_keys"),
    )
    op.create_index("ix_idempotency_keys_created_at", "idempotency_keys", ["created_at"])
    op.create_table(
        "commits",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("events", ARRAY(sa.BigInteger()), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_commits"),
    )


def downgrade() -> None:
    """Migrate back."""
    op.drop_table("commits")
    op.drop_table("idempotency_keys")
