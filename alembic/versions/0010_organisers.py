"""Create the list of people who may create events, and tokens that set a password.

Revision ID: 0010
Revises: 0009
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import TIMESTAMP

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None
loses = "which people may create events, and the tokens that set a password"


def upgrade() -> None:
    """Migrate. The previous version lets everybody create events, and does not know the tokens."""
    op.create_table(
        "organisers",
        sa.Column("user_id", sa.Uuid(), nullable=False),
        _created_at(),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_organisers_user_id"),
        sa.PrimaryKeyConstraint("user_id", name="pk_organisers"),
    )
    op.create_table(
        "password_tokens",
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("hash", sa.LargeBinary(), nullable=False),
        _created_at(),
        sa.Column("expires_at", TIMESTAMP(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_password_tokens_user_id"),
        sa.PrimaryKeyConstraint("user_id", name="pk_password_tokens"),
    )
    op.create_index("uq_password_tokens_hash", "password_tokens", ["hash"], unique=True)
    op.create_index("ix_password_tokens_expires_at", "password_tokens", ["expires_at"])


def downgrade() -> None:
    """Migrate back. The list of people who may create events is lost."""
    op.drop_table("password_tokens")
    op.drop_table("organisers")


def _created_at() -> sa.Column[object]:
    return sa.Column(
        "created_at", TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False
    )
