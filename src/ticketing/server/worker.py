"""A worker process. The supervisor imports `work` without loading the application."""

import gc
import multiprocessing
import os
import socket
import threading
from multiprocessing.connection import Connection
from pathlib import Path

from ticketing.limits.cells import Memory
from ticketing.server.terms import RETIRE
from ticketing.settings import Settings


def work(  # noqa: PLR0913, PLR0917 - arguments of a process
    settings: Settings,
    listener: socket.socket,
    memory: Memory,
    metrics_dir: Path | None,
    number: int,
    ready: Connection,
) -> None:
    """Run the worker with this number. It stops if its parent is gone, even by kill -9.

    Metrics are kept in `metrics_dir`.
    """
    parent = multiprocessing.parent_process()
    if parent is not None:

        def follow() -> None:
            parent.join()
            os.kill(os.getpid(), RETIRE)

        threading.Thread(target=follow, daemon=True).start()
    gc.disable()  # Scanning the loaded objects again and again would take a tenth of the time.
    if metrics_dir is not None:
        _share_metrics(settings, metrics_dir, number)
    _serve(settings, listener, memory, ready)


def _share_metrics(settings: Settings, folder: Path, number: int) -> None:
    """Share the metrics if there is room for them. A sale goes on without them."""
    from ticketing.ops import logs, metrics  # noqa: PLC0415 - before any module that defines one

    try:
        metrics.share(folder, number)
    except OSError as error:
        logs.configure(settings)
        logs.log.error("metrics.not_shared", reason=str(error))


def _serve(settings: Settings, listener: socket.socket, memory: Memory, ready: Connection) -> None:
    # Imported here, because the parent does not need it, and after metrics are shared.
    from ticketing.app import create_app  # noqa: PLC0415
    from ticketing.server.admission import Admission  # noqa: PLC0415
    from ticketing.server.serving import Server, server_config  # noqa: PLC0415
    from ticketing.server.unread import bound_unread  # noqa: PLC0415
    from ticketing.web.policy import Overload  # noqa: PLC0415
    from ticketing.web.service import Service  # noqa: PLC0415

    app = create_app(settings, memory)
    service: Service = app.state.provided[Service]
    gc.enable()
    bound_unread(listener, settings.body_timeout)
    table = app.state.table
    # With and without the prefix, because requests are recognised before it is removed.
    shed, serve = [
        [
            prefix + path
            for prefix in {"", settings.root_path or ""}
            for path in table.under(overload)
        ]
        for overload in (Overload.SHED, Overload.SERVE)
    ]
    admission = Admission(shed, serve, service.streams)
    server = Server(
        server_config(lambda: app, settings, admission),
        drain=settings.drain,
        ready=ready,
        service=service,
        admission=admission,
    )
    server.run([listener])
