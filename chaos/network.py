"""A network of the harness's own, which loses packets and holds them up, and nobody else's does."""

import ctypes
import os
import shutil
import subprocess
from typing import Final

NEW_NETWORK: Final = 0x40000000
"""CLONE_NEWNET of unshare(2)."""
NETEM: Final = ("qdisc", "replace", "dev", "lo", "root", "netem")
DROP: Final = ("INPUT", "-i", "lo", "-p", "tcp", "-m", "statistic", "--mode", "random")


class Network:
    """A network namespace with nothing but a loopback, on which all that it starts is."""

    def __init__(self) -> None:
        """Move this process to a new namespace, before it has any thread.

        Raises OSError, with why, if there can't be one or nothing in it can be spoilt.
        """
        missing = [name for name in ("ip", "tc") if shutil.which(name) is None]
        if missing:
            raise OSError(f"{', '.join(missing)} of iproute2 is not installed")
        library = ctypes.CDLL(None, use_errno=True)
        if library.unshare(NEW_NETWORK):
            raise OSError(f"no network namespace: {os.strerror(ctypes.get_errno())}")
        _run("ip", "link", "set", "lo", "up")
        self.has_netem = True
        self.lacks = ""
        """Why there is no netem."""
        self._rule: list[str] = []
        try:
            self.spoil(delay=0.001, loss=0.01)
        except OSError as error:
            self.has_netem, self.lacks = False, str(error)
            self.spoil(delay=0.0, loss=0.01)
        self.mend()

    def spoil(self, *, delay: float, loss: float) -> None:
        """Lose this share of packets, and, with netem, have the others late by so many seconds."""
        if self.has_netem:
            late = f"{delay * 1000:.1f}ms"
            _run("tc", *NETEM, "delay", late, late, "loss", f"{loss:.2%}", "limit", "10000")
        else:
            self._rule = [*DROP, "--probability", f"{loss:.4f}", "-j", "DROP"]
            _run("iptables", "-I", *self._rule)

    def mend(self) -> None:
        """Be as before."""
        if self.has_netem:
            _run("tc", "qdisc", "del", "dev", "lo", "root")
        else:
            _run("iptables", "-D", *self._rule)


def _run(*command: str) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise OSError(f"{command[0]} is not installed") from error
    if done.returncode:
        reason = (done.stderr or done.stdout).strip().splitlines() or ["no reason given"]
        raise OSError(f"{command[0]}: {reason[0]}")
