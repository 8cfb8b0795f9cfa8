"""`ticketing migrate`."""

import typer

from ticketing.cli import database
from ticketing.errors import StartupError
from ticketing.settings import Settings


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
    database.migrate(address.get_secret_value())
    typer.echo("The database is up to date.")
