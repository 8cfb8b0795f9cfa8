"""Refuse to cancel a booking twice, so that cancels of an event can be decided at the same time.

Revision ID: 0006
Revises: 0005
"""

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None
loses = ""

# Two commits may both have read a booking and cancel it. The second finds it cancelled when it gets
# the event's lock, and this trigger refuses it.
CANCELLED_STAYS = (
    """
    CREATE FUNCTION keep_cancelled() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        RAISE check_violation USING CONSTRAINT = TG_NAME,
            MESSAGE = 'a booking that is cancelled stays so';
    END $$
    """,
    """
    CREATE TRIGGER cancelled_stays AFTER UPDATE OF status ON bookings
    FOR EACH ROW WHEN (OLD.status = 'cancelled') EXECUTE FUNCTION keep_cancelled()
    """,
)


def upgrade() -> None:
    """Migrate."""
    for statement in CANCELLED_STAYS:
        op.execute(statement)


def downgrade() -> None:
    """Migrate back."""
    op.execute("DROP TRIGGER cancelled_stays ON bookings")
    op.execute("DROP FUNCTION keep_cancelled")
