"""`ticketing backup` and `ticketing restore`."""

from pathlib import Path
from typing import Annotated

import typer

from ticketing.cli.database import data_dir as folder_of
from ticketing.cli.database import migrate
from ticketing.cli.options import DataDir
from ticketing.embedded import backup
from ticketing.errors import StartupError
from ticketing.settings import Settings


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
    backup.save(folder_of(settings), file, force=force)
    typer.echo(f"Wrote {file} ({file.stat().st_size:,} bytes).")


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
    where = folder_of(settings)
    backup.restore(where, file, migrate=migrate, force=force)
    typer.echo(f"Restored {file} to {where.resolve()}.")


def _of_embedded(data_dir: Path | None) -> Settings:
    settings = Settings.load(data_dir=data_dir)
    if settings.database_url is not None:
        raise StartupError(
            "TICKETING_DATABASE_URL is set: back up and restore that database with pg_dump or by"
            " point-in-time recovery (see docs/operate.md)"
        )
    return settings
