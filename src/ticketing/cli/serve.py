"""`ticketing serve`."""

import errno
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from ticketing import __version__
from ticketing.cli.database import database
from ticketing.cli.options import DataDir, load, option
from ticketing.db import state
from ticketing.errors import StartupError
from ticketing.limits.cells import Memory
from ticketing.ops import logs
from ticketing.ops.leaving import held, leave_if_told
from ticketing.server.supervisor import Supervisor
from ticketing.server.terms import BACKLOG, GRACE, LINGER
from ticketing.server.worker import work
from ticketing.settings import Settings

CLOSING: Final = 15
"""Seconds after GRACE in which a worker must close its connections, or it is killed."""
LET_GO: Final = 5.0
"""Seconds in which the workers of a killed service release its port."""


def serve(
    *,
    host: Annotated[str | None, option("host", "Address to listen on.")] = None,
    port: Annotated[int | None, option("port", "Port to listen on; 0 takes a free one.")] = None,
    workers: Annotated[int | None, option("workers", "Server processes.")] = None,
    data_dir: DataDir = None,
) -> None:
    """Run the service.

    Without TICKETING_DATABASE_URL, it runs an embedded PostgreSQL.
    """
    # Ignored until workers run, because SIGHUP would end the process.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    settings = load(data_dir, host=host, port=port, workers=workers)
    if settings.otel == "on" and not _has_otel():
        raise StartupError(
            "TICKETING_OTEL: needs the extra `otel` of this package; in a checkout:"
            " `.venv/bin/pip install -e '.[otel]'`"
        )
    logs.configure(settings)
    with (
        _listening(settings.host, settings.port) as listener,
        _metrics(settings) as (metrics_dir, metrics_port, forget),
        database(settings) as (complete, watch),
    ):
        if settings.database_url is not None and settings.pooler == "none":
            state.require_room(settings.database_url.get_secret_value(), settings)
        supervisor = Supervisor(
            partial(work, complete, listener, Memory.make(), metrics_dir),
            complete.workers,
            watch=partial(_look, watch),
            forget=forget,
            patience=complete.drain + LINGER + GRACE + CLOSING,
        )
        supervisor.run(
            # A signal that arrives right after this message already stops the service cleanly.
            on_starting=partial(
                _welcome,
                complete,
                listener,
                metrics_port,
                embedded=settings.database_url is None,
            ),
            # This process listens too, and a connection that it never accepts would wait forever.
            on_stopping=listener.close,
        )


def _look(after: Callable[[], None]) -> None:
    after()
    leave_if_told()


def _has_otel() -> bool:
    try:
        return find_spec("opentelemetry.exporter.otlp.proto.http") is not None
    except ModuleNotFoundError:
        return False


@contextmanager
def _metrics(settings: Settings) -> Iterator[tuple[Path | None, int | None, Callable[[int], None]]]:
    """Yield the folder of the workers' metrics, their port, and a function that forgets a worker.

    If metrics are off, folder and port are None.
    """
    if settings.metrics_port is None:
        yield None, None, lambda _: None
    else:
        with held():
            from ticketing.ops import metrics  # noqa: PLC0415 - few want it

        with metrics.exposing(settings.metrics_host, settings.metrics_port) as (folder, port):
            yield folder, port, partial(metrics.forget, folder)


@contextmanager
def _listening(host: str, port: int) -> Iterator[socket.socket]:
    """Listen before anything else starts, so that a port in use is found at once."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        # `localhost` has both; IPv4 first, because every machine has it.
        family, kind, protocol, _, address = min(found, key=lambda one: one[0] != socket.AF_INET)
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        _bind(listener, address)
        listener.listen(BACKLOG)
    except (OSError, UnicodeError) as error:  # UnicodeError: not a valid host name
        reason = error.strerror if isinstance(error, OSError) else "not a host name"
        other = ": choose another --port" if getattr(error, "errno", 0) == errno.EADDRINUSE else ""
        raise StartupError(f"can't listen on {host} port {port}: {reason}{other}") from error
    listener.set_inheritable(True)
    with listener:
        yield listener


def _bind(listener: socket.socket, address: tuple[Any, ...]) -> None:
    deadline = time.monotonic() + LET_GO
    while True:
        try:
            listener.bind(address)
        except OSError as error:
            if error.errno != errno.EADDRINUSE or time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        else:
            return


def _welcome(
    settings: Settings, listener: socket.socket, metrics_port: int | None, *, embedded: bool
) -> None:
    host, port = listener.getsockname()[:2]
    shown = "localhost" if host in {"127.0.0.1", "0.0.0.0", "::"} else host  # noqa: S104
    address = f"http://{f'[{shown}]' if ':' in shown else shown}:{port}"
    logs.log.info("service.started", address=address, version=__version__, pid=os.getpid())
    if settings.log_format == "json":
        return  # Programs that read JSON expect nothing else.
    typer.echo(f"ticketing {__version__}, process {os.getpid()}")
    typer.echo(f"  listening  {address}")
    typer.echo(f"  docs       {address}/docs")
    if metrics_port is not None:
        typer.echo(f"  metrics    http://{settings.metrics_host}:{metrics_port}/metrics")
    typer.echo(f"  data       {settings.data_dir if embedded else 'an external PostgreSQL'}")
    if settings.log_file == "on":
        typer.echo(f"  log        {settings.log_dir / logs.LOG_FILE}")
