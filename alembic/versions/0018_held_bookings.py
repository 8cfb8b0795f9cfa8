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
# A plain event may have no free place while people wait.
GIVE_COUNTERS = """
    WITH given AS (
        UPDATE events SET revision = revision + 1,
            quota_capacity = '{}', quota_available = '{}',
            type_taken = ARRAY[total_tickets - available_tickets],
            type_waiting = ARRAY[waiting_list_count]
        WHERE quota_available IS NULL AND waiting_list_count > 0 AND EXISTS (
            SELECT FROM bookings WHERE event_id = events.id AND status IN ('held', 'offered')
        )
        RETURNING id
    )
    UPDATE bookings SET ticket_type_id = (
        SELECT id FROM ticket_types WHERE ticket_types.event_id = given.id
    )
    FROM given
    WHERE bookings.event_id = given.id AND status = 'waiting' AND ticket_type_id IS NULL
"""
RELEASE = """
    WITH released AS (
        UPDATE bookings SET status = 'cancelled' WHERE status IN ('held', 'offered')
        RETURNING event_id, quantity, ticket_type_id, places
    ), named AS (
        SELECT event_id, CAST(place ->> 0 AS bigint) AS type_id, 1 AS places
        FROM released CROSS JOIN jsonb_array_elements(places) AS of(place)
        UNION ALL
        SELECT event_id, ticket_type_id, quantity FROM released WHERE places IS NULL
    ), freed AS (
        SELECT named.event_id, types.slot, types.quotas, sum(places) AS places
        FROM named CROSS JOIN LATERAL (
            SELECT slot, quotas FROM ticket_types
            WHERE ticket_types.event_id = named.event_id AND id = coalesce(
                type_id,
                (SELECT min(id) FROM ticket_types WHERE ticket_types.event_id = named.event_id)
            )
        ) AS types
        GROUP BY named.event_id, types.slot, types.quotas
    )
    UPDATE events SET version = version + 1,
        available_tickets = available_tickets
            + (SELECT sum(places) FROM freed WHERE event_id = events.id),
        type_taken = CASE WHEN type_taken IS NOT NULL THEN ARRAY(
            SELECT taken - coalesce(
                (SELECT sum(places) FROM freed WHERE event_id = events.id AND slot = place - 1), 0
            )
            FROM unnest(type_taken) WITH ORDINALITY AS counted(taken, place) ORDER BY place
        ) END,
        quota_available = CASE WHEN quota_available IS NOT NULL THEN ARRAY(
            SELECT rest + coalesce((
                SELECT sum(places) FROM freed
                WHERE event_id = events.id AND place - 1 = ANY(quotas)
            ), 0)
            FROM unnest(quota_available) WITH ORDINALITY AS counted(rest, place) ORDER BY place
        ) END
    WHERE id IN (SELECT event_id FROM freed)
"""


def upgrade() -> None:
    """Migrate."""
    op.add_column("bookings", sa.Column("expires_at", TIMESTAMP(timezone=True), nullable=True))
    op.add_column("bookings", sa.Column("places", JSONB(), nullable=True))
    _set_status(STATUS)
    op.execute("DROP TRIGGER cancelled_stays ON bookings")
    op.execute(EXPIRED_MAY_RETURN)


def downgrade() -> None:
    """Migrate back. Places that become free while people wait stay free until the next change."""
    op.execute(GIVE_COUNTERS)
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
