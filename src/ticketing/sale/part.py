"""What the routes of this part work with."""

from dataclasses import dataclass

from ticketing.sale.repositories.bookings import BookingRepository
from ticketing.sale.repositories.events import EventRepository
from ticketing.sale.repositories.listings import ListingRepository


@dataclass(frozen=True, slots=True)
class Sale:
    """What the routes of this part work with."""

    events: EventRepository
    bookings: BookingRepository
    listings: ListingRepository
