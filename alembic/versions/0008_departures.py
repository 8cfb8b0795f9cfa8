"""Refuse bookings of deleted accounts, and list those that have to leave waiting lists.

Revision ID: 0008
Revises: 0007
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ARRAY, TIMESTAMP

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None
loses = "the list of deleted accounts whose waiting positions are still to be ended"

# As in 0001, with one more condition on the account.
REQUIRE = """
    CREATE OR REPLACE FUNCTION require_booked() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF EXISTS (
            SELECT FROM added
            WHERE NOT EXISTS (
                SELECT FROM users WHERE users.id = added.user_id {living} OFFSET 0
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
    """Migrate."""
    op.create_table(
        "departures",
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("waiting", ARRAY(sa.Uuid()), nullable=False),
        sa.Column(
            "left_at", TIMESTAMP(timezone=True), server_default=sa.func.now(), nullable=False
        ),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_departures_user_id"),
        sa.PrimaryKeyConstraint("user_id", name="pk_departures"),
    )
    op.execute(REQUIRE.format(living="AND users.password_hash IS NOT NULL"))


def downgrade() -> None:
    """Migrate back."""
    op.execute(REQUIRE.format(living=""))
    op.drop_table("departures")
