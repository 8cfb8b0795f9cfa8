"""Create users, events and bookings.

Revision ID: 0001
Revises:
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import TIMESTAMP

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None
loses = "every account, event and booking"

# These triggers do the work of foreign keys from bookings to events and users, once per statement.
# A foreign key looks up and locks row by row, which took half of the time of a large commit.
#
# A statement that deletes an event or a user locks the table of bookings. It waits for running
# commits, and new ones wait for it. So no commit can refer to a row that is being deleted.
REFERENCES = (
    """
    CREATE FUNCTION require_booked() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF EXISTS (
            SELECT FROM added
            WHERE NOT EXISTS (SELECT FROM users WHERE users.id = added.user_id OFFSET 0)
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
    """,
    """
    CREATE TRIGGER references_exist AFTER INSERT ON bookings REFERENCING NEW TABLE AS added
    FOR EACH STATEMENT EXECUTE FUNCTION require_booked()
    """,
    """
    CREATE FUNCTION keep_reference() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        RAISE foreign_key_violation USING CONSTRAINT = TG_NAME,
            MESSAGE = format('what identifies a row of %I is never changed', TG_TABLE_NAME);
    END $$
    """,
    """
    CREATE TRIGGER references_stay BEFORE UPDATE OF event_id, user_id ON bookings
    FOR EACH STATEMENT EXECUTE FUNCTION keep_reference()
    """,
    """
    CREATE FUNCTION keep_booked() RETURNS trigger LANGUAGE plpgsql AS $$
    DECLARE
        is_referred_to boolean;
    BEGIN
        LOCK TABLE bookings IN SHARE ROW EXCLUSIVE MODE;
        EXECUTE format(
            'SELECT EXISTS (SELECT FROM removed WHERE EXISTS'
            ' (SELECT FROM bookings WHERE bookings.%I = removed.id OFFSET 0))',
            TG_ARGV[0]
        ) INTO is_referred_to;
        IF is_referred_to THEN
            RAISE foreign_key_violation USING CONSTRAINT = 'fk_bookings_' || TG_ARGV[0],
                MESSAGE = format('bookings refer to a row of %I', TG_TABLE_NAME);
        END IF;
        RETURN NULL;
    END $$
    """,
    *(
        statement
        for table, column in (("events", "event_id"), ("users", "user_id"))
        for statement in (
            f"""
            CREATE TRIGGER bookings_keep AFTER DELETE ON {table} REFERENCING OLD TABLE AS removed
            FOR EACH STATEMENT EXECUTE FUNCTION keep_booked({column})
            """,
            f"""
            CREATE TRIGGER id_stays BEFORE UPDATE OF id ON {table}
            FOR EACH STATEMENT EXECUTE FUNCTION keep_reference()
            """,
        )
    ),
)


def upgrade() -> None:
    """Migrate."""
    # A trusted extension, which the owner of the database may create.
    op.execute("CREATE EXTENSION IF NOT EXISTS pg_trgm")
    op.create_table(
        "users",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("username", sa.String(30), nullable=False),
        sa.Column("password_hash", sa.Text(), nullable=False),
        _created_at(server_default=sa.text("now()")),
        sa.PrimaryKeyConstraint("id", name="pk_users"),
    )
    op.create_index("uq_users_username", "users", [sa.text("lower(username)")], unique=True)
    op.create_table(
        "events",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("name", sa.String(100), nullable=False),
        sa.Column("organiser_id", sa.Uuid(), nullable=False),
        sa.Column("total_tickets", sa.BigInteger(), nullable=False),
        sa.Column("available_tickets", sa.BigInteger(), nullable=False),
        sa.Column("waiting_list_count", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("version", sa.BigInteger(), server_default="1", nullable=False),
        _created_at(server_default=sa.text("now()")),
        sa.CheckConstraint("total_tickets between 1 and 1000000", name=op.f("ck_events_total")),
        sa.CheckConstraint(
            "available_tickets between 0 and total_tickets", name=op.f("ck_events_available")
        ),
        sa.CheckConstraint("waiting_list_count >= 0", name=op.f("ck_events_waiting")),
        sa.CheckConstraint(
            "available_tickets = 0 or waiting_list_count = 0", name=op.f("ck_events_line_served")
        ),
        sa.ForeignKeyConstraint(["organiser_id"], ["users.id"], name="fk_events_organiser_id"),
        sa.PrimaryKeyConstraint("id", name="pk_events"),
        postgresql_with={"fillfactor": "50"},
    )
    op.create_index(
        "ix_events_name_trigrams",
        "events",
        ["name"],
        postgresql_using="gin",
        postgresql_ops={"name": "gin_trgm_ops"},
    )
    op.create_table(
        "bookings",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("seq", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("event_id", sa.BigInteger(), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        _created_at(),
        sa.CheckConstraint(
            "status in ('booked', 'waiting', 'cancelled')", name=op.f("ck_bookings_status")
        ),
        sa.PrimaryKeyConstraint("id", name="pk_bookings"),
    )
    op.create_index(
        "uq_bookings_active",
        "bookings",
        ["event_id", "user_id"],
        unique=True,
        postgresql_where=sa.text("status <> 'cancelled'"),
    )
    op.create_index(
        "ix_bookings_waiting",
        "bookings",
        ["event_id", "seq"],
        postgresql_where=sa.text("status = 'waiting'"),
    )
    op.create_index("ix_bookings_event", "bookings", ["event_id", "seq"])
    op.create_index("ix_bookings_user", "bookings", ["user_id", "seq"])
    for statement in REFERENCES:
        op.execute(statement)


def downgrade() -> None:
    """Migrate back. The extension stays, because it may be older than the service."""
    op.drop_table("bookings")
    op.drop_table("events")
    op.drop_table("users")
    op.execute("DROP FUNCTION require_booked, keep_booked, keep_reference")


def _created_at(server_default: sa.TextClause | None = None) -> sa.Column[object]:
    return sa.Column(
        "created_at", TIMESTAMP(timezone=True), server_default=server_default, nullable=False
    )
