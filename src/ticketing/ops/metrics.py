"""Metrics: prometheus-client's, each defined where it is used, shown for all workers together.

A metric is made by prometheus-client's own classes, so it is listed wherever metrics are. A worker
keeps its values in files of its own under a number that the supervisor gave it (`share`); the
supervisor adds up the files of all workers when it is asked (`exposing`). The worker that replaces
another goes on with the files of that number, so counts are never lost and files never grow in
number; what is true of a live worker only (LIVE) goes with the worker (`forget`).
"""

import os
import platform
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final, TypeAlias

from prometheus_client import CollectorRegistry, Gauge, start_http_server, values
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

from ticketing import __version__
from ticketing.errors import StartupError

SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
SIZES: Final = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0)
"""Upper bounds of histograms' buckets."""

LIVE: Final = "livesum"
"""The mode of a gauge that is added up over the workers that live."""
LATEST: Final = "mostrecent"
"""The mode of a gauge of which the value that was set last counts."""

is_shared = False
"""Whether anybody is shown what this process counts."""

Sample: TypeAlias = tuple[Gauge, Callable[[], float]]
"""A gauge that is set every second, and what to set it to."""

ROOM: Final = {
    "histogram": 4 << 20,
    "counter": 1 << 18,
    f"gauge_{LIVE}": 1 << 16,
    f"gauge_{LATEST}": 1 << 16,
}
"""Bytes of a worker's file of each kind: more than all series that there can be take."""


def share(folder: Path, number: int) -> None:
    """Keep the values of this process in `folder`, under this number.

    Call it before any module that defines a metric is imported. Raises OSError if there is no room:
    the files are mapped, and a process that writes to one without room behind it is killed.
    """
    for kind, size in ROOM.items():
        file = folder / f"{kind}_{number}.db"
        if not file.exists():
            half = file.with_suffix(".half")
            try:
                with half.open("wb") as made:
                    os.posix_fallocate(made.fileno(), 0, size)
            except OSError:
                half.unlink(missing_ok=True)
                raise
            half.rename(file)
    global is_shared  # noqa: PLW0603
    is_shared = True
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(folder)
    values.ValueClass = values.MultiProcessValue(lambda: number)  # type: ignore[no-untyped-call]


def forget(folder: Path, number: int) -> None:
    """Remove what was true only while the worker of this number lived."""
    mark_process_dead(number, str(folder))  # type: ignore[no-untyped-call]


async def sample(samples: Sequence[Sample]) -> None:
    """Set each gauge to what it is now."""
    for gauge, read in samples:
        gauge.set(read())


@contextmanager
def exposing(host: str, port: int) -> Iterator[tuple[Path, int]]:
    """Show at `/metrics` what workers share in a folder; yield the folder and the port.

    Raises StartupError if it can't listen there.
    """
    with tempfile.TemporaryDirectory(
        prefix="ticketing-metrics-", ignore_cleanup_errors=True
    ) as folder:
        registry = CollectorRegistry()
        MultiProcessCollector(registry, folder)  # type: ignore[no-untyped-call]
        build = Gauge(
            "ticketing_build_info", "What serves.", ["version", "python"], registry=registry
        )
        build.labels(__version__, platform.python_version()).set(1)
        try:
            server, thread = start_http_server(port, host, registry)
        except OSError as error:
            reason = f"can't show metrics on {host} port {port}: {error.strerror}"
            raise StartupError(reason) from error
        try:
            yield Path(folder), server.server_port
        finally:
            server.shutdown()
            server.server_close()
            thread.join()
