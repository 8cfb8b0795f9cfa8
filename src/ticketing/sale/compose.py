"""How the part is composed."""

from functools import partial
from typing import Final

from ticketing.ops.loops import Loop
from ticketing.sale.commit import settle
from ticketing.sale.part import Sale
from ticketing.sale.repositories.bookings import BookingRepository
from ticketing.sale.repositories.events import EventRepository
from ticketing.sale.repositories.listings import ListingRepository
from ticketing.sale.repositories.recount import RecountRepository
from ticketing.sale.routers import bookings, events
from ticketing.web.part import Part, Shared

CLEAN_EVERY: Final = 60.0
DEPARTURES_EVERY: Final = 1.0
FOLD_EVERY: Final = 60.0


def compose(shared: Shared) -> Part:
    """Return the part."""
    pools = shared.pools
    # Commits, reads of single events, and the lock of the recount hold a connection each.
    have = Sale(
        events=EventRepository(pools.requests, pools.alone("reads")),
        bookings=BookingRepository(pools.requests, pools.alone("commits"), shared.clock),
        listings=ListingRepository(pools.requests),
    )
    recount = RecountRepository(pools.of_one_worker())
    loops = [Loop("cleaning of commits", partial(settle.clean, pools.requests), CLEAN_EVERY)]
    loops.append(Loop("folding of names", have.events.fold_names, FOLD_EVERY))
    loops.append(Loop("departures", have.bookings.finish_departures, DEPARTURES_EVERY))
    if every := shared.settings.audit_every:
        loops.append(Loop("audit", recount.take_turn, every, at_once=False))
    return Part(
        have,
        routes=[bookings.routes, events.routes, bookings.mine],
        loops=loops,
        departed=[have.bookings.leave],
        samples=[have.bookings.sample, have.events.sample],
        close=[have.bookings.close, have.events.close],
    )
