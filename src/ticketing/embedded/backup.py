"""Backups of the embedded database in pg_dump's custom format. Both ways are atomic."""

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Final

from ticketing.embedded.binaries import run_client
from ticketing.embedded.data import InUse, require_data
from ticketing.embedded.server import embedded, server_of, url_of
from ticketing.errors import StartupError
from ticketing.ops.progress import Tell, silent

FRESH: Final = "ticketing_restoring"
OLD: Final = "ticketing_replaced"
"""Names of the restored database until the swap, and of the old one until it is dropped."""
TABLES: Final = "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"


def save(data_dir: Path, target: Path, *, tell: Tell = silent, force: bool = False) -> None:
    """Write the database of `data_dir` to `target`, as it is at one moment.

    Reads from the running service, or starts a server if none runs. The file is either complete or
    absent, and only its owner may read it. Raises StartupError, also if the file exists and `force`
    is not set. `force` overwrites the file, or the target of a symbolic link.
    """
    if target.is_dir():
        raise StartupError(f"{target} is a directory")
    if target.exists() and not force:
        raise StartupError(f"{target} exists: use --force to overwrite it")
    if target.exists() and not target.is_file():  # A device would be replaced by a file.
        raise StartupError(f"{target} is not a file: use - to write to standard output")
    if force:
        target = Path(os.path.realpath(target))
    require_data(data_dir)
    with _half(target) as half:
        with _server(data_dir) as sockets:
            options = (*_at(sockets, "postgres"), "--format=custom", "--no-owner")
            # Not to standard output, because there pg_dump repeats its table of contents after the
            # data, and nobody would notice if that was cut off. A file is also synced by pg_dump.
            tell("writing", half)
            run_client("pg_dump", *options, f"--file={half}")
        tell("checking it", half)
        _verify(half, str(target))
        if force:
            half.replace(target)
        else:
            try:
                target.hardlink_to(half)  # Unlike a rename, a link never overwrites.
            except FileExistsError as error:
                raise StartupError(f"{target} exists: use --force to overwrite it") from error
    folder = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(folder)  # Before this, a power cut could remove the name.
    finally:
        os.close(folder)


def restore(  # noqa: PLR0913 - all but two are keywords
    data_dir: Path,
    source: Path,
    *,
    migrate: Callable[[str], object],
    name: str = "",
    tell: Tell = silent,
    force: bool = False,
) -> None:
    """Replace the database of `data_dir` with the backup, or create it there.

    The backup is restored beside the old database. `migrate` gets its URL and brings it to the
    newest revision. Only then they are swapped, so if anything fails, the old database is
    unchanged. Raises StartupError, also if the directory is in use, or contains a database and
    `force` is not set. Messages call the backup `name`.
    """
    name = name or str(source)
    if not source.is_file():
        raise StartupError(f"{name} {'is not a file' if source.exists() else 'does not exist'}")
    tell("checking it")
    _verify(source, name)
    with ExitStack() as stack:
        try:
            server = stack.enter_context(embedded(data_dir))
        except InUse as error:
            raise StartupError(f"{error}: stop it first") from None
        if not force and _execute(server.sockets, TABLES, database="postgres") != "0":
            raise StartupError(f"{server.data_dir} contains data: use --force to replace them")
        _execute(server.sockets, f"DROP DATABASE IF EXISTS {FRESH}")
        _execute(server.sockets, f"DROP DATABASE IF EXISTS {OLD}")
        _execute(server.sockets, f"CREATE DATABASE {FRESH} TEMPLATE template0")
        try:
            options = (*_at(server.sockets, FRESH), "--no-owner", "--exit-on-error")
            tell("writing the data")
            run_client("pg_restore", *options, "--single-transaction", source)
            tell("migrating")
            migrate(url_of(server.sockets, FRESH))
            # In one call, so that it is one transaction.
            _execute(
                server.sockets,
                f"ALTER DATABASE postgres RENAME TO {OLD};"
                f" ALTER DATABASE {FRESH} RENAME TO postgres",
            )
        except StartupError as error:
            with suppress(StartupError):  # If this fails, the next restore drops it.
                _execute(server.sockets, f"DROP DATABASE IF EXISTS {FRESH}")
            reason = f"{name} can't be restored, and nothing was changed: {error}"
            raise StartupError(reason) from error
        _execute(server.sockets, f"DROP DATABASE {OLD}")


def _verify(archive: Path, name: str) -> None:
    """Raise StartupError unless the archive is a complete backup of this service."""
    try:
        contents = run_client("pg_restore", "--list", archive)
        # Reads and decompresses the whole archive.
        run_client("pg_restore", "--file=/dev/null", archive)
    except StartupError as error:
        raise StartupError(f"{name} is not a complete backup: {error}") from error
    if "TABLE DATA public alembic_version " not in contents:
        raise StartupError(f"{name} is not a backup of this service")


@contextmanager
def _half(target: Path) -> Iterator[Path]:
    """Yield a temporary file beside `target`, which only its owner may read."""
    try:
        # It has mode 0600.
        number, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    except OSError as error:
        raise StartupError(f"{target} can't be written: {error.strerror}") from error
    os.close(number)
    half = Path(name)
    try:
        yield half
    except OSError as error:
        raise StartupError(f"{target} can't be written: {error.strerror}") from error
    finally:
        half.unlink(missing_ok=True)


@contextmanager
def _server(data_dir: Path) -> Iterator[Path]:
    """Yield the socket folder of the server of `data_dir`. A server is started if none runs."""
    with ExitStack() as stack:
        try:
            sockets = stack.enter_context(embedded(data_dir)).sockets
        except InUse:
            running = server_of(data_dir)
            if running is None:
                raise StartupError(f"the database of {data_dir} is not ready: try again") from None
            sockets = running
        yield sockets


def _at(sockets: Path, database: str) -> tuple[str, ...]:
    return (f"--host={sockets}", "--username=postgres", f"--dbname={database}", "--no-password")


def _execute(sockets: Path, statements: str, *, database: str = "template1") -> str:
    """Run statements in one transaction, in a database that they do not rename."""
    options = (*_at(sockets, database), "--no-psqlrc", "--quiet", "--tuples-only", "--no-align")
    return run_client("psql", *options, f"--command={statements}").strip()
