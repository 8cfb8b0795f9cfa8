"""Compose the part."""

from typing import Final

from ticketing.door.part import Door
from ticketing.door.repositories.attendees import AttendeeRepository
from ticketing.door.repositories.check_ins import CheckInRepository
from ticketing.door.repositories.doors import DoorRepository
from ticketing.door.repositories.keys import KeyRepository
from ticketing.door.repositories.manifest import ManifestRepository
from ticketing.door.repositories.recount import recount
from ticketing.door.repositories.tickets import TicketRepository
from ticketing.door.routers import attendees, check_ins, doors, keys, pages, tickets
from ticketing.ops.loops import Loop
from ticketing.sale.repositories.recount import RecountRepository
from ticketing.web.part import Part, Shared

CLEAN_EVERY: Final = 3600.0


def compose(shared: Shared) -> Part:
    """Return the door's routes and what they work with."""
    pool = shared.pools.requests
    have = Door(
        keys=KeyRepository(pool, shared.seals),
        tickets=TicketRepository(pool),
        doors=DoorRepository(pool),
        check_ins=CheckInRepository(pool),
        manifest=ManifestRepository(pool),
        attendees=AttendeeRepository(pool),
        seals=shared.seals,
    )
    # Here, because it recounts the sale too. Its lock holds a connection of its own.
    audit = RecountRepository(shared.pools.of_one_worker(2), [recount])
    loops = [Loop("cleaning of names", have.tickets.forget_departed, CLEAN_EVERY)]
    if every := shared.settings.audit_every:
        loops.append(Loop("audit", audit.take_turn, every, at_once=False))
    return Part(
        have,
        routes=[
            tickets.routes,
            tickets.of_booking,
            keys.routes,
            doors.routes,
            check_ins.routes,
            attendees.routes,
            pages.routes,
        ],
        loops=loops,
        samples=have.check_ins.samples,
        departed=[have.tickets.forget],
        entered=[have.check_ins.entered],
        close=[have.check_ins.close, audit.close],
    )
