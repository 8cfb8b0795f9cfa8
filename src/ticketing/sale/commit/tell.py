"""Metrics and logs of what is committed."""

from collections import Counter
from collections.abc import Sequence
from typing import Final

import prometheus_client

from ticketing.ops import logs, metrics
from ticketing.sale.commit.commit import AttributedFact

BOOKINGS: Final = prometheus_client.Counter(
    "ticketing_bookings_total",
    "Committed changes of bookings: booked, waiting, cancelled, promoted, reduced.",
    ["fact"],
)


def tell(facts: Sequence[AttributedFact]) -> None:
    """Count and log these facts, in order."""
    if metrics.is_shared:
        for name, count in Counter([fact.name for fact in facts]).items():
            BOOKINGS.labels(name).inc(count)
    for fact in facts:
        logs.info(
            f"booking.{fact.name}",
            {
                "bookingId": fact.booking.id,
                "eventId": fact.booking.event_id,
                "userId": fact.booking.user_id,
                "requestId": fact.origin.request_id,
            },
        )
