"""Amounts: parts add up to the whole, tax, and what refund policies give back."""

from datetime import UTC, datetime, timedelta
from fractions import Fraction
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ticketing.sale.pricing import (
    Policy,
    RefundKind,
    allotted,
    given_back,
    percent_of,
    policy,
    rate_of,
    tax_in,
)

UNTIL = datetime(2027, 3, 1, 12, tzinfo=UTC)
BEFORE = UNTIL - timedelta(microseconds=1)

NONE = Policy(RefundKind.NONE)
FULL = Policy(RefundKind.FULL_UNTIL, UNTIL)
HALF = Policy(RefundKind.PERCENTAGE, UNTIL, percent=50)
FEE = Policy(RefundKind.FLAT_FEE, fee=500)

amounts = st.integers(0, 10**12)
policies = st.one_of(
    st.none(),
    st.just(NONE),
    st.just(FULL),
    st.integers(1, 100).map(lambda percent: HALF._replace(percent=percent)),
    amounts.map(lambda fee: FEE._replace(fee=fee)),
)


def at_once(of: Policy | None, prices: list[int], *now: int, at: datetime = BEFORE) -> int:
    return given_back(of, prices, before=(), now=now or range(len(prices)), at=at)


# Parts that add up.


def test_ten_euros_for_three_tickets_are_a_cent_more_for_the_first() -> None:
    assert allotted(1000, [1, 1, 1]) == [334, 333, 333]


def test_what_is_left_goes_to_the_largest_fractions_and_among_equals_to_the_first() -> None:
    # Exactly 1.75, 1.75, 3.5 and 0.
    assert allotted(7, [1, 1, 2, 0]) == [2, 2, 3, 0]
    assert allotted(5, [1, 2, 1]) == [1, 3, 1]
    assert allotted(2, [1, 1, 1]) == [1, 1, 0]


def test_parts_without_a_weight_are_equal() -> None:
    assert allotted(5, [0, 0]) == [3, 2]
    assert allotted(5, [0, 3]) == [0, 5]
    assert allotted(5, []) == []


@given(amounts, st.lists(amounts, min_size=1, max_size=20))
def test_parts_add_up_and_none_is_a_whole_unit_off(amount: int, weights: list[int]) -> None:
    shares = allotted(amount, weights)
    assert sum(shares) == amount
    total = sum(weights)
    for share, weight in zip(shares, weights, strict=True):
        exact = Fraction(amount * weight, total) if total else Fraction(amount, len(weights))
        assert abs(share - exact) < 1


# Tax.


@pytest.mark.parametrize(
    ("amount", "percent", "tax"),
    [
        (1500, "19", 239),  # 15.00 = 12.61 + 2.39
        (1000, "7", 65),
        (1000, "0", 0),
        (0, "19", 0),
        (10_887, "8.875", 887),  # 88.7448...
        (3, "20", 1),  # exactly a half: 0.5
        (9, "20", 2),  # 1.5
        (1, "100", 1),
    ],
)
def test_the_tax_is_part_of_the_amount(amount: int, percent: str, tax: int) -> None:
    assert tax_in(amount, rate_of(percent)) == tax


@given(amounts, st.integers(0, 1_000_000))
def test_the_tax_is_at_most_half_a_unit_off(amount: int, rate: int) -> None:
    tax = tax_in(amount, rate)
    assert 0 <= tax <= amount
    exact = Fraction(amount * rate, 1_000_000 + rate)
    assert Fraction(-1, 2) < tax - exact <= Fraction(1, 2)


@pytest.mark.parametrize(
    ("percent", "rate"),
    [("0", 0), ("19", 190_000), ("8.875", 88_750), ("0.0001", 1), ("100", 1_000_000)],
)
def test_a_rate_is_written_as_it_is_read(percent: str, rate: int) -> None:
    assert rate_of(percent) == rate
    assert percent_of(rate) == percent


def test_a_rate_is_written_in_its_shortest_form() -> None:
    assert percent_of(rate_of("7.70")) == "7.7"
    assert percent_of(rate_of("10.0000")) == "10"


# Refunds.


def test_without_a_policy_nothing_is_given_back() -> None:
    assert at_once(None, [1600, 1600]) == 0
    assert at_once(NONE, [1600, 1600]) == 0


def test_a_ticket_gives_back_what_it_cost() -> None:
    assert at_once(FULL, [1600, 2000, 0], 0) == 1600
    assert at_once(FULL, [1600, 2000, 0], 1, 2) == 2000


@pytest.mark.parametrize("of", [FULL, HALF])
def test_from_the_deadline_on_nothing_is_given_back(of: Policy) -> None:
    assert at_once(of, [1000], at=BEFORE) > 0
    assert at_once(of, [1000], at=UNTIL) == 0
    assert at_once(of, [1000], at=UNTIL + timedelta(days=1)) == 0


def test_a_percentage_is_that_of_the_price_of_the_ticket() -> None:
    assert at_once(HALF, [1600, 2000], 1) == 1000
    assert at_once(HALF._replace(percent=100), [1600, 2000], 1) == 2000
    assert at_once(HALF._replace(percent=30), [1600, 2000], 0) == 480


def test_a_percentage_of_all_tickets_is_rounded_once() -> None:
    # Half of each would be 1.665, of all it is 4.995.
    prices = [333, 333, 333]
    parts = [at_once(HALF, prices, each) for each in range(3)]
    assert parts == [167, 167, 166]
    assert sum(parts) == at_once(HALF, prices) == 500


def test_a_flat_fee_is_taken_once() -> None:
    prices = [1600, 1600, 1600]
    assert given_back(FEE, prices, before=(), now=[1], at=UNTIL) == 1100
    assert given_back(FEE, prices, before=[1], now=[0, 2], at=UNTIL) == 3200
    assert at_once(FEE, prices) == 4300


def test_a_fee_that_is_larger_than_a_ticket_is_taken_from_the_next_one_too() -> None:
    assert given_back(FEE, [300, 300], before=(), now=[0], at=UNTIL) == 0
    assert given_back(FEE, [300, 300], before=[0], now=[1], at=UNTIL) == 100


@given(policies, st.lists(amounts, min_size=1, max_size=8), st.randoms())
def test_one_by_one_gives_back_what_all_at_once_do(
    of: Policy | None, prices: list[int], random: Random
) -> None:
    order = list(range(len(prices)))
    random.shuffle(order)
    parts = [
        given_back(of, prices, before=order[:done], now=[each], at=BEFORE)
        for done, each in enumerate(order)
    ]
    assert sum(parts) == at_once(of, prices)
    for part, each in zip(parts, order, strict=True):
        assert 0 <= part <= prices[each]


@pytest.mark.parametrize("each", [NONE, FULL, HALF, FEE])
def test_a_policy_is_read_as_it_is_written(each: Policy) -> None:
    assert policy(each.document()) == each
    assert None not in each.document().values()
