"""Calendars of events (iCalendar, RFC 5545). No I/O."""

from calendar import monthrange
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Final, NamedTuple
from uuid import UUID, uuid5

from icalendar import Calendar, Event, Timezone, TimezoneDaylight, TimezoneStandard, vRecur

from ticketing import __version__
from ticketing.sale.inventory.terms import EventStatus
from ticketing.sale.rows import Event as SoldEvent
from ticketing.sale.times import in_zone

NAMES: Final = UUID("0b6a1f0e-9f0b-4f0c-8a53-6f1f4b0f6f2d")
"""The namespace of the UIDs (RFC 9562, section 6.5)."""
STATUSES: Final = {
    EventStatus.DRAFT: "TENTATIVE",
    EventStatus.PUBLISHED: "CONFIRMED",
    EventStatus.CANCELLED: "CANCELLED",
}
CHECKED_YEARS: Final = 8
"""A rule of a time zone must hold for so many years to be written as one."""
WEEK: Final = timedelta(weeks=1)
"""No zone changes its offset twice in a week."""
NEVER: Final = datetime(1970, 1, 1)  # noqa: DTZ001 - a local time
"""The begin of an offset that does not change."""
READ_AGAIN: Final = timedelta(hours=1)
"""How often a program that follows a calendar should read it."""


class Entry(NamedTuple):
    """An event as calendars show it."""

    uid: str
    sequence: int
    status: str
    created_at: datetime
    name: str
    starts: datetime
    ends: datetime | None
    zone: str | None
    description: str | None
    location: str | None
    position: tuple[float, float] | None
    url: str | None


def entry(event: SoldEvent) -> Entry | None:
    """Return the entry of the event, or None if it has no start."""
    details = event.details
    if details.starts is None:
        return None
    place = [each for each in (details.venue_name, details.venue_address) if each]
    position = None
    if details.latitude is not None and details.longitude is not None:
        position = details.latitude, details.longitude
    return Entry(
        # It stays the same as long as the event exists, also in another database.
        f"{uuid5(NAMES, f'{event.id} {event.created_at.isoformat()}')}@ticketing",
        event.terms.revision - 1,
        STATUSES[event.terms.status],
        event.created_at,
        details.name,
        details.starts.at,
        details.ends and details.ends.at,
        details.timezone,
        details.description,
        ", ".join(place) or None,
        position,
        details.url,
    )


# Many ask for the same event.
@lru_cache(maxsize=256)
def single(shown: Entry) -> bytes:
    """Return the calendar with one entry."""
    return written([shown])


def written(shown: Sequence[Entry], name: str | None = None) -> bytes:
    """Return the calendar. `name` is for one that programs follow."""
    calendar = Calendar()
    calendar.add("prodid", f"-//ticketing//ticketing {__version__}//EN")
    calendar.add("version", "2.0")
    calendar.add("calscale", "GREGORIAN")
    if name is not None:
        # RFC 7986, and what earlier programs know.
        calendar.add("name", name)
        calendar.add("x-wr-calname", name)
        calendar.add("refresh-interval", READ_AGAIN, parameters={"VALUE": "DURATION"})
        calendar.add("x-published-ttl", "PT1H")
    for zone, (first, last) in _years(shown).items():
        calendar.add_component(_timezone(zone, first, last))
    for each in shown:
        calendar.add_component(_event(each))
    text: bytes = calendar.to_ical()
    return text


def _years(shown: Sequence[Entry]) -> dict[str, tuple[int, int]]:
    """Return the first and the last year of the entries of each time zone."""
    found: dict[str, tuple[int, int]] = {}
    for each in shown:
        if each.zone is not None and each.zone != "UTC":
            years = [each.starts.year, (each.ends or each.starts).year]
            first, last = found.get(each.zone, years)
            found[each.zone] = min(first, *years), max(last, *years)
    return found


def _event(entry: Entry) -> Event:
    event = Event()
    event.add("uid", entry.uid)
    event.add("sequence", entry.sequence)
    # No time of the last change is stored. The sequence says which version is newer.
    event.add("dtstamp", entry.created_at.replace(microsecond=0))
    event.add("created", entry.created_at.replace(microsecond=0))
    event.add("dtstart", _moment(entry.starts, entry.zone))
    if entry.ends is not None:
        event.add("dtend", _moment(entry.ends, entry.zone))
    event.add("summary", entry.name)
    event.add("status", entry.status)
    for field in ("description", "location", "url"):
        if (value := getattr(entry, field)) is not None:
            event.add(field, value)
    if entry.position is not None:
        event.add("geo", entry.position)
    return event


