"""Times of events: instants, and local times in the event's time zone."""

from collections.abc import Set as AbstractSet
from datetime import UTC, datetime
from functools import cache
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo, available_timezones

EARLIEST: Final = 2000
LATEST: Final = 2199
"""The first and the last year that a time may have."""


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
    names = {name for name in available_timezones() if "/" in name and name[:4] != "Etc/"}
    return names | {"UTC"}


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
    earlier, later = (
        given.replace(tzinfo=ZoneInfo(zone), fold=fold).astimezone(UTC) for fold in (0, 1)
    )
    if reading(earlier, zone) != given:
        raise WrongTime("time_skipped", f"The clocks in {zone} skip this time. Choose another")
    if earlier != later:
        raise WrongTime("time_repeated", f"This time exists twice in {zone}. Add an offset")
    return When(earlier, given)


def reading(at: datetime, zone: str) -> datetime:
    """Return the local time in the zone at this instant."""
    return at.astimezone(ZoneInfo(zone)).replace(tzinfo=None)
