"""What all server processes have counted together, for Prometheus, on a port of its own."""

import errno
import os
import platform
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import Any, Final

import orjson
from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from ticketing import __version__
from ticketing.errors import StartupError
from ticketing.metrics import FAMILIES, Family, Kind, Labels

FRESH: Final = 5.0
"""Seconds after which a process that has published nothing anew does not serve."""


@dataclass
class _Totals:
    """Sums over processes."""

    counters: Counter[tuple[str, Labels]] = field(default_factory=Counter)
    histograms: dict[tuple[str, Labels], tuple[list[int], float]] = field(default_factory=dict)
    latest: dict[str, tuple[float, float]] = field(default_factory=dict)
    gauges: Counter[tuple[str, Labels]] = field(default_factory=Counter)
    workers: int = 0

    def add(self, counted: dict[str, Any]) -> None:
        for name, labels, count in counted["counters"]:
            self.counters[name, tuple(labels)] += count
        for name, labels, counts, total in counted["histograms"]:
            known, so_far = self.histograms.get((name, tuple(labels)), ([0] * len(counts), 0.0))
            summed = [one + other for one, other in zip(known, counts, strict=True)]
            self.histograms[name, tuple(labels)] = summed, so_far + total
        for name, at, value in counted["latest"]:
            self.latest[name] = max(self.latest.get(name, (0.0, 0.0)), (at, value))

    def add_current(self, counted: dict[str, Any]) -> None:
        """Add what is true only while the process serves."""
        if time.monotonic() - counted["at"] <= FRESH:
            self.workers += 1
            for name, labels, value in counted["gauges"]:
                self.gauges[name, tuple(labels)] += value

    def shown(self, family: Family) -> Metric:
        """Return the metric as Prometheus reads it."""
        about = family.name, family.meaning
        if family.kind is Kind.HISTOGRAM:
            histogram = HistogramMetricFamily(*about, labels=family.labels)
            for labels, (counts, total) in _of(family, self.histograms.items()):
                histogram.add_metric(labels, _buckets(family, counts), total)
            return histogram
        if family.kind is Kind.COUNTER:
            counter = CounterMetricFamily(*about, labels=family.labels)
            for labels, count in _of(family, self.counters.items()):
                counter.add_metric(labels, count)
            return counter
        gauge = GaugeMetricFamily(*about, labels=family.labels)
        if family.kind is Kind.GAUGE:
            for labels, value in _of(family, self.gauges.items()):
                gauge.add_metric(labels, value)
        elif family.name in self.latest:
            gauge.add_metric((), self.latest[family.name][1])
        return gauge


def _of(
    family: Family, items: Iterable[tuple[tuple[str, Labels], Any]]
) -> Iterator[tuple[Labels, Any]]:
    return ((labels, value) for (name, labels), value in items if name == family.name)


def _buckets(family: Family, counts: list[int]) -> list[tuple[str, float]]:
    below, buckets = 0, []
    for bound, count in zip((*map(str, family.bounds), "+Inf"), counts, strict=True):
        below += count
        buckets.append((bound, float(below)))
    return buckets


class Exposition(Collector):
    """Adds up what the processes have left in a folder, those that have ended too."""

    def __init__(self, folder: Path) -> None:
        """Read `folder`."""
        self._folder = folder
        self._ended = _Totals()
        self._lock = Lock()  # Each scrape has a thread.

    def collect(self) -> Iterator[Metric]:
        """Yield every metric."""
        with self._lock:
            totals = self._sum()
        build = GaugeMetricFamily(
            "ticketing_build_info", "What serves.", labels=("version", "python")
        )
        build.add_metric((__version__, platform.python_version()), 1)
        yield build
        yield GaugeMetricFamily("ticketing_workers", "Processes that serve.", totals.workers)
        for family in FAMILIES:
            yield totals.shown(family)

    def _sum(self) -> _Totals:
        serving = []
        for file in self._folder.glob("*.json"):
            # Asked first: one that ends meanwhile has yet to leave its last word.
            is_alive = _is_alive(int(file.name.partition("-")[0]))
            counted = orjson.loads(file.read_bytes())
            if is_alive:
                serving.append(counted)
            else:
                self._ended.add(counted)
                file.unlink()  # However many there have been, this does not get slower.
        totals = deepcopy(self._ended)
        for counted in serving:
            totals.add(counted)
            totals.add_current(counted)
        return totals


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except OSError as error:
        return error.errno == errno.EPERM  # somebody else's
    return True


@contextmanager
def serving(host: str, port: int) -> Iterator[tuple[Path, int]]:
    """Show at `/metrics` what processes leave in a folder; yield that, and the port it is on.

    Raises StartupError if it can't listen there.
    """
    with tempfile.TemporaryDirectory(
        prefix="ticketing-metrics-", ignore_cleanup_errors=True
    ) as name:
        registry = CollectorRegistry()
        registry.register(Exposition(Path(name)))
        try:
            server, thread = start_http_server(port, host, registry)
        except OSError as error:
            reason = f"can't show metrics on {host} port {port}: {error.strerror}"
            raise StartupError(reason) from error
        try:
            yield Path(name), server.server_port
        finally:
            server.shutdown()
            server.server_close()
            thread.join()
