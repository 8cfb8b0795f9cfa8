"""`ticketing migrate`."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from ticketing.cli import database
from ticketing.cli.options import DataDir, load
from ticketing.db import revision
from ticketing.embedded import data, server
from ticketing.errors import StartupError
from ticketing.ops.leaving import held
from ticketing.ops.progress import progress
from ticketing.settings import Pooler, Settings

if TYPE_CHECKING:
    from ticketing.db.migrations import Migrated


def migrate(
    *,
    to: Annotated[
        str | None,
        typer.Option(
            metavar="REVISION",
            help=f"Stop at this revision, newer or older. Default: {revision.known()[-1]}, the"
            " newest of this version.",
        ),
    ] = None,
    accept_data_loss: Annotated[
        bool,
        typer.Option("--accept-data-loss", help="Go back even if that deletes data permanently."),
    ] = False,
    as_sql: Annotated[
        bool, typer.Option("--sql", help="Print the SQL instead of running it.")
    ] = False,
    role_sql: Annotated[
        bool,
        typer.Option(
            "--role-sql",
            help="Print the psql script that creates a database role for the service only.",
        ),
    ] = False,
    data_dir: DataDir = None,
) -> None:
    """Migrate the database to the newest revision, or to another one.

    Uses TICKETING_MIGRATION_DATABASE_URL, else TICKETING_DATABASE_URL, else the embedded database.
    Before you go back, replace all services with the earlier version.
    """
    if role_sql:
        with held():
            from ticketing.db import migrations  # noqa: PLC0415 - Alembic takes long to load
        typer.echo(migrations.service_role(), nl=False)
        return
    settings = load(data_dir)
    # What a session sets works without a pooler too.
    pooler: Pooler = "none" if settings.pooler == "none" else "session"
    with _address(settings, only_reads=as_sql) as url:
        if as_sql:
            with held():
                from ticketing.db import migrations  # noqa: PLC0415

                printed = migrations.sql(url, to or revision.known()[-1], pooler)
            typer.echo(printed, nl=False)
        elif to is None:
            _tell(database.migrate(url, pooler=pooler), "The database is up to date.")
        else:
            with progress(database.MIGRATING) as tell, held():
                from ticketing.db import migrations  # noqa: PLC0415

                done = migrations.move(url, to, may_lose=accept_data_loss, tell=tell, pooler=pooler)
            _tell(done, f"The database is at revision {to} already.")


def _tell(done: "Migrated | None", nothing: str) -> None:
    if done is None:
        typer.echo(nothing)
    elif done.before is None:
        typer.echo(f"Migrated an empty database to revision {done.after}.")
    else:
        typer.echo(f"Migrated the database from revision {done.before} to {done.after}.")


@contextmanager
def _address(settings: Settings, *, only_reads: bool) -> Iterator[str]:
    """Yield the URL of the database with a role that may change the schema.

    With `only_reads`, an embedded database may be in use by a service.
    """
    if settings.pooler == "transaction" and settings.migration_database_url is None:
        raise StartupError(
            "TICKETING_POOLER=transaction: a migration needs a session of its own: set"
            " TICKETING_MIGRATION_DATABASE_URL to an address without that pooler"
        )
    if address := settings.migration_database_url or settings.database_url:
        yield address.get_secret_value()
        return
    where = database.data_dir(settings)
    if not data.has_data(where):
        raise StartupError(
            f"{where.resolve()} has no database to migrate: set TICKETING_DATABASE_URL, or set"
            f" --data-dir to the folder of the embedded database"
        )
    if only_reads and (sockets := server.server_of(where)):
        yield server.url_of(sockets)
        return
    try:
        with server.embedded(where) as running:
            yield running.url
    except data.InUse as error:
        raise StartupError(f"{error}: stop it first") from None
