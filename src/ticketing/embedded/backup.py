"""Backups of the embedded database: pg_dump's custom format, written and put back as a whole."""

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
"""What the databases are called until the swap, and the old one until it is dropped."""
TABLES: Final = "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"


def save(data_dir: Path, target: Path, *, tell: Tell = silent, force: bool = False) -> None:
    """Write the database of `data_dir` to `target`, as it is at one moment.

    Reads from the running service, or, where none runs, from a server of its own. The file is
    complete or not there at all, and its owner's alone. Raises StartupError, also if there is a
    file already, unless `force` overwrites it, or the one that a symbolic link leads to.
    """
    if target.is_dir():
        raise StartupError(f"{target} is a directory")
    if target.exists() and not force:
        raise StartupError(f"{target} exists: --force overwrites it")
    if target.exists() and not target.is_file():  # A device would be gone after that.
        raise StartupError(f"{target} is no file: - writes to standard output")
    if force:
        target = Path(os.path.realpath(target))
    require_data(data_dir)
    with _half(target) as half:
        with _server(data_dir) as sockets:
            options = (*_at(sockets, "postgres"), "--format=custom", "--no-owner")
            # Told to print it, it would leave its table of contents behind the data once more, and
            # whether that is cut off, nobody would see. The file it syncs by itself.
            tell("writing", half)
            run_client("pg_dump", *options, f"--file={half}")
        tell("checking what was written", half)
        _verify(half, str(target))
        if force:
            half.replace(target)
        else:
            try:
                target.hardlink_to(half)  # Unlike a rename, it never overwrites.
            except FileExistsError as error:
                raise StartupError(f"{target} exists: --force overwrites it") from error
    folder = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(folder)  # Until then the name may be gone after a power cut.
    finally:
        os.close(folder)


def restore(  # noqa: PLR0913 - all but two have names
    data_dir: Path,
    source: Path,
    *,
    migrate: Callable[[str], None],
    name: str = "",
    tell: Tell = silent,
    force: bool = False,
) -> None:
    """Put the backup in place of the database of `data_dir`, or make one there.

    It is restored beside the old one, brought to the newest revision by `migrate`, given its
    address, and only then swapped in: if anything fails, the old one stays as it was. Raises
    StartupError, also if the directory is in use, or holds a database and `force` is not given.
    It calls the backup by `name`, if that is given.
    """
    name = name or str(source)
    if not source.is_file():
        raise StartupError(f"{name} is {'no file' if source.exists() else 'not there'}")
    tell("checking it")
    _verify(source, name)
    with ExitStack() as stack:
        try:
            server = stack.enter_context(embedded(data_dir))
        except InUse as error:
            raise StartupError(f"{error}: stop it first") from None
        if not force and _execute(server.sockets, TABLES, database="postgres") != "0":
            raise StartupError(f"{server.data_dir} holds data: --force replaces them")
        _execute(server.sockets, f"DROP DATABASE IF EXISTS {FRESH}")
        _execute(server.sockets, f"DROP DATABASE IF EXISTS {OLD}")
        _execute(server.sockets, f"CREATE DATABASE {FRESH} TEMPLATE template0")
        try:
            options = (*_at(server.sockets, FRESH), "--no-owner", "--exit-on-error")
            tell("writing the data")
            run_client("pg_restore", *options, "--single-transaction", source)
            tell("migrating")
            migrate(url_of(server.sockets, FRESH))
            # In one call, and so in one transaction.
            _execute(
                server.sockets,
                f"ALTER DATABASE postgres RENAME TO {OLD};"
                f" ALTER DATABASE {FRESH} RENAME TO postgres",
            )
        except StartupError as error:
            with suppress(StartupError):  # The next one does, if this can't.
                _execute(server.sockets, f"DROP DATABASE IF EXISTS {FRESH}")
            reason = f"{name} can't be restored, and nothing was changed: {error}"
            raise StartupError(reason) from error
        _execute(server.sockets, f"DROP DATABASE {OLD}")


def _verify(archive: Path, name: str) -> None:
    """Raise StartupError unless the archive is whole and of this service."""
    try:
        contents = run_client("pg_restore", "--list", archive)
        # Reads and decompresses all of it.
        run_client("pg_restore", "--file=/dev/null", archive)
    except StartupError as error:
        raise StartupError(f"{name} is no backup, or not a whole one: {error}") from error
    if "TABLE DATA public alembic_version " not in contents:
        raise StartupError(f"{name} is not a backup of this service")


@contextmanager
def _half(target: Path) -> Iterator[Path]:
    """Give a new file beside `target`, for its owner alone, which is gone in the end."""
    try:
        # Made with mode 0600.
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
    """Give the socket folder of the server of `data_dir`, which is started if none runs."""
    with ExitStack() as stack:
        try:
            sockets = stack.enter_context(embedded(data_dir)).sockets
        except InUse:
            running = server_of(data_dir)
            if running is None:
                raise StartupError(f"the database of {data_dir} is not up: try again") from None
            sockets = running
        yield sockets


def _at(sockets: Path, database: str) -> tuple[str, ...]:
    return (f"--host={sockets}", "--username=postgres", f"--dbname={database}", "--no-password")


def _execute(sockets: Path, statements: str, *, database: str = "template1") -> str:
    """Run statements in one transaction, and not in the database that they rename."""
    options = (*_at(sockets, database), "--no-psqlrc", "--quiet", "--tuples-only", "--no-align")
    return run_client("psql", *options, f"--command={statements}").strip()
