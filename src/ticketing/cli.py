"""The `ticketing` command."""

import errno
import os
import signal
import socket
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any, Final

import orjson
import typer
from pydantic import SecretStr

from ticketing import __version__, backup, postgres, revision, telemetry
from ticketing.errors import StartupError, UserNotFound
from ticketing.rates import Memory
from ticketing.server import BACKLOG, GRACE, LINGER, work
from ticketing.settings import Settings
from ticketing.supervisor import Supervisor

if TYPE_CHECKING:
    from ticketing.repositories.access import AccessRepository

CLOSING: Final = 15
"""Seconds after them in which a worker closes what it has open, or is killed."""
LET_GO: Final = 5.0
"""Seconds in which the workers of a service that was killed have let go of its port."""

cli = typer.Typer(
    help="An event ticket booking service that never oversells.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # With it, a flag is said to take a <bool>.
)
user = typer.Typer(
    help="Say who is an admin of the site, and log people out.", no_args_is_help=True
)
cli.add_typer(user, name="user")


def _option(field: str, told: str) -> Any:  # noqa: ANN401 - typer's own
    """Return the option for a setting, which tells what holds without it."""
    default = Settings.model_fields[field].default
    return typer.Option(help=told, show_default=f"TICKETING_{field.upper()}, or {default}")


DataDir = Annotated[
    Path | None, _option("data_dir", "Where the embedded PostgreSQL keeps its data.")
]


def main() -> None:
    """Run the command; a StartupError ends it with one line and status 1.

    So does a file that it may not use.
    """
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _leave)
    try:
        cli()
    except StartupError as error:
        sys.stderr.write(f"ticketing: {error}\n")
        sys.exit(1)
    except PermissionError as error:
        sys.stderr.write(f"ticketing: {error.filename} can't be used: {error.strerror}\n")
        sys.exit(1)
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # It has ended, but for the interpreter.


def _leave(number: int, _frame: FrameType | None) -> None:
    # Past everything that has to be closed. While it serves, the supervisor takes signals.
    sys.exit(128 + number)


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
    host: Annotated[str | None, _option("host", "Address to listen on.")] = None,
    port: Annotated[int | None, _option("port", "Port to listen on; 0 takes a free one.")] = None,
    workers: Annotated[int | None, _option("workers", "Server processes.")] = None,
    data_dir: DataDir = None,
) -> None:
    """Run the service.

    On an embedded PostgreSQL unless TICKETING_DATABASE_URL is set.
    """
    # There is nothing yet that a rolling restart could replace, and its default is to end.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    settings = _settings(data_dir, host=host, port=port, workers=workers)
    if settings.otel == "on" and not _has_otel():
        raise StartupError(
            "TICKETING_OTEL: is on, and needs the extra `otel` of this package, in a checkout by"
            " `.venv/bin/pip install -e '.[otel]'`"
        )
    telemetry.configure(settings.log_dir, settings.log_level)
    with (
        _listening(settings.host, settings.port) as listener,
        _metrics(settings) as (counted, metrics_port),
        _database(settings) as (complete, watch),
    ):
        _welcome(complete, listener, metrics_port, embedded=settings.database_url is None)
        supervisor = Supervisor(
            partial(work, complete, listener, Memory.make(), counted),
            complete.workers,
            watch=watch,
            patience=complete.drain + LINGER + GRACE + CLOSING,
        )
        # This process listens too: a connection in a queue that nobody serves would wait for ever.
        supervisor.run(on_stopping=listener.close)


def _settings(data_dir: Path | None, **overrides: object) -> Settings:
    settings = Settings.load(data_dir=data_dir, **overrides)
    if data_dir is not None and settings.database_url is not None:
        raise StartupError("--data-dir: is the embedded database's, TICKETING_DATABASE_URL is set")
    return settings


def _has_otel() -> bool:
    try:
        return find_spec("opentelemetry.exporter.otlp.proto.http") is not None
    except ModuleNotFoundError:
        return False


