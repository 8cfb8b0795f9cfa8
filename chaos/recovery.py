"""How long a failover took, and how much of it was the service's."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from typing import Final

from chaos.history import Operation

OURS: Final = 1.0
"""Seconds after which the service must book, once its cluster commits again."""
SETTLED: Final = 5.0
"""Seconds after that in which each unknown outcome must be known, to a client that resends."""


@dataclass(frozen=True, slots=True)
class Recovery:
    """Times of a failover, in seconds."""

    gap: float
    """Without a success."""
    ours: float
    """Of it, after the cluster committed again."""
    settled: float
    """After that, until the last unknown outcome was known; 0 if there was none."""

    @property
    def clusters(self) -> float:
        """Of the gap, before the cluster committed again."""
        return self.gap - self.ours

    def line(self) -> str:
        """Return them as a part of a line."""
        return (
            f"gap {self.gap:5.2f} s = cluster {self.clusters:5.2f} + ours {self.ours:4.2f},"
            f" settled {self.settled:4.2f}"
        )

    @property
    def wrong(self) -> list[str]:
        """What took too long."""
        wrong = []
        if self.ours > OURS:
            wrong.append(f"it booked only {self.ours:.2f} s after the cluster did")
        if self.settled > SETTLED:
            wrong.append(f"an unknown outcome was known only after {self.settled:.2f} s")
        return wrong


def measured(
    operations: Sequence[Operation], unsure: Sequence[Operation], recovered_at: float
) -> Recovery:
    """Return the times, of all operations and of those with a first response that was unsure."""
    ends = sorted(
        each.end
        for each in operations
        if each.verb != "read" and each.answer is not None and each.answer["status"] < 300  # noqa: PLR2004 - HTTP
    )
    before = max((end for end in ends if end <= recovered_at), default=recovered_at)
    after = min((end for end in ends if end > recovered_at), default=inf)
    late = [each.end - recovered_at for each in unsure if each.start <= recovered_at]
    return Recovery(
        # Or an earlier one, if the cluster committed for a moment in between.
        gap=max(after - before, *(b - a for a, b in itertools.pairwise([*ends, before]))),
        ours=after - recovered_at,
        settled=max(0.0, *late, 0.0),
    )
