"""The terms of a sale: whether places are sold, and when."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final, NamedTuple

from ticketing.errors import SaleClosed, SaleNotOpen, TicketingError
from ticketing.sale.pricing import Policy


class WaitingMode(StrEnum):
    """The way in which a waiting list gives out places that become free."""

    AUTO = "auto"
    """It books them."""
    OFFER = "offer"
    """It offers them, for a while."""
    CLOSED = "closed"
    """As `auto`, but nobody can join any more."""


class EventStatus(StrEnum):
    """The status that the organiser gave to an event."""

    DRAFT = "draft"
    PUBLISHED = "published"
    CANCELLED = "cancelled"


class SaleState(StrEnum):
    """The state of the sale of an event, as clients see it."""

    DRAFT = "draft"
    SCHEDULED = "scheduled"
    OPEN = "open"
    PAUSED = "paused"
    SOLD_OUT = "soldOut"
    CLOSED = "closed"
    CANCELLED = "cancelled"
    ENDED = "ended"


class Allowed(NamedTuple):
    """The actions that a state of the sale allows."""

    book: bool
    """Take a place, or join the waiting list."""
    cancel: bool
    """Cancel a booking, whose place goes to the head of the waiting list; confirm a hold; and, as
    the team, keep places until a chosen time."""
    edit: bool
    """Change the details and the capacity, and pause or resume the sale."""
    cancel_event: bool


ALLOWED: Final[Mapping[SaleState, Allowed]] = {
    SaleState.DRAFT: Allowed(book=False, cancel=True, edit=True, cancel_event=True),
    SaleState.SCHEDULED: Allowed(book=False, cancel=True, edit=True, cancel_event=True),
    SaleState.OPEN: Allowed(book=True, cancel=True, edit=True, cancel_event=True),
    SaleState.PAUSED: Allowed(book=False, cancel=True, edit=True, cancel_event=True),
    SaleState.SOLD_OUT: Allowed(book=True, cancel=True, edit=True, cancel_event=True),
    SaleState.CLOSED: Allowed(book=False, cancel=True, edit=True, cancel_event=True),
    SaleState.ENDED: Allowed(book=False, cancel=False, edit=True, cancel_event=False),
    SaleState.CANCELLED: Allowed(book=False, cancel=False, edit=False, cancel_event=True),
}
"""The actions that each state allows. `docs/reference/api.md` shows the same table."""


class Terms(NamedTuple):
    """The facts about an event that a decision needs besides its places. Times are in UTC."""

    revision: int = 1
    """Increases with every change of the event, except changes of its places."""
    status: EventStatus = EventStatus.PUBLISHED
    paused: bool = False
    opens_at: datetime | None = None
    closes_at: datetime | None = None
    ends_at: datetime | None = None
    max_bookings: int = 1
    """How many active bookings a person may have."""
    max_tickets: int = 10
    """How many places the active bookings of a person may have together."""
    had_several: bool = False
    """Whether some people may have several bookings, because `max_bookings` was larger once."""
    waiting: WaitingMode = WaitingMode.AUTO
    hold_minutes: int = 10
    offer_minutes: int = 60
    patience_minutes: int | None = None
    """How long places gather for a group that waits; None for as long as it takes."""
    refunds: Policy | None = None
    """The refund policy of what is sold now."""

    @property
    def are_plain(self) -> bool:
        """Whether the sale is open at any time."""
        return self[1:6] == _PLAIN

    def allow_booking(self, at: datetime) -> bool:
        """Whether the terms allow bookings at this time."""
        return self.are_plain or ALLOWED[self.state(at)].book

    def state(self, at: datetime) -> SaleState:
        """Return the state of the sale, except whether it is sold out."""
        if self.status is not EventStatus.PUBLISHED:
            return SaleState(self.status)
        if self.ends_at is not None and at >= self.ends_at:
            return SaleState.ENDED
        if self.closes_at is not None and at >= self.closes_at:
            return SaleState.CLOSED
        is_early = self.opens_at is not None and at < self.opens_at
        if self.paused:
            return SaleState.PAUSED
        return SaleState.SCHEDULED if is_early else SaleState.OPEN

    def offer_end(self, at: datetime) -> datetime:
        """Return the end of an offer that is made at this time."""
        end = at + timedelta(minutes=self.offer_minutes)
        return end if self.closes_at is None else min(end, self.closes_at)

    def refusal(self, at: datetime) -> TicketingError:
        """Return the error for a request that the state at this time does not allow."""
        state = self.state(at)
        if state in {SaleState.CLOSED, SaleState.ENDED, SaleState.CANCELLED}:
            return SaleClosed(state)
        waits = state is SaleState.SCHEDULED and self.opens_at is not None
        return SaleNotOpen(state, self.opens_at if waits else None, at)


_PLAIN: Final = Terms()[1:6]
