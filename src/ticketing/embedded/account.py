"""The account of the server, because PostgreSQL refuses to run as root."""

import os
import pwd
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ticketing.errors import StartupError


@dataclass(frozen=True, slots=True)
class Account:
    """The system account that runs the server."""

    uid: int
    gid: int
    popen: Mapping[str, Any]

    @classmethod
    def choose(cls) -> "Account":
        """Return the account to use. Raises StartupError if there is none."""
        if os.geteuid() != 0:
            return cls(os.geteuid(), os.getegid(), {})
        for name in ("postgres", "nobody"):
            with suppress(KeyError):
                entry = pwd.getpwnam(name)
                ids = {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
                return cls(entry.pw_uid, entry.pw_gid, ids)
        raise StartupError(
            "the embedded PostgreSQL can't run as root: create an account postgres or nobody"
        )

    def can_reach(self, path: Path) -> bool:
        """Whether the account may pass through every folder above `path`."""
        if not self.popen:
            return True
        for folder in path.resolve().parents:
            if not folder.exists():
                continue  # it will be made, and everybody may enter it
            status = folder.stat()
            owner, group = status.st_uid == self.uid, status.st_gid == self.gid
            if not status.st_mode & (0o100 if owner else 0o010 if group else 0o001):
                return False
        return True


def run(account: Account, *command: str | Path) -> str:
    """Run a program as the account, and return its output. Raises StartupError."""
    pipe = subprocess.PIPE
    with subprocess.Popen(
        command, stdout=pipe, stderr=pipe, text=True, cwd="/", **account.popen
    ) as process:
        try:
            said, complained = process.communicate()
        except BaseException:
            # Its child processes hold the pipes too, and may write until they end.
            process.kill()
            process.communicate()
            raise
    if process.returncode:
        reason = (complained or said).strip().splitlines() or ["no reason given"]
        raise StartupError(f"{Path(command[0]).name} failed: {reason[-1]}")
    return str(said)


def own_folder(path: Path, account: Account) -> Path:
    """Make a folder that only the account and root may enter."""
    path.mkdir(parents=True, exist_ok=True, mode=0o700)
    if account.popen:
        os.chown(path, account.uid, account.gid)
    return path
