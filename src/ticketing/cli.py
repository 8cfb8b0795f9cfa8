"""The `ticketing` command."""

import asyncio
import errno
import multiprocessing
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from multiprocessing import resource_tracker
from pathlib import Path
from types import FrameType
from typing import Annotated, Any, Final, cast

import typer
from fastapi import FastAPI
from pydantic import SecretStr
from uvicorn import Config
from uvicorn.supervisors import Multiprocess
from uvicorn.supervisors.multiprocess import Process

from ticketing import __version__, database, postgres, telemetry
from ticketing.app import create_app
from ticketing.errors import StartupError
from ticketing.protocol import BoundedProtocol, Limits
from ticketing.settings import Settings

GRACE: Final = 30
"""Seconds that requests under way get to finish when the service stops."""
LET_GO: Final = 2.0
"""Seconds in which the workers of a service that was killed have let go of its port."""

cli = typer.Typer(
    help="An event ticket booking service that never oversells.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def main() -> None:
    """Run the command; a StartupError ends it with one line and status 1."""
    signal.signal(signal.SIGTERM, _stop)
    try:
        cli()
    except StartupError as error:
        sys.stderr.write(f"ticketing: {error}\n")
        sys.exit(1)


def _stop(_signal: int, _frame: FrameType | None) -> None:
    # While the database starts; later the server's own handler takes over.
    sys.exit(128 + signal.SIGTERM)


def _show_version(wanted: bool) -> None:  # noqa: FBT001 - typer calls it so
    if wanted:
        typer.echo(f"ticketing {__version__}")
        raise typer.Exit


@cli.callback()
def options(
    *,
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show it.")
    ] = False,
) -> None:
    """Take the options that go before a command."""


@cli.command()
def serve(
    *,
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; 0 takes a free one.")] = None,
    workers: Annotated[int | None, typer.Option(help="Server processes.")] = None,
    data_dir: Annotated[
        Path | None, typer.Option(help="Where the embedded PostgreSQL keeps its data.")
    ] = None,
) -> None:
    """Run the service, on an embedded PostgreSQL unless TICKETING_DATABASE_URL is set."""
    settings = Settings.load(host=host, port=port, workers=workers, data_dir=data_dir)
    telemetry.configure(settings.log_dir, settings.log_level)
    with _listening(settings.host, settings.port) as listener, _database(settings) as complete:
        _welcome(complete, listener, embedded=settings.database_url is None)
        # Always supervised, one worker too: a worker that dies is replaced.
        config = server_config(partial(_worker, complete), complete)
        supervisor = _Supervisor(config, [listener])
        supervisor.run()
    if supervisor.failed:
        raise StartupError("a server process could not start: the log says why")


def server_config(make_app: Callable[[], Any], settings: Settings) -> Config:
    """Return how uvicorn serves the application that `make_app` makes in each worker."""
    limits = Limits(settings.header_timeout, settings.body_timeout, settings.max_connections)
    protocol = partial(BoundedProtocol, limits)
    return Config(
        make_app,
        factory=True,
        workers=settings.workers,
        loop="uvloop",
        http=cast("type[asyncio.Protocol]", protocol),
        ws="none",
        log_config=None,
        access_log=False,
        proxy_headers=False,  # It would believe whoever calls from this machine.
        server_header=False,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=GRACE,
        timeout_worker_healthcheck=GRACE,
    )


class _Supervisor(Multiprocess):
    """Replaces workers that die; stops if one fails by itself, which the next would do too."""

    failed = False

    def init_processes(self) -> None:
        with _interrupts_for_parent_only():
            super().init_processes()

    def keep_subprocess_alive(self) -> None:
        # Not uvicorn's: that waits for an answer from each worker, takes one that starts slowly
        # for one that hangs, and hears no signal meanwhile.
        for place, worker in enumerate(self.processes):
            if worker.exitcode is None:
                continue
            if worker.exitcode > 0:
                self.failed = True
                self.should_exit.set()
                return
            telemetry.log.warning("worker.died", pid=worker.pid, signal=-worker.exitcode)
            self.processes[place] = Process(self.config, self.sockets)
            with _interrupts_for_parent_only():
                self.processes[place].start()


@contextmanager
def _interrupts_for_parent_only() -> Iterator[None]:
    """Have processes started inside never see Ctrl-C: their parent tells them to stop."""
    resource_tracker.ensure_running()  # Would unblock it in the midst of the first start.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})


def _worker(settings: Settings) -> FastAPI:
    """Make the application of a worker, which stops when its parent is gone, even by kill -9."""
    parent = multiprocessing.parent_process()
    if parent is not None:

        def follow() -> None:
            parent.join()
            os.kill(os.getpid(), signal.SIGTERM)

        threading.Thread(target=follow, daemon=True).start()
    return create_app(settings)


@cli.command()
def migrate() -> None:
    """Bring the database of TICKETING_DATABASE_URL to the newest revision."""
    settings = Settings.load()
    if settings.database_url is None:
        raise StartupError(
            "TICKETING_DATABASE_URL: is not set (the embedded database is migrated by `serve`)"
        )
    url = settings.database_url.get_secret_value()
    with database.naming_the_database(url):
        database.upgrade(url)
    typer.echo("The database is up to date.")


@contextmanager
def _listening(host: str, port: int) -> Iterator[socket.socket]:
    """Listen before anything else starts, so that a port in use is found at once."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        # `localhost` is both; IPv4 is what every machine has.
        family, kind, protocol, _, address = min(found, key=lambda one: one[0] != socket.AF_INET)
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        _bind(listener, address)
        listener.listen(2048)
    except (OSError, UnicodeError) as error:  # UnicodeError: no name of a host is like that
        reason = error.strerror if isinstance(error, OSError) else "not the name of a host"
        raise StartupError(f"can't listen on {host} port {port}: {reason}") from error
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


@contextmanager
def _database(settings: Settings) -> Iterator[Settings]:
    """Yield settings whose database is up and migrated, and whose secret is known."""
    if settings.database_url is not None:
        if settings.jwt_secret is None:
            raise StartupError("TICKETING_JWT_SECRET: is required with TICKETING_DATABASE_URL")
        database.check(settings.database_url.get_secret_value())
        yield settings
        return
    data_dir = settings.data_dir
    if "data_dir" not in settings.model_fields_set:
        data_dir = postgres.default_data_dir(data_dir)
    # One worker more, for a rolling restart starts the new one before it stops the old.
    connections = str((settings.workers + 1) * (settings.pool_size + 1) + 20)
    with postgres.embedded(data_dir, max_connections=connections) as running:
        with database.naming_the_database(running.url):
            database.upgrade(running.url)
        secret = settings.jwt_secret or SecretStr(postgres.secret(running.data_dir))
        yield settings.model_copy(
            update={
                "database_url": SecretStr(running.url),
                "jwt_secret": secret,
                "data_dir": running.data_dir,
            }
        )


def _welcome(settings: Settings, listener: socket.socket, *, embedded: bool) -> None:
    host, port = listener.getsockname()[:2]
    shown = "localhost" if host in {"127.0.0.1", "0.0.0.0", "::"} else host  # noqa: S104
    address = f"http://{f'[{shown}]' if ':' in shown else shown}:{port}"
    typer.echo(f"ticketing {__version__}, process {os.getpid()}")
    typer.echo(f"  listening  {address}")
    typer.echo(f"  docs       {address}/docs")
    typer.echo(f"  data       {settings.data_dir if embedded else 'an external PostgreSQL'}")
    typer.echo(f"  log        {settings.log_dir / telemetry.LOG_FILE}")
