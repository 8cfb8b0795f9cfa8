"""Create sessions, refresh tokens, API keys, revocations and admins. Let accounts be deleted.

Revision ID: 0002
Revises: 0001
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ARRAY, TIMESTAMP

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None
loses = "sessions, API keys, admins (deleted accounts stay closed)"

# The form of a hash, but of no known password: a deleted account can't log in.
NO_PASSWORD = "$2b$12$" + "." * 53


def upgrade() -> None:
    """Migrate. The previous version refuses a login without a hash, as it should."""
    op.alter_column("users", "password_hash", existing_type=sa.Text(), nullable=True)
    op.create_table(
        "admins",
        sa.Column("user_id", sa.Uuid(), nullable=False),
        _time("created_at", server_default=sa.text("now()")),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_admins_user_id"),
        sa.PrimaryKeyConstraint("user_id", name="pk_admins"),
    )
    op.create_table(
        "sessions",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        _time("created_at", server_default=sa.text("now()")),
        _time("expires_at"),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_sessions_user_id"),
        sa.PrimaryKeyConstraint("id", name="pk_sessions"),
    )
    op.create_index("ix_sessions_user_id", "sessions", ["user_id"])
    op.create_index("ix_sessions_expires_at", "sessions", ["expires_at"])
    op.create_table(
        "refresh_tokens",
        sa.Column("hash", sa.LargeBinary(), nullable=False),
        sa.Column("session_id", sa.Uuid(), nullable=False),
        _time("used_at", nullable=True),
        sa.ForeignKeyConstraint(
            ["session_id"],
            ["sessions.id"],
            name="fk_refresh_tokens_session_id",
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("hash", name="pk_refresh_tokens"),
    )
    op.create_index("ix_refresh_tokens_session_id", "refresh_tokens", ["session_id"])
    op.create_table(
        "api_keys",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("seq", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.String(100), nullable=False),
        sa.Column("hash", sa.LargeBinary(), nullable=False),
        sa.Column("scopes", ARRAY(sa.Text()), nullable=False),
        _time("created_at", server_default=sa.text("now()")),
        _time("expires_at", nullable=True),
        _time("last_used_at", nullable=True),
        sa.CheckConstraint("cardinality(scopes) > 0", name=op.f("ck_api_keys_scopes")),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_api_keys_user_id"),
        sa.PrimaryKeyConstraint("id", name="pk_api_keys"),
    )
    op.create_index("uq_api_keys_hash", "api_keys", ["hash"], unique=True)
    op.create_index("ix_api_keys_user", "api_keys", ["user_id", "seq"])
    op.create_table(
        "revocations",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("xact", sa.BigInteger(), nullable=False),
        _time("ends_at"),
        sa.PrimaryKeyConstraint("id", name="pk_revocations"),
    )
    op.create_index("ix_revocations_xact", "revocations", ["xact"])
    op.create_index("ix_revocations_ends_at", "revocations", ["ends_at"])


def downgrade() -> None:
    """Migrate back. Deleted accounts stay closed."""
    for table in ("revocations", "api_keys", "refresh_tokens", "sessions", "admins"):
        op.drop_table(table)
    users = sa.table("users", sa.column("password_hash", sa.Text()))
    op.execute(
        users.update().where(users.c.password_hash.is_(None)).values(password_hash=NO_PASSWORD)
    )
    op.alter_column("users", "password_hash", existing_type=sa.Text(), nullable=False)


def _time(
    name: str, *, nullable: bool = False, server_default: sa.TextClause | None = None
) -> sa.Column[object]:
    return sa.Column(
        name, TIMESTAMP(timezone=True), server_default=server_default, nullable=nullable
    )
