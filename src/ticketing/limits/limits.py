"""All limits of a worker, made from the settings."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncEngine

from ticketing.errors import TooManyRequests
from ticketing.limits.cells import KEYS, Memory
from ticketing.limits.guard import Guard
from ticketing.limits.meter import Meter, seconds
from ticketing.limits.repositories.rates import RateRepository
from ticketing.limits.subjects import Subjects
from ticketing.ops.loops import Loop
from ticketing.settings import RateLimit, Settings

EXCHANGE_EVERY: Final = 1.0
CLEAN_EVERY: Final = 60.0


class Counted(StrEnum):
    """The limits that count a route's requests."""

    REQUESTS = "requests"
    BOOKINGS = "bookings"


Taken = tuple[Meter, int]
"""A limit that counted a request, and what is left of it."""
TAKEN: Final = "ticketing.taken"
"""Key of a scope: the list of these, for the headers of the response."""


@dataclass(frozen=True, slots=True)
class Limits:
    """All limits of a worker."""

    subjects: Subjects
    guard: Guard
    of_address: Mapping[Counted, Meter]
    """The limits of one address."""
    of_account: Mapping[Counted, Meter]
    """The limits of one account, which are counted too."""
    loops: Sequence[Loop] = ()

    def count(self, counted: Counted | None, account: UUID, taken: list[Taken]) -> None:
        """Count a request of an account into `taken`. Raises TooManyRequests."""
        meter = self.of_account.get(counted) if counted is not None else None
        if meter is not None:
            # Not hashed, because most of an id is random.
            left = meter.take(account.int & KEYS)
            taken.append((meter, left))
            if left < 0:
                raise TooManyRequests(seconds(-left))


def compose(
    settings: Settings, secret: str, memory: Memory | None, engine: AsyncEngine
) -> Limits | None:
    """Return the limits, or None if they are off.

    Requests are counted in `memory`, which the workers of a machine share; without it, in memory of
    this process.
    """
    if settings.rate_limits == "off":
        return None
    memory = memory or Memory.make()
    shared = None
    if settings.rate_limit_store == "postgresql":
        shared = RateRepository(engine, memory.counts)
    pending = shared.pending if shared is not None else None

    def counting(name: str, limit: RateLimit) -> Meter:
        return Meter(name, limit, memory.counts, pending)

    subjects = Subjects(secret)
    guard = Guard(
        shared.change if shared is not None else memory.guarded.change,
        subjects,
        logins=counting("logins", settings.limit_logins),
        address_logins=counting("address-logins", settings.limit_address_logins),
        registrations=counting("registrations", settings.limit_registrations),
    )
    return Limits(
        subjects,
        guard,
        of_address={
            Counted.REQUESTS: counting("requests", settings.limit_requests),
            Counted.BOOKINGS: counting("address-bookings", settings.limit_address_bookings),
        },
        of_account={Counted.BOOKINGS: counting("bookings", settings.limit_bookings)},
        loops=_loops(shared),
    )


def _loops(shared: RateRepository | None) -> list[Loop]:
    if shared is None:
        return []
    return [
        Loop("rates", shared.exchange, EXCHANGE_EVERY),
        Loop("cleaning of rates", shared.clean, CLEAN_EVERY),
    ]
