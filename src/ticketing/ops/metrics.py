"""Metrics of prometheus-client, each defined where it is used, added up over all workers.

A worker keeps its values in its own files, under a number from the supervisor (`share`). At each
request for metrics the supervisor adds up the files of all workers (`exposing`). A worker that
replaces another continues with the files of that number, so that no counts are lost and no files
are added. Gauges of mode LIVE end with their worker (`forget`).
"""

import os
import platform
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final, TypeAlias

from prometheus_client import CollectorRegistry, Counter, Gauge, start_http_server, values
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

from ticketing import __version__
from ticketing.errors import StartupError

SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
SIZES: Final = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0)
"""Upper bounds of the buckets of histograms."""

LIVE: Final = "livesum"
"""The mode of a gauge that is added up over live workers."""
LATEST: Final = "mostrecent"
"""The mode of a gauge whose last value counts, whichever worker set it."""

is_shared = False
"""Whether the metrics of this process are shown."""


class Rising:
    """A counter of what an object of this process has counted itself."""

    def __init__(self, counter: Counter) -> None:
        """Add to `counter`."""
        self._counter = counter
        self._counted = 0.0

    def set(self, total: float) -> None:
        """Add what was counted since the last call."""
        self._counter.inc(total - self._counted)
        self._counted = total


Sample: TypeAlias = tuple[Gauge | Rising, Callable[[], float]]
"""A metric that is set every second, and the function that returns its value."""

ROOM: Final = {
    "histogram": 4 << 20,
    "counter": 1 << 18,
    f"gauge_{LIVE}": 1 << 16,
    f"gauge_{LATEST}": 1 << 16,
}
"""Bytes of a worker's file of each kind; enough for all possible series."""


def share(folder: Path, number: int) -> None:
    """Keep the values of this process in `folder`, under `number`.

    Call it before any module that defines a metric is imported. Raises OSError if the disk is full,
    because the files are mapped, and writing to a mapped file on a full disk kills the process.
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
    """Remove the LIVE gauges of the worker with this number."""
    mark_process_dead(number, str(folder))  # type: ignore[no-untyped-call]


async def sample(samples: Sequence[Sample]) -> None:
    """Set each gauge to its current value."""
    for gauge, read in samples:
        gauge.set(read())


@contextmanager
def exposing(host: str, port: int) -> Iterator[tuple[Path, int]]:
    """Serve `/metrics` with what workers share in a folder; yield the folder and the port.

    Raises StartupError if it can't listen on `host` and `port`.
    """
    with tempfile.TemporaryDirectory(
        prefix="ticketing-metrics-", ignore_cleanup_errors=True
    ) as folder:
        registry = CollectorRegistry()
        MultiProcessCollector(registry, folder)  # type: ignore[no-untyped-call]
        build = Gauge("ticketing_build_info", "Versions.", ["version", "python"], registry=registry)
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
