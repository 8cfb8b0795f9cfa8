"""A standby of the embedded PostgreSQL of a test."""

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ticketing.embedded.account import Account
from ticketing.embedded.binaries import binaries_for
from ticketing.embedded.server import Embedded, url_of

PATIENCE = 30.0
NAME = "second"
"""Its name for `synchronous_standby_names`."""


class Standby:
    """A server that follows another one, until it is promoted."""

    def __init__(self, primary: Embedded, folder: Path) -> None:
        """Copy the data of `primary`, and start."""
        self._account = Account.choose()
        self._binaries = binaries_for(self._account)
        self._data = folder / "standby"
        self._primary = primary
        self._process: subprocess.Popen[bytes] | None = None
        folder.chmod(0o777)
        self._run("pg_basebackup", "-h", primary.sockets, "-U", "postgres", "-D", self._data)
        (self._data / "standby.signal").touch()
        self.start()

    @property
    def url(self) -> str:
        """Its address."""
        return url_of(self._data)

    def start(self) -> None:
        """Start it, and wait until it can be read."""
        self._process = subprocess.Popen(
            [
                *(self._binaries / "postgres", "-D", self._data, "-k", self._data),
                *("-c", "listen_addresses=", "-c", "fsync=off", "-c", "synchronous_standby_names="),
                *("-c", f"primary_conninfo=host={self._primary.sockets} user=postgres"),
                *("-c", f"cluster_name={NAME}"),
            ],
            stderr=subprocess.DEVNULL,
            cwd="/",
            **self._account.popen,
        )
        deadline = time.monotonic() + PATIENCE
        while subprocess.run(
            [self._binaries / "pg_isready", "-q", "-h", self._data], check=False
        ).returncode:
            assert time.monotonic() < deadline
            time.sleep(0.02)

    def promote(self) -> None:
        """Make it the primary."""
        self._run("pg_ctl", "promote", "-w", "-D", self._data)

    def kill(self) -> None:
        """Kill it. What it has received and not written is lost."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def _run(self, program: str, *arguments: str | Path) -> None:
        subprocess.run(
            [self._binaries / program, *arguments],
            check=True,
            capture_output=True,
            cwd="/",
            **self._account.popen,
        )


@contextmanager
def following(primary: Embedded, folder: Path) -> Iterator[Standby]:
    """Run a standby of `primary`. `folder` is empty, and is opened to all."""
    standby = Standby(primary, folder)
    try:
        yield standby
    finally:
        standby.kill()
