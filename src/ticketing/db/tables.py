"""Every table, and the naming convention of constraints."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    ForeignKey,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    String,
    Text,
    Uuid,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, TIMESTAMP
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Base(DeclarativeBase):
    """The base class of all tables."""

    metadata = MetaData(
        naming_convention={
            "pk": "pk_%(table_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s",
            "uq": "uq_%(table_name)s_%(column_0_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "ix": "ix_%(table_name)s_%(column_0_name)s",
        }
    )
    type_annotation_map = {  # noqa: RUF012 - SQLAlchemy reads it as declared
        datetime: TIMESTAMP(timezone=True),
        str: Text(),
        UUID: Uuid(),
        int: BigInteger(),
        bytes: LargeBinary(),
        list[str]: ARRAY(Text()),
        list[int]: ARRAY(BigInteger()),
        dict[str, Any]: JSONB(),
    }


class User(Base):
    """A person who can be booked: one with an account, or a customer.

    A customer has neither a name nor a password: see `customers`. The row of a deleted account or
    of an erased customer stays, because its bookings count. It has no password, and a name that
    nobody can register.
    """

    __tablename__ = "users"
    __table_args__ = (Index("uq_users_username", text("lower(username)"), unique=True),)

    id: Mapped[UUID] = mapped_column(primary_key=True)
    username: Mapped[str | None] = mapped_column(String(30))
    password_hash: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class Customer(Base):
    """What an organiser's own system knows of a person whom it books.

    An erased customer has no row here. A customer who was given a login keeps theirs.
    """

    __tablename__ = "customers"
    __table_args__ = (
        Index("uq_customers_external_id", "external_id", "organiser_id", unique=True),
        Index("ix_customers_organiser_id", "organiser_id", "seq"),
    )

    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id"), primary_key=True)
    seq: Mapped[int] = mapped_column(Identity(always=True))
    organiser_id: Mapped[UUID] = mapped_column(ForeignKey("users.id"))
    external_id: Mapped[str]
    name: Mapped[str | None]
    email: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class Admin(Base):
    """A person who may do what any event's owner may.

    Kept outside `users`, because every worker reads the whole table every second.
    """

    __tablename__ = "admins"

    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id"), primary_key=True)
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class Organiser(Base):
    """A person who may create events if not everybody may.

    Kept outside `users` for the same reason as `admins`.
    """

    __tablename__ = "organisers"

    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id"), primary_key=True)
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class PasswordToken(Base):
    """A token that sets a new password once, without the old one. Stored as a SHA-256 hash.

    A person has at most one. A newer token replaces it.
    """

    __tablename__ = "password_tokens"
    __table_args__ = (
        Index("uq_password_tokens_hash", "hash", unique=True),
        Index("ix_password_tokens_expires_at", "expires_at"),
    )

    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id"), primary_key=True)
    hash: Mapped[bytes]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    expires_at: Mapped[datetime]


class Session(Base):
    """A login on one device, with its refresh tokens (RFC 9700, section 4.14.2).

    A session that ends is deleted with its tokens, and its id is added to `revocations`.
    """

    __tablename__ = "sessions"
    __table_args__ = (
        Index("ix_sessions_user_id", "user_id"),
        Index("ix_sessions_expires_at", "expires_at"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id"))
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    expires_at: Mapped[datetime]


class RefreshToken(Base):
    """A token that continues a session once. Stored as a SHA-256 hash.

    Used ones stay, so that a second use is noticed.
    """

    __tablename__ = "refresh_tokens"
    __table_args__ = (Index("ix_refresh_tokens_session_id", "session_id"),)

    hash: Mapped[bytes] = mapped_column(primary_key=True)
    session_id: Mapped[UUID] = mapped_column(ForeignKey("sessions.id", ondelete="CASCADE"))
    used_at: Mapped[datetime | None]


class ApiKey(Base):
    """A credential of a person's program, for some scopes. Stored as a SHA-256 hash."""

    __tablename__ = "api_keys"
    __table_args__ = (
        CheckConstraint("cardinality(scopes) > 0", name="scopes"),
        Index("uq_api_keys_hash", "hash", unique=True),
        Index("ix_api_keys_user", "user_id", "seq"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    seq: Mapped[int] = mapped_column(Identity(always=True))
    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id"))
    name: Mapped[str]
    hash: Mapped[bytes]
    scopes: Mapped[list[str]]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    expires_at: Mapped[datetime | None]
    last_used_at: Mapped[datetime | None]


class Revocation(Base):
    """A session or API key that ended. Kept until no process can remember its credential.

    `xact` is the transaction that wrote the row: see `identity.repositories.access`.
    """

    __tablename__ = "revocations"
    __table_args__ = (
        Index("ix_revocations_xact", "xact"),
        Index("ix_revocations_ends_at", "ends_at"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    xact: Mapped[int]
    ends_at: Mapped[datetime]


class Rate(Base):
    """A count of a rate limit that all machines share. `until` is in nanoseconds since the epoch.

    The table is unlogged: after a crash of the database, all counts start at zero.
    """

    __tablename__ = "rates"
    __table_args__ = (Index("ix_rates_until", "until"), {"prefixes": ["UNLOGGED"]})

    key: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    until: Mapped[int]


class Departure(Base):
    """A deleted account. Kept until the person has left every waiting list.

    `waiting` has the bookings that were on waiting lists when the account was deleted.
    """

    __tablename__ = "departures"

    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id"), primary_key=True)
    waiting: Mapped[list[UUID]] = mapped_column(ARRAY(Uuid()))
    left_at: Mapped[datetime] = mapped_column(server_default=func.now())


class Event(Base):
    """An event and its inventory.

    Only the bookings repository writes `version`, `available_tickets` and `waiting_list_count`. The
    fill factor leaves room in each page, so that updates stay in the page and out of the indexes
    (heap-only tuples).
    """

    __tablename__ = "events"
    __table_args__ = (
        CheckConstraint("total_tickets between 1 and 1000000", name="total"),
        CheckConstraint("available_tickets between 0 and total_tickets", name="available"),
        CheckConstraint("waiting_list_count >= 0", name="waiting"),
        # No place may be free while people wait, so that none is sold to a newcomer.
        # An event with counters of types may keep places for a group that waits, and makes no
        # offers after the close of the sale.
        CheckConstraint(
            "available_tickets = 0 or waiting_list_count = 0 or quota_available is not null",
            name="line_served",
        ),
        CheckConstraint("0 <= all (quota_available)", name="quota_available"),
        CheckConstraint("0 <= all (type_taken)", name="type_taken"),
        CheckConstraint("0 <= all (type_waiting)", name="type_waiting"),
        CheckConstraint("status in ('draft', 'published', 'cancelled')", name="status"),
        CheckConstraint("visibility in ('public', 'unlisted')", name="visibility"),
        CheckConstraint("hold_minutes between 1 and 10080", name="hold_minutes"),
        CheckConstraint("offer_minutes between 1 and 10080", name="offer_minutes"),
        CheckConstraint(
            "group_patience_minutes between 0 and 10080", name="group_patience_minutes"
        ),
        CheckConstraint(
            "waiting_list_mode in ('auto', 'offer', 'closed')", name="waiting_list_mode"
        ),
        CheckConstraint(
            "refund_policy ->> 'kind' in ('fullUntil', 'percentage', 'flatFee')",
            name="refund_policy",
        ),
        Index(
            "ix_events_name_folded",
            "name_folded",
            postgresql_using="gin",
            postgresql_ops={"name_folded": "gin_trgm_ops"},
        ),
        Index("ix_events_organiser_id", "organiser_id", "id"),
        Index("ix_events_starts_at", "starts_at", "id"),
        Index("ix_events_not_folded", "id", postgresql_where=text("name_folded IS NULL")),
        Index(
            "ix_events_next_expiry",
            "next_expiry",
            postgresql_where=text("next_expiry IS NOT NULL"),
        ),
        {"postgresql_with": {"fillfactor": "50"}},
    )

    id: Mapped[int] = mapped_column(Identity(always=True), primary_key=True)
    name: Mapped[str]
    name_folded: Mapped[str | None]
    """The name as `sale.folding` folds it. Null until the service has filled it in."""
    organiser_id: Mapped[UUID] = mapped_column(ForeignKey("users.id"))
    total_tickets: Mapped[int] = mapped_column()
    available_tickets: Mapped[int] = mapped_column()
    waiting_list_count: Mapped[int] = mapped_column(server_default=text("0"))
    version: Mapped[int] = mapped_column(server_default=text("1"))
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    revision: Mapped[int] = mapped_column(server_default=text("1"))
    """Grows with every other change of the event: a decision rests on it too."""
    status: Mapped[str] = mapped_column(server_default=text("'published'"))
    visibility: Mapped[str] = mapped_column(server_default=text("'public'"))
    sales_paused: Mapped[bool] = mapped_column(server_default=text("false"))
    starts_at: Mapped[datetime | None]
    ends_at: Mapped[datetime | None]
    sales_open_at: Mapped[datetime | None]
    sales_close_at: Mapped[datetime | None]
    quota_capacity: Mapped[list[int] | None]
    quota_available: Mapped[list[int] | None]
    """By `quotas.slot`. Null while the event has one free type without limits of its own."""
    type_taken: Mapped[list[int] | None]
    type_waiting: Mapped[list[int] | None]
    """By `ticket_types.slot`: places taken, and waiting bookings."""
    max_bookings_per_person: Mapped[int] = mapped_column(Integer(), server_default=text("1"))
    max_tickets_per_person: Mapped[int] = mapped_column(Integer(), server_default=text("10"))
    had_several_bookings: Mapped[bool] = mapped_column(server_default=text("false"))
    """Whether a person was ever allowed more than one booking, so that some may have several."""
    next_expiry: Mapped[datetime | None]
    """No hold or offer ends before. It may be earlier than the first end."""
    hold_minutes: Mapped[int] = mapped_column(Integer(), server_default=text("10"))
    waiting_list_mode: Mapped[str] = mapped_column(server_default=text("'auto'"))
    offer_minutes: Mapped[int] = mapped_column(Integer(), server_default=text("60"))
    group_patience_minutes: Mapped[int | None] = mapped_column(Integer())
    refund_policy: Mapped[dict[str, Any] | None]
    """That of new bookings, as `sale.pricing` writes it. Null gives nothing back."""


class TicketType(Base):
    """What is on sale at an event.

    It draws from the event's own capacity, and from the quotas whose slots are in `quotas`.
    """

    __tablename__ = "ticket_types"
    __table_args__ = (
        CheckConstraint("amount >= 0 and (amount = 0 or currency is not null)", name="price"),
        CheckConstraint(
            "min_per_booking >= 1 and coalesce(max_per_booking >= min_per_booking, true)",
            name="per_booking",
        ),
        CheckConstraint("tax_rate between 0 and 1000000", name="tax_rate"),
        Index("uq_ticket_types_slot", "event_id", "slot", unique=True),
    )

    id: Mapped[int] = mapped_column(Identity(always=True), primary_key=True)
    event_id: Mapped[int] = mapped_column(ForeignKey("events.id", ondelete="CASCADE"))
    slot: Mapped[int] = mapped_column(SmallInteger())
    """Its index in the counters of the event."""
    quotas: Mapped[list[int]] = mapped_column(ARRAY(SmallInteger()), server_default="{}")
    name: Mapped[str]
    description: Mapped[str | None]
    amount: Mapped[int] = mapped_column(server_default=text("0"))
    """The price in the minor unit of the currency."""
    currency: Mapped[str | None]
    min_per_booking: Mapped[int] = mapped_column(Integer(), server_default=text("1"))
    max_per_booking: Mapped[int | None] = mapped_column(Integer())
    sales_open_at: Mapped[datetime | None]
    sales_close_at: Mapped[datetime | None]
    sales_open_local: Mapped[datetime | None] = mapped_column(TIMESTAMP())
    sales_close_local: Mapped[datetime | None] = mapped_column(TIMESTAMP())
    position: Mapped[int] = mapped_column(Integer(), server_default=text("0"))
    """Its place among the types that clients see."""
    hidden: Mapped[bool] = mapped_column(server_default=text("false"))
    closed: Mapped[bool] = mapped_column(server_default=text("false"))
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    tax_rate: Mapped[int | None] = mapped_column(Integer())
    """The tax that is part of the price, in units of 0.0001 percent of the net."""


class Quota(Base):
    """A capacity besides the event's own: of one ticket type, or shared by several.

    The numbers are in the event's row. A shared quota has a name.
    """

    __tablename__ = "quotas"
    __table_args__ = (
        CheckConstraint("(name is null) = (ticket_type_id is not null)", name="shared_has_name"),
        Index("uq_quotas_slot", "event_id", "slot", unique=True),
        Index("uq_quotas_ticket_type_id", "ticket_type_id", unique=True),
    )

    id: Mapped[int] = mapped_column(Identity(always=True), primary_key=True)
    event_id: Mapped[int] = mapped_column(ForeignKey("events.id", ondelete="CASCADE"))
    slot: Mapped[int] = mapped_column(SmallInteger())
    """Its index in the counters of the event."""
    name: Mapped[str | None]
    ticket_type_id: Mapped[int | None] = mapped_column(
        ForeignKey("ticket_types.id", ondelete="CASCADE")
    )


class EventDetails(Base):
    """What an event has that no sale needs: in a table of its own, a booking does not copy it.

    Local times are those that were given as such, in the event's time zone. An event without any of
    it has no row.
    """

    __tablename__ = "event_details"
    __table_args__ = (
        Index(
            "ix_event_details_zone_rules",
            "zone_rules",
            "event_id",
            postgresql_where=text("zone_rules IS NOT NULL"),
        ),
    )

    event_id: Mapped[int] = mapped_column(ForeignKey("events.id"), primary_key=True)
    description: Mapped[str | None]
    venue_name: Mapped[str | None]
    venue_address: Mapped[str | None]
    latitude: Mapped[float | None]
    longitude: Mapped[float | None]
    url: Mapped[str | None]
    timezone: Mapped[str | None]
    starts_local: Mapped[datetime | None] = mapped_column(TIMESTAMP())
    ends_local: Mapped[datetime | None] = mapped_column(TIMESTAMP())
    sales_open_local: Mapped[datetime | None] = mapped_column(TIMESTAMP())
    sales_close_local: Mapped[datetime | None] = mapped_column(TIMESTAMP())
    zone_rules: Mapped[str | None] = mapped_column(Text(collation="C"), server_default=text("''"))
    """The version of the time zone database that the instants were computed with.

    Null if no time to come is a local time. Empty if the version is unknown.
    """
    refund_until_local: Mapped[datetime | None] = mapped_column(TIMESTAMP())


class Cancellation(Base):
    """An event that was cancelled, until all of its bookings are; and who cancelled it."""

    __tablename__ = "cancellations"

    event_id: Mapped[int] = mapped_column(ForeignKey("events.id"), primary_key=True)
    actor: Mapped[UUID | None]
    cancelled_at: Mapped[datetime] = mapped_column(server_default=func.now())


class EventRole(Base):
    """A person's role at an event that they do not own."""

    __tablename__ = "event_roles"
    __table_args__ = (
        CheckConstraint("role in ('manager', 'staff')", name="role"),
        Index("ix_event_roles_event", "event_id", "seq"),
        Index("ix_event_roles_user_id", "user_id"),
    )

    event_id: Mapped[int] = mapped_column(ForeignKey("events.id"), primary_key=True)
    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id"), primary_key=True)
    seq: Mapped[int] = mapped_column(Identity(always=True))
    role: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class TrailRecord(Base):
    """A change, its author and origin. Author and origin are null for the command line.

    Append-only: a trigger, made by this table's migration, refuses other changes. There are no
    foreign keys, so a record takes no locks on other rows and outlives them.
    """

    __tablename__ = "audit_records"
    __table_args__ = (
        Index(
            "ix_audit_records_event",
            "event_id",
            "seq",
            postgresql_where=text("event_id IS NOT NULL"),
        ),
        # Without the first record of each booking, so that a booking writes no entry here.
        Index(
            "ix_audit_records_booking",
            text("(details ->> 'bookingId')"),
            "seq",
            postgresql_where=text(
                "action <> ALL (ARRAY['booking.booked', 'booking.waiting', 'booking.held'])"
                " AND (details ->> 'bookingId') IS NOT NULL"
            ),
        ),
    )

    seq: Mapped[int] = mapped_column(Identity(always=True), primary_key=True)
    at: Mapped[datetime] = mapped_column(server_default=func.now())
    action: Mapped[str]
    event_id: Mapped[int | None]
    subject: Mapped[UUID | None]
    details: Mapped[dict[str, Any]]
    actor: Mapped[UUID | None]
    credential: Mapped[UUID | None]
    address: Mapped[str | None]
    request_id: Mapped[str | None]
    whole: Mapped[dict[str, Any] | None]
    """The event, ticket type or quota after the change."""


class Activity(Base):
    """What happened at an event in a minute, or in a quarter of an hour, counted from the trail."""

    __tablename__ = "activity"
    __table_args__ = (CheckConstraint("minutes in (1, 15)", name="minutes"),)

    event_id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    minutes: Mapped[int] = mapped_column(SmallInteger(), primary_key=True, autoincrement=False)
    at: Mapped[datetime] = mapped_column(primary_key=True)
    """When that time begins."""
    bookings: Mapped[int]
    """Bookings that got their places, and in `places` how many."""
    places: Mapped[int]
    cancels: Mapped[int]
    waiting: Mapped[int]
    """Bookings that joined the waiting list."""


class Revenue(Base):
    """The sum of the prices of an event's valid tickets, by ticket type, counted from the trail."""

    __tablename__ = "revenues"

    event_id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    ticket_type_id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    amount: Mapped[int]


class ReducedTicket(Base):
    """A ticket that was cancelled alone, so that it is not subtracted again with its booking."""

    __tablename__ = "reduced_tickets"

    ticket_id: Mapped[UUID] = mapped_column(primary_key=True)


class ActivityCursor(Base):
    """How far the trail is counted. It has at most one row.

    The records up to `drawn` are all visible once no transaction before `next_xact` runs.
    """

    __tablename__ = "activity_cursor"
    __table_args__ = (CheckConstraint("id", name="one"),)

    id: Mapped[bool] = mapped_column(primary_key=True, server_default=text("true"))
    seq: Mapped[int]
    drawn: Mapped[int]
    next_xact: Mapped[int]


class Booking(Base):
    """A person's places at an event, places that are kept for them, or a position in the line.

    `seq` is assigned while the event's row is locked, so within one event it follows the order of
    commits. It is the order of the waiting list and of the organiser's list.

    `event_id` and `user_id` refer to existing rows. Triggers, made by this table's migration, check
    that once per statement.
    """

    __tablename__ = "bookings"
    __table_args__ = (
        CheckConstraint(
            "status in ('booked', 'waiting', 'held', 'offered', 'cancelled')", name="status"
        ),
        CheckConstraint(
            "coalesce(refunded, 0) between 0 and coalesce(paid, 0)",
            name="refunded",
        ),
        CheckConstraint("kept >= 0", name="kept"),
        Index(
            "uq_bookings_active",
            "event_id",
            "user_id",
            "slot",
            unique=True,
            postgresql_where=text("status <> 'cancelled'"),
        ),
        Index(
            "ix_bookings_waiting",
            "event_id",
            "seq",
            postgresql_where=text("status = 'waiting'"),
        ),
        Index(
            "ix_bookings_waiting_type",
            "event_id",
            "ticket_type_id",
            "seq",
            postgresql_where=text("status = 'waiting'"),
        ),
        Index(
            "ix_bookings_waiting_group",
            "event_id",
            "ticket_type_id",
            "seq",
            postgresql_where=text("status = 'waiting' AND quantity > 1"),
        ),
        Index(
            "ix_bookings_expires_at",
            "event_id",
            "expires_at",
            postgresql_where=text("expires_at IS NOT NULL AND status IN ('held', 'offered')"),
        ),
        Index("ix_bookings_event", "event_id", "seq"),
        Index("ix_bookings_user", "user_id", "seq"),
        Index(
            "ix_bookings_code_id",
            "code_id",
            postgresql_where=text("code_id IS NOT NULL"),
        ),
        Index("ix_bookings_paid", "event_id", "seq", postgresql_where=text("paid > 0")),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    seq: Mapped[int] = mapped_column(Identity(always=True))
    event_id: Mapped[int]
    user_id: Mapped[UUID]
    status: Mapped[str]
    created_at: Mapped[datetime]
    slot: Mapped[int] = mapped_column(SmallInteger(), server_default=text("0"))
    """Numbers a person's active bookings at one event."""
    ticket_type_id: Mapped[int | None]
    """Null for several types, and for one place of the event's first type."""
    quantity: Mapped[int] = mapped_column(Integer(), server_default=text("1"))
    """Places that it has or waits for."""
    amount: Mapped[int] = mapped_column(server_default=text("0"))
    currency: Mapped[str | None]
    expires_at: Mapped[datetime | None]
    """The end of a hold or an offer. A cancelled booking with an end has expired.

    Of a group that waits, the end of the time for which places gather for it.
    """
    places: Mapped[list[Any] | None] = mapped_column(JSONB())
    """The ticket type and the price of each place of a hold, unless all are of one free type."""
    # Null in most rows, where it takes no room.
    paid: Mapped[int | None]
    refunded: Mapped[int | None]
    """The sums of its payments and of its refunds."""
    kept: Mapped[int | None]
    """What the organiser keeps of the prices of its cancelled tickets."""
    refund_policy: Mapped[dict[str, Any] | None]
    """That of the event when it was booked. Null gives nothing back."""
    code_id: Mapped[int | None]
    """The code that it was booked or held with."""
    code_tickets: Mapped[int | None] = mapped_column(Integer())
    """How many tickets of the code it takes until it is cancelled or expires."""


class Code(Base):
    """A code of an event: it opens hidden ticket types, or reduces prices.

    Whoever changes a row locks the event and increases its version, because decisions about places
    rest on the code as it was read at a version.
    """

    __tablename__ = "codes"
    __table_args__ = (
        CheckConstraint("kind in ('access', 'discount')", name="kind"),
        CheckConstraint("per in ('ticket', 'booking')", name="per"),
        CheckConstraint(
            "(kind = 'discount') = (num_nonnulls(percent, amount) = 1)", name="discount"
        ),
        CheckConstraint("percent between 1 and 100", name="percent"),
        CheckConstraint("amount > 0", name="amount"),
        CheckConstraint("uses >= 0 and tickets >= uses", name="counters"),
        Index("uq_codes_folded", "folded", "event_id", unique=True),
        Index("ix_codes_event_id", "event_id", "id"),
        # Room in each page for the next versions of rows, so that a use changes no index.
        {"postgresql_with": {"fillfactor": "80"}},
    )

    id: Mapped[int] = mapped_column(Identity(always=True), primary_key=True)
    event_id: Mapped[int] = mapped_column(ForeignKey("events.id", ondelete="CASCADE"))
    code: Mapped[str]
    folded: Mapped[str]
    """The form in which codes are compared: see `sale.folding`."""
    kind: Mapped[str]
    percent: Mapped[int | None] = mapped_column(Integer())
    amount: Mapped[int | None]
    per: Mapped[str] = mapped_column(server_default=text("'ticket'"))
    ticket_type_ids: Mapped[list[int] | None] = mapped_column(ARRAY(BigInteger()))
    """Null for all."""
    starts_at: Mapped[datetime | None]
    ends_at: Mapped[datetime | None]
    max_uses: Mapped[int | None] = mapped_column(Integer())
    max_tickets: Mapped[int | None] = mapped_column(Integer())
    uses: Mapped[int] = mapped_column(Integer(), server_default=text("0"))
    tickets: Mapped[int] = mapped_column(Integer(), server_default=text("0"))
    """What bookings and holds take of it now."""
    active: Mapped[bool] = mapped_column(server_default=text("true"))
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class Payment(Base):
    """A payment for a booking, or a refund. Their sums are in the booking."""

    __tablename__ = "payments"
    __table_args__ = (
        CheckConstraint("kind in ('payment', 'refund')", name="kind"),
        CheckConstraint("amount > 0", name="amount"),
        CheckConstraint("(kind = 'payment') = (paid_at is not null)", name="paid_at"),
        Index("uq_payments_reference", "booking_id", "kind", "reference", unique=True),
        Index("ix_payments_booking_id", "booking_id", "kind", "seq"),
    )

    seq: Mapped[int] = mapped_column(Identity(always=True), primary_key=True)
    booking_id: Mapped[UUID] = mapped_column(ForeignKey("bookings.id"))
    kind: Mapped[str]
    reference: Mapped[str]
    """That of the organiser's own system, unique in the booking for each kind."""
    amount: Mapped[int]
    paid_at: Mapped[datetime | None]
    recorded_at: Mapped[datetime] = mapped_column(server_default=func.now())


class Ticket(Base):
    """One place of a booking, with the price that was agreed.

    A booking of one place without a type has no row here: its ticket has the id of the booking.
    """

    __tablename__ = "tickets"
    __table_args__ = (
        CheckConstraint("status in ('valid', 'cancelled')", name="status"),
        CheckConstraint("tax between 0 and amount", name="tax"),
        Index("uq_tickets_ordinal", "booking_id", "ordinal", unique=True),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    booking_id: Mapped[UUID]
    ticket_type_id: Mapped[int]
    ordinal: Mapped[int] = mapped_column(SmallInteger())
    amount: Mapped[int]
    status: Mapped[str] = mapped_column(server_default="valid")
    tax: Mapped[int | None]
    """The part of the amount that is tax. Null if there is none."""


class TicketKey(Base):
    """A key that signs codes of tickets (Ed25519). The private part is sealed."""

    __tablename__ = "ticket_keys"
    __table_args__ = (CheckConstraint("id between 1 and 65535", name="id"),)

    id: Mapped[int] = mapped_column(Integer(), primary_key=True, autoincrement=False)
    public_key: Mapped[bytes]
    """Empty if the key was retired: its id is never used again."""
    sealed: Mapped[bytes]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    signs_from: Mapped[datetime]
    """The newest key whose time has come signs. All keys verify."""


class TicketDetails(Base):
    """What differs from a ticket that was just booked. Most tickets have no row here.

    `ticket_id` is the id of a row of `tickets`, or of a booking whose ticket has no row.
    """

    __tablename__ = "ticket_details"
    __table_args__ = (
        CheckConstraint("generation between 1 and 2147483647", name="generation"),
        Index("ix_ticket_details_booking_id", "booking_id"),
        Index(
            "ix_ticket_details_holder_id",
            "holder_id",
            postgresql_where=text("holder_id IS NOT NULL"),
        ),
        Index(
            "uq_ticket_details_transfer_hash",
            "transfer_hash",
            unique=True,
            postgresql_where=text("transfer_hash IS NOT NULL"),
        ),
    )

    ticket_id: Mapped[UUID] = mapped_column(primary_key=True)
    booking_id: Mapped[UUID] = mapped_column(ForeignKey("bookings.id"))
    generation: Mapped[int] = mapped_column(Integer(), server_default=text("1"))
    """Codes of earlier generations are revoked."""
    holder_id: Mapped[UUID | None] = mapped_column(ForeignKey("users.id"))
    """The person whom it was passed on to. Null: the person of the booking."""
    name: Mapped[str | None]
    email: Mapped[str | None]
    valid_from: Mapped[datetime | None]
    valid_until: Mapped[datetime | None]
    """Its own times at the door. Both null: those of the event."""
    transfer_hash: Mapped[bytes | None]
    transfer_until: Mapped[datetime | None]


class Door(Base):
    """The rules at the door of an event. Without a row, one list admits every ticket once."""

    __tablename__ = "doors"

    event_id: Mapped[int] = mapped_column(
        ForeignKey("events.id", ondelete="CASCADE"), primary_key=True
    )
    names_until: Mapped[datetime | None]
    """When holders can be changed for the last time. Null: the start of the event."""
    lists: Mapped[list[Any]] = mapped_column(JSONB())


class CheckIn(Base):
    """A scan at the door: what was scanned, what was decided, and whether somebody passed.

    There is no foreign key, so a scan takes no locks but that of the event's row. `ticket_id` is
    null if the code was none of ours.
    """

    __tablename__ = "check_ins"
    __table_args__ = (
        CheckConstraint("direction in ('in', 'out')", name="direction"),
        CheckConstraint("(undone_at is null) = (undone_reason is null)", name="undone"),
        Index("uq_check_ins_scan_id", "scan_id", "event_id", unique=True),
        Index("ix_check_ins_event", "event_id", "seq"),
        Index(
            "ix_check_ins_ticket_id",
            "ticket_id",
            postgresql_where=text("passed AND undone_at IS NULL"),
        ),
    )

    seq: Mapped[int] = mapped_column(Identity(always=True), primary_key=True)
    event_id: Mapped[int]
    scan_id: Mapped[UUID]
    """The id that the device gave it."""
    ticket_id: Mapped[UUID | None]
    ticket_type_id: Mapped[int | None]
    list: Mapped[str]
    gate: Mapped[str | None]
    direction: Mapped[str]
    verdict: Mapped[str]
    """What the person at the gate was told: by the service, or by a device without network."""
    judged: Mapped[str | None]
    """What the service said when the device uploaded it."""
    passed: Mapped[bool]
    """Whether somebody passed the gate."""
    conflict: Mapped[bool]
    """Whether somebody passed who should not have, as far as is known now."""
    first_at: Mapped[datetime | None]
    first_gate: Mapped[str | None]
    """When and where the ticket was used before."""
    scanned_at: Mapped[datetime | None]
    """By the clock of the device."""
    received_at: Mapped[datetime]
    happened_at: Mapped[datetime]
    """`scanned_at`, corrected by the difference of the clocks at the upload."""
    actor: Mapped[UUID | None]
    undone_at: Mapped[datetime | None]
    undone_reason: Mapped[str | None]


class IdempotencyKey(Base):
    """A stored response, by the request's owner and Idempotency-Key."""

    __tablename__ = "idempotency_keys"

    owner: Mapped[UUID] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    digest: Mapped[bytes]
    status: Mapped[int] = mapped_column(SmallInteger())
    location: Mapped[str | None]
    body: Mapped[bytes]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now(), index=True)


class Commit(Base):
    """A commit of many bookings.

    A worker that lost its connection reads here whether its commit was done. `events` are the
    events that the commit changed. Null means that the worker gave up the commit before it was
    written. Then it can never be written, because the id would exist twice.
    """

    __tablename__ = "commits"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    events: Mapped[list[int] | None] = mapped_column(ARRAY(BigInteger()))


class Webhook(Base):
    """An address that a person's program wants to be called at when something happens.

    `position` is the number of the last trail record that was read for it. `due_at` is when a
    process may deliver to it: while one does, the end of its lease.
    """

    __tablename__ = "webhooks"
    __table_args__ = (
        CheckConstraint("state in ('active', 'disabled')", name="state"),
        Index("ix_webhooks_user_id", "user_id", "seq"),
        Index("ix_webhooks_event_id", "event_id"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    seq: Mapped[int] = mapped_column(Identity(always=True))
    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id"))
    event_id: Mapped[int | None] = mapped_column(ForeignKey("events.id", ondelete="CASCADE"))
    """Null: all events whose owner or manager the person is."""
    url: Mapped[str]
    types: Mapped[list[str] | None]
    """Null: all types."""
    secret: Mapped[bytes]
    previous_secret: Mapped[bytes | None]
    """Both are sealed."""
    previous_until: Mapped[datetime | None]
    state: Mapped[str] = mapped_column(server_default="active")
    since: Mapped[datetime] = mapped_column(server_default=func.now())
    last_error: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    position: Mapped[int]
    due_at: Mapped[datetime] = mapped_column(server_default=text("'infinity'"))
    rests: Mapped[bool] = mapped_column(server_default=text("true"))
    """Whether everything was delivered, so that only something new wakes it."""
    lease: Mapped[UUID | None]
    tries: Mapped[int] = mapped_column(Integer(), server_default=text("0"))
    """How often in a row all tries failed."""
    failing_since: Mapped[datetime | None]


class WebhookRetry(Base):
    """An event of the feed that a webhook did not accept. It is tried again at `next_at`.

    Null: it was given up. The body is stored, because it must be the same at each try.
    """

    __tablename__ = "webhook_retries"

    webhook_id: Mapped[UUID] = mapped_column(
        ForeignKey("webhooks.id", ondelete="CASCADE"), primary_key=True
    )
    record: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    about: Mapped[str]
    """What happens to one thing is delivered in order."""
    type: Mapped[str]
    body: Mapped[bytes]
    tries: Mapped[int] = mapped_column(Integer())
    failing_since: Mapped[datetime | None]
    next_at: Mapped[datetime | None]
    last_error: Mapped[str | None]


class WebhookDelivery(Base):
    """A try to deliver. The last hundred of each webhook are kept."""

    __tablename__ = "webhook_deliveries"
    __table_args__ = (Index("ix_webhook_deliveries_webhook_id", "webhook_id", "seq"),)

    seq: Mapped[int] = mapped_column(Identity(always=True), primary_key=True)
    webhook_id: Mapped[UUID] = mapped_column(ForeignKey("webhooks.id", ondelete="CASCADE"))
    message_id: Mapped[str]
    type: Mapped[str]
    attempt: Mapped[int] = mapped_column(Integer())
    at: Mapped[datetime]
    status: Mapped[int | None] = mapped_column(Integer())
    error: Mapped[str | None]
    milliseconds: Mapped[int] = mapped_column(Integer())
