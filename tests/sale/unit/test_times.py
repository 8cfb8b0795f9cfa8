"""Local times, and the one source of the rules of time zones."""

import os
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path

import pytest
import tzdata

from ticketing.sale.details import Details, has_local_times, read_anew, revised
from ticketing.sale.times import RULES, When, reading, reread, when, zones

NOW = datetime(2027, 1, 1, tzinfo=UTC)
NOON = datetime.fromisoformat("2027-07-01T12:00")
SHOWN = """
from datetime import datetime
from ticketing.sale.times import when, zones
print(when(datetime(2031, 6, 1, 12), "Europe/Berlin").at.hour, "Mars/Olympus" in zones())
"""


def test_the_rules_come_from_the_package_whatever_the_system_has(tmp_path: Path) -> None:
    zoneinfo = Path(str(resources.files(tzdata) / "zoneinfo"))
    for name in ("Europe/Berlin", "Mars/Olympus"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(zoneinfo / "Asia/Tokyo", tmp_path / name)
    shown = subprocess.run(
        [sys.executable, "-c", SHOWN],
        env={**os.environ, "PYTHONTZPATH": str(tmp_path)},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    assert shown.stdout == "10 False\n"
    assert RULES == tzdata.IANA_VERSION


def test_every_zone_that_an_event_may_have_has_rules() -> None:
    assert "Europe/Berlin" in zones()
    assert "UTC" in zones()
    assert not {"EST", "GMT+2", "Etc/GMT+2", "Europe/Berln"} & zones()
    for zone in zones():
        assert reading(when(NOON, zone).at, zone) == NOON


@pytest.mark.parametrize(
    ("stored", "now"),
    [
        # The clock reads 19:30 no more at this instant, so the instant moves.
        ("2027-06-01T19:30 at 18:30", "2027-06-01T17:30"),
        # The instant still has its reading.
        ("2027-06-01T19:30 at 17:30", "2027-06-01T17:30"),
        # Skipped: by the offset before the gap.
        ("2027-03-28T02:30 at 00:30", "2027-03-28T01:30"),
        # Twice, and the instant is neither of both: the first one.
        ("2027-10-31T02:30 at 02:30", "2027-10-31T00:30"),
        # Twice, and the instant is the second one: nothing changes.
        ("2027-10-31T02:30 at 01:30", "2027-10-31T01:30"),
    ],
)
def test_a_stored_local_time_is_read_by_the_present_rules(stored: str, now: str) -> None:
    local, _, at = stored.partition(" at ")
    given = When(
        datetime.fromisoformat(f"{local[:10]}T{at}+00:00"),
        datetime.fromisoformat(local),
    )
    found = reread(given, "Europe/Berlin", NOW)
    assert found == When(datetime.fromisoformat(f"{now}+00:00"), given.local)
    assert reread(found, "Europe/Berlin", NOW) == found
    # A past time is never changed, and a time without a local reading has no rules.
    assert reread(given, "Europe/Berlin", given.at) == given
    assert reread(When(given.at), "Europe/Berlin", NOW) == When(given.at)


def test_other_changes_leave_a_time_that_the_clocks_skip_by_now_as_it_is() -> None:
    starts = When(
        datetime(2027, 3, 28, 1, 30, tzinfo=UTC), datetime.fromisoformat("2027-03-28T02:30")
    )
    ends = When(datetime(2027, 3, 28, 1, 0, tzinfo=UTC))
    event = Details("A concert", timezone="Europe/Berlin", starts=starts, ends=ends)
    assert read_anew(event, NOW) == event
    assert revised(event, {"name": "Jazz"}) == event._replace(name="Jazz")
    assert has_local_times(event, NOW)
    assert not has_local_times(event, starts.at)
    assert not has_local_times(event._replace(starts=None), NOW)