@contextmanager
def _metrics(settings: Settings) -> Iterator[tuple[Path | None, int | None]]:
    """Yield where workers leave what they count and the port that shows it, if it is wanted."""
    if settings.metrics_port is None:
        yield None, None
    else:
        from ticketing import exposition  # noqa: PLC0415 - few want it

        with exposition.serving(settings.metrics_host, settings.metrics_port) as shown:
            yield shown


@cli.command()
def migrate() -> None:
    """Bring the database to the newest revision.

    By TICKETING_MIGRATION_DATABASE_URL or, where that is not set, by TICKETING_DATABASE_URL.
    """
    settings = Settings.load()
    address = settings.migration_database_url or settings.database_url
    if address is None:
        raise StartupError(
            "TICKETING_DATABASE_URL: is not set (the embedded database is migrated by `serve`)"
        )
    _migrate(address.get_secret_value())
    typer.echo("The database is up to date.")


Username = Annotated[str, typer.Argument(metavar="NAME", help="A username.")]


@user.command()
def promote(name: Username, *, data_dir: DataDir = None) -> None:
    """Make somebody an admin of the site.

    An admin may do whatever any event's owner may.
    """
    _change_access(name, data_dir, lambda access: access.promote(name))
    typer.echo(f"{name} is an admin.")


@user.command()
def demote(name: Username, *, data_dir: DataDir = None) -> None:
    """Make somebody an admin no more."""
    _change_access(name, data_dir, lambda access: access.demote(name))
    typer.echo(f"{name} is no admin.")


@user.command()
def logout(name: Username, *, data_dir: DataDir = None) -> None:
    """End all sessions of somebody; their API keys stay."""
    _change_access(name, data_dir, lambda access: access.log_out(name))
    typer.echo(f"{name} is logged in nowhere.")


def _change_access(
    name: str, data_dir: Path | None, change: "Callable[[AccessRepository], Awaitable[object]]"
) -> None:
    """Change it in the database; a running service learns of it within a second or so."""
    # As below: what `serve` does without, or the service would start later and be larger.
    from ticketing import database  # noqa: PLC0415
    from ticketing.repositories.access import AccessRepository  # noqa: PLC0415
    from ticketing.security import AccessList  # noqa: PLC0415

    settings = _settings(data_dir)
    telemetry.configure(settings.log_dir, settings.log_level)
    with _reachable(settings) as url, database.naming_the_database(url):
        try:
            database.run(url, lambda engine: change(AccessRepository(engine, AccessList())))
        except UserNotFound as error:
            raise StartupError(f"there is no user {name!r}") from error


@cli.command()
def audit(
    *,
    as_json: Annotated[
        bool, typer.Option("--json", help="Write each difference as a line of JSON.")
    ] = False,
    data_dir: DataDir = None,
) -> None:
    """Recount every event's bookings.

    Nothing is changed, and the service may run meanwhile. The status is 1 if anything differs.
    """
    from ticketing import database  # noqa: PLC0415
    from ticketing.repositories.books import BooksRepository  # noqa: PLC0415

    settings = _settings(data_dir)
    telemetry.configure(settings.log_dir, settings.log_level)
    with _reachable(settings) as url, database.naming_the_database(url):
        found = database.run(url, lambda engine: BooksRepository(engine).audit())
    documents = [each.document() for each in found.differences]
    if as_json:
        for document in documents:
            typer.echo(orjson.dumps(document, default=str))
    else:
        for document in documents:
            rest = (
                f"{k}={_listed(v)}" for k, v in document.items() if k not in {"kind", "eventId"}
            )
            typer.echo(f"event {document['eventId']:<8} {document['kind']:<20} {' '.join(rest)}")
        typer.echo(
            f"Events: {found.events:,}, bookings: {found.bookings:,},"
            f" differences: {len(documents):,}."
        )
    if documents:
        raise typer.Exit(1)


def _listed(value: object) -> str:
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


@contextmanager
def _reachable(settings: Settings) -> Iterator[str]:
    """Yield the address of the database, be it embedded and served by another process or not."""
    if settings.database_url is None:
        where = _data_dir(settings)
        if sockets := postgres.server_of(where):
            yield postgres.url_of(sockets)
            return
        postgres.require_data(where)
    # No token is signed here.
    unsigned = settings.model_copy(update={"jwt_secret": SecretStr("")})
    with _database(unsigned) as (complete, _):
        assert complete.database_url is not None  # noqa: S101 - for mypy: it is complete
        yield complete.database_url.get_secret_value()


