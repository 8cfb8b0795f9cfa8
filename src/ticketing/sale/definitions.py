"""The ticket types and quotas of an event, and the rules about them. No I/O.

A slot is an index in the counters of the event: see `Counters`.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Any, Final, NamedTuple

from ticketing.errors import (
    CapacityBelowTaken,
    CurrencyMixed,
    NameTaken,
    QuotaNotFound,
    TicketTypeNotFound,
    TooManyQuotas,
    TooManyTicketTypes,
    ValidationFailed,
)
from ticketing.sale.details import Details, failure, resolved, shifted
from ticketing.sale.inventory.model import Counters
from ticketing.sale.inventory.offer import Offer, TicketType
from ticketing.sale.times import When, reread

MAX_TYPES: Final = 100
MAX_QUOTAS: Final = 100
"""How many shared quotas an event may have."""
FIRST_TYPE: Final = "General admission"
"""The name of an event's type if the organiser gives none. A trigger uses it too."""
TIMES: Final = {"sales_open": "salesOpenAt", "sales_close": "salesCloseAt"}
"""The fields of a ticket type that are times, with their names in the API."""


class DefinedType(NamedTuple):
    """A ticket type. It draws from the event's own capacity, and from these quotas by slot."""

    id: int
    """0 until it is written."""
    slot: int
    name: str
    quotas: frozenset[int] = frozenset()
    description: str | None = None
    amount: int = 0
    currency: str | None = None
    min_per_booking: int = 1
    max_per_booking: int | None = None
    sales_open: When | None = None
    sales_close: When | None = None
    position: int = 0
    hidden: bool = False
    closed: bool = False
    tax_rate: int | None = None
    """As in `pricing.tax_in`. None: the organiser gave none."""

    @property
    def draws(self) -> tuple[int, ...]:
        """The capacities that it draws from: 0 is the event's own, then come the quotas by slot."""
        return (0, *(slot + 1 for slot in sorted(self.quotas)))


class DefinedQuota(NamedTuple):
    """A capacity besides the event's own: a shared one with a name, or that of one ticket type."""

    id: int
    """0 until it is written."""
    slot: int
    capacity: int
    name: str | None = None
    type_slot: int | None = None


