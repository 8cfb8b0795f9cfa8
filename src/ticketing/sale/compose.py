"""Compose the part."""

from functools import partial
from typing import Final

from ticketing.ops.loops import Loop
from ticketing.sale.commit import settle
from ticketing.sale.part import Sale
from ticketing.sale.repositories.bookings import BookingRepository
from ticketing.sale.repositories.codes import CodeRepository
from ticketing.sale.repositories.events import EventRepository
from ticketing.sale.repositories.listings import ListingRepository
from ticketing.sale.repositories.local_times import LocalTimeRepository
from ticketing.sale.repositories.payments import PaymentRepository
from ticketing.sale.repositories.revisions import RevisionRepository
from ticketing.sale.repositories.ticket_types import TicketTypeRepository
from ticketing.sale.routers import (
    bookings,
    codes,
    events,
    holds,
    payments,
    quotas,
    revisions,
    ticket_types,
)
from ticketing.web.part import Part, Shared

CLEAN_EVERY: Final = 60.0
DEPARTURES_EVERY: Final = 1.0
CANCELLATIONS_EVERY: Final = 1.0
EXPIRE_EVERY: Final = 0.5
FOLD_EVERY: Final = 60.0
LOCAL_TIMES_EVERY: Final = 60.0


def compose(shared: Shared) -> Part:
    """Return the part's routes, loops and metrics, and what to close."""
    pools = shared.pools
    # Commits and reads of single events each hold their own connection.
    have = Sale(
        events=EventRepository(pools.requests, pools.alone("reads")),
        revisions=RevisionRepository(pools.requests, shared.clock),
        ticket_types=TicketTypeRepository(pools.requests, shared.clock),
        bookings=BookingRepository(pools.requests, pools.alone("commits"), shared.clock),
        listings=ListingRepository(pools.requests),
        payments=PaymentRepository(pools.requests),
        codes=CodeRepository(pools.requests),
    )
    local_times = LocalTimeRepository(pools.requests, have.revisions)
    loops = [Loop("cleaning of commits", partial(settle.clean, pools.requests), CLEAN_EVERY)]
    loops.append(Loop("folding of names", have.events.fold_names, FOLD_EVERY))
    loops.append(Loop("local times", local_times.read_anew, LOCAL_TIMES_EVERY))
    loops.append(Loop("departures", have.bookings.finish_departures, DEPARTURES_EVERY))
    loops.append(Loop("cancellations", have.bookings.finish_cancellations, CANCELLATIONS_EVERY))
    loops.append(Loop("holds", have.bookings.expire, EXPIRE_EVERY))
    return Part(
        have,
        routes=[
            bookings.routes,
            holds.routes,
            events.routes,
            revisions.routes,
            ticket_types.routes,
            quotas.routes,
            codes.routes,
            codes.exports,
            bookings.mine,
            bookings.single,
            bookings.of_booking,
            payments.single,
            payments.routes,
            events.mine,
        ],
        loops=loops,
        departed=[have.bookings.leave],
        samples=[*have.bookings.samples, have.events.sample],
        close=[have.bookings.close, have.events.close],
    )
