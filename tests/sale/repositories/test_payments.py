"""Payments and refunds that two processes record at once."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncEngine

from tests.factories import make_event, make_people
from ticketing.db.engine import connect
from ticketing.db.facts import Origin
from ticketing.errors import RefundExceedsPaid
from ticketing.sale.definitions import DefinedType, Definitions
from ticketing.sale.inventory.model import Booking
from ticketing.sale.repositories.bookings import BookingRepository
from ticketing.sale.repositories.payments import Asked, Kind, PaymentRepository, Record

PRICED = Definitions({0: DefinedType(0, 0, "Seat", amount=1000, currency="EUR")}, {})


@dataclass
class Two:
    """A booking, and the services of two processes."""

    held: Booking
    bookings: BookingRepository
    payments: list[PaymentRepository]

    async def together(self, *asked: Asked) -> list[tuple[Record, bool] | BaseException]:
        """Record these at once, each by the next process."""
        return await asyncio.gather(
            *(
                self.payments[place % 2].record(self.held, each, Origin())
                for place, each in enumerate(asked)
            ),
            return_exceptions=True,
        )

    async def now(self) -> Booking:
        return await self.bookings.get(self.held.id)


@pytest.fixture
async def two(
    engine: AsyncEngine, database_url: str, bookings: BookingRepository
) -> AsyncIterator[Two]:
    ada, bob = await make_people(engine, 2)
    event = await make_event(engine, total=5, organiser=ada, definitions=PRICED)
    booked = await bookings.book(event, bob, by_team=True)
    elsewhere = connect(database_url, pool_size=4)
    yield Two(booked.booking, bookings, [PaymentRepository(engine), PaymentRepository(elsewhere)])
    await elsewhere.dispose()


async def test_refunds_of_two_processes_at_once_are_never_more_than_what_was_paid(
    two: Two,
) -> None:
    await two.together(Asked(Kind.PAYMENT, "order", 1000))
    for number in range(10):
        refunds = [Asked(Kind.REFUND, f"{number}-{each}", 60) for each in range(4)]
        outcomes = await two.together(*refunds)
        assert all(isinstance(each, tuple | RefundExceedsPaid) for each in outcomes), outcomes
    now = await two.now()
    assert (now.paid, now.refunded) == (1000, 960)


async def test_a_notice_that_two_processes_get_at_once_is_one_payment(two: Two) -> None:
    outcomes = await two.together(*[Asked(Kind.PAYMENT, "order", 1000)] * 6)
    records = [each for each in outcomes if isinstance(each, tuple)]
    assert len(records) == 6
    assert sum(is_new for _, is_new in records) == 1
    assert len({record for record, _ in records}) == 1
    assert (await two.now()).paid == 1000


async def test_payments_and_cancels_at_once_leave_all_money_accounted_for(two: Two) -> None:
    tickets = [each.id for each in two.held.tickets]
    paid, cancelled = await asyncio.gather(
        two.together(*[Asked(Kind.PAYMENT, f"order-{each}", 100) for each in range(10)]),
        two.bookings.cancel_booking(two.held, tickets),
    )
    assert all(isinstance(each, tuple) for each in paid)
    assert cancelled.refund == 0
    now = await two.now()
    assert now.paid == 1000
    # The organiser keeps what was paid before the cancel.
    assert now.kept % 100 == 0
    assert now.owed == 1000 - now.kept >= 0


async def test_the_database_refuses_refunds_of_more_than_what_was_paid(
    two: Two, engine: AsyncEngine
) -> None:
    await two.together(Asked(Kind.PAYMENT, "order", 1000))
    for refunded in (1001, -1):
        with pytest.raises(IntegrityError, match="ck_bookings_refunded"):
            async with engine.begin() as connection:
                await connection.execute(text(f"UPDATE bookings SET refunded = {refunded}"))
