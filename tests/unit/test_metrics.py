"""How the numbers of several processes become one."""

import os
import subprocess
import sys
from pathlib import Path

import orjson
from prometheus_client import CollectorRegistry

from ticketing import metrics
from ticketing.exposition import Exposition, _is_alive
from ticketing.metrics import Counts


def shown(folder: Path, name: str, **labels: str) -> float | None:
    registry = CollectorRegistry()
    registry.register(Exposition(folder))
    return registry.get_sample_value(name, labels)


def files(folder: Path) -> list[Path]:
    return list(folder.iterdir())


def ended(folder: Path) -> None:
    """Let what is in the folder be by a process that is no more."""
    gone = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True
    )
    pid = int(gone.stdout)
    for file in folder.glob("*.json"):
        file.rename(folder / f"{pid}-{file.name.partition('-')[2]}")


async def publish(folder: Path, *, booked: int = 0, queue: int = 0) -> Counts:
    counts = Counts(folder)
    counts.add(metrics.BOOKINGS, "booked", count=booked)
    counts.gauge(metrics.QUEUE, "bookings", read=lambda: queue)
    counts.request("POST", "/api/events/book", 201, 0.003)
    await counts.publish()
    return counts


async def test_processes_are_added_up(tmp_path: Path) -> None:
    for _ in range(2):
        counts = await publish(tmp_path, booked=3, queue=5)
    counts.request("POST", "/api/events/book", 201, 99.0)
    counts.request("POST", "/api/events/book", 201, 0.005)  # a bound belongs to what is below it
    await counts.publish()
    labels = {"method": "POST", "route": "/api/events/book", "status": "201"}
    took = "ticketing_http_request_duration_seconds"
    assert shown(tmp_path, "ticketing_bookings_total", fact="booked") == 6
    assert shown(tmp_path, "ticketing_queue_requests", queue="bookings") == 10
    assert shown(tmp_path, "ticketing_workers") == 2
    assert shown(tmp_path, f"{took}_count", **labels) == 4
    assert shown(tmp_path, f"{took}_bucket", **labels, le="0.0025") == 0
    assert shown(tmp_path, f"{took}_bucket", **labels, le="0.005") == 3
    assert shown(tmp_path, f"{took}_bucket", **labels, le="10.0") == 3
    assert shown(tmp_path, f"{took}_bucket", **labels, le="+Inf") == 4


async def test_what_a_process_counted_stays_when_it_ends_and_its_queue_does_not(
    tmp_path: Path,
) -> None:
    exposition = Exposition(tmp_path)
    await publish(tmp_path, booked=3, queue=5)
    ended(tmp_path)
    await publish(tmp_path, booked=4, queue=1)
    registry = CollectorRegistry()
    registry.register(exposition)
    for _ in range(2):
        assert registry.get_sample_value("ticketing_bookings_total", {"fact": "booked"}) == 7
        assert registry.get_sample_value("ticketing_queue_requests", {"queue": "bookings"}) == 1
        assert registry.get_sample_value("ticketing_workers") == 1
    assert len(files(tmp_path)) == 1


async def test_a_process_that_says_nothing_any_more_does_not_serve(tmp_path: Path) -> None:
    await publish(tmp_path, booked=1, queue=5)
    (file,) = files(tmp_path)
    stale = orjson.loads(file.read_bytes())
    stale["at"] -= 60
    file.write_bytes(orjson.dumps(stale))
    assert shown(tmp_path, "ticketing_workers") == 0
    assert shown(tmp_path, "ticketing_queue_requests", queue="bookings") is None
    assert shown(tmp_path, "ticketing_bookings_total", fact="booked") == 1


async def test_of_two_audits_the_last_counts(tmp_path: Path) -> None:
    first, second = Counts(tmp_path), Counts(tmp_path)
    assert shown(tmp_path, "ticketing_audit_differences") is None
    second.set(metrics.AUDIT_DIFFERENCES, 7)
    first.set(metrics.AUDIT_DIFFERENCES, 2)
    await first.publish()
    await second.publish()
    assert shown(tmp_path, "ticketing_audit_differences") == 2


async def test_nobody_is_told_when_the_last_word_can_not_be_said(tmp_path: Path) -> None:
    await Counts(tmp_path / "gone").conclude()


def test_a_process_of_somebody_else_is_alive() -> None:
    assert _is_alive(1)
    assert _is_alive(os.getpid())
