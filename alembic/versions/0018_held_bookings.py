"""Let a booking be a hold or an offer, which ends by itself.

No row is rewritten.

Revision ID: 0018
Revises: 0017
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB, TIMESTAMP

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None
loses = "holds and offers: their places become free"

STATUS = "status in ('booked', 'waiting', 'held', 'offered', 'cancelled')"
STATUS_BEFORE = "status in ('booked', 'waiting', 'cancelled')"
# A hold that has expired may get its places again, if they are still free.
EXPIRED_MAY_RETURN = """
    CREATE TRIGGER cancelled_stays AFTER UPDATE OF status ON bookings
    FOR EACH ROW WHEN (
        OLD.status = 'cancelled' AND NOT (OLD.expires_at IS NOT NULL AND NEW.status = 'booked')
    ) EXECUTE FUNCTION keep_cancelled()
"""
CANCELLED_STAYS = """
    CREATE TRIGGER cancelled_stays AFTER UPDATE OF status ON bookings
    FOR EACH ROW WHEN (OLD.status = 'cancelled') EXECUTE FUNCTION keep_cancelled()
"""
RELEASE = """
    WITH released AS (
        UPDATE bookings SET status = 'cancelled'
        WHERE status IN ('held', 'offered') RETURNING event_id, quantity
    )
    UPDATE events SET version = version + 1, available_tickets = available_tickets + places
    FROM (SELECT event_id, sum(quantity) AS places FROM released GROUP BY event_id) AS freed
    WHERE events.id = freed.event_id
"""


def upgrade() -> None:
    """Migrate."""
    op.add_column("bookings", sa.Column("expires_at", TIMESTAMP(timezone=True), nullable=True))
    op.add_column("bookings", sa.Column("places", JSONB(), nullable=True))
    _set_status(STATUS)
    op.execute("DROP TRIGGER cancelled_stays ON bookings")
    op.execute(EXPIRED_MAY_RETURN)


def downgrade() -> None:
    """Migrate back. Fails while there are holds or offers at events with several ticket types."""
    op.execute(RELEASE)
    op.execute("DROP TRIGGER cancelled_stays ON bookings")
    op.execute(CANCELLED_STAYS)
    _set_status(STATUS_BEFORE)
    op.execute("ALTER TABLE bookings VALIDATE CONSTRAINT ck_bookings_status")
    op.drop_column("bookings", "places")
    op.drop_column("bookings", "expires_at")


def _set_status(condition: str) -> None:
    """Set the condition for new rows. The next migration checks the others, without a lock."""
    op.execute("ALTER TABLE bookings DROP CONSTRAINT ck_bookings_status")
    op.execute(
        f"ALTER TABLE bookings ADD CONSTRAINT ck_bookings_status CHECK ({condition}) NOT VALID"
    )