@dataclass(frozen=True)
class Definitions:
    """The ticket types and quotas of an event, by slot."""

    types: Mapping[int, DefinedType]
    quotas: Mapping[int, DefinedQuota]
    kept: dict[Any, Any] = field(default_factory=dict, compare=False, repr=False)
    """Objects that were made from them once, such as their JSON: see `routers/fields.py`."""

    @cached_property
    def in_order(self) -> Sequence[DefinedType]:
        """The ticket types as clients see them: by position, then the oldest first."""
        return sorted(self.types.values(), key=lambda each: (each.position, each.id))

    @cached_property
    def shared(self) -> Sequence[DefinedQuota]:
        """The shared quotas, the oldest first."""
        found = [each for each in self.quotas.values() if each.name is not None]
        return sorted(found, key=lambda each: each.id)

    @cached_property
    def hides(self) -> bool:
        """Whether a ticket type is hidden."""
        return any(each.hidden for each in self.types.values())

    @cached_property
    def currency(self) -> str | None:
        """The currency of its prices, or None if all types are free."""
        return next((each.currency for each in self.types.values() if each.currency), None)

    @cached_property
    def offer(self) -> Offer:
        """The part of them that a decision needs."""
        types = (
            TicketType(
                each.id,
                each.slot,
                each.draws,
                each.amount,
                each.currency,
                each.min_per_booking,
                each.max_per_booking,
                each.sales_open and each.sales_open.at,
                each.sales_close and each.sales_close.at,
                each.hidden,
                each.closed,
                each.tax_rate or 0,
            )
            for each in self.types.values()
        )
        quotas = {each.slot: each.id for each in self.shared}
        return Offer({each.id: each for each in types}, quotas)

    @cached_property
    def are_plain(self) -> bool:
        """Whether an event without counters can have them: one free type without limits."""
        plain = DefinedType(0, 0, "")
        return not self.quotas and [
            each._replace(id=0, name="", description=None, position=0, tax_rate=None)
            for each in self.types.values()
        ] == [plain]

    def type_of(self, type_id: int) -> DefinedType:
        """Return the ticket type with this id. Raises TicketTypeNotFound."""
        for each in self.types.values():
            if each.id == type_id:
                return each
        raise TicketTypeNotFound

    def quota_of(self, quota_id: int) -> DefinedQuota:
        """Return the shared quota with this id. Raises QuotaNotFound."""
        for each in self.shared:
            if each.id == quota_id:
                return each
        raise QuotaNotFound

    def capacity_of(self, defined: DefinedType) -> int | None:
        """Return the ticket type's own capacity."""
        own = self.own_quota(defined)
        return None if own is None else own.capacity

    def own_quota(self, defined: DefinedType) -> DefinedQuota | None:
        """Return the quota that is the ticket type's own capacity."""
        for slot in defined.quotas:
            if self.quotas[slot].type_slot == defined.slot:
                return self.quotas[slot]
        return None

    def drawing(self, quota: DefinedQuota) -> Sequence[DefinedType]:
        """Return the ticket types that draw from the quota, in order."""
        return [each for each in self.in_order if quota.slot in each.quotas]

    def with_type(
        self,
        slot: int | None,
        changes: Mapping[str, Any],
        zone: str | None,
        at: str = "#",
    ) -> tuple["Definitions", int]:
        """Return them with these changes of the type in the slot, or with a new type.

        `changes` has fields of DefinedType, `capacity`, and `quotas`: ids of shared quotas. Times
        may be local to `zone`. `at` is the JSON pointer of the changes. Also returns the slot.
        Raises TooManyTicketTypes, NameTaken, CurrencyMixed, ValidationFailed.
        """
        if slot is None:
            slot = _free(self.types)
            if slot >= MAX_TYPES:
                raise TooManyTicketTypes
        before = self.types.get(slot, DefinedType(0, slot, ""))
        others = [each for each in self.types.values() if each.slot != slot]
        times, errors = resolved(TIMES, before, changes, zone, at, moves=False)
        simple = changes.keys() & DefinedType._fields - TIMES.keys() - {"quotas"}
        after = before._replace(**{name: changes[name] for name in simple}, **times)
        if after.max_per_booking is not None and after.max_per_booking < after.min_per_booking:
            errors.append(
                failure(
                    f"{at}/maxPerBooking",
                    "limits_out_of_order",
                    "`maxPerBooking` must not be below `minPerBooking`",
                )
            )
        shared, unknown = self._shared_slots(before, changes, at)
        if errors or unknown:
            raise ValidationFailed(errors=errors + unknown)
        _require_new_name(after.name, others)
        for each in others:
            if None not in {each.currency, after.currency} and each.currency != after.currency:
                raise CurrencyMixed(str(each.currency))
        quotas = dict(self.quotas)
        own = self.own_quota(before)
        capacity = changes.get("capacity", None if own is None else own.capacity)
        if own is not None:
            del quotas[own.slot]
        if capacity is not None:
            own = own or DefinedQuota(0, _free(quotas), 0, type_slot=slot)
            quotas[own.slot] = own._replace(capacity=capacity)
            shared |= {own.slot}
        after = after._replace(quotas=frozenset(shared))
        return Definitions({**self.types, slot: after}, quotas), slot

    def _shared_slots(
        self, before: DefinedType, changes: Mapping[str, Any], at: str
    ) -> tuple[set[int], list[dict[str, str]]]:
        known = {each.id: each.slot for each in self.shared}
        if "quotas" not in changes:
            return set(before.quotas) & set(known.values()), []
        return _named(changes["quotas"], known, f"{at}/quotas", "quota_unknown")

    def without_type(self, slot: int) -> "Definitions":
        """Return them without the ticket type in the slot, and its own capacity."""
        types = {each: self.types[each] for each in self.types if each != slot}
        quotas = {key: each for key, each in self.quotas.items() if each.type_slot != slot}
        return Definitions(types, quotas)

    def with_quota(
        self,
        slot: int | None,
        changes: Mapping[str, Any],
        at: str = "#",
        known: Mapping[Any, int] | None = None,
    ) -> tuple["Definitions", int]:
        """Return them with these changes of the quota in the slot, or with a new shared quota.

        `changes` has `name`, `capacity`, and `ticket_types`: keys of `known`, which has the slots
        of ticket types, by default by id. Also returns the slot. Raises TooManyQuotas, NameTaken,
        ValidationFailed.
        """
        if slot is None:
            if len(self.shared) >= MAX_QUOTAS:
                raise TooManyQuotas
            slot = _free(self.quotas)
        before = self.quotas.get(slot, DefinedQuota(0, slot, 0, ""))
        simple = changes.keys() & {"name", "capacity"}
        after = before._replace(**{name: changes[name] for name in simple})
        _require_new_name(str(after.name), [each for each in self.shared if each.slot != slot])
        types = dict(self.types)
        if "ticket_types" in changes:
            known = known or {each.id: each.slot for each in self.types.values()}
            drawing, errors = _named(
                changes["ticket_types"], known, f"{at}/ticketTypes", "ticket_type_unknown"
            )
            if errors:
                raise ValidationFailed(errors=errors)
            for each in self.types.values():
                quotas = each.quotas - {slot} | ({slot} if each.slot in drawing else set())
                types[each.slot] = each._replace(quotas=quotas)
        return Definitions(types, {**self.quotas, slot: after}), slot

    def without_quota(self, slot: int) -> "Definitions":
        """Return them without the shared quota in the slot. No type draws from it any more."""
        types = {
            key: each._replace(quotas=each.quotas - {slot}) for key, each in self.types.items()
        }
        quotas = {key: each for key, each in self.quotas.items() if key != slot}
        return Definitions(types, quotas)

    def in_zone(self, zone: str | None) -> "Definitions":
        """Return them for another time zone of the event. Local times stay the same.

        Raises ValidationFailed about `timezone`.
        """
        types = {}
        for slot, each in self.types.items():
            times, errors = resolved(TIMES, each, {}, zone, moves=True)
            if errors:
                about = f"{errors[0]['detail']}. The ticket type {each.name!r} has this time."
                raise ValidationFailed(errors=[failure("#/timezone", errors[0]["type"], about)])
            types[slot] = each._replace(**times)
        return Definitions(types, self.quotas)

    def read_anew(self, zone: str | None, now: datetime) -> "Definitions":
        """Return them with their local times to come read by the zone's present rules."""
        if zone is None:
            return self
        types = {}
        for slot, each in self.types.items():
            times: dict[str, Any] = {name: getattr(each, name) for name in TIMES}
            read: dict[str, Any] = {
                name: kept and reread(kept, zone, now) for name, kept in times.items()
            }
            types[slot] = each._replace(**read)
        return Definitions(types, self.quotas)

    def have_local_times(self, now: datetime | None = None) -> bool:
        """Whether a time is a local time; with `now`, whether one to come is."""
        times = [
            time for each in self.types.values() for time in (each.sales_open, each.sales_close)
        ]
        return any(
            time is not None and time.local is not None and (now is None or time.at > now)
            for time in times
        )

    def copied(self, original: Details, to: Details) -> "Definitions":
        """Return them for a copy of the event. Their times keep their distance from the start."""
        in_age = sorted(self.types.values(), key=lambda each: each.id)
        slots = {each.slot: slot for slot, each in enumerate(in_age)}
        quota_slots = {slot: new for new, slot in enumerate(sorted(self.quotas))}
        types = {}
        for each in in_age:
            kept: dict[str, Any] = {name: getattr(each, name) for name in TIMES}
            if to.starts is not None:
                changes = {
                    name: None if was is None else shifted(was, original, to.starts)
                    for name, was in kept.items()
                }
                kept, errors = resolved(TIMES, each, changes, to.timezone, moves=False)
                if errors:
                    raise ValidationFailed(errors=errors)
            types[slots[each.slot]] = each._replace(
                id=0,
                slot=slots[each.slot],
                quotas=frozenset(quota_slots[slot] for slot in each.quotas),
                **kept,
            )
        quotas = {
            quota_slots[slot]: each._replace(
                id=0,
                slot=quota_slots[slot],
                type_slot=None if each.type_slot is None else slots[each.type_slot],
            )
            for slot, each in self.quotas.items()
        }
        return Definitions(types, quotas)

    def counted(self, total: int, taken: Sequence[int], waiting: Sequence[int]) -> Counters:
        """Return all counters of an event of `total` places, from the places taken by each type.

        Raises CapacityBelowTaken.
        """
        sold = sum(taken)
        if sold > total:
            raise CapacityBelowTaken(total, sold)
        size = max(self.quotas, default=-1) + 1
        capacity, available = [0] * size, [0] * size
        for slot, quota in self.quotas.items():
            of = [each.slot for each in self.types.values() if slot in each.quotas]
            drawn = sum(taken[each] for each in of if each < len(taken))
            if drawn > quota.capacity:
                raise self._below(quota, drawn)
            capacity[slot], available[slot] = quota.capacity, quota.capacity - drawn
        size = max(self.types) + 1
        return Counters(
            capacity,
            available,
            [*taken[:size], *[0] * (size - len(taken))],
            [*waiting[:size], *[0] * (size - len(waiting))],
        )

    def _below(self, quota: DefinedQuota, taken: int) -> CapacityBelowTaken:
        if quota.type_slot is None:
            return CapacityBelowTaken(quota.capacity, taken, quota_id=quota.id or None)
        of = self.types[quota.type_slot].id
        return CapacityBelowTaken(quota.capacity, taken, ticket_type_id=of or None)


