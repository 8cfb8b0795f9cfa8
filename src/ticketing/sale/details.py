"""The details of an event, and the rules about which of them fit together. No I/O."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final, NamedTuple

from ticketing.errors import ValidationFailed
from ticketing.sale.pricing import Policy
from ticketing.sale.times import When, WrongTime, reading, reread, when


class Details(NamedTuple):
    """The details of an event: everything except its capacity and its status."""

    name: str
    description: str | None = None
    venue_name: str | None = None
    venue_address: str | None = None
    latitude: float | None = None
    longitude: float | None = None
    url: str | None = None
    timezone: str | None = None
    starts: When | None = None
    ends: When | None = None
    sales_open: When | None = None
    sales_close: When | None = None
    visibility: str = "public"
    max_bookings_per_person: int = 1
    max_tickets_per_person: int = 10
    hold_minutes: int = 10
    waiting_list_mode: str = "auto"
    offer_minutes: int = 60
    group_patience_minutes: int | None = None
    refund_policy: Policy | None = None
    """Without its time, which is the next field. None gives nothing back."""
    refund_until: When | None = None

    @property
    def waiting_list(self) -> dict[str, object]:
        """What happens to places that become free, as in the API."""
        return {
            "mode": self.waiting_list_mode,
            "offerMinutes": self.offer_minutes,
            "groupPatienceMinutes": self.group_patience_minutes,
        }

    @property
    def refunds(self) -> Policy | None:
        """The whole refund policy."""
        until = self.refund_until and self.refund_until.at
        return self.refund_policy and self.refund_policy._replace(until=until)


TIMES: Final = {
    "starts": "startsAt",
    "ends": "endsAt",
    "sales_open": "salesOpenAt",
    "sales_close": "salesCloseAt",
    "refund_until": "refundPolicy/until",
}
"""The fields that are times, with their names in the API."""
ORDER: Final = (("starts", "ends"), ("sales_open", "sales_close"), ("sales_close", "ends"))
"""Pairs of times. The first must not be after the second."""


def revised(before: Details, changes: Mapping[str, Any]) -> Details:
    """Return the details with these changes. Times may have an offset or be local times.

    A local time stays the same if the event's time zone changes. Times that the changes do not
    concern stay as they are, also if the zone's rules have changed. Raises ValidationFailed with an
    error for each wrong field.
    """
    changed = before._replace(**{name: to for name, to in changes.items() if name not in TIMES})
    moves = changed.timezone != before.timezone
    times, errors = resolved(TIMES, before, changes, changed.timezone, moves=moves)
    if errors:
        raise ValidationFailed(errors=errors)
    return changed._replace(**times)


def resolved(  # noqa: PLR0913 - what it knows, and where it is
    fields: Mapping[str, str],
    before: object,
    changes: Mapping[str, Any],
    zone: str | None,
    at: str = "#",
    *,
    moves: bool,
) -> tuple[dict[str, Any], list[dict[str, str]]]:
    """Return the times with these changes, and an error for each that is wrong.

    `fields` has the attributes of `before` that are times, with their names in the API. `at` is the
    JSON pointer of the object that has these fields. `moves` says that the time zone is another.
    Otherwise times that the changes do not concern stay as they are.
    """
    times: dict[str, When | None] = {}
    errors: list[dict[str, str]] = []
    for name, field in fields.items():
        given = _given(name, before, changes, moves=moves)
        try:
            times[name] = given if given is None or isinstance(given, When) else when(given, zone)
        except WrongTime as error:
            errors.append(failure(f"{at}/{field}", error.code, str(error)))
    if not errors and (moves or changes.keys() & fields.keys()):
        errors += _out_of_order(times, fields, at)
    return times, errors


def read_anew(details: Details, now: datetime) -> Details:
    """Return the details with their local times to come read by the zone's present rules.

    Nothing is refused: afterwards times may be out of order, if some have no local time.
    """
    for name in TIMES:
        stored: When | None = getattr(details, name)
        if stored is not None and details.timezone is not None:
            found: Any = reread(stored, details.timezone, now)
            details = details._replace(**{name: found})
    return details


def has_local_times(details: Details, now: datetime) -> bool:
    """Whether a time to come is a local time."""
    times: list[When | None] = [getattr(details, name) for name in TIMES]
    return any(each is not None and each.local is not None and each.at > now for each in times)


def moved(details: Details, start: datetime) -> Details:
    """Return the details for another start. The other times keep their distance from it.

    The distance between local times is measured in local time. Raises ValidationFailed.
    """
    alone = Details(details.name, timezone=details.timezone)
    starts = revised(alone, {"starts": start}).starts
    if details.starts is None or starts is None:
        return revised(details, {"starts": start})
    changes = {
        name: shifted(kept, details, starts)
        for name in TIMES.keys() - {"starts"}
        if (kept := getattr(details, name)) is not None
    }
    return revised(details, {"starts": start, **changes})


def shifted(kept: When, details: Details, starts: When) -> datetime:
    """Return the time that has the distance to `starts` that `kept` has to the event's start.

    The distance between local times is measured in local time.
    """
    if details.starts is None:
        return kept.local or kept.at
    if kept.local is not None and details.timezone is not None:
        was, now = (
            each.local or reading(each.at, details.timezone) for each in (details.starts, starts)
        )
        return kept.local + (now - was)
    return kept.at + (starts.at - details.starts.at)


def _given(
    name: str, before: object, changes: Mapping[str, Any], *, moves: bool
) -> When | datetime | None:
    if name in changes:
        given: datetime | None = changes[name]
        return given
    kept: When | None = getattr(before, name)
    # In another zone the same local time is another instant.
    return kept.local if moves and kept is not None and kept.local is not None else kept


def _out_of_order(
    times: Mapping[str, When | None], fields: Mapping[str, str], at: str
) -> list[dict[str, str]]:
    errors = []
    for first, second in ORDER:
        one, other = times.get(first), times.get(second)
        if one is not None and other is not None and one.at > other.at:
            message = f"`{fields[second]}` must not be before `{fields[first]}`"
            errors.append(failure(f"{at}/{fields[second]}", "times_out_of_order", message))
    return errors


def failure(pointer: str, code: str, message: str) -> dict[str, str]:
    """Return an error of ValidationFailed, about the field that the JSON pointer names."""
    return {"in": "body", "pointer": pointer, "type": code, "detail": message}
