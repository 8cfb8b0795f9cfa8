"""Counts, compared with simple models."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from unittest.mock import patch
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ticketing.errors import Busy, InvalidCredentials, TooManyRequests
from ticketing.limits import cells, meter
from ticketing.limits.cells import BUCKETS, KEYS, WAYS, Cells, Memory
from ticketing.limits.guard import FORGIVEN, KNOWN, Guard
from ticketing.limits.limits import Limits, Taken
from ticketing.limits.meter import SECOND, Meter
from ticketing.limits.subjects import Subjects, network
from ticketing.settings import RateLimit

# One for all examples, because making one takes longer than using it.
MEMORY = Memory.make()
START = 1_000_000 * SECOND


class Clock:
    """The machine's clock, which the test sets."""

    def __init__(self) -> None:
        self.now = START

    def monotonic_ns(self) -> int:
        return self.now


@contextmanager
def turning() -> Iterator[Clock]:
    clock = Clock()
    with patch.object(cells, "time", clock), patch.object(meter, "time", clock):
        yield clock


@pytest.fixture
def clock() -> Iterator[Clock]:
    with turning() as clock:
        yield clock


def make_guard(
    logins: RateLimit = RateLimit(1000, 60),  # noqa: B008 - frozen
    address_logins: RateLimit = RateLimit(1000, 60),  # noqa: B008 - frozen
) -> Guard:
    memory = Memory.make()
    return Guard(
        memory.guarded.change,
        Subjects("secret"),
        logins=Meter("logins", logins, memory.counts),
        address_logins=Meter("address-logins", address_logins, memory.counts),
        registrations=Meter("registrations", RateLimit(2, 60), memory.counts),
    )


async def wrong(guard: Guard, account: str = "ada", address: str = "192.0.2.1") -> int:
    """Try a wrong password. Return the seconds to wait, or 0 if it was tried."""
    try:
        with suppress(InvalidCredentials):
            async with guard.password(account, address):
                raise InvalidCredentials
    except TooManyRequests as refused:
        return int(refused.header_fields()["Retry-After"])
    return 0


async def right(guard: Guard, account: str = "ada", address: str = "192.0.2.1") -> int:
    try:
        async with guard.password(account, address):
            return 0
    except TooManyRequests as refused:
        return int(refused.header_fields()["Retry-After"])


@given(
    quota=st.integers(1, 20),
    window=st.integers(1, 100),
    pauses=st.lists(st.integers(0, 20_000).map(lambda ms: ms * 1_000_000), max_size=60),
)
def test_a_quota_refills_evenly_and_is_never_exceeded(
    quota: int, window: int, pauses: list[int]
) -> None:
    meter = Meter("model", RateLimit(quota, window), MEMORY.counts)
    key = uuid4().int & KEYS
    # A bucket that leaks: `full` is what was taken, in nanoseconds.
    full, taken = 0, []
    with turning() as clock:
        for pause in pauses:
            clock.now += pause
            full = max(0, full - pause)
            left = meter.take(key)
            assert (left >= 0) == (full + meter.cost <= meter.span)
            if left >= 0:
                full += meter.cost
                taken.append(clock.now)
                remaining = (meter.span - full) // meter.cost
                assert f'"model";r={remaining};t='.encode() in meter.state(left)
            else:
                assert b";r=0;t=" in meter.state(left)
                # One is free after exactly that time, and not before.
                clock.now += -left - 1
                assert meter.take(key) == -1
                clock.now += 1
                full = max(0, full + left) + meter.cost
                assert meter.take(key) >= 0
                taken.append(clock.now)
    for first in taken:
        within = [at for at in taken if first <= at < first + meter.span]
        # The initial quota, and what was refilled meanwhile.
        assert len(within) <= 2 * quota


@pytest.mark.parametrize(
    ("limit", "states"),
    [
        (RateLimit(3, 60), ['"x";r=2;t=20', '"x";r=1;t=20', '"x";r=0;t=20', '"x";r=0;t=20']),
        (RateLimit(2, 1), ['"x";r=1;t=1', '"x";r=0;t=1', '"x";r=0;t=1']),
    ],
)
@pytest.mark.usefixtures("clock")
def test_the_state_is_in_the_form_of_the_draft(limit: RateLimit, states: list[str]) -> None:
    meter = Meter("x", limit, Cells())
    assert meter.policy.decode() == f'"x";q={limit.quota};w={limit.window}'
    assert [meter.state(meter.take(1)).decode() for _ in states] == states


def test_limits_of_one_subject_do_not_share_a_count() -> None:
    one, other = (Meter(name, RateLimit(1, 60), MEMORY.counts) for name in ("one", "other"))
    key = uuid4().int & KEYS
    assert one.take(key) >= 0 > one.take(key)
    assert other.take(key) >= 0 > other.take(key)


@pytest.mark.usefixtures("clock")
def test_a_full_table_forgets_the_entry_that_ends_first() -> None:
    cells = Cells()
    keys = [BUCKETS * number + 7 for number in range(1, WAYS + 2)]
    for age, key in enumerate(keys[:WAYS]):
        cells.numbers[cells.place(key)] = START + age
    cells.numbers[cells.place(keys[WAYS])] = START + WAYS
    kept = [cells.numbers[place + 1] for place in range(7 * 2 * WAYS, 8 * 2 * WAYS, 2)]
    assert sorted(kept) == [START + age for age in range(1, WAYS + 1)]