@cli.command("backup")
def back_up(
    *,
    file: Annotated[Path, typer.Argument(help="What to write.")],
    data_dir: DataDir = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file.")] = False,
) -> None:
    """Write a backup of the embedded database.

    Whether or not it is being served.
    """
    settings = _of_embedded(data_dir)
    backup.save(_data_dir(settings), file, force=force)
    typer.echo(f"Wrote {file} ({file.stat().st_size:,} bytes).")


@cli.command()
def restore(
    *,
    file: Annotated[Path, typer.Argument(help="What `ticketing backup` wrote.")],
    data_dir: DataDir = None,
    force: Annotated[
        bool, typer.Option("--force", help="Replace the data that are there.")
    ] = False,
) -> None:
    """Put a backup in place of the embedded database.

    While it is not being served.
    """
    settings = _of_embedded(data_dir)
    where = _data_dir(settings)
    backup.restore(where, file, migrate=_migrate, force=force)
    typer.echo(f"Restored {file} to {where.resolve()}.")


def _of_embedded(data_dir: Path | None) -> Settings:
    settings = Settings.load(data_dir=data_dir)
    if settings.database_url is not None:
        raise StartupError(
            "TICKETING_DATABASE_URL is set: back up and restore that database with pg_dump or by"
            " point-in-time recovery (see docs/operations.md)"
        )
    return settings


def _migrate(url: str) -> None:
    if not revision.is_newest(url):
        from ticketing import migrations  # noqa: PLC0415 - Alembic takes long to load

        migrations.upgrade(url)


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
        listener.listen(BACKLOG)
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
def _database(settings: Settings) -> Iterator[tuple[Settings, Callable[[], None]]]:
    """Yield settings whose database is up and migrated, and whose secret is known.

    And what keeps the embedded one up, if it is called often. Raises StartupError.
    """
    if settings.database_url is not None:
        if settings.jwt_secret is None:
            raise StartupError("TICKETING_JWT_SECRET: is required with TICKETING_DATABASE_URL")
        url = settings.database_url.get_secret_value()
        if not revision.is_newest(url):
            from ticketing import database  # noqa: PLC0415

            database.check(url)
        yield settings, lambda: None
        return
    # One worker more, for a rolling restart starts the new one before it stops the old.
    connections = str((settings.workers + 1) * (settings.pool_size + 2) + 20)
    with postgres.embedded(_data_dir(settings), max_connections=connections) as running:
        _migrate(running.url)
        secret = settings.jwt_secret
        if secret is None:
            secret = SecretStr(postgres.secret(running.data_dir))
        complete = settings.model_copy(
            update={
                "database_url": SecretStr(running.url),
                "jwt_secret": secret,
                "data_dir": running.data_dir,
            }
        )
        yield complete, running.keep_up


def _data_dir(settings: Settings) -> Path:
    if "data_dir" in settings.model_fields_set:
        return settings.data_dir
    return postgres.default_data_dir(settings.data_dir)


def _welcome(
    settings: Settings, listener: socket.socket, metrics_port: int | None, *, embedded: bool
) -> None:
    host, port = listener.getsockname()[:2]
    shown = "localhost" if host in {"127.0.0.1", "0.0.0.0", "::"} else host  # noqa: S104
    address = f"http://{f'[{shown}]' if ':' in shown else shown}:{port}"
    typer.echo(f"ticketing {__version__}, process {os.getpid()}")
    typer.echo(f"  listening  {address}")
    typer.echo(f"  docs       {address}/docs")
    if metrics_port is not None:
        typer.echo(f"  metrics    http://{settings.metrics_host}:{metrics_port}/metrics")
    typer.echo(f"  data       {settings.data_dir if embedded else 'an external PostgreSQL'}")
    typer.echo(f"  log        {settings.log_dir / telemetry.LOG_FILE}")
