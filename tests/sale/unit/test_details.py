"""The details of an event, and which of them fit together."""

from datetime import UTC, datetime, timedelta

import pytest

from ticketing.errors import ValidationFailed
from ticketing.sale.details import (
    TIMES,
    Details,
    has_local_times,
    moved,
    read_anew,
    resolved,
    revised,
    shifted,
)
from ticketing.sale.times import When

BERLIN, NEW_YORK = "Europe/Berlin", "America/New_York"


def at(hour: int, month: int = 7) -> datetime:
    return datetime(2027, month, 1, hour, tzinfo=UTC)


def local(hour: int, month: int = 7, day: int = 1) -> datetime:
    return datetime(2027, month, day, hour)  # noqa: DTZ001 - a local time


def refused(before: Details, **changes: datetime) -> list[dict[str, str]]:
    with pytest.raises(ValidationFailed) as caught:
        revised(before, changes)
    errors = caught.value.members["errors"]
    assert isinstance(errors, list)
    return errors


def test_what_is_not_changed_stays() -> None:
    before = Details("One", "Text", "Hall", starts=When(at(20)), visibility="unlisted")
    after = revised(before, {"name": "Two", "ends": at(22)})
    assert after == before._replace(name="Two", ends=When(at(22)))
    assert revised(after, {"description": None, "ends": None}) == before._replace(
        name="Two", description=None
    )


def test_a_local_time_stays_the_same_in_another_time_zone_and_an_instant_too() -> None:
    before = revised(Details("One"), {"timezone": BERLIN, "starts": local(20), "sales_open": at(8)})
    assert before.starts == When(at(18), local(20))
    after = revised(before, {"timezone": NEW_YORK, "ends": local(22)})
    assert after.starts == When(at(0) + timedelta(days=1), local(20))
    assert after.ends == When(at(2) + timedelta(days=1), local(22))
    assert after.sales_open == When(at(8))


def test_each_wrong_time_is_named() -> None:
    errors = refused(Details("One"), starts=local(20), sales_close=datetime(1999, 1, 1, tzinfo=UTC))
    assert errors == [
        {
            "in": "body",
            "pointer": "#/startsAt",
            "type": "timezone_missing",
            "detail": "Add an offset, or give the event a `timezone`",
        },
        {
            "in": "body",
            "pointer": "#/salesCloseAt",
            "type": "time_out_of_range",
            "detail": "Use a year from 2000 to 2199",
        },
    ]


@pytest.mark.parametrize(
    ("first", "second"),
    [("starts", "ends"), ("sales_open", "sales_close"), ("sales_close", "ends")],
)
def test_times_may_be_equal_but_not_in_the_wrong_order(first: str, second: str) -> None:
    assert revised(Details("One"), {first: at(20), second: at(20)})
    assert refused(Details("One"), **{first: at(20), second: at(19)}) == [
        {
            "in": "body",
            "pointer": f"#/{TIMES[second]}",
            "type": "times_out_of_order",
            "detail": f"`{TIMES[second]}` must not be before `{TIMES[first]}`",
        }
    ]


def test_all_pairs_in_the_wrong_order_are_named() -> None:
    errors = refused(Details("One"), starts=at(9), ends=at(5), sales_open=at(8), sales_close=at(7))
    assert [each["pointer"] for each in errors] == ["#/endsAt", "#/salesCloseAt", "#/endsAt"]


def test_moved_times_keep_their_distance_from_the_start_in_local_time() -> None:
    before = revised(
        Details("One", description="Text"),
        {
            "timezone": BERLIN,
            "starts": local(20, 1),
            "ends": local(23, 1),
            "sales_open": at(9, 1),
        },
    )
    after = moved(before, local(19))  # In summer time.
    assert after == before._replace(
        starts=When(at(17), local(19)),
        ends=When(at(20), local(22)),
        sales_open=When(at(7)),
    )
    assert moved(before, at(17)) == after._replace(starts=When(at(17)))


def test_an_event_without_a_start_gets_one_and_its_other_times_stay() -> None:
    before = revised(Details("One"), {"timezone": BERLIN, "sales_open": local(9)})
    assert moved(before, local(20)) == before._replace(starts=When(at(18), local(20)))


def test_a_move_to_a_time_that_is_skipped_is_refused() -> None:
    before = revised(Details("One"), {"timezone": BERLIN, "starts": local(20), "ends": local(22)})
    with pytest.raises(ValidationFailed) as caught:
        moved(before, local(2, 3, 28) + timedelta(minutes=30))
    assert [each["pointer"] for each in caught.value.members["errors"]] == ["#/startsAt"]  # type: ignore[attr-defined]


def test_the_times_of_a_part_are_named_where_the_part_is() -> None:
    fields = {"sales_open": "salesOpenAt", "sales_close": "salesCloseAt"}
    changes = {"sales_open": at(9), "sales_close": at(8)}
    times, errors = resolved(fields, Details("One"), changes, None, "#/items/1", moves=False)
    assert times == {"sales_open": When(at(9)), "sales_close": When(at(8))}
    assert [each["pointer"] for each in errors] == ["#/items/1/salesCloseAt"]
    _, errors = resolved(
        fields, Details("One"), {"sales_open": local(9)}, None, "#/items/1", moves=False
    )
    assert [each["pointer"] for each in errors] == ["#/items/1/salesOpenAt"]


def test_times_that_are_out_of_order_stay_so_unless_a_time_is_changed() -> None:
    before = Details("One", timezone=BERLIN, starts=When(at(9)), ends=When(at(8)))
    assert revised(before, {"name": "Two"}) == before._replace(name="Two")
    assert refused(before, sales_open=at(7))
    with pytest.raises(ValidationFailed):
        revised(before, {"timezone": NEW_YORK})


def test_local_times_to_come_are_read_by_the_present_rules() -> None:
    read_before = Details("One", timezone=BERLIN, starts=When(at(19), local(20)), ends=When(at(23)))
    assert has_local_times(read_before, at(18))
    assert read_anew(read_before, at(18)) == read_before._replace(starts=When(at(18), local(20)))
    assert not has_local_times(read_before, at(19))
    assert read_anew(read_before, at(19)) == read_before
    nowhere = read_before._replace(timezone=None)
    assert read_anew(nowhere, at(18)) == nowhere
    assert not has_local_times(read_before._replace(starts=When(at(19))), at(18))


def test_a_time_is_shifted_only_if_the_event_had_a_start() -> None:
    without = Details("One", timezone=BERLIN)
    assert shifted(When(at(18), local(20)), without, When(at(9))) == local(20)
    assert shifted(When(at(18)), without, When(at(9))) == at(18)
    nowhere = Details("One", starts=When(at(12)))
    assert shifted(When(at(18), local(20)), nowhere, When(at(9))) == at(15)