def test_an_account_books_within_its_limit_and_says_what_is_left() -> None:
    memory = Memory.make()
    own, of_key, of_customer = [
        Meter(name, RateLimit(1, 3600), memory.counts)
        for name in ("bookings", "key-bookings", "customer-bookings")
    ]
    limits = Limits(Subjects("secret"), make_guard(), {}, own, of_key, of_customer)
    ada, bob = uuid4(), uuid4()
    for count in (
        limits.count_account,
        limits.count_key,
        lambda whom, taken: limits.count_customer(whom, "customer-1", taken),
        lambda whom, taken: limits.count_customer(ada, whom.hex, taken),
    ):
        taken: list[Taken] = []
        count(ada, taken)
        count(bob, taken)
        with pytest.raises(TooManyRequests):
            count(ada, taken)
        assert [left >= 0 for _, left in taken] == [True, True, False]


async def test_wrong_passwords_delay_ever_longer_and_are_forgiven(clock: Clock) -> None:
    guard = make_guard()
    waits = []
    for _ in range(11):
        assert await wrong(guard) == 0
        waits.append(await wrong(guard))
        if not waits[-1]:
            assert await wrong(guard) == 0
            waits.append(await wrong(guard))
        clock.now += waits[-1] * SECOND
    assert waits[:2] == [0, 1]
    assert waits[2:8] == [2, 4, 8, 16, 30, 30]
    assert set(waits[8:]) == {30}
    clock.now += FORGIVEN
    assert [await wrong(guard) for _ in range(4)] == [0, 0, 0, 1]


async def test_the_right_password_begins_the_count_anew(clock: Clock) -> None:
    guard = make_guard()
    for _ in range(5):
        assert [await wrong(guard) for _ in range(3)] == [0, 0, 0]
        assert await right(guard) == 1
        clock.now += SECOND
        assert await right(guard) == 0


@pytest.mark.usefixtures("clock")
async def test_nobody_is_delayed_by_what_others_do() -> None:
    guard = make_guard()
    while not await wrong(guard):
        pass
    assert await right(guard) == 1
    assert await right(guard, "ADA") == 1
    assert await right(guard, address="::ffff:192.0.2.1") == 1
    assert await right(guard, address="192.0.2.2") == 0
    assert await right(guard, "bob") == 0


@pytest.mark.usefixtures("clock")
async def test_many_addresses_are_slowed_and_the_owner_is_not() -> None:
    guard = make_guard(logins=RateLimit(5, 3600))
    assert await right(guard, address="192.0.2.1") == 0
    waits = [await wrong(guard, address=f"198.51.100.{number}") for number in range(10)]
    assert waits[:5] == [0] * 5
    assert min(waits[5:]) == 720
    assert await right(guard, address="203.0.113.9") == 720
    assert await wrong(guard, address="192.0.2.1") == 0
    assert await right(guard, address="192.0.2.1") == 0
    assert await right(guard, "bob", address="198.51.100.1") == 0


async def test_an_address_that_tries_many_accounts_is_slowed(clock: Clock) -> None:
    guard = make_guard(address_logins=RateLimit(3, 60))
    assert await right(guard, "ada") == 0
    assert [await wrong(guard, f"name-{number}") for number in range(5)] == [0, 0, 0, 20, 20]
    assert await right(guard, "ada") == 0
    assert await right(guard, "bob") == 20
    clock.now += KNOWN + 1
    assert [await wrong(guard, f"name-{number}") for number in range(4)] == [0, 0, 0, 20]
    assert await right(guard, "ada") == 20


@pytest.mark.usefixtures("clock")
async def test_a_password_that_was_not_tried_does_not_count() -> None:
    guard = make_guard(logins=RateLimit(2, 60), address_logins=RateLimit(2, 60))
    for _ in range(20):
        with pytest.raises(Busy):
            async with guard.password("ada", "192.0.2.1"):
                raise Busy
    assert await wrong(guard) == 0
    assert await right(guard, address="192.0.2.7") == 0


@pytest.mark.usefixtures("clock")
async def test_tries_at_once_gain_nothing() -> None:
    guard = make_guard()
    async with (
        guard.password("ada", "192.0.2.1"),
        guard.password("ada", "192.0.2.1"),
        guard.password("ada", "192.0.2.1"),
    ):
        assert await right(guard) == 1
    assert await right(guard) == 0


async def test_an_address_makes_accounts_within_its_limit(clock: Clock) -> None:
    guard = make_guard()
    for _ in range(2):
        await guard.register("192.0.2.1")
    with pytest.raises(TooManyRequests):
        await guard.register("192.0.2.1")
    await guard.register("192.0.2.2")
    clock.now += 30 * SECOND
    await guard.register("192.0.2.1")


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("192.0.2.1", "192.0.2.2", False),
        ("192.0.2.1", "::ffff:192.0.2.1", True),
        ("2001:db8::1", "2001:db8::ffff:ffff:ffff:ffff", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("fe80::1%eth0", "fe80::2%eth0", True),
        ("testclient", "", False),
    ],
)
def test_a_client_is_an_address_or_a_network_of_ipv6(one: str, other: str, *, same: bool) -> None:
    assert (network(one) == network(other)) is same


@given(st.text(), st.text())
def test_every_name_has_a_key(one: str, other: str) -> None:
    keys = Subjects("secret")
    assert 0 <= keys.of("x", one) <= KEYS
    assert (keys.of("x", one) == keys.of("x", other)) is (one == other)
    assert keys.of("x", one) != Subjects("another").of("x", one)