def _moment(at: datetime, zone: str | None) -> datetime:
    at = at.replace(microsecond=0)
    if zone is None or zone == "UTC":
        return at.astimezone(UTC)
    local = in_zone(at, zone)
    # A local time that exists twice stands for the first (RFC 5545, section 3.3.5).
    return local if not local.fold else at.astimezone(UTC)


class _Change(NamedTuple):
    """A change of a zone's offset. `local` is the local time by the offset before it."""

    local: datetime
    before: timedelta
    after: timedelta
    name: str

    @property
    def is_summer(self) -> bool:
        """Whether clocks go forward. In Dublin it is winter time that the zone's data call so."""
        return self.after > self.before


@lru_cache(maxsize=512)
def _timezone(zone: str, first: int, last: int) -> Timezone:
    """Return the rules of the zone for these years.

    It has one rule for each offset where that is true, because some programs know no others.
    """
    changes = list(_changes(zone, first - 1, last + 1))
    made = Timezone()
    made.add("tzid", zone)
    if not changes:
        start = in_zone(datetime(first - 1, 1, 1, tzinfo=UTC), zone)
        offset = start.utcoffset() or timedelta()
        changes = [_Change(NEVER, offset, offset, start.tzname() or zone)]
    elif rules := _rules([*changes, *_changes(zone, last + 2, last + CHECKED_YEARS)]):
        for change, rule in rules:
            made.add_component(_observance(change, rule))
        return made
    for change in changes:
        made.add_component(_observance(change))
    return made


def _observance(change: _Change, rule: vRecur | None = None) -> TimezoneStandard | TimezoneDaylight:
    made = TimezoneDaylight() if change.is_summer else TimezoneStandard()
    made.add("dtstart", change.local)
    made.add("tzoffsetfrom", change.before)
    made.add("tzoffsetto", change.after)
    made.add("tzname", change.name)
    if rule is not None:
        made.add("rrule", rule)
    return made


def _changes(zone: str, first: int, last: int) -> Iterator[_Change]:
    """Yield the changes of the zone's offset from the first year to the last."""
    at = datetime(first, 1, 1, tzinfo=UTC)
    while at.year <= last:
        if _offset(at, zone) != _offset(at + WEEK, zone):
            low, high = at, at + WEEK
            while high - low > timedelta(seconds=1):
                middle = (low + (high - low) / 2).replace(microsecond=0)
                if _offset(middle, zone) == _offset(at, zone):
                    low = middle
                else:
                    high = middle
            now = in_zone(high, zone)
            before = _offset(low, zone)
            yield _Change(
                (high + before).replace(tzinfo=None),
                before,
                _offset(high, zone),
                now.tzname() or zone,
            )
        at += WEEK


def _offset(at: datetime, zone: str) -> timedelta:
    return in_zone(at, zone).utcoffset() or timedelta()


def _rules(changes: Sequence[_Change]) -> list[tuple[_Change, vRecur]] | None:
    """Return the first change to each offset with its yearly rule, or None if there is none."""
    kinds: dict[tuple[timedelta, timedelta, str], list[_Change]] = {}
    for each in changes:
        kinds.setdefault((each.before, each.after, each.name), []).append(each)
    years = {each.local.year for each in changes}
    found = []
    for group in kinds.values():
        rule = _rule([each.local for each in group])
        if rule is None or [each.local.year for each in group] != sorted(years):
            return None
        found.append((group[0], rule))
    return found


def _rule(times: Sequence[datetime]) -> vRecur | None:
    if len({(each.month, each.weekday(), each.time()) for each in times}) > 1:
        return None
    nth = {(each.day - 1) // 7 + 1 for each in times}
    if len(nth) == 1:
        (number,) = nth
    elif all(each.day + 7 > monthrange(each.year, each.month)[1] for each in times):
        number = -1
    else:
        return None
    day = f"{number}{('MO', 'TU', 'WE', 'TH', 'FR', 'SA', 'SU')[times[0].weekday()]}"
    return vRecur({"FREQ": "YEARLY", "BYMONTH": times[0].month, "BYDAY": day})
