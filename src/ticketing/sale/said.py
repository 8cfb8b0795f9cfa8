"""Events as trail records have them: what changed, and the whole. No I/O."""

from collections.abc import Mapping

import orjson
from pydantic.alias_generators import to_camel

from ticketing.sale.details import TIMES, Details
from ticketing.sale.rows import Event


def said(now: Event) -> dict[str, object]:
    """Return everything about the event that can be changed, by the API's names of fields."""
    return fields(now.details, now.total_tickets, now.terms.status, paused=now.terms.paused)


def whole(now: Event) -> dict[str, object]:
    """Return the whole event."""
    return {"id": now.id, "organiserId": now.organiser_id, **said(now)}


def fields(details: Details, capacity: int, status: str, *, paused: bool) -> dict[str, object]:
    """Return these properties of an event by the API's names of fields."""
    values = details._asdict()
    times = {field: values.pop(name) for name, field in TIMES.items() if "/" not in field}
    for name in ("refund_until", "waiting_list_mode", "offer_minutes", "group_patience_minutes"):
        del values[name]
    refunds = details.refunds
    values["refund_policy"] = None if refunds is None else refunds.document()
    return {
        **{to_camel(name): value for name, value in values.items()},
        "waitingList": details.waiting_list,
        **{field: None if given is None else given.at for field, given in times.items()},
        "capacity": capacity,
        "status": status,
        "paused": paused,
    }


def as_json(document: Mapping[str, object]) -> str:
    """Return the JSON that a trail record stores."""
    return orjson.dumps(document, default=str, option=orjson.OPT_UTC_Z).decode()
