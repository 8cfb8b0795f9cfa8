"""Changes of the ticket types and quotas of an event. Each is one transaction."""

from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeAlias

import orjson
from pydantic.alias_generators import to_camel
from sqlalchemy.ext.asyncio import AsyncEngine

from ticketing.db.clock import DatabaseClock
from ticketing.db.facts import Origin, recorded
from ticketing.db.statements import Driver, Statement
from ticketing.errors import CurrencyFixed, LastTicketType, PreconditionFailed, TicketTypeSold
from ticketing.ops import logs
from ticketing.sale.commit.commit import AttributedFact
from ticketing.sale.commit.tell import tell
from ticketing.sale.definitions import TIMES, DefinedQuota, DefinedType, Definitions
from ticketing.sale.inventory.terms import ALLOWED
from ticketing.sale.repositories.definitions import count, define, give_counters
from ticketing.sale.repositories.events import lock, locked, read
from ticketing.sale.repositories.revisions import promote, require
from ticketing.sale.rows import Event
from ticketing.sale.said import as_json
from ticketing.web.keyed import KeyedRequest
from ticketing.web.repositories.stored_responses import once

REVISE: Final = Statement(
    f"""
    WITH revised AS (
        UPDATE events SET revision = revision + 1 WHERE id = :event RETURNING id
    ), {
        recorded(
            "CAST(:action AS text)",
            of="revised",
            event="id",
            details="CAST(:details AS jsonb)",
            whole=":whole",
        )
    }
    SELECT id FROM revised
    """  # noqa: S608 - our own text
)
# A booking without a type is of the first type, unless it has tickets of several.
EVER_BOOKED: Final = Statement(
    """
    SELECT 1 FROM bookings
    WHERE event_id = :event AND (
        ticket_type_id = :type
        OR ticket_type_id IS NULL AND coalesce(
            (
                SELECT bool_or(tickets.ticket_type_id = :type) FROM tickets
                WHERE tickets.booking_id = bookings.id
            ),
            (
                SELECT bool_or(CAST(place ->> 0 AS bigint) = :type)
                FROM jsonb_array_elements(places) AS of(place)
            ),
            CAST(:is_first AS boolean)
        )
    )
    LIMIT 1
    """
)
SOLD_IN_ANOTHER: Final = Statement(
    "SELECT currency FROM bookings WHERE event_id = :event AND currency <> :currency LIMIT 1"
)


_About: TypeAlias = tuple[str, Mapping[str, object], Mapping[str, object]]


