"""The objects that the routes of this part work with."""

from dataclasses import dataclass

from ticketing.door.repositories.attendees import AttendeeRepository
from ticketing.door.repositories.check_ins import CheckInRepository
from ticketing.door.repositories.doors import DoorRepository
from ticketing.door.repositories.keys import KeyRepository
from ticketing.door.repositories.manifest import ManifestRepository
from ticketing.door.repositories.tickets import TicketRepository
from ticketing.web.seals import Seals


@dataclass(frozen=True, slots=True)
class Door:
    """The objects that the routes of this part work with."""

    keys: KeyRepository
    tickets: TicketRepository
    doors: DoorRepository
    check_ins: CheckInRepository
    manifest: ManifestRepository
    attendees: AttendeeRepository
    seals: Seals
