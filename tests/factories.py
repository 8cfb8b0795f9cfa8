"""People and events, made by the repositories. A test gives only the values that matter to it."""

from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncEngine

from ticketing.db.facts import Origin
from ticketing.identity.callers import AccessList
from ticketing.identity.repositories.users import UserRepository
from ticketing.sale.definitions import Definitions
from ticketing.sale.details import Details
from ticketing.sale.repositories.events import EventRepository


async def make_people(engine: AsyncEngine, count: int) -> list[UUID]:
    users = UserRepository(engine, AccessList())
    made = [await users.add(f"user{number}", "no hash", Origin()) for number in range(count)]
    return [user.id for user in made]


async def make_event(
    engine: AsyncEngine,
    *,
    total: int,
    organiser: UUID,
    max_bookings: int = 1,
    definitions: Definitions | None = None,
) -> int:
    events = EventRepository(engine)
    details = Details("An event", max_bookings_per_person=max_bookings)
    return (await events.make(organiser, details, total, Origin(), definitions=definitions)).id
