"""The objects that the routes of this part work with."""

from dataclasses import dataclass

from ticketing.sale.repositories.bookings import BookingRepository
from ticketing.sale.repositories.codes import CodeRepository
from ticketing.sale.repositories.events import EventRepository
from ticketing.sale.repositories.listings import ListingRepository
from ticketing.sale.repositories.payments import PaymentRepository
from ticketing.sale.repositories.revisions import RevisionRepository
from ticketing.sale.repositories.ticket_types import TicketTypeRepository


@dataclass(frozen=True, slots=True)
class Sale:
    """The repositories that the routes of the sale use."""

    events: EventRepository
    revisions: RevisionRepository
    ticket_types: TicketTypeRepository
    bookings: BookingRepository
    listings: ListingRepository
    payments: PaymentRepository
    codes: CodeRepository
