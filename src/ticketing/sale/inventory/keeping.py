"""What the organiser keeps of the prices of cancelled tickets."""

from collections.abc import Sequence
from datetime import datetime

from ticketing.sale.inventory.model import Booking, BookingStatus, Ticket
from ticketing.sale.pricing import given_back


def kept_of(held: Booking, tickets: Sequence[Ticket], at: datetime) -> int:
    """Return what the organiser keeps of a booking if these tickets of it are cancelled now.

    The booking's refund policy decides. Nothing is kept of what is not sold yet.
    """
    if not held.amount or held.status is not BookingStatus.BOOKED:
        return held.kept
    places = {ticket.id: place for place, ticket in enumerate(held.tickets)}
    prices = [ticket.amount for ticket in held.tickets]
    now = [places[ticket.id] for ticket in tickets if ticket.is_valid]
    before = [places[ticket.id] for ticket in held.tickets if not ticket.is_valid]
    back = given_back(held.refunds, prices, before=before, now=now, at=at)
    return held.kept + sum(prices[place] for place in now) - back
