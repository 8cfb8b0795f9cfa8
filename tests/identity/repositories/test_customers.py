"""Customers in the database, found and made by two workers at once."""

from collections.abc import AsyncIterator
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from tests.factories import make_event, make_people
from tests.outcomes import counters, rows, together
from ticketing.db.facts import Origin
from ticketing.errors import CustomerNotFound, InvalidPasswordToken, UserNotFound
from ticketing.identity.callers import AccessList
from ticketing.identity.repositories.customers import Asked, CustomerRepository
from ticketing.identity.repositories.password_tokens import PasswordTokenRepository
from ticketing.sale.inventory.model import Booked
from ticketing.sale.repositories import bookings as sale
from ticketing.sale.repositories.bookings import BookingRepository

NOBODY = Origin()


@pytest.fixture
async def workers(engine: AsyncEngine) -> AsyncIterator[list[CustomerRepository]]:
    """Two workers on one database."""
    found = [CustomerRepository(engine) for _ in range(2)]
    yield found
    for each in found:
        await each.close()


@pytest.fixture
async def sales(engine: AsyncEngine) -> AsyncIterator[list[BookingRepository]]:
    """The same workers' bookings."""
    found = [BookingRepository(engine) for _ in range(2)]
    yield found
    for each in found:
        await each.close()


@pytest.fixture
async def shop(engine: AsyncEngine) -> UUID:
    (organiser,) = await make_people(engine, 1)
    return organiser


async def count(engine: AsyncEngine, of: str) -> int:
    async with engine.connect() as connection:
        return int((await connection.execute(text(f"SELECT count(*) FROM {of}"))).scalar_one())


def asked(shop: UUID, external_id: str, name: str | None = None) -> Asked:
    return Asked(shop, external_id, name, None, NOBODY)


async def test_two_workers_make_one_customer_of_one_external_id(
    engine: AsyncEngine, workers: list[CustomerRepository], shop: UUID
) -> None:
    for number in range(5):
        wanted = asked(shop, f"customer-{number}")
        found = await together(*(workers[turn % 2].find_or_make(wanted) for turn in range(50)))
        assert len(set(found)) == 1
    assert await count(engine, "customers") == 5
    # No person is left behind by the worker that lost.
    assert await count(engine, "users") == 5 + 1
    assert await count(engine, "audit_records WHERE action = 'customer.made'") == 5


async def test_two_workers_make_many_customers_of_each_other_in_any_order(
    engine: AsyncEngine, workers: list[CustomerRepository], shop: UUID
) -> None:
    for turn in range(5):
        ids = [f"customer-{turn}-{number}" for number in range(50)]
        found = await together(
            *(workers[0].find_or_make(asked(shop, each, "Ada")) for each in ids),
            *(workers[1].find_or_make(asked(shop, each, "Eve")) for each in reversed(ids)),
        )
        assert found[:50] == list(reversed(found[50:]))
        assert len(set(found)) == 50
        # Now both change the names, also in opposite orders.
        again = await together(
            *(workers[0].find_or_make(asked(shop, each, "Bob")) for each in ids),
            *(workers[1].find_or_make(asked(shop, each, "Cyd")) for each in reversed(ids)),
        )
        assert again == found
    assert await count(engine, "customers") == 5 * 50
    assert await count(engine, "customers WHERE name IN ('Bob', 'Cyd')") == 5 * 50


