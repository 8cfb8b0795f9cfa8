"""The data directory: its location, its lock, its contents."""

import fcntl
import hashlib
import os
import re
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from ticketing.embedded.account import Account, own_folder, run
from ticketing.errors import StartupError
from ticketing.settings import MIN_SECRET

STORE: Final = Path("/var/lib/ticketing")
"""For root only: data of a working folder that the server's account can't reach."""
SOCKET_PATH: Final = re.compile(r"[A-Za-z0-9/._-]{1,90}")
"""Unix socket paths are limited to about 107 bytes, and PostgreSQL adds some. A comma would
separate two paths, and other characters have a meaning in a URL."""


def default_data_dir(data_dir: Path) -> Path:
    """Return the default folder of data; for root, one that the server's account can reach."""
    if Account.choose().can_reach(data_dir / "postgres"):
        return data_dir
    folder = data_dir.resolve().parent
    # The digest of the whole path tells apart folders with the same name.
    digest = hashlib.sha256(os.fsencode(folder)).hexdigest()[:8]
    return STORE / f"{folder.name}-{digest}"


def has_data(data_dir: Path) -> bool:
    """Whether a database was ever made in `data_dir`."""
    return (data_dir / "postgres" / "PG_VERSION").exists()


def require_data(data_dir: Path) -> None:
    """Raise StartupError unless a database was ever made in `data_dir`."""
    if not has_data(data_dir):
        raise StartupError(
            f"{data_dir.resolve()} contains no database: set --data-dir to its folder"
        )


@contextmanager
def locked(data_dir: Path) -> Iterator[None]:
    """Keep other services off the directory. Raises InUse."""
    with (data_dir / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InUse(f"{data_dir} is in use by another `ticketing serve`") from error
        if os.fstat(file.fileno()).st_nlink == 0:  # The other one failed and removed it.
            raise InUse(f"{data_dir} was in use by another `ticketing serve`: try again")
        yield


class InUse(StartupError):
    """Another process works with the data directory."""


def secret(data_dir: Path) -> str:
    """Return the signing secret stored beside the data. It is made at the first use, mode 0600."""
    path = data_dir / "jwt_secret"
    if not path.exists():
        fresh = data_dir / "jwt_secret.half"
        fresh.unlink(missing_ok=True)
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(secrets.token_urlsafe(48))
            file.flush()
            os.fsync(file.fileno())  # Half a secret could be guessed.
        fresh.rename(path)
    kept = path.read_text().strip()
    if len(kept) < MIN_SECRET:
        raise StartupError(f"{path} is damaged: restore it, or remove it to have a new one made")
    return kept


@contextmanager
def made_folder(data_dir: Path, cluster: Path) -> Iterator[None]:
    """Make the folder. At the end, remove it again if it contains no data."""
    missing = [path for path in (data_dir, *data_dir.parents) if not path.exists()]
    if not data_dir.is_dir():
        data_dir.mkdir(parents=True)
        data_dir.chmod(0o755)  # Despite the umask, because the server's account must pass through.
    try:
        yield
    finally:
        if missing and not cluster.exists():
            (data_dir / "lock").unlink(missing_ok=True)
            for path in missing:
                with suppress(OSError):  # It contains other files.
                    path.rmdir()


def initialise(binaries: Path, cluster: Path, account: Account) -> None:
    """Create a database if there is none. Raises StartupError if it has another version."""
    kept = cluster / "PG_VERSION"
    if kept.exists():
        # As in "postgres (PostgreSQL) 18.6 (Debian 18.6-1)".
        ours = run(account, binaries / "postgres", "--version").split()[2].split(".")[0]
        theirs = kept.read_text().strip()
        if theirs != ours:
            raise StartupError(
                f"{cluster} was made by PostgreSQL {theirs}, this is {ours}:"
                " dump it with the old version and restore it with this one"
            )
        return
    # Made under another name first, so that an interrupted initdb is not taken for a database.
    half = cluster.with_name("postgres.half")
    shutil.rmtree(half, ignore_errors=True)
    own_folder(half, account)
    try:
        run(
            account,
            binaries / "initdb",
            *("-D", half, "-U", "postgres", "-E", "UTF8"),
            *("--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C"),
            *("--auth-local=trust", "--auth-host=scram-sha-256", "--no-instructions"),
        )
        half.rename(cluster)
    finally:
        shutil.rmtree(half, ignore_errors=True)


@contextmanager
def socket_folder(data_dir: Path, account: Account) -> Iterator[Path]:
    """Yield a private folder for the socket, because local connections need no password."""
    beside = data_dir / "sockets"
    if SOCKET_PATH.fullmatch(str(beside)):
        yield own_folder(beside, account)
        return
    with tempfile.TemporaryDirectory(prefix="ticketing-") as short:
        yield own_folder(Path(short), account)
