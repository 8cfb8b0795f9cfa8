"""Create what the door needs: keys of codes, what differs from a booked ticket, and scans.

`tickets.generation` was never used. Generations are in `ticket_details`, so that a booking writes
no more than before.

Revision ID: 0024
Revises: 0023
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB, TIMESTAMP

revision = "0024"
down_revision = "0023"
branch_labels = None
depends_on = None
loses = "the holders, windows and generations of tickets, the keys of their codes, and all scans"


def _time(name: str, *, nullable: bool = True, default: str | None = None) -> sa.Column[object]:
    return sa.Column(
        name,
        TIMESTAMP(timezone=True),
        nullable=nullable,
        server_default=None if default is None else sa.text(default),
    )


def upgrade() -> None:
    """Migrate."""
    # Each statement is committed on its own, so that no lock of a table is held while the next one
    # waits for another. A repeated attempt finds what is there.
    with op.get_context().autocommit_block():
        op.create_table(
            "ticket_keys",
            sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
            sa.Column("public_key", sa.LargeBinary(), nullable=False),
            sa.Column("sealed", sa.LargeBinary(), nullable=False),
            _time("created_at", nullable=False, default="now()"),
            _time("signs_from", nullable=False),
            sa.PrimaryKeyConstraint("id", name="pk_ticket_keys"),
            sa.CheckConstraint("id between 1 and 65535", name=op.f("ck_ticket_keys_id")),
            if_not_exists=True,
        )
        op.create_table(
            "ticket_details",
            sa.Column("ticket_id", sa.Uuid(), nullable=False),
            sa.Column("booking_id", sa.Uuid(), nullable=False),
            sa.Column("generation", sa.Integer(), server_default=sa.text("1"), nullable=False),
            sa.Column("holder_id", sa.Uuid(), nullable=True),
            sa.Column("name", sa.Text(), nullable=True),
            sa.Column("email", sa.Text(), nullable=True),
            _time("valid_from"),
            _time("valid_until"),
            sa.Column("transfer_hash", sa.LargeBinary(), nullable=True),
            _time("transfer_until"),
            sa.PrimaryKeyConstraint("ticket_id", name="pk_ticket_details"),
            sa.ForeignKeyConstraint(
                ["booking_id"], ["bookings.id"], name="fk_ticket_details_booking_id"
            ),
            sa.ForeignKeyConstraint(
                ["holder_id"], ["users.id"], name="fk_ticket_details_holder_id"
            ),
            sa.CheckConstraint(
                "generation between 1 and 2147483647", name=op.f("ck_ticket_details_generation")
            ),
            if_not_exists=True,
        )
        op.create_index(
            "ix_ticket_details_booking_id", "ticket_details", ["booking_id"], if_not_exists=True
        )
        for name, column, unique in (
            ("ix_ticket_details_holder_id", "holder_id", False),
            ("uq_ticket_details_transfer_hash", "transfer_hash", True),
        ):
            op.create_index(
                name,
                "ticket_details",
                [column],
                unique=unique,
                postgresql_where=sa.text(f"{column} IS NOT NULL"),
                if_not_exists=True,
            )
        op.create_table(
            "doors",
            sa.Column("event_id", sa.BigInteger(), nullable=False),
            _time("names_until"),
            sa.Column("lists", JSONB(), nullable=False),
            sa.PrimaryKeyConstraint("event_id", name="pk_doors"),
            sa.ForeignKeyConstraint(
                ["event_id"], ["events.id"], name="fk_doors_event_id", ondelete="CASCADE"
            ),
            if_not_exists=True,
        )
        op.create_table(
            "check_ins",
            sa.Column("seq", sa.BigInteger(), sa.Identity(always=True), nullable=False),
            sa.Column("event_id", sa.BigInteger(), nullable=False),
            sa.Column("scan_id", sa.Uuid(), nullable=False),
            sa.Column("ticket_id", sa.Uuid(), nullable=True),
            sa.Column("ticket_type_id", sa.BigInteger(), nullable=True),
            sa.Column("list", sa.Text(), nullable=False),
            sa.Column("gate", sa.Text(), nullable=True),
            sa.Column("direction", sa.Text(), nullable=False),
            sa.Column("verdict", sa.Text(), nullable=False),
            sa.Column("judged", sa.Text(), nullable=True),
            sa.Column("passed", sa.Boolean(), nullable=False),
            sa.Column("conflict", sa.Boolean(), nullable=False),
            _time("first_at"),
            sa.Column("first_gate", sa.Text(), nullable=True),
            _time("scanned_at"),
            _time("received_at", nullable=False),
            _time("happened_at", nullable=False),
            sa.Column("actor", sa.Uuid(), nullable=True),
            _time("undone_at"),
            sa.Column("undone_reason", sa.Text(), nullable=True),
            sa.PrimaryKeyConstraint("seq", name="pk_check_ins"),
            sa.CheckConstraint("direction in ('in', 'out')", name=op.f("ck_check_ins_direction")),
            sa.CheckConstraint(
                "(undone_at is null) = (undone_reason is null)", name=op.f("ck_check_ins_undone")
            ),
            if_not_exists=True,
        )
        op.create_index(
            "uq_check_ins_scan_id",
            "check_ins",
            ["scan_id", "event_id"],
            unique=True,
            if_not_exists=True,
        )
        op.create_index("ix_check_ins_event", "check_ins", ["event_id", "seq"], if_not_exists=True)
        op.create_index(
            "ix_check_ins_ticket_id",
            "check_ins",
            ["ticket_id"],
            postgresql_where=sa.text("passed AND undone_at IS NULL"),
            if_not_exists=True,
        )
        op.execute("ALTER TABLE tickets DROP COLUMN IF EXISTS generation")


def downgrade() -> None:
    """Migrate back."""
    for table in ("check_ins", "doors", "ticket_details", "ticket_keys"):
        op.drop_table(table)
    op.execute("ALTER TABLE tickets ADD COLUMN generation integer DEFAULT 1 NOT NULL")
