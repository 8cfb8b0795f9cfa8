"""Times of events: instants, and local times of a time zone."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from ticketing.sale.times import When, WrongTime, reading, when, zones

BERLIN = "Europe/Berlin"
EAST = timezone(timedelta(hours=2))


def test_the_zones_are_those_of_places_and_utc() -> None:
    assert {BERLIN, "UTC", "America/Argentina/Ushuaia"} <= zones()
    assert not {"CET", "EST", "GMT", "Zulu", "Etc/UTC", "Etc/GMT+2"} & zones()


def test_a_time_with_an_offset_is_an_instant_in_utc() -> None:
    given = datetime(2027, 7, 1, 20, 0, tzinfo=EAST)
    for zone in (BERLIN, None):
        found = when(given, zone)
        assert found == When(datetime(2027, 7, 1, 18, 0, tzinfo=UTC), None)
        assert found.at.tzinfo is UTC


@pytest.mark.parametrize(("month", "hour"), [(1, 19), (7, 18)])
def test_a_local_time_is_kept_beside_its_instant(month: int, hour: int) -> None:
    local = datetime(2027, month, 1, 20, 0)  # noqa: DTZ001 - a local time
    found = when(local, BERLIN)
    assert found == When(datetime(2027, month, 1, hour, 0, tzinfo=UTC), local)
    assert found.at.tzinfo is UTC
    assert reading(datetime(2027, month, 1, hour, 0, tzinfo=UTC), BERLIN) == local


@pytest.mark.parametrize("year", [2000, 2199])
def test_the_first_and_the_last_year_are_allowed(year: int) -> None:
    assert when(datetime(year, 6, 1, tzinfo=UTC), None).at.year == year


@pytest.mark.parametrize(
    ("given", "zone", "code", "message"),
    [
        (datetime(1999, 12, 31, tzinfo=UTC), BERLIN, "time_out_of_range", "from 2000 to 2199"),
        (datetime(2200, 1, 1, tzinfo=UTC), BERLIN, "time_out_of_range", "from 2000 to 2199"),
        (datetime(2027, 7, 1, 20), None, "timezone_missing", "an offset, or give the event"),  # noqa: DTZ001
        (datetime(2027, 3, 28, 2, 30), BERLIN, "time_skipped", "in Europe/Berlin skip"),  # noqa: DTZ001
        (datetime(2026, 10, 25, 2, 30), BERLIN, "time_repeated", "twice in Europe/Berlin"),  # noqa: DTZ001
    ],
)
def test_a_time_that_has_no_single_meaning_is_refused(
    given: datetime, zone: str | None, code: str, message: str
) -> None:
    with pytest.raises(WrongTime, match=message) as refused:
        when(given, zone)
    assert refused.value.code == code
