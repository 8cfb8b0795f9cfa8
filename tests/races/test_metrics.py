"""The metrics of a running service as Prometheus reads them, and data for OpenTelemetry."""

import asyncio
import json
import os
import re
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.people import Visitor
from tests.processes import workers_of
from tests.serving import Service, logged, refusal, serving, until
from ticketing import __version__
from ticketing.cli.serve import serve
from ticketing.errors import StartupError

pytestmark = pytest.mark.usefixtures("unmeasured")

DEPLOY = Path(__file__).parents[2] / "deploy"
METRIC = re.compile(r"\bticketing_[a-z_]+\b")
BOOK = "/api/events/book"
TOOK = "ticketing_http_request_duration_seconds"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


class Metrics:
    """The metrics of a service."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}/metrics"

    def samples(self) -> Iterator[tuple[str, dict[str, str], float]]:
        answer = httpx.get(self.url, timeout=10).raise_for_status()
        for family in text_string_to_metric_families(answer.text):
            for sample in family.samples:
                yield sample.name, sample.labels, sample.value

    def total(self, name: str, **labels: str) -> float:
        """Return the sum of a metric's samples that have these labels."""
        every = self.samples()
        return sum(value for n, of, value in every if n == name and labels.items() <= of.items())

    async def come_to(self, expected: float, name: str, **labels: str) -> None:
        async def have() -> bool:
            return await asyncio.to_thread(self.total, name, **labels) == expected

        await until(have)

    async def pass_zero(self, name: str) -> None:
        async def has() -> bool:
            return await asyncio.to_thread(self.total, name) > 0

        await until(has)


@pytest.fixture
def port() -> int:
    return free_port()


async def test_metrics_are_right_across_workers_that_come_and_go(kept_dir: Path, port: int) -> None:
    metrics = Metrics(port)
    with serving(
        kept_dir,
        "--workers",
        "2",
        TICKETING_METRICS_PORT=str(port),
        TICKETING_AUDIT_EVERY="1",
        TICKETING_DRAIN="0",
    ) as service:
        await metrics.come_to(2, "ticketing_workers")
        await sell_out(service)
        refused_at(service)
        assert metrics.total("ticketing_build_info", version=__version__) == 1
        await metrics.come_to(1, "ticketing_bookings_total", fact="waiting")
        await metrics.come_to(2, f"{TOOK}_count", route=BOOK, method="POST")
        assert metrics.total(f"{TOOK}_bucket", route=BOOK, le="+Inf") == 2
        assert metrics.total(f"{TOOK}_count", route=BOOK, status="202") == 1
        await metrics.come_to(1, f"{TOOK}_count", route="", status="404")
        await metrics.come_to(1, "ticketing_http_refused_total", code="malformed_request")
        facts = dict.fromkeys(("booked", "waiting", "cancelled", "promoted"), 1.0)
        assert {f: metrics.total("ticketing_bookings_total", fact=f) for f in facts} == facts
        assert metrics.total("ticketing_batch_requests_sum", queue="bookings") == 3
        assert metrics.total("ticketing_queue_requests") == 0
        assert metrics.total("ticketing_pool_connections_limit") == 2 * 14
        await metrics.pass_zero("ticketing_audit_completed_timestamp_seconds")
        assert metrics.total("ticketing_audit_differences") == 0
        shown_is_what_is_asked_for(metrics)
        for pid in workers_of(service):
            os.kill(pid, signal.SIGKILL)
        await until(lambda: has_died(kept_dir, times=2))
        await metrics.come_to(2, "ticketing_workers")
        await sell_out(service)
        await metrics.come_to(2, "ticketing_bookings_total", fact="waiting")
        await metrics.come_to(4, f"{TOOK}_count", route=BOOK, method="POST")
        assert service.stop() == 0
    audits = logged(kept_dir, "audit.completed")
    assert audits
    assert all(each["differences"] == 0 for each in audits)


async def sell_out(service: Service) -> None:
    """Let one person book, another wait, and be promoted when the first cancels."""
    async with httpx.AsyncClient(base_url=service.url, timeout=60) as client:
        ada, eve = [await Visitor(client).register() for _ in range(2)]
        event = await ada.organise(total=1)
        assert (await ada.book(event)).status_code == 201
        assert (await eve.book(event)).status_code == 202
        assert (await ada.cancel(event)).json()["promoted"] == 1


