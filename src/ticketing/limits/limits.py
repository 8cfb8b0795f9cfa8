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
    """Those of the caller."""
    BOOKINGS_FOR = "bookings for"
    """As BOOKINGS, but the endpoint counts the person, because the body says for whom it is."""


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
    bookings: Meter
    """Bookings of one account."""
    key_bookings: Meter
    """Bookings by one API key, or for customers by one account."""
    customer_bookings: Meter
    """Bookings for one customer."""
    loops: Sequence[Loop] = ()

    def count(
        self, counted: Counted | None, account: UUID, key: UUID | None, taken: list[Taken]
    ) -> None:
        """Count a request of an account into `taken`, as the policy of its route says.

        `key` is the API key that it has, if it has one. Raises TooManyRequests.
        """
        if counted is Counted.REQUESTS or counted is None:
            return
        if key is not None:
            self.count_key(key, taken)
        if counted is Counted.BOOKINGS:
            self.count_account(account, taken)

    def count_account(self, account: UUID, taken: list[Taken]) -> None:
        """Count a booking of an account into `taken`. Raises TooManyRequests."""
        # Not hashed, because most of an id is random.
        _count(self.bookings, account.int & KEYS, taken)

    def count_key(self, key: UUID, taken: list[Taken]) -> None:
        """Count a booking by an API key into `taken`. Raises TooManyRequests.

        `key` is the id of the key, or of the account if it books for a customer without a key.
        """
        _count(self.key_bookings, key.int & KEYS, taken)

    def count_customer(self, organiser_id: UUID, external_id: str, taken: list[Taken]) -> None:
        """Count a booking for a customer, who may be new, into `taken`. Raises TooManyRequests."""
        key = self.subjects.of("customer", organiser_id.hex, external_id)
        _count(self.customer_bookings, key, taken)


def _count(meter: Meter, key: int, taken: list[Taken]) -> None:
    left = meter.take(key)
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
    address_bookings = counting("address-bookings", settings.limit_address_bookings)
    return Limits(
        subjects,
        guard,
        of_address={
            Counted.REQUESTS: counting("requests", settings.limit_requests),
            Counted.BOOKINGS: address_bookings,
            Counted.BOOKINGS_FOR: address_bookings,
        },
        bookings=counting("bookings", settings.limit_bookings),
        key_bookings=counting("key-bookings", settings.limit_key_bookings),
        # A customer is a person like any other.
        customer_bookings=counting("customer-bookings", settings.limit_bookings),
        loops=_loops(shared),
    )


def _loops(shared: RateRepository | None) -> list[Loop]:
    if shared is None:
        return []
    return [
        Loop("rates", shared.exchange, EXCHANGE_EVERY),
        Loop("cleaning of rates", shared.clean, CLEAN_EVERY),
    ]
