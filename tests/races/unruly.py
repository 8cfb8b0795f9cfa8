"""Workers that misbehave. The module imports little, because each worker is a process."""

import signal
import sys
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

from ticketing.errors import StartupError
from ticketing.server.supervisor import Supervisor
from ticketing.server.terms import RETIRE

SERVING = Path("serving")
"""Made by a worker that serves."""
FOREVER = 600.0


def stubborn(_number: int, ready: Connection) -> None:
    """Serve, and ignore signals."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(RETIRE, signal.SIG_IGN)
    ready.send("ready")
    SERVING.touch()
    time.sleep(FOREVER)


def slow(_number: int, ready: Connection) -> None:
    """Serve if it is the first worker. Otherwise never get ready."""
    if not SERVING.exists():
        ready.send("ready")
        SERVING.touch()
    time.sleep(FOREVER)


def leaving(_number: int, ready: Connection) -> None:
    """Serve for a moment, and end without a signal."""
    ready.send("ready")
    SERVING.touch()
    time.sleep(0.2)


def supervise(work: Callable[[int, Connection], None], patience: float) -> None:
    """Run in a separate process, because it handles signals."""
    try:
        supervisor = Supervisor(
            work, 1, watch=lambda: None, forget=lambda _: None, patience=patience
        )
        supervisor.run(on_starting=lambda: None, on_stopping=lambda: None)
    except StartupError as error:
        sys.stdout.write(f"failed: {error}\n")
