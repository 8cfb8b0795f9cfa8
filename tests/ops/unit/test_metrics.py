"""The metrics of several processes are combined."""

import errno
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.multiprocess import MultiProcessCollector

from tests.serving import COVERAGE
from ticketing.ops import metrics

# Each worker is a copy of a process that has loaded the libraries and nothing that makes metrics.
WORKERS = """
import json, os, signal, sys
from pathlib import Path
import asyncpg, fastapi, sqlalchemy.ext.asyncio, structlog, uvicorn

assert "prometheus_client" not in sys.modules
for line in sys.stdin:
    folder, number, does = json.loads(line)
    if (worker := os.fork()) == 0:
        from ticketing.ops import metrics

        metrics.share(Path(folder), number)
        from ticketing.db.combiner import QUEUE
        from ticketing.sale.commit.tell import BOOKINGS
        from ticketing.sale.repositories.recount import DIFFERENCES
        from ticketing.server.serving import WORKERS
        from ticketing.web.request_log import DURATION

        exec(does)
        os.kill(os.getpid(), signal.SIGKILL)
    print(os.waitstatus_to_exitcode(os.waitpid(worker, 0)[1]), flush=True)
"""
TOOK = "ticketing_http_request_duration_seconds"
LABELS = {"method": "POST", "route": "/api/events/book", "status": "201"}


Run = Callable[..., None]


@pytest.fixture(scope="module")
def worker() -> Iterator[Run]:
    """Run a worker that does this and is killed, before it could write what coverage measured."""
    with subprocess.Popen(
        [sys.executable, "-c", WORKERS],
        env={name: value for name, value in os.environ.items() if name != COVERAGE},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:

        def run(folder: Path, number: int, *lines: str) -> None:
            assert process.stdin is not None
            assert process.stdout is not None
            asked = json.dumps([str(folder), number, "\n".join(lines)])
            process.stdin.write(f"{asked}\n")
            process.stdin.flush()
            assert process.stdout.readline() == f"{-signal.SIGKILL}\n"

        yield run


def booked(count: int) -> str:
    return f"BOOKINGS.labels('booked').inc({count})"


def waiting(count: int) -> str:
    return f"WORKERS.set(1); QUEUE.labels('bookings').set({count})"


def took(seconds: float) -> str:
    return f"DURATION.labels('POST', '/api/events/book', '201').observe({seconds})"


def shown(folder: Path, name: str, **labels: str) -> float | None:
    registry = CollectorRegistry()
    MultiProcessCollector(registry, str(folder))  # type: ignore[no-untyped-call]
    return registry.get_sample_value(name, labels)


def test_processes_are_added_up(tmp_path: Path, worker: Run) -> None:
    worker(tmp_path, 0, booked(3), waiting(5), took(0.003))
    # A bound of a bucket is part of the bucket.
    worker(tmp_path, 1, booked(3), waiting(5), took(0.003), took(99.0), took(0.005))
    assert shown(tmp_path, "ticketing_bookings_total", fact="booked") == 6
    assert shown(tmp_path, "ticketing_queue_requests", queue="bookings") == 10
    assert shown(tmp_path, "ticketing_workers") == 2
    assert shown(tmp_path, f"{TOOK}_count", **LABELS) == 4
    assert shown(tmp_path, f"{TOOK}_bucket", **LABELS, le="0.0025") == 0
    assert shown(tmp_path, f"{TOOK}_bucket", **LABELS, le="0.005") == 3
    assert shown(tmp_path, f"{TOOK}_bucket", **LABELS, le="10.0") == 3
    assert shown(tmp_path, f"{TOOK}_bucket", **LABELS, le="+Inf") == 4


def test_counters_of_a_killed_worker_stay_and_its_gauges_do_not(
    tmp_path: Path, worker: Run
) -> None:
    worker(tmp_path, 0, booked(3), waiting(5))
    metrics.forget(tmp_path, 0)
    assert shown(tmp_path, "ticketing_bookings_total", fact="booked") == 3
    assert shown(tmp_path, "ticketing_queue_requests", queue="bookings") is None
    assert shown(tmp_path, "ticketing_workers") is None
    worker(tmp_path, 0, booked(4), waiting(1))
    assert shown(tmp_path, "ticketing_bookings_total", fact="booked") == 7
    assert shown(tmp_path, "ticketing_queue_requests", queue="bookings") == 1
    assert shown(tmp_path, "ticketing_workers") == 1


def test_the_number_of_files_does_not_grow_with_restarted_workers(
    tmp_path: Path, worker: Run
) -> None:
    worker(tmp_path, 0, booked(1), waiting(1))
    files = {file.name for file in tmp_path.iterdir()}
    for _ in range(3):
        metrics.forget(tmp_path, 0)
        worker(tmp_path, 0, booked(1), waiting(1))
    assert {file.name for file in tmp_path.iterdir()} == files


def test_the_last_of_two_recounts_is_shown(tmp_path: Path, worker: Run) -> None:
    worker(tmp_path, 0, "")
    assert shown(tmp_path, "ticketing_audit_differences") is None
    worker(tmp_path, 1, "DIFFERENCES.set(7)")
    worker(tmp_path, 0, "DIFFERENCES.set(2)")
    metrics.forget(tmp_path, 0)
    assert shown(tmp_path, "ticketing_audit_differences") == 2


def test_a_process_keeps_no_metrics_on_a_full_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(OSError, match="No space left"):
        metrics.share(tmp_path, 0)
    assert not list(tmp_path.glob("*.db"))


def test_the_space_of_metrics_is_reserved_at_the_start(tmp_path: Path, worker: Run) -> None:
    worker(tmp_path, 0, booked(1), waiting(1), took(0.1), "DIFFERENCES.set(1)")
    for file in tmp_path.glob("*.db"):
        assert file.stat().st_blocks * 512 >= file.stat().st_size > 0
    assert {file.name for file in tmp_path.iterdir()} == {f"{kind}_0.db" for kind in metrics.ROOM}
