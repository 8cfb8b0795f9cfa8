"""Create customers: people who can be booked, but have no account here.

Revision ID: 0013
Revises: 0012
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import TIMESTAMP

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None
loses = "the customers' names, e-mail addresses and external ids, while their bookings stay"

# As in 0008, with another condition on the person.
REQUIRE = """
    CREATE OR REPLACE FUNCTION require_booked() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF EXISTS (
            SELECT FROM added
            WHERE NOT EXISTS (
                SELECT FROM users WHERE users.id = added.user_id AND ({living}) OFFSET 0
            )
        ) THEN
            RAISE foreign_key_violation USING CONSTRAINT = 'fk_bookings_user_id',
                MESSAGE = 'a booking refers to a user who does not exist';
        END IF;
        IF EXISTS (
            SELECT FROM (SELECT DISTINCT event_id FROM added) AS booked
            WHERE NOT EXISTS (SELECT FROM events WHERE events.id = booked.event_id OFFSET 0)
        ) THEN
            RAISE foreign_key_violation USING CONSTRAINT = 'fk_bookings_event_id',
                MESSAGE = 'a booking refers to an event that does not exist';
        END IF;
        RETURN NULL;
    END $$
"""


def upgrade() -> None:
    """Migrate. The previous version books no customers, but cancels and counts their bookings."""
    # A customer has neither a name nor a password here. A deleted account has a name.
    op.alter_column("users", "username", nullable=True)
    op.create_table(
        "customers",
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("seq", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("organiser_id", sa.Uuid(), nullable=False),
        sa.Column("external_id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=True),
        sa.Column("email", sa.Text(), nullable=True),
        sa.Column(
            "created_at",
            TIMESTAMP(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_customers_user_id"),
        sa.ForeignKeyConstraint(["organiser_id"], ["users.id"], name="fk_customers_organiser_id"),
        sa.PrimaryKeyConstraint("user_id", name="pk_customers"),
    )
    op.create_index(
        "uq_customers_external_id", "customers", ["external_id", "organiser_id"], unique=True
    )
    op.create_index("ix_customers_organiser_id", "customers", ["organiser_id", "seq"])
    op.execute(REQUIRE.format(living="users.password_hash IS NOT NULL OR users.username IS NULL"))


def downgrade() -> None:
    """Migrate back. The people behind the customers become deleted accounts."""
    op.execute(REQUIRE.format(living="users.password_hash IS NOT NULL"))
    op.drop_table("customers")
    op.execute(
        "UPDATE users SET username = '~' || substr(replace(CAST(id AS text), '-', ''), 4)"
        " WHERE username IS NULL"
    )
    op.alter_column("users", "username", nullable=False)