class TicketTypeRepository:
    """Changes ticket types and quotas. Each change locks the event's row, and counts anew."""

    def __init__(self, engine: AsyncEngine, clock: DatabaseClock) -> None:
        """Work on `engine`. `clock` gives the time of promotions."""
        self._engine = engine
        self._clock = clock

    async def add_type(
        self,
        event_id: int,
        changes: Mapping[str, Any],
        origin: Origin,
        keyed: KeyedRequest | None = None,
        *,
        if_revision: int | None = None,
    ) -> tuple[Event, int]:
        """Add a ticket type to the event. Return the event, and the slot of the type.

        Raises the errors of `Definitions.with_type`, and EventNotFound, PreconditionFailed,
        EventState, CurrencyFixed, CapacityBelowTaken, Busy. With `keyed`, also those of `once`.
        """
        async with once(self._engine, keyed) as (connection, keep), connection.transaction():
            before = await lock(connection, event_id)
            _require_change(before, if_revision)
            after, slot = before.definitions.with_type(None, changes, before.details.timezone)
            now, facts = await self._write(connection, before, after, origin, type_slot=slot)
            await keep((now, slot))
        tell(facts)
        _log("ticket_type.created", now, ticketTypeId=now.definitions.types[slot].id)
        return now, slot

    async def revise_type(
        self,
        event_id: int,
        type_id: int,
        changes: Mapping[str, Any],
        origin: Origin,
        *,
        if_revision: int | None,
    ) -> tuple[Event, int]:
        """Change the ticket type. Return the event, and the slot of the type.

        Raises the errors of `add_type` without `keyed`, and TicketTypeNotFound.
        """
        facts: Sequence[AttributedFact] = ()
        async with locked(self._engine, event_id) as (connection, before):
            slot = before.definitions.type_of(type_id).slot
            _require_change(before, if_revision)
            after, _ = before.definitions.with_type(slot, changes, before.details.timezone)
            now = before
            if after != before.definitions:
                now, facts = await self._write(connection, before, after, origin, type_slot=slot)
        tell(facts)
        if now is not before:
            _log("ticket_type.revised", now, ticketTypeId=type_id)
        return now, slot

    async def remove_type(
        self, event_id: int, type_id: int, origin: Origin, *, if_revision: int | None
    ) -> None:
        """Delete a ticket type that nobody ever booked or waited for.

        Raises EventNotFound, TicketTypeNotFound, PreconditionFailed, EventState, LastTicketType,
        TicketTypeSold, Busy.
        """
        async with locked(self._engine, event_id) as (connection, before):
            known = before.definitions
            of = known.type_of(type_id)
            _require_change(before, if_revision)
            if len(known.types) == 1:
                raise LastTicketType
            is_first = type_id == min(each.id for each in known.types.values())
            if (
                before.taken[of.slot]
                or before.waiting[of.slot]
                or await EVER_BOOKED.fetch(
                    connection, event=event_id, type=type_id, is_first=is_first
                )
            ):
                raise TicketTypeSold
            after = known.without_type(of.slot)
            _, facts = await self._write(connection, before, after, origin, type_slot=of.slot)
        tell(facts)
        _log("ticket_type.deleted", before, ticketTypeId=type_id)

    async def add_quota(
        self,
        event_id: int,
        changes: Mapping[str, Any],
        origin: Origin,
        keyed: KeyedRequest | None = None,
        *,
        if_revision: int | None = None,
    ) -> tuple[Event, int]:
        """Add a shared quota to the event. Return the event, and the slot of the quota.

        Raises the errors of `Definitions.with_quota`, and EventNotFound, PreconditionFailed,
        EventState, CapacityBelowTaken, Busy. With `keyed`, also those of `once`.
        """
        async with once(self._engine, keyed) as (connection, keep), connection.transaction():
            before = await lock(connection, event_id)
            _require_change(before, if_revision)
            after, slot = before.definitions.with_quota(None, changes)
            now, facts = await self._write(connection, before, after, origin, quota_slot=slot)
            await keep((now, slot))
        tell(facts)
        _log("quota.created", now, quotaId=now.definitions.quotas[slot].id)
        return now, slot

    async def revise_quota(
        self,
        event_id: int,
        quota_id: int,
        changes: Mapping[str, Any],
        origin: Origin,
        *,
        if_revision: int | None,
    ) -> tuple[Event, int]:
        """Change the shared quota. Return the event, and the slot of the quota.

        Raises the errors of `add_quota` without `keyed`, and QuotaNotFound.
        """
        facts: Sequence[AttributedFact] = ()
        async with locked(self._engine, event_id) as (connection, before):
            slot = before.definitions.quota_of(quota_id).slot
            _require_change(before, if_revision)
            after, _ = before.definitions.with_quota(slot, changes)
            now = before
            if after != before.definitions:
                now, facts = await self._write(connection, before, after, origin, quota_slot=slot)
        tell(facts)
        if now is not before:
            _log("quota.revised", now, quotaId=quota_id)
        return now, slot

    async def remove_quota(
        self, event_id: int, quota_id: int, origin: Origin, *, if_revision: int | None
    ) -> None:
        """Delete the shared quota. It then limits its ticket types no longer.

        Raises EventNotFound, QuotaNotFound, PreconditionFailed, EventState, Busy.
        """
        async with locked(self._engine, event_id) as (connection, before):
            slot = before.definitions.quota_of(quota_id).slot
            _require_change(before, if_revision)
            after = before.definitions.without_quota(slot)
            _, facts = await self._write(connection, before, after, origin, quota_slot=slot)
        tell(facts)
        _log("quota.deleted", before, quotaId=quota_id)

    async def _write(  # noqa: PLR0913 - two of them are alternatives
        self,
        connection: Driver,
        before: Event,
        after: Definitions,
        origin: Origin,
        *,
        type_slot: int | None = None,
        quota_slot: int | None = None,
    ) -> tuple[Event, Sequence[AttributedFact]]:
        """Write the definitions, count, and promote. Return the event, and the promotions."""
        await _require_currency(connection, before, after)
        has_counters = before.counters is not None or not after.are_plain
        if has_counters and before.counters is None:
            await give_counters(connection, before.id)
        await define(connection, before.id, before.definitions, after)
        if has_counters:
            total = before.total_tickets
            counters = after.counted(total, before.taken, before.waiting)
            await count(connection, before.id, total, counters)
        # Read again, because a new type or quota has its id only now.
        after = (await read(connection, before.id)).definitions
        if type_slot is not None:
            action, details, whole = _about_type(before.definitions, after, type_slot)
        else:
            action, details, whole = _about_quota(before.definitions, after, quota_slot or 0)
        await REVISE.fetch(
            connection,
            event=before.id,
            action=action,
            details=orjson.dumps(details, default=str).decode(),
            whole=as_json(whole),
            **origin._asdict(),
        )
        facts = await promote(connection, self._engine, self._clock, before.id, origin)
        return await read(connection, before.id), facts


