"""Calendars, as another program reads them."""

from datetime import UTC, datetime, timedelta
from io import StringIO
from typing import Any

import pytest
from dateutil.tz import tzical  # type: ignore[import-untyped]
from icalendar import Calendar

from ticketing.feed.calendars import Entry, written
from ticketing.sale.times import in_zone

WINTER = datetime(2026, 1, 15, 9, 30, tzinfo=UTC)
PLAIN = Entry(
    "1@ticketing", 0, "CONFIRMED", WINTER, "A concert", WINTER, None, None, None, None, None, None
)


@pytest.mark.parametrize(
    "zone",
    [
        *("Europe/Berlin", "Europe/Dublin", "America/New_York", "America/Sao_Paulo"),
        *("Asia/Jerusalem", "Asia/Kolkata", "Africa/Casablanca", "Australia/Lord_Howe"),
        *("America/Nuuk", "Pacific/Chatham", "Antarctica/Troll"),
    ],
)
def test_the_rules_of_a_time_zone_give_every_local_time_its_instant(zone: str) -> None:
    years = [PLAIN._replace(zone=zone, starts=WINTER.replace(year=each)) for each in (2026, 2028)]
    text = written(years).decode()
    # Another reader, which knows no zones but those in the text.
    rules = tzical(StringIO(text.replace("\r\n", "\n"))).get(zone)
    at = datetime(2026, 1, 1, tzinfo=UTC)
    while at.year < 2029:
        local = in_zone(at, zone)
        if not local.fold and in_zone(at + timedelta(hours=3), zone).utcoffset() == (
            in_zone(at - timedelta(hours=3), zone).utcoffset()
        ):
            assert local.replace(tzinfo=rules).utcoffset() == local.utcoffset(), at
        at += timedelta(hours=5)
    # Outlook wants one rule for each offset, where there is one.
    has_rules = zone not in {"Asia/Jerusalem", "Africa/Casablanca", "America/Nuuk"}
    assert (text.count("BEGIN:STANDARD") <= 1) is has_rules


def test_an_entry_is_read_again_as_it_was_written() -> None:
    name = "Café; \\ a, b " + "ü" * 60
    entry = PLAIN._replace(
        uid="7@ticketing",
        sequence=3,
        status="CANCELLED",
        name=name,
        starts=datetime(2026, 10, 25, 0, 30, tzinfo=UTC),
        # The second 02:30 of that night.
        ends=datetime(2026, 10, 25, 1, 30, tzinfo=UTC),
        zone="Europe/Berlin",
        description="One\nTwo; three",
        location="Town hall, Market square 1",
        position=(52.52, 13.405),
        url="https://example.org/a?b=c,d;e",
    )
    text = written([entry], "Tickets")
    lines = text.split(b"\r\n")
    assert max(map(len, lines)) <= 75
    for line in lines:
        line.decode()  # No character is cut in two.
    unfolded = text.replace(b"\r\n ", b"")
    assert b"DTSTART;TZID=Europe/Berlin:20261025T023000" in unfolded
    assert b"DTEND:20261025T013000Z" in unfolded
    read: Any  # Each property has many types.
    (read,) = Calendar.from_ical(text).events
    assert str(read["summary"]) == name
    assert read.start.astimezone(UTC) == entry.starts
    assert read.end.astimezone(UTC) == entry.ends
    assert str(read["description"]) == "One\nTwo; three"
    assert str(read["location"]) == "Town hall, Market square 1"
    assert str(read["url"]) == "https://example.org/a?b=c,d;e"
    assert (read["geo"].latitude, read["geo"].longitude) == (52.52, 13.405)
    assert (str(read["uid"]), int(read["sequence"])) == ("7@ticketing", 3)
    assert str(read["status"]) == "CANCELLED"


def test_an_event_without_a_time_zone_is_in_utc() -> None:
    text = written([PLAIN, PLAIN._replace(zone="UTC")])
    assert b"VTIMEZONE" not in text
    assert text.count(b"DTSTART:20260115T093000Z") == 2
