"""All decisions about any offer, compared with a model that serves one request at a time."""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from itertools import count
from typing import NamedTuple
from uuid import UUID

import pytest
from hypothesis import event, given, note, settings
from hypothesis import strategies as st

from tests.sale.unit.rows import Rows
from tests.sale.unit.stories import (
    ASKED,
    Ask,
    Story,
    beginnings,
    seen,
    small_batches,
    stories,
    tell,
)
from ticketing.sale.inventory.decision import Decision
from ticketing.sale.inventory.kinds import KINDS, InventoryRequest


def test_every_kind_of_request_is_asked() -> None:
    assert set(ASKED) == KINDS.keys()


@pytest.mark.usefixtures("unmeasured")
@settings(max_examples=2 * settings().max_examples, deadline=None)
@given(stories)
def test_decisions_about_batches_equal_the_model_that_serves_one_request_at_a_time(
    story: Story,
) -> None:
    tell(story)


@pytest.mark.usefixtures("unmeasured")
@settings(max_examples=2 * settings().max_examples, deadline=None)
@given(beginnings, small_batches, small_batches, st.sampled_from([0, 0, 30, 60, 120]))
def test_decisions_from_one_snapshot_may_be_written_in_any_order(
    beginning: Story, ours: list[Ask], theirs: list[Ask], later: int
) -> None:
    told = tell(beginning)
    now = told.rows.at
    one = Asked(told.make(ours), 1, now)
    other = Asked(told.make(theirs), 2, now + timedelta(seconds=later))
    note(f"{one}\n{other}")
    forth, back = told.rows.copy(), told.rows.copy()
    written = [write_both(forth, one, other), write_both(back, other, one)]
    event(f"allowed in {sum(written)} orders")
    for each in {type(each).__name__ for each in (*one.requests, *other.requests)}:
        event(f"{each} allowed in {sum(written)} orders")
    if all(written):
        assert forth.snapshot == back.snapshot
        assert forth.bookings == back.bookings
        assert forth.tickets == back.tickets


class Asked(NamedTuple):
    """The requests of a process, which numbers its tickets in a series of its own."""

    requests: Sequence[InventoryRequest]
    series: int
    at: datetime
    """When the process decides."""

    def new_id(self) -> Callable[[], UUID]:
        numbers = count(10_000_000 * self.series)
        return lambda: UUID(int=next(numbers))

    def decided(self, rows: Rows) -> Decision:
        """Decide, and once more with all active bookings if a constraint refuses."""
        rows.at = self.at
        decision = rows.decide(self.requests, new_id=self.new_id())
        if rows.refuses(decision):
            decision = rows.decide(self.requests, all_ask=True, new_id=self.new_id())
        return decision


def write_both(rows: Rows, theirs: Asked, ours: Asked) -> bool:
    """Decide both from one snapshot, write theirs, and then ours if this is allowed.

    Return whether it was.
    """
    first, second = theirs.decided(rows), ours.decided(rows)
    needs = second.needs
    assert needs is None or rows.snapshot.waiting == second.after.waiting == 0
    rows.write(first)
    now = rows.snapshot
    available = [now.available, *(now.counters.available if now.counters else ())]
    if needs is None or now.waiting or second.is_empty:
        return False
    if any(left < needed for left, needed in zip(available, needs, strict=True)):
        return False
    if rows.refuses(second):
        return False
    if now.next_expiry is not None and now.next_expiry <= ours.at:
        # Decided in turn, it would end a hold of the other one first.
        rows.write(second)
        rows.check()
        return True
    # A refused request was right when it was read, and wrote nothing.
    by = sorted({fact.by for fact in second.facts if fact.by is not None})
    done = [ours.requests[index] for index in by]
    rows.at = ours.at
    in_turn = rows.decide(done, all_ask=True, new_id=ours.new_id())
    outcomes = [second.outcomes[index] for index in by]
    assert [seen(each) for each in in_turn.outcomes] == [seen(each) for each in outcomes]
    assert in_turn.inserts == second.inserts
    assert in_turn.changes == second.changes
    assert in_turn.issued == second.issued
    assert in_turn.voided == second.voided
    assert (in_turn.taken, in_turn.joined) == (second.taken, second.joined)
    assert in_turn.counted == second.counted
    rows.write(second)
    rows.check()
    return True
