"""Times of events: instants, and local times in the event's time zone."""

from collections.abc import Set as AbstractSet
from datetime import UTC, datetime
from functools import cache
from importlib import resources
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo

import tzdata

EARLIEST: Final = 2000
LATEST: Final = 2199
"""The first and the last year that a time may have."""
RULES: Final[str] = tzdata.IANA_VERSION
"""The version of the rules of all time zones, such as `2026f`. Later versions sort behind it.

The package `tzdata` is their only source. `zoneinfo` alone would prefer the files of the operating
system, whose versions differ between machines and can't be asked for.
"""


class When(NamedTuple):
    """A time of an event. `local` is the local time, if the organiser gave one."""

    at: datetime
    local: datetime | None = None


class WrongTime(ValueError):
    """An invalid time. `code` is for programs, the message for people."""

    def __init__(self, code: str, message: str) -> None:
        """Set the code and the message."""
        super().__init__(message)
        self.code = code


@cache
def zones() -> AbstractSet[str]:
    """Return the names of the time zones that an event may have: those of places, and UTC.

    Abbreviations and fixed offsets are left out, because they have no summer time.
    """
    names = (resources.files(tzdata) / "zones").read_text(encoding="utf-8").split()
    return {name for name in names if "/" in name and name[:4] != "Etc/"} | {"UTC"}


def when(given: datetime, zone: str | None) -> When:
    """Return the given time: an instant if it has an offset, else a local time in `zone`.

    Raises WrongTime if the year is out of range. Raises it for a local time without a zone, for one
    that the clocks skip, and for one that exists twice.
    """
    if not EARLIEST <= given.year <= LATEST:
        raise WrongTime("time_out_of_range", f"Use a year from {EARLIEST} to {LATEST}")
    if given.tzinfo is not None:
        return When(given.astimezone(UTC))
    if zone is None:
        raise WrongTime("timezone_missing", "Add an offset, or give the event a `timezone`")
    earlier, later = (_instant(given, zone, fold=fold) for fold in (0, 1))
    if reading(earlier, zone) != given:
        raise WrongTime("time_skipped", f"The clocks in {zone} skip this time. Choose another")
    if earlier != later:
        raise WrongTime("time_repeated", f"This time exists twice in {zone}. Add an offset")
    return When(earlier, given)


def reread(stored: When, zone: str, now: datetime) -> When:
    """Return a stored time as the zone's present rules read its local time.

    A time stays as it is if it is past, or has no local time, or still has its local reading. If
    the clocks now skip the local time, it is read with the offset from before the gap. If it now
    exists twice, it is the first of both (RFC 5545, section 3.3.5).
    """
    if stored.local is None or stored.at <= now or reading(stored.at, zone) == stored.local:
        return stored
    return When(_instant(stored.local, zone, fold=0), stored.local)


def reading(at: datetime, zone: str) -> datetime:
    """Return the local time in the zone at this instant."""
    return in_zone(at, zone).replace(tzinfo=None)


def in_zone(at: datetime, zone: str) -> datetime:
    """Return the instant with the offset that the zone has then."""
    return at.astimezone(_rules(zone))


def _instant(local: datetime, zone: str, *, fold: int) -> datetime:
    return local.replace(tzinfo=_rules(zone), fold=fold).astimezone(UTC)


@cache
def _rules(zone: str) -> ZoneInfo:
    with resources.files(tzdata).joinpath("zoneinfo", *zone.split("/")).open("rb") as file:
        return ZoneInfo.from_file(file, key=zone)