def _require_change(before: Event, if_revision: int | None) -> None:
    if if_revision not in {None, before.terms.revision}:
        raise PreconditionFailed
    require(before, allowed=ALLOWED[before.state].edit)


async def _require_currency(connection: Driver, before: Event, after: Definitions) -> None:
    """Raise CurrencyFixed if tickets were sold in another currency than the prices have now."""
    old = before.definitions.currency
    if after.currency in {None, old}:
        return
    for each in before.definitions.types.values():
        if each.currency and (before.taken[each.slot] or before.waiting[each.slot]):
            raise CurrencyFixed(each.currency)
    rows = await SOLD_IN_ANOTHER.fetch(connection, event=before.id, currency=after.currency)
    if rows:
        raise CurrencyFixed(rows[0]["currency"])


def _about_type(before: Definitions, after: Definitions, slot: int) -> _About:
    """Return the action, the details and the whole of the trail record about a ticket type."""
    was, now = before.types.get(slot), after.types.get(slot)
    default = _type_said(after, DefinedType(0, slot, ""))
    old = default if was is None else _type_said(before, was)
    new = {} if now is None else _type_said(after, now)
    type_id = (now or was or DefinedType(0, slot, "")).id
    named = {"ticketTypeId": type_id}
    action, details = _about("ticket_type", named, old, new, is_new=was is None)
    return action, details, {"id": type_id, **(new or old)}


def _about_quota(before: Definitions, after: Definitions, slot: int) -> _About:
    """Return the action, the details and the whole of the trail record about a shared quota."""
    was, now = before.quotas.get(slot), after.quotas.get(slot)
    old = {} if was is None else _quota_said(before, was)
    new = {} if now is None else _quota_said(after, now)
    quota_id = (now or was or DefinedQuota(0, slot, 0)).id
    named = {"quotaId": quota_id}
    action, details = _about("quota", named, old, new, is_new=was is None)
    return action, details, {"id": quota_id, **(new or old)}


def _about(
    kind: str,
    named: Mapping[str, object],
    old: Mapping[str, object],
    new: Mapping[str, object],
    *,
    is_new: bool,
) -> tuple[str, Mapping[str, object]]:
    if not new:
        return f"{kind}.deleted", {**named, "name": old["name"]}
    changed = {name: to for name, to in new.items() if name not in old or old[name] != to}
    if is_new:
        return f"{kind}.created", {**named, **changed}
    told = {name: {"from": old[name], "to": to} for name, to in changed.items()}
    return f"{kind}.revised", {**named, **told}


def _type_said(of: Definitions, each: DefinedType) -> dict[str, object]:
    fields = each._asdict()
    times = {field: fields.pop(name) for name, field in TIMES.items()}
    price = {name: fields.pop(name) for name in ("amount", "currency")}
    del fields["id"], fields["slot"]
    return {
        **{to_camel(name): value for name, value in fields.items()},
        **{field: given and given.at for field, given in times.items()},
        "price": price,
        "capacity": of.capacity_of(each),
        "quotas": [quota.id for quota in of.shared if quota.slot in each.quotas],
    }


def _quota_said(of: Definitions, quota: DefinedQuota) -> dict[str, object]:
    return {
        "name": quota.name,
        "capacity": quota.capacity,
        "ticketTypes": [each.id for each in of.drawing(quota)],
    }


def _log(event: str, of: Event, **named: int) -> None:
    logs.log.info(event, eventId=of.id, **named)
