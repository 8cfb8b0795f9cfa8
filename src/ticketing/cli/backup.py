"""`ticketing backup` and `ticketing restore`."""

import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Annotated, Final

import typer

from ticketing.cli.database import data_dir as folder_of
from ticketing.cli.database import migrate
from ticketing.cli.options import DataDir
from ticketing.embedded import backup
from ticketing.errors import StartupError
from ticketing.ops.progress import progress
from ticketing.settings import Settings

STREAM: Final = Path("-")
"""Stands for standard output or standard input."""
SAVING: Final = "Backing up"
PREFIX: Final = "ticketing-backup-"
"""Name prefix of the temporary folder that holds a backup until it is checked."""


def back_up(
    *,
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="The backup to write; - is standard output.")
    ],
    data_dir: DataDir = None,
    force: Annotated[
        bool,
        typer.Option(
            "--force", help="Overwrite the file. A symbolic link stays, and its target is replaced."
        ),
    ] = False,
) -> None:
    """Write a backup of the embedded database.

    The service may be running or stopped.
    """
    settings = _of_embedded(data_dir)
    where = folder_of(settings)
    if file == STREAM:
        _print(where)
    else:
        with progress(SAVING) as tell:
            backup.save(where, file, tell=tell, force=force)
        typer.echo(f"Wrote {file} ({file.stat().st_size:,} bytes).")


def restore(
    *,
    file: Annotated[
        Path,
        typer.Argument(metavar="FILE", help="A backup of `ticketing backup`; - is standard input."),
    ],
    data_dir: DataDir = None,
    force: Annotated[bool, typer.Option("--force", help="Replace existing data.")] = False,
) -> None:
    """Replace the embedded database with a backup.

    Stop the service first.
    """
    settings = _of_embedded(data_dir)
    where = folder_of(settings)
    with progress(f"Restoring {_named(file)}") as tell, _archive(file) as archive:
        backup.restore(
            where,
            archive,
            name=_named(file),
            migrate=partial(migrate, tell=tell),
            tell=tell,
            force=force,
        )
    typer.echo(f"Restored {_named(file)} to {where.resolve()}.")


def _print(data_dir: Path) -> None:
    """Write a backup to standard output, after it is complete and checked."""
    if sys.stdout.isatty():
        raise StartupError("standard output is a terminal: redirect it to a file or a program")
    with _room() as whole:
        with progress(SAVING) as tell:
            backup.save(data_dir, whole, tell=tell)
        try:
            # Not `sys.stdout`, because that would try to write again at the exit.
            with whole.open("rb") as source, open(1, "wb", closefd=False) as target:
                shutil.copyfileobj(source, target)
        except OSError as error:
            raise StartupError(f"standard output can't be written: {error.strerror}") from error


@contextmanager
def _archive(file: Path) -> Iterator[Path]:
    """Yield a file with the backup, which can be read more than once."""
    if file != STREAM:
        yield file
        return
    if sys.stdin.isatty():
        raise StartupError("standard input is a terminal: redirect it from a file or a program")
    with _room() as whole:
        try:
            with open(0, "rb", closefd=False) as source, whole.open("wb") as target:
                shutil.copyfileobj(source, target)
        except OSError as error:
            raise StartupError(
                f"standard input can't be copied to {whole.parent}: {error.strerror}"
            ) from error
        yield whole


@contextmanager
def _room() -> Iterator[Path]:
    """Yield a path for a temporary backup."""
    try:
        made = tempfile.TemporaryDirectory(prefix=PREFIX)
    except OSError as error:
        raise StartupError(
            f"no temporary folder can be used: {error.strerror}: set TMPDIR to another one"
        ) from error
    with made as folder:
        yield Path(folder) / "backup"


def _named(file: Path) -> str:
    return "standard input" if file == STREAM else str(file)


def _of_embedded(data_dir: Path | None) -> Settings:
    settings = Settings.load(data_dir=data_dir)
    if settings.database_url is not None:
        raise StartupError(
            "TICKETING_DATABASE_URL is set: back up and restore that database with pg_dump or by"
            " point-in-time recovery (see docs/operate.md)"
        )
    return settings
