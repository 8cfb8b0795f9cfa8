"""The messages of live streams, and how they are read."""

import asyncio
from collections.abc import Mapping
from typing import Any, Final

import orjson

from ticketing.errors import EventNotFound
from ticketing.feed.live import message
from ticketing.feed.repositories.live import Followed, FollowedRepository, Key
from ticketing.sale.inventory.offer import left
from ticketing.sale.repositories.events import EventRepository
from ticketing.sale.routers.ticket_type_fields import visible_quotas, visible_types
from ticketing.sale.rows import Event

Seen = tuple[int, bool]
"""The id of an event, and whether hidden ticket types are shown, because its team asks."""

WHOLE: Final = "availability"
CHANGE: Final = "change"
BOOKING: Final = "booking"


def document(event: Event, *, team: bool) -> dict[str, Any]:
    """Return the numbers of the event, by their names in EventOut."""
    available, taken, waiting = event.available, event.taken, event.waiting
    of = event.definitions
    return {
        "eventId": event.id,
        "revision": event.terms.revision,
        "version": event.version,
        "at": event.read_at,
        "state": event.state,
        "totalTickets": event.total_tickets,
        "availableTickets": event.available_tickets,
        "waitingListCount": event.waiting_list_count,
        "ticketTypes": [
            {
                "id": each.id,
                "available": left(each.draws, available),
                "taken": taken[each.slot],
                "waiting": waiting[each.slot],
            }
            for each in visible_types(of, team=team)
        ],
        "quotas": [
            {"id": each.id, "available": available[each.slot + 1]}
            for each in visible_quotas(of, team=team)
        ],
    }


class Availability:
    """Reads and renders the numbers of events."""

    def __init__(self, events: EventRepository) -> None:
        """Read from `events`."""
        self._events = events

    async def read(self, known: Mapping[Seen, "Shown"]) -> Mapping[Seen, "Shown | None"]:
        """Return all of them as they are now. The reads are one query."""
        ids = list(dict.fromkeys(event_id for event_id, _ in known))
        read = await asyncio.gather(*map(self._events.get, ids), return_exceptions=True)
        found: dict[int, Event | None] = {}
        for event_id, outcome in zip(ids, read, strict=True):
            if isinstance(outcome, BaseException) and not isinstance(outcome, EventNotFound):
                raise outcome
            found[event_id] = None if isinstance(outcome, BaseException) else outcome
        return {
            (event_id, team): None if (event := found[event_id]) is None else Shown(event, team)
            for event_id, team in known
        }

    def id(self, state: "Shown") -> str:
        """Return the ETag without its quotes."""
        return state.event.etag[1:-1]

    def whole(self, state: "Shown") -> bytes:
        """Return all numbers."""
        return message(WHOLE, _json(state.document))

    def change(self, before: "Shown", state: "Shown") -> bytes | None:
        """Return the numbers that have changed, or None if more than numbers has."""
        new, old = state.document, before.document
        if new["revision"] != old["revision"]:
            return None
        changed = {name: value for name, value in new.items() if name not in _ALWAYS}
        for of in ("ticketTypes", "quotas"):
            changed[of] = [each for each, was in zip(new[of], old[of], strict=True) if each != was]
        return message(CHANGE, _json(changed))


_ALWAYS: Final = {"eventId", "revision", "totalTickets"}
"""What only a new revision changes."""


class Shown:
    """An event as its listeners see it. The document is made when it is needed."""

    __slots__ = ("_document", "_team", "event")

    def __init__(self, event: Event, team: bool) -> None:  # noqa: FBT001 - of a pair
        """Show `event`, to its `team` or to others."""
        self.event = event
        self._team = team
        self._document: dict[str, Any] | None = None

    @property
    def document(self) -> dict[str, Any]:
        """The numbers of the event."""
        if self._document is None:
            self._document = document(self.event, team=self._team)
        return self._document


class Following:
    """Reads and renders the bookings that somebody follows."""

    def __init__(self, bookings: FollowedRepository) -> None:
        """Read from `bookings`."""
        self._bookings = bookings

    async def read(self, known: Mapping[Key, Followed]) -> Mapping[Key, Followed | None]:
        """Return those whose event has changed."""
        return await self._bookings.changed(known)

    def id(self, state: Followed) -> str:
        """Return an id that differs for all that is shown."""
        ends = "" if state.expires_at is None else f"-{state.expires_at.timestamp():.6f}"
        return f"{state.status}-{state.quantity}-{state.position or 0}{ends}"

    def whole(self, state: Followed) -> bytes:
        """Return the booking, without its ids, which the client knows."""
        shown = state._asdict()
        shown["expiresAt"] = shown.pop("expires_at")
        del shown["version"]
        return message(BOOKING, _json(shown))

    def change(self, before: Followed, state: Followed) -> bytes | None:
        """Return None: it is always sent as a whole."""
        del before, state
        return None


def _json(shown: Mapping[str, Any]) -> bytes:
    return orjson.dumps(shown, default=str, option=orjson.OPT_UTC_Z)
