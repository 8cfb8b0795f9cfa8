"""A network for the harness only, which can drop and delay packets without affecting others."""

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
    """A network namespace with only a loopback interface, for this process and its children."""

    def __init__(self) -> None:
        """Move this process to a new namespace. It must not have threads yet.

        Raises OSError with the reason if this is not possible, or if no fault can be made in it.
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
        """The reason why netem is missing."""
        self._rule: list[str] = []
        try:
            self.spoil(delay=0.001, loss=0.01)
        except OSError as error:
            self.has_netem, self.lacks = False, str(error)
            self.spoil(delay=0.0, loss=0.01)
        self.mend()

    def spoil(self, *, delay: float, loss: float) -> None:
        """Drop this share of packets and, with netem, delay the others by `delay` seconds."""
        if self.has_netem:
            late = f"{delay * 1000:.1f}ms"
            _run("tc", *NETEM, "delay", late, late, "loss", f"{loss:.2%}", "limit", "10000")
        else:
            self._rule = [*DROP, "--probability", f"{loss:.4f}", "-j", "DROP"]
            _run("iptables", "-I", *self._rule)

    def mend(self) -> None:
        """Remove all faults."""
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
