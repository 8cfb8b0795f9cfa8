"""What the examples of decisions share: people, an event with types, and requests."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Final
from uuid import UUID

from tests.sale.unit.rows import Rows
from ticketing.sale.inventory.codes import Code
from ticketing.sale.inventory.kinds import InventoryRequest
from ticketing.sale.inventory.model import Counters, Outcome, Snapshot
from ticketing.sale.inventory.offer import Offer, TicketType
from ticketing.sale.inventory.terms import Terms

EVENT: Final = 1
NOW: Final = datetime(2026, 1, 1, tzinfo=UTC)
MINUTE: Final = timedelta(minutes=1)
ADA, BOB, CLEO, DAN, EVE, FAY = (UUID(int=number) for number in range(1, 7))
ids = count(9000, -1)
"""Of bookings. Nothing may rest on their order."""


def event(
    *types: TicketType,
    total: int,
    quotas: Sequence[int] = (),
    terms: Terms | None = None,
    codes: Sequence[Code] = (),
) -> Rows:
    """An event whose first booking needs counters."""
    offer = Offer({each.id: each for each in types}, {0: 70, 1: 71}, is_plain=False)
    counters = Counters([*quotas], [*quotas], [0] * len(types), [0] * len(types))
    snapshot = Snapshot(EVENT, 1, total, total, 0, terms or Terms(), offer, counters)
    known = {each.id: each for each in codes}
    return Rows(snapshot, NOW, lambda number: UUID(int=1_000_000 + number), codes=known)


def change(rows: Rows, terms: Terms) -> None:
    rows.snapshot = rows.snapshot._replace(terms=terms)


def revise(rows: Rows, kind: TicketType) -> None:
    offer = rows.snapshot.offer
    rows.snapshot = rows.snapshot._replace(
        offer=offer._replace(types={**offer.types, kind.id: kind})
    )


def done(rows: Rows, *requests: InventoryRequest) -> list[Outcome]:
    """Return the outcomes of one batch."""
    outcomes = rows.commit(requests).outcomes
    rows.check()
    return outcomes