def defined(
    types: Sequence[Mapping[str, Any]],
    quotas: Sequence[Mapping[str, Any]],
    zone: str | None,
) -> Definitions:
    """Return the definitions of a new event. Quotas name their ticket types.

    Raises NameTaken, CurrencyMixed, ValidationFailed.
    """
    made = Definitions({}, {})
    for index, changes in enumerate(types or [{"name": FIRST_TYPE}]):
        made, _ = made.with_type(None, changes, zone, f"#/ticketTypes/{index}")
    named = {each.name: slot for slot, each in made.types.items()}
    for index, changes in enumerate(quotas):
        made, _ = made.with_quota(None, changes, f"#/quotas/{index}", named)
    return made


_UNKNOWN: Final = {
    "quota_unknown": "The event has no such shared quota",
    "ticket_type_unknown": "The event has no such ticket type",
}


def _free(slots: Collection[int]) -> int:
    return next(slot for slot in range(len(slots) + 1) if slot not in slots)


def _named(
    asked: Sequence[Any], known: Mapping[Any, int], at: str, code: str
) -> tuple[set[int], list[dict[str, str]]]:
    """Return the slots of these, and an error for each that is not known."""
    errors = [
        failure(f"{at}/{index}", code, _UNKNOWN[code])
        for index, each in enumerate(asked)
        if each not in known
    ]
    return {known[each] for each in asked if each in known}, errors


def _require_new_name(name: str, others: Collection[DefinedType | DefinedQuota]) -> None:
    if any(name.casefold() == str(each.name).casefold() for each in others):
        raise NameTaken(name)
