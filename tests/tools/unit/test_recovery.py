"""What a round with a failover asserts."""

from math import inf

import pytest
from chaos.__main__ import WAYS, plan_cluster
from chaos.failovers import FAILOVERS
from chaos.history import Operation
from chaos.recovery import measured
from chaos.shared import acknowledged


def booked(start: float, end: float, status: int = 201, booking: str = "b") -> Operation:
    answer = {"status": status, "became": "booked", "id": booking}
    return Operation("book", 1, "u", start, end, answer)


def test_a_gap_is_the_clusters_until_it_commits_and_then_ours() -> None:
    found = measured([booked(0, 10), booked(11, 34.5), booked(34, 35)], [], 34.0)
    assert (found.gap, found.clusters, found.ours) == (24.5, 24.0, 0.5)
    assert found.wrong == []


def test_refusals_and_reads_do_not_end_a_gap() -> None:
    read = Operation("read", 1, "", 34, 34.1, {"status": 200})
    found = measured([booked(0, 10), booked(34, 34.2, 409), read, booked(34, 36)], [], 34.0)
    assert found.ours == 2.0
    assert found.wrong == ["it booked only 2.00 s after the cluster did"]


def test_a_service_that_never_books_again_fails_the_round() -> None:
    found = measured([booked(0, 10)], [], 34.0)
    assert found.ours == inf
    assert found.wrong == ["it booked only inf s after the cluster did"]


def test_each_unknown_outcome_must_be_known_within_five_seconds() -> None:
    before, late, after = booked(30, 36), booked(20, 39.5), booked(35, 45)
    soon = booked(34, 34.5)
    assert measured([booked(0, 10), soon], [before, after], 34.0).settled == 2.0
    found = measured([booked(0, 10), soon], [before, late], 34.0)
    assert found.wrong == ["an unknown outcome was known only after 5.50 s"]
    never = Operation("book", 1, "u", 20.0)
    assert measured([booked(0, 10), soon], [never], 34.0).settled == inf


def test_webhooks_must_tell_what_was_acknowledged_and_nothing_else() -> None:
    read = Operation("read", 1, "", 0, 1, {"status": 200})
    unknown = Operation("book", 1, "u", 20.0)
    operations = [booked(0, 1, booking="a"), booked(1, 2, 409, "c"), read, unknown]
    assert acknowledged(operations) == {("booking.booked", "a")}


@pytest.mark.parametrize("faults", [1, 3, 8])
def test_a_run_has_each_fault_with_each_way_to_the_primary(faults: int) -> None:
    names = list(FAILOVERS)[:faults]
    planned = plan_cluster(names, list(WAYS.values()), 3 * faults)
    assert {(each.faults[0], each.kind) for each in planned} == {
        (name, kind) for name in names for kind in WAYS.values()
    }
    assert all(each.keyed for each in planned)
