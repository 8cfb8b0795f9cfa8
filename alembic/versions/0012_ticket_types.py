"""Create ticket types, quotas and tickets, and the counters that a sale of them needs.

No row is rewritten: the counters of an event stay null while it has one free type without limits of
its own.

Revision ID: 0012
Revises: 0011
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ARRAY, TIMESTAMP

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None
loses = "ticket types, quotas and tickets"

COUNTERS = ("quota_capacity", "quota_available", "type_taken", "type_waiting")
COUNTED = ("quota_available", "type_taken", "type_waiting")
LINE_SERVED = "available_tickets = 0 or waiting_list_count = 0"

# The previous version creates events without a type, and so does a request that names none.
GIVE_TYPE = (
    """
    CREATE FUNCTION give_ticket_type() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        INSERT INTO ticket_types (event_id, slot, name)
        SELECT id, 0, 'General admission' FROM added
        WHERE NOT EXISTS (SELECT FROM ticket_types WHERE event_id = added.id);
        RETURN NULL;
    END $$
    """,
    """
    CREATE TRIGGER events_have_a_ticket_type AFTER INSERT ON events
    REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION give_ticket_type()
    """,
)


def upgrade() -> None:
    """Migrate."""
    # A foreign key stops those who write to the events, and a new column also those who read them.
    # A transaction that reads an event and then changes it would be a deadlock in between.
    op.execute("LOCK TABLE events IN ACCESS EXCLUSIVE MODE")
    op.create_table(
        "ticket_types",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("event_id", sa.BigInteger(), nullable=False),
        sa.Column("slot", sa.SmallInteger(), nullable=False),
        sa.Column("quotas", ARRAY(sa.SmallInteger()), server_default="{}", nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=True),
        sa.Column("amount", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("currency", sa.Text(), nullable=True),
        sa.Column("min_per_booking", sa.Integer(), server_default=sa.text("1"), nullable=False),
        sa.Column("max_per_booking", sa.Integer(), nullable=True),
        sa.Column("sales_open_at", TIMESTAMP(timezone=True), nullable=True),
        sa.Column("sales_close_at", TIMESTAMP(timezone=True), nullable=True),
        sa.Column("sales_open_local", TIMESTAMP(), nullable=True),
        sa.Column("sales_close_local", TIMESTAMP(), nullable=True),
        sa.Column("position", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("hidden", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("closed", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column(
            "created_at",
            TIMESTAMP(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.ForeignKeyConstraint(
            ["event_id"], ["events.id"], name="fk_ticket_types_event_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_ticket_types"),
        sa.CheckConstraint(
            "amount >= 0 and (amount = 0 or currency is not null)",
            name=op.f("ck_ticket_types_price"),
        ),
        sa.CheckConstraint(
            "min_per_booking >= 1 and coalesce(max_per_booking >= min_per_booking, true)",
            name=op.f("ck_ticket_types_per_booking"),
        ),
    )
    op.create_index("uq_ticket_types_slot", "ticket_types", ["event_id", "slot"], unique=True)
    op.create_table(
        "quotas",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("event_id", sa.BigInteger(), nullable=False),
        sa.Column("slot", sa.SmallInteger(), nullable=False),
        sa.Column("name", sa.Text(), nullable=True),
        sa.Column("ticket_type_id", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(
            ["event_id"], ["events.id"], name="fk_quotas_event_id", ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["ticket_type_id"],
            ["ticket_types.id"],
            name="fk_quotas_ticket_type_id",
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name="pk_quotas"),
        sa.CheckConstraint(
            "(name is null) = (ticket_type_id is not null)", name=op.f("ck_quotas_shared_has_name")
        ),
    )
    op.create_index("uq_quotas_slot", "quotas", ["event_id", "slot"], unique=True)
    op.create_index("uq_quotas_ticket_type_id", "quotas", ["ticket_type_id"], unique=True)
    op.create_table(
        "tickets",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("booking_id", sa.Uuid(), nullable=False),
        sa.Column("ticket_type_id", sa.BigInteger(), nullable=False),
        sa.Column("ordinal", sa.SmallInteger(), nullable=False),
        sa.Column("amount", sa.BigInteger(), nullable=False),
        sa.Column("status", sa.Text(), server_default="valid", nullable=False),
        sa.Column("generation", sa.Integer(), server_default=sa.text("1"), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_tickets"),
        sa.CheckConstraint("status in ('valid', 'cancelled')", name=op.f("ck_tickets_status")),
    )
    op.create_index("uq_tickets_ordinal", "tickets", ["booking_id", "ordinal"], unique=True)
    for column in (
        *(sa.Column(name, ARRAY(sa.BigInteger()), nullable=True) for name in COUNTERS),
        sa.Column(
            "max_bookings_per_person", sa.Integer(), server_default=sa.text("1"), nullable=False
        ),
        sa.Column(
            "max_tickets_per_person", sa.Integer(), server_default=sa.text("10"), nullable=False
        ),
        sa.Column("had_several_bookings", sa.Boolean(), server_default=sa.false(), nullable=False),
    ):
        op.add_column("events", column)
    # Validated separately, because this needs only a lock under which a sale goes on.
    for name in COUNTED:
        _check(name, f"0 <= all ({name})")
    op.execute("ALTER TABLE events DROP CONSTRAINT ck_events_line_served")
    _check("line_served", f"{LINE_SERVED} or quota_available is not null")
    for statement in GIVE_TYPE:
        op.execute(statement)


def _check(name: str, condition: str) -> None:
    op.execute(f"ALTER TABLE events ADD CONSTRAINT ck_events_{name} CHECK ({condition}) NOT VALID")
    op.execute(f"ALTER TABLE events VALIDATE CONSTRAINT ck_events_{name}")


def downgrade() -> None:
    """Migrate back. Fails if people wait while places are free, as for a group."""
    op.execute("DROP TRIGGER events_have_a_ticket_type ON events")
    op.execute("DROP FUNCTION give_ticket_type")
    op.execute("ALTER TABLE events DROP CONSTRAINT ck_events_line_served")
    _check("line_served", LINE_SERVED)
    for name in ("max_bookings_per_person", "max_tickets_per_person", "had_several_bookings"):
        op.drop_column("events", name)
    for name in COUNTERS:
        op.drop_column("events", name)
    op.drop_table("tickets")
    op.drop_table("quotas")
    op.drop_table("ticket_types")
