"""What is on sale in a round: events of one place per booking, of groups, and of ticket types."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from chaos.history import ONE_PLACE, Asked
from chaos.rig import Person, Rig

NAME: Final = "An event"
OFFERS: Final = {"mode": "offer", "offerMinutes": 1}
"""An offer ends only after the round, unless the team gives it an earlier end."""
CODE: Final = "balcony"
WITHOUT_LIMIT: Final = {"maxTicketsPerPerson": 100}


@dataclass(frozen=True, slots=True)
class Offer:
    """An event, and what people ask for there."""

    event: int
    asked: Sequence[Asked] = (ONE_PLACE,)
    most: int = 1
    """How many active bookings a person may have."""

    opened: int | None = None
    """The id of a hidden ticket type, which is booked with CODE."""
    has_holds: bool = True
    """Whether people hold places. Earlier versions do not know holds."""

    @property
    def is_plain(self) -> bool:
        """Whether every booking is of one place, so that every version of the service knows it."""
        return self.asked == (ONE_PLACE,)


async def plain(rig: Rig, organiser: Person, chance: random.Random) -> Offer:
    """Make an event where every booking is of one place."""
    return Offer(await rig.organise(organiser, chance.randint(1, 5)), has_holds=False)


async def held(rig: Rig, organiser: Person, chance: random.Random) -> Offer:
    """Make an event where every booking and every hold is of one place."""
    return Offer(await rig.organise(organiser, chance.randint(1, 5)))


async def offering(rig: Rig, organiser: Person, chance: random.Random) -> Offer:
    """Make an event that offers its places to those who wait."""
    event = {"name": NAME, "capacity": chance.randint(1, 4), "waitingList": OFFERS}
    return Offer((await rig.make(organiser, event))["id"])


async def for_groups(rig: Rig, organiser: Person, chance: random.Random) -> Offer:
    """Make an event with one ticket type, which gets counters when the first group waits."""
    most = chance.randint(1, 2)
    made = await rig.make(
        organiser,
        {
            "name": NAME,
            "capacity": chance.randint(2, 7),
            "maxBookingsPerPerson": most,
            **WITHOUT_LIMIT,
            **_waiting(chance),
        },
    )
    return Offer(made["id"], [((None, quantity),) for quantity in (1, 1, 2, 2, 3)], most)


async def with_types(rig: Rig, organiser: Person, chance: random.Random) -> Offer:
    """Make an event with two ticket types that share a quota. One also has its own.

    That one may be hidden, with a code that opens it.
    """
    hall, most = chance.randint(3, 6), chance.choice((1, 1, 2))
    is_hidden = chance.random() < 0.5  # noqa: PLR2004 - even odds
    balcony = {"name": "B", "capacity": chance.randint(1, 3), "hidden": is_hidden}
    made = await rig.make(
        organiser,
        {
            "name": NAME,
            "capacity": hall + chance.randint(0, 1),
            "ticketTypes": [{"name": "A"}, balcony],
            "quotas": [{"name": "Hall", "capacity": hall, "ticketTypes": ["A", "B"]}],
            "maxBookingsPerPerson": most,
            **WITHOUT_LIMIT,
            **_waiting(chance),
        },
    )
    ids = {each["name"]: each["id"] for each in made["ticketTypes"]}
    first, second = ids["A"], ids["B"]
    if is_hidden:
        code = {"kind": "access", "codes": [CODE], "ticketTypes": [second], "maxUses": 1_000_000}
        answer = await rig.ask("POST", f"/api/events/{made['id']}/codes", code, organiser.token)
        if answer.status != 201:  # noqa: PLR2004 - HTTP
            raise RuntimeError(f"no code was made: {answer.status} {answer.body}")
    alone: list[Asked] = [((kind, n),) for kind in (first, second) for n in (1, 1, 2, 3)]
    asked = [*alone, ((first, 1), (second, 1)), ((second, 1), (first, 2))]
    return Offer(made["id"], asked, most, opened=second if is_hidden else None)


PLAIN: Final = (plain,) * 6
"""For rounds with an earlier version, which knows nothing else."""
ALL: Final = (plain, held, offering, for_groups, with_types, with_types)


def _waiting(chance: random.Random) -> dict[str, Any]:
    return {"waitingList": OFFERS} if chance.random() < 0.5 else {}  # noqa: PLR2004 - even odds


def body(offer: Offer, lines: Asked) -> dict[str, Any]:
    """Return what a request to book these lines sends besides event and person."""
    if offer.is_plain:
        return {}
    if lines[0][0] is None:
        return {"quantity": lines[0][1]}
    sent: dict[str, Any] = {"lines": [{"ticketTypeId": kind, "quantity": n} for kind, n in lines]}
    if offer.opened is not None and offer.opened in dict(lines):
        sent["code"] = CODE
    return sent