def refused_at(service: Service) -> None:
    assert httpx.get(service.url + "/nothing/here").status_code == 404
    host, port = service.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(b"\x00\r\n\r\n")
        assert b"malformed_request" in connection.recv(4096)


def shown_is_what_is_asked_for(metrics: Metrics) -> None:
    shown = {name for name, _, _ in metrics.samples()}
    # Nothing has been shed, so there is no reason. There is no webhook.
    shown.add("ticketing_shed_total")
    shown |= {f"ticketing_webhook_{name}" for name in ("deliveries_total", "backlog", "set_aside")}
    for file in ("grafana-dashboard.json", "alerts.yml"):
        asked = set(METRIC.findall((DEPLOY / file).read_text()))
        assert asked, file
        assert asked <= shown, file


def test_every_panel_of_the_dashboard_has_a_query() -> None:
    dashboard = json.loads((DEPLOY / "grafana-dashboard.json").read_text())
    for panel in dashboard["panels"]:
        assert panel["targets"], panel["title"]
        assert all(METRIC.search(target["expr"]) for target in panel["targets"])


async def has_died(open_dir: Path, times: int) -> bool:
    return len(await asyncio.to_thread(logged, open_dir, "worker.died")) == times


def test_a_port_that_is_taken_is_named(open_dir: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        line = refusal(open_dir, TICKETING_METRICS_PORT=str(port))
    assert line == f"can't show metrics on 127.0.0.1 port {port}: Address already in use"


def test_one_connection_too_many_is_counted(kept_dir: Path, port: int) -> None:
    metrics = Metrics(port)
    environment = {"TICKETING_METRICS_PORT": str(port), "TICKETING_MAX_CONNECTIONS": "1"}
    with serving(kept_dir, **environment) as service:
        host, _, listening = service.url.removeprefix("http://").partition(":")
        with socket.create_connection((host, int(listening))) as first:
            first.sendall(b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n")
            assert first.recv(4096)
            assert httpx.get(service.url + "/").status_code == 503
        asyncio.run(metrics.come_to(1, "ticketing_shed_total", reason="connections"))


@contextmanager
def collector() -> Iterator[tuple[str, dict[str, bytes]]]:
    """Run a server for OpenTelemetry's exporters. Yield its address and the data of each path."""
    got: dict[str, bytes] = {}

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            got[self.path] = got.get(self.path, b"") + body
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", got
        server.shutdown()
        thread.join()


async def test_traces_have_the_routes_of_the_sale_too(kept_dir: Path) -> None:
    with collector() as (endpoint, got):
        with serving(
            kept_dir,
            TICKETING_OTEL="on",
            OTEL_EXPORTER_OTLP_ENDPOINT=endpoint,
            OTEL_BSP_SCHEDULE_DELAY="50",
        ) as service:
            await sell_out(service)
            assert service.stop() == 0
        assert {"/v1/traces", "/v1/metrics"} == got.keys()
        for name in (f"POST {BOOK}", "POST /api/events/cancel", "POST /api/users/register"):
            assert name.encode() in got["/v1/traces"]


@pytest.mark.parametrize("found", [None, ModuleNotFoundError("opentelemetry.exporter")])
def test_opentelemetry_that_is_not_installed_is_named(
    monkeypatch: pytest.MonkeyPatch, found: Exception | None
) -> None:
    def find(_: str) -> None:
        if found is not None:
            raise found

    monkeypatch.setattr("ticketing.cli.serve.find_spec", find)
    monkeypatch.setenv("TICKETING_OTEL", "on")
    with pytest.raises(StartupError, match=r"^TICKETING_OTEL: .*extra `otel`"):
        serve(host=None, port=0, workers=None, data_dir=None)


def test_the_metrics_folder_of_the_starting_process_is_left_alone(
    kept_dir: Path, port: int
) -> None:
    theirs = kept_dir / "theirs"
    theirs.mkdir()
    for folder in (theirs, kept_dir / "nowhere"):
        for more in ({}, {"TICKETING_METRICS_PORT": str(port)}):
            with serving(kept_dir, PROMETHEUS_MULTIPROC_DIR=str(folder), **more) as service:
                assert httpx.get(service.url + "/livez").status_code == 200
    assert list(theirs.iterdir()) == []
