"""The rows of files from which bookings are imported."""

from typing import Any, Final

from ticketing.identity.fields import CustomerName, Email, ExternalId
from ticketing.sale.repositories.booking_imports import NewBooking
from ticketing.sale.routers.booking_fields import Quantity, wrong
from ticketing.web.fields import In, Text, TicketId, TicketTypeId

EXPORTED: Final = (
    *("booking_id", "ordinal", "status", "username", "holder_id", "amount", "currency"),
    *("booked_at", "checked_in_at"),
)
"""Fields that only a ticket has."""


class ImportedBooking(In):
    """A booking for a customer, or a ticket of an export, which is there already."""

    external_id: ExternalId | None = None
    name: CustomerName | None = None
    email: Email | None = None
    ticket_type_id: TicketTypeId | None = None
    ticket_type: Text | None = None
    quantity: Quantity = 1
    ticket_id: TicketId | None = None
    booking_id: Any = None
    ordinal: Any = None
    status: Any = None
    username: Any = None
    holder_id: Any = None
    amount: Any = None
    currency: Any = None
    booked_at: Any = None
    checked_in_at: Any = None

    def new(self) -> NewBooking:
        """Return what to book. Raises ValidationFailed."""
        if self.ticket_id is None:
            if self.external_id is None:
                raise wrong("externalId", "missing", "is needed to know the booking again")
            for name in EXPORTED:
                if getattr(self, name) is not None:
                    field = type(self).model_fields[name].alias or name
                    raise wrong(field, "not_new", "is only read beside a ticketId")
        return NewBooking(
            self.external_id or "",
            self.name,
            self.email,
            self.ticket_type_id,
            self.ticket_type,
            self.quantity,
            self.ticket_id,
        )