async def test_a_thousand_new_customers_cost_few_round_trips(
    workers: list[CustomerRepository], shop: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    trips = 0
    carry_out = workers[0]._asked._commit

    async def counted(batch: object) -> object:
        nonlocal trips
        trips += 1
        return await carry_out(batch)  # type: ignore[arg-type]

    monkeypatch.setattr(workers[0]._asked, "_commit", counted)
    wanted = [asked(shop, f"customer-{number}") for number in range(1_000)]
    found = await together(*(workers[0].find_or_make(each) for each in wanted))
    assert len(set(found)) == 1_000
    assert trips <= 4


async def test_what_requests_of_one_batch_give_of_a_customer_is_joined(
    workers: list[CustomerRepository], shop: UUID
) -> None:
    found = await together(
        workers[0].find_or_make(Asked(shop, "customer-1", "Ada", None, NOBODY)),
        workers[0].find_or_make(Asked(shop, "customer-1", None, "ada@example.org", NOBODY)),
        workers[0].find_or_make(Asked(shop, "customer-1", "Ada King", None, NOBODY)),
    )
    assert len(set(found)) == 1
    customer = await workers[0].get(found[0])
    assert (customer.name, customer.email) == ("Ada King", "ada@example.org")


async def test_a_customer_belongs_to_one_organiser(
    workers: list[CustomerRepository], engine: AsyncEngine
) -> None:
    organisers = await make_people(engine, 2)
    found = await together(
        *(workers[0].find_or_make(asked(each, "customer-1")) for each in organisers)
    )
    assert len(set(found)) == 2
    assert [(await workers[0].get(each)).organiser_id for each in found] == organisers


async def test_nobody_is_booked_after_their_erasure(
    workers: list[CustomerRepository],
    sales: list[BookingRepository],
    engine: AsyncEngine,
    shop: UUID,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sale, "HEARD", 0.0)
    events = [await make_event(engine, total=100, organiser=shop) for _ in range(5)]
    erased: set[UUID] = set()

    async def book(turn: int) -> None:
        try:
            customer = await workers[turn % 2].find_or_make(asked(shop, f"customer-{turn % 5}"))
            was_erased = customer in erased
            outcome = await sales[turn % 2].book(events[turn % 4], customer)
        except UserNotFound:
            return
        assert isinstance(outcome, Booked)
        assert not was_erased

    async def erase(turn: int) -> None:
        found = await workers[turn % 2].find(shop, f"customer-{turn % 5}")
        if found is not None:
            try:
                assert await workers[(turn + 1) % 2].erase(found.id, NOBODY)
            except CustomerNotFound:
                return
            erased.add(found.id)
            await sales[turn % 2].leave(found.id)

    for _ in range(5):
        calls = [each(turn) for turn in range(20) for each in (book, erase)]
        failures = [each for each in await together(*calls) if isinstance(each, Exception)]
        assert not [each for each in failures if type(each).__name__ != "AlreadyBooked"]
    assert erased
    # Later nobody can be booked as one of them, and what was booked meanwhile is cancelled.
    for each in erased:
        with pytest.raises(UserNotFound):
            await sales[0].book(events[-1], each)
    await sales[0].finish_departures()
    for event in events:
        found = await rows(engine, event)
        available, waiting, _ = await counters(engine, event)
        booked = [user for user, status in found if status == "booked"]
        assert (available, waiting) == (100 - len(booked), 0)
    query = """
        bookings JOIN departures USING (user_id)
        WHERE status = 'booked' AND bookings.created_at >= left_at
    """
    assert await count(engine, query) == 0


async def test_an_erasure_and_a_registration_at_once_leave_an_account_or_nobody(
    workers: list[CustomerRepository], engine: AsyncEngine, shop: UUID
) -> None:
    tokens = PasswordTokenRepository(engine, AccessList())
    kept = 0
    for number in range(20):
        customer = await workers[0].find_or_make(asked(shop, f"customer-{number}"))
        made = await workers[0].make_login_token(customer, NOBODY)
        calls = [
            workers[0].erase(customer, NOBODY),
            tokens.register(made.token, f"ada-{number}", "no hash", NOBODY),
        ]
        erased, registered = await together(*(calls if number % 2 else reversed(calls)))
        if number % 2 == 0:
            erased, registered = registered, erased
        if isinstance(registered, InvalidPasswordToken):
            assert erased is True
        else:
            assert erased is False
            assert registered.id == customer
            kept += 1
        with pytest.raises(CustomerNotFound):
            await workers[0].get(customer)
    assert await count(engine, "users WHERE password_hash = 'no hash'") == kept + 1
    assert await count(engine, "password_tokens") == 0


async def test_a_stranger_is_no_customer(workers: list[CustomerRepository], shop: UUID) -> None:
    for stranger in (shop, uuid4()):
        for call in (
            workers[0].get(stranger),
            workers[0].update(stranger, {"name": "Ada"}, NOBODY),
            workers[0].erase(stranger, NOBODY),
            workers[0].make_login_token(stranger, NOBODY),
        ):
            with pytest.raises(CustomerNotFound):
                await call
