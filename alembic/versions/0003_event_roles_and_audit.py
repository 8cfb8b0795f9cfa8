"""Create event roles, and the append-only audit trail.

Revision ID: 0003
Revises: 0002
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB, TIMESTAMP

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None
loses = "managers and staff of events, and the audit trail"

# A statement trigger, so that TRUNCATE is refused too. The owner of the table can remove the
# trigger. The service's own role is not the owner (docs/operate.md).
APPEND_ONLY = (
    """
    CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        RAISE insufficient_privilege
            USING MESSAGE = format('%I is append-only: no %s', TG_TABLE_NAME, TG_OP);
    END $$
    """,
    """
    CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_records
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()
    """,
)


def upgrade() -> None:
    """Migrate."""
    op.create_table(
        "event_roles",
        sa.Column("event_id", sa.BigInteger(), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("seq", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        _time("created_at"),
        sa.CheckConstraint("role in ('manager', 'staff')", name=op.f("ck_event_roles_role")),
        sa.ForeignKeyConstraint(["event_id"], ["events.id"], name="fk_event_roles_event_id"),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_event_roles_user_id"),
        sa.PrimaryKeyConstraint("event_id", "user_id", name="pk_event_roles"),
    )
    op.create_index("ix_event_roles_event", "event_roles", ["event_id", "seq"])
    op.create_index("ix_event_roles_user_id", "event_roles", ["user_id"])
    op.create_table(
        "audit_records",
        sa.Column("seq", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        _time("at"),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("event_id", sa.BigInteger(), nullable=True),
        sa.Column("subject", sa.Uuid(), nullable=True),
        sa.Column("details", JSONB(), nullable=False),
        sa.Column("actor", sa.Uuid(), nullable=True),
        sa.Column("credential", sa.Uuid(), nullable=True),
        sa.Column("address", sa.Text(), nullable=True),
        sa.Column("request_id", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("seq", name="pk_audit_records"),
    )
    op.create_index(
        "ix_audit_records_event",
        "audit_records",
        ["event_id", "seq"],
        postgresql_where=sa.text("event_id IS NOT NULL"),
    )
    for statement in APPEND_ONLY:
        op.execute(statement)


def downgrade() -> None:
    """Migrate back. All records are lost."""
    op.drop_table("audit_records")
    op.execute("DROP FUNCTION refuse_change")
    op.drop_table("event_roles")


def _time(name: str) -> sa.Column[object]:
    return sa.Column(
        name, TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False
    )
