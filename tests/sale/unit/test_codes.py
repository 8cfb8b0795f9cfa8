"""What codes do: their times, how they are compared, and reduced prices."""

from datetime import UTC, datetime, timedelta

import pytest

from ticketing.errors import CodeExpired, CodeNotStarted, CodeUnknown
from ticketing.sale.folding import folded_code
from ticketing.sale.inventory.codes import Code, CodeKind, usable
from ticketing.sale.pricing import reduced

NOON = datetime(2026, 11, 2, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
CODE = Code(1, "summer26", CodeKind.DISCOUNT, percent=50, starts_at=NOON, ends_at=NOON + MINUTE)


def test_a_code_may_be_used_from_its_start_on_and_before_its_end() -> None:
    for at in (NOON, NOON + MINUTE - timedelta.resolution):
        assert usable(CODE, at) is CODE
    with pytest.raises(CodeNotStarted) as early:
        usable(CODE, NOON - MINUTE)
    assert early.value.members == {"startsAt": "2026-11-02T12:00:00Z", "retryAfter": 60}
    with pytest.raises(CodeExpired) as late:
        usable(CODE, NOON + MINUTE)
    assert late.value.members == {"endsAt": "2026-11-02T12:01:00Z"}


def test_a_code_that_is_deactivated_is_unknown_at_any_time() -> None:
    for code in (CODE._replace(active=False), None):
        for at in (NOON - MINUTE, NOON, NOON + MINUTE):
            with pytest.raises(CodeUnknown):
                usable(code, at)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (" summer26 ", "SUMMER26"),
        ("SUM MER\u00a026", "Summer26"),
        ("Straße", "STRASSE"),
        ("cafe\u0301", "CAF\u00c9"),
    ],
)
def test_codes_are_compared_without_white_space_and_case(one: str, other: str) -> None:
    assert folded_code(one) == folded_code(other)


@pytest.mark.parametrize(
    ("one", "other"), [("SUMMER26", "SUMMER-26"), ("CAFE", "CAF\u00c9"), ("O", "0")]
)
def test_codes_that_differ_by_more_than_that_are_two(one: str, other: str) -> None:
    assert folded_code(one) != folded_code(other)


@pytest.mark.parametrize(
    ("amount", "percent", "expected"), [(3, 50, 1), (1, 50, 0), (1, 49, 1), (999, 100, 0)]
)
def test_half_a_minor_unit_of_a_discount_is_rounded_up(
    amount: int, percent: int, expected: int
) -> None:
    assert reduced(amount, percent=percent, amount_off=None) == expected
