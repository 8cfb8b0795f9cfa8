"""Refuse to cancel twice: then who cancels need not be alone at the event.

Revision ID: 0006
Revises: 0005
"""

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None
loses = ""

# Of two commits that cancel one booking, both having read it before, the second finds it
# cancelled once it has the event's lock.
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
    """Apply."""
    for statement in CANCELLED_STAYS:
        op.execute(statement)


def downgrade() -> None:
    """Take back."""
    op.execute("DROP TRIGGER cancelled_stays ON bookings")
    op.execute("DROP FUNCTION keep_cancelled")
